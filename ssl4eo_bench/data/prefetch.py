"""Working ahead on threads: the next items are worked on while the last one is used."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Found = TypeVar("Found")


def ahead(function: Callable[[Item], Found], items: Iterable[Item], *, threads: int) -> Generator[Found]:
    """What a function gives for each item, in order.

    At most one more than `threads` are started and not yet taken; without threads each is worked on when it is taken.
    An error comes in the place of what it prevents, after everything before it.
    """
    if threads == 0:
        yield from map(function, items)
        return
    remaining = iter(items)
    with ThreadPoolExecutor(threads, thread_name_prefix="ahead") as pool:
        pending: deque[Future[Found]] = deque()

        def go_on() -> None:
            nonlocal remaining
            try:
                for item in remaining:
                    pending.append(pool.submit(function, item))
                    break
            except Exception as error:  # of the items
                remaining = iter(())
                pending.append(Future())
                pending[-1].set_exception(error)

        try:
            for _ in range(threads + 1):
                go_on()
            while pending:
                found = pending.popleft().result()
                go_on()
                yield found
        finally:
            for future in pending:
                future.cancel()
