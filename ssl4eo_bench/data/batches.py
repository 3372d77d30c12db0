"""Batches that threads read while the backbone works on earlier ones."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ssl4eo_bench.config.task import Groups

Item = TypeVar("Item")
Result = TypeVar("Result")

THREADS = max(1, (os.cpu_count() or 2) // 2)
"""Half of the processors read. Reading is much faster than any backbone on them, and more threads slow it down."""


def batches(
    read: Callable[[Sequence[str]], Groups], ids: Sequence[str], *, size: int, threads: int = THREADS
) -> Generator[Groups]:
    """The results of `read` for consecutive batches of `size` ids, in order; the last batch may be smaller.

    Decoders release Python's lock, so threads are enough on a few cores and nothing is copied between processes.
    """
    parts = [ids[start : start + size] for start in range(0, len(ids), size)]
    return prefetch(read, parts, threads=threads)


def prefetch(function: Callable[[Item], Result], items: Iterable[Item], *, threads: int) -> Generator[Result]:
    """The results of a function for all items, in order, computed on threads before they are asked for.

    At most one more than `threads` are started and not yet taken. Without threads, each is computed when it is taken.
    An error of the function or of the items comes in the place of the result that it prevents.
    """
    if threads == 0:
        yield from map(function, items)
        return
    remaining = iter(items)
    pending: deque[Future[Result]] = deque()

    def start_next() -> None:
        try:
            pending.append(pool.submit(function, next(remaining)))
        except StopIteration:
            pass
        except Exception as error:  # from the items
            pending.append(Future())
            pending[-1].set_exception(error)

    with ThreadPoolExecutor(threads, thread_name_prefix="prefetch") as pool:
        try:
            for _ in range(threads + 1):
                start_next()
            while pending:
                result = pending.popleft().result()
                start_next()
                yield result
        finally:
            for future in pending:
                future.cancel()
