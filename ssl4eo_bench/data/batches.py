"""Reading ahead: batches are decoded on threads while the backbone works."""

import os
from collections.abc import Callable, Generator, Sequence

from ssl4eo_bench.config.task import Groups
from ssl4eo_bench.data.prefetch import ahead

THREADS = max(1, (os.cpu_count() or 2) // 2)
"""Half of the processor reads. Reading is much faster than any backbone there, and more threads only disturb it."""


def batches(
    read: Callable[[Sequence[str]], Groups], ids: Sequence[str], *, size: int, threads: int = THREADS
) -> Generator[Groups]:
    """Consecutive batches of `size` samples (the last may be smaller), in the order of `ids`, as `read` gives them.

    Decoders release Python's lock, so threads are enough on a few cores and nothing is copied between processes.
    """
    parts = [ids[start : start + size] for start in range(0, len(ids), size)]
    return ahead(read, parts, threads=threads)
