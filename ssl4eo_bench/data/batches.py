"""Reading ahead: batches are decoded on threads while the backbone works."""

import os
from collections.abc import Generator, Sequence

from ssl4eo_bench.ahead import ahead
from ssl4eo_bench.spec.tasks import Groups, Source

THREADS = max(1, (os.cpu_count() or 2) // 2)
"""Half of the processor reads. Reading is much faster than any backbone there, and more threads only disturb it."""


def batches(
    source: Source, ids: Sequence[str], bands: Sequence[str], *, size: int, threads: int = THREADS
) -> Generator[Groups]:
    """Consecutive batches of `size` samples (the last may be smaller), in the order of `ids`.

    Decoders release Python's lock, so threads are enough on a few cores and nothing is copied between processes.
    """

    def read(start: int) -> Groups:
        return source.read(ids[start : start + size], bands)

    return ahead(read, range(0, len(ids), size), threads=threads)
