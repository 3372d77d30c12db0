"""Reading ahead: batches are decoded on threads while the backbone works."""

import os
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from ssl4eo_bench.spec.tasks import Groups, Source

THREADS = max(1, (os.cpu_count() or 2) // 2)
"""Half of the processor reads. Reading is much faster than any backbone there, and more threads only disturb it."""


def batches(
    source: Source, ids: Sequence[str], bands: Sequence[str], *, size: int, threads: int = THREADS
) -> Generator[Groups]:
    """Consecutive batches of `size` samples (the last may be smaller), in the order of `ids`.

    Decoders release Python's lock, so threads are enough on a few cores and nothing is copied between processes.
    """
    starts = iter(range(0, len(ids), size))
    with ThreadPoolExecutor(threads, thread_name_prefix="reader") as pool:
        pending: deque[Future[Groups]] = deque()

        def read_on() -> None:
            start = next(starts, None)
            if start is not None:
                pending.append(pool.submit(source.read, ids[start : start + size], bands))

        try:
            for _ in range(threads + 1):
                read_on()
            while pending:
                groups = pending.popleft().result()
                read_on()
                yield groups
        finally:
            for future in pending:
                future.cancel()
