import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import pytest

from ssl4eo_bench.config.task import Groups
from ssl4eo_bench.data.batches import batches, prefetch
from ssl4eo_bench.errors import DamagedFileError
from tests.data.test_splits import Fake


class Numbered(Fake):
    """Yields each id as its pixel value, slower for early ids, so that order is not an accident."""

    def __init__(self, broken: str = "") -> None:
        super().__init__()
        self.broken = broken
        self.most_open = self.open_now = 0
        self.lock = threading.Lock()

    def read(self, ids: Sequence[str], bands: Sequence[str]) -> Groups:
        with self.lock:
            self.open_now += 1
            self.most_open = max(self.most_open, self.open_now)
        if self.broken in ids:
            raise DamagedFileError(f"{self.broken} is damaged")
        time.sleep(0.02 / (1 + int(ids[0])))
        with self.lock:
            self.open_now -= 1
        return (np.array([int(id_) for id_ in ids]).reshape(-1, 1, 1, 1),)


IDS = [str(number) for number in range(23)]


def read_with(source: Numbered) -> Callable[[Sequence[str]], Groups]:
    return partial(source.read, bands=["B04"])


@pytest.mark.parametrize("size", [1, 4, 23, 100])
def test_batches_come_in_order_and_hold_every_sample_once(size: int) -> None:
    got = [groups[0].ravel() for groups in batches(read_with(Numbered()), IDS, size=size)]
    assert [len(batch) for batch in got[:-1]] == [size] * (len(got) - 1)
    np.testing.assert_array_equal(np.concatenate(got), np.arange(23))


def test_batches_are_read_ahead_on_threads_but_not_without_end() -> None:
    source = Numbered()
    taken = batches(read_with(source), IDS, size=1, threads=3)
    next(taken)
    time.sleep(0.1)
    assert 2 <= source.most_open <= 3
    taken.close()


def test_a_damaged_sample_stops_with_its_error() -> None:
    with pytest.raises(DamagedFileError, match="17 is damaged"):
        list(batches(read_with(Numbered(broken="17")), IDS, size=4))


def test_an_error_of_the_items_comes_after_what_was_before_it() -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise DamagedFileError("3 is damaged")

    for threads in (0, 1, 4):
        taken = prefetch(str, items(), threads=threads)
        assert [next(taken) for _ in range(3)] == ["0", "1", "2"]
        with pytest.raises(DamagedFileError):
            next(taken)
