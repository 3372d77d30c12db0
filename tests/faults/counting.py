"""Counting what comes of faults."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.tally import Tally, keep


@contextmanager
def counted(fault: str) -> Iterator[Tally]:
    """A tally to count in, which is kept at the end of the block, whatever happens in it."""
    tally, started = Tally(fault), time.monotonic()
    try:
        yield tally
    finally:
        tally.seconds = time.monotonic() - started
        keep(tally)
