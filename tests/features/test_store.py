"""The feature cache survives kills, damage and company."""

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ssl4eo_bench.config.task import Groups
from ssl4eo_bench.errors import CacheError, DamagedFileError, WeightsError
from ssl4eo_bench.features import store as cache_module
from ssl4eo_bench.features.store import FeatureCache, FeatureKey
from ssl4eo_bench.progress import Silent, shown_on

ROWS, SHARD = 70, 16


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "SHARD_ROWS", SHARD)


class Doubler:
    """A backbone whose feature is twice the pixel."""

    runner = "doubler"
    weights_sha256 = "0" * 64

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, groups: Groups) -> np.ndarray:
        self.seen += groups[0].ravel().astype(int).tolist()
        return (2.0 * groups[0].reshape(-1, 1)).astype(np.float32)


def read(start: int, stop: int) -> Iterator[Groups]:
    for first in range(start, stop, 5):
        yield (np.arange(first, min(first + 5, stop), dtype=np.float64).reshape(-1, 1, 1, 1),)


def key(**changes: object) -> FeatureKey:
    base = {"task": "t-v1", "split": "train", "rows": ROWS, "ids": "i", "data": "d", "checkpoint": "c"}
    return FeatureKey.model_validate(base | {"backbone": "b", "inputs": "n"} | changes)


class Mixed(Doubler):
    """A backbone whose features fit half precision in the first shard only."""

    def __call__(self, groups: Groups) -> np.ndarray:
        features = super().__call__(groups)
        return np.where(features < 2 * SHARD, features, 1e5 + features)


EXPECTED = 2.0 * np.arange(ROWS, dtype=np.float32).reshape(-1, 1)


def test_features_are_computed_once_and_come_back_bit_for_bit(tmp_path: Path) -> None:
    backbone = Doubler()
    first = FeatureCache(tmp_path).get(key(), backbone, read)
    again = FeatureCache(tmp_path).get(key(), backbone, read)
    assert backbone.seen == list(range(ROWS))
    np.testing.assert_array_equal(first.values, EXPECTED)
    assert first.values.tobytes() == again.values.tobytes()
    assert (first.computed, again.computed) == (ROWS, 0)
    assert again.runners == ("doubler",)
    assert again.weights_sha256 == ("0" * 64,)


def test_entries_are_computed_anew_once_where_that_is_asked_for(tmp_path: Path) -> None:
    def damaged(start: int, stop: int) -> Iterator[Groups]:
        yield from ((groups[0] + 1,) for groups in read(start, stop))

    FeatureCache(tmp_path).get(key(), Doubler(), damaged)
    renewed: set[str] = set()
    found = [FeatureCache(tmp_path, renewed).get(key(), Doubler(), read) for _ in range(2)]
    found.append(FeatureCache(tmp_path).get(key(), Doubler(), read))
    assert [one.computed for one in found] == [ROWS, 0, 0]
    for one in found:
        np.testing.assert_array_equal(one.values, EXPECTED)
    assert FeatureCache(tmp_path, renewed).get(key(ids="other"), Doubler(), read).computed == ROWS


def test_half_precision_is_taken_where_it_does_no_harm(tmp_path: Path) -> None:
    found = FeatureCache(tmp_path).get(key(), Doubler(), read)
    assert found.values.dtype == np.float16
    for expected_computed in (ROWS, 0):
        mixed = FeatureCache(tmp_path).get(key(backbone="mixed"), Mixed(), read)
        np.testing.assert_array_equal(mixed.values[SHARD:], 1e5 + EXPECTED[SHARD:])
        np.testing.assert_array_equal(mixed.values[:SHARD], EXPECTED[:SHARD])
        assert mixed.values.dtype == np.float32
        assert mixed.computed == expected_computed


@pytest.mark.parametrize(
    "change",
    [
        *({"task": "t-v2"}, {"ids": "j"}, {"data": "e"}, {"backbone": "x"}, {"weights": "0" * 64}, {"inputs": "x"}),
        {"extraction": 99},
    ],
)
def test_whatever_decides_the_features_has_its_own_entry(tmp_path: Path, change: dict[str, object]) -> None:
    FeatureCache(tmp_path).get(key(), Doubler(), read)
    assert FeatureCache(tmp_path).get(key(**change), Doubler(), read).computed == ROWS
    assert FeatureCache(tmp_path).get(key(checkpoint="same by another name"), Doubler(), read).computed == 0


@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_keeps_finished_shards_and_leaves_nothing_half_written(tmp_path: Path, threads: int) -> None:
    def breaks(start: int, stop: int) -> Iterator[Groups]:
        for groups in read(start, stop):
            if 40 in groups[0]:
                raise DamagedFileError("40 is damaged")
            yield groups

    with pytest.raises(DamagedFileError):
        FeatureCache(tmp_path).get(key(), Doubler(), breaks, threads=threads)
    (entry,) = (tmp_path / "features").iterdir()
    assert {file.name for file in entry.iterdir()} == {"lock", "manifest.json", "shard-00000.npy", "shard-00001.npy"}
    resumed = FeatureCache(tmp_path).get(key(), Doubler(), read, threads=threads)
    assert resumed.computed == ROWS - 2 * SHARD
    np.testing.assert_array_equal(resumed.values, EXPECTED)


@pytest.mark.parametrize("damage", ["torn", "edited", "deleted"])
def test_a_damaged_shard_is_computed_again(tmp_path: Path, damage: str) -> None:
    FeatureCache(tmp_path).get(key(), Doubler(), read)
    (shard,) = tmp_path.rglob("shard-00002.npy")
    content = shard.read_bytes()
    if damage == "deleted":
        shard.unlink()
    else:
        shard.write_bytes(content[:-9] if damage == "torn" else content[:-9] + b"\x00" + content[-8:])
    cache = FeatureCache(tmp_path)
    ((manifest, folder),) = cache.entries()
    assert cache.damaged(manifest, folder) == ["shard-00002.npy"]
    repaired = cache.get(key(), Doubler(), read)
    assert (repaired.computed, repaired.repaired) == (SHARD, 1)
    np.testing.assert_array_equal(repaired.values, EXPECTED)
    assert cache.damaged(manifest, folder) == []


def test_a_damaged_manifest_starts_over(tmp_path: Path) -> None:
    FeatureCache(tmp_path).get(key(), Doubler(), read)
    (manifest,) = tmp_path.rglob("manifest.json")
    manifest.write_text(manifest.read_text()[:50])
    assert FeatureCache(tmp_path).get(key(), Doubler(), read).computed == ROWS


def _slow_fill(root: Path, started: str) -> None:
    cache_module.SHARD_ROWS = SHARD

    def slow(start: int, stop: int) -> Iterator[Groups]:
        for groups in read(start, stop):
            time.sleep(0.02)
            Path(started).touch()
            yield groups

    FeatureCache(root).get(key(), Doubler(), slow)


def test_a_killed_process_is_resumed_and_its_lock_is_free(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=_slow_fill, args=(tmp_path, str(tmp_path / "started"))
    )
    process.start()
    manifest = tmp_path / "features" / key().digest / "manifest.json"
    while not (manifest.exists() and "shard-00001" in manifest.read_text()):
        assert process.is_alive()
        time.sleep(0.005)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    (manifest.parent / ".shard-00002.npy.x1y2").write_bytes(b"half")  # what a kill in the middle of a write leaves
    backbone = Doubler()
    resumed = FeatureCache(tmp_path).get(key(), backbone, read)
    np.testing.assert_array_equal(resumed.values, EXPECTED)
    assert 0 < len(backbone.seen) <= ROWS - 2 * SHARD
    assert not list(manifest.parent.glob(".*"))


def test_two_processes_share_one_entry(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=_slow_fill, args=(tmp_path, str(tmp_path / "started"))
    )
    process.start()
    while not (tmp_path / "started").exists():
        assert process.is_alive()
        time.sleep(0.005)
    notes: list[str] = []

    class Noting(Silent):
        def note(self, message: str) -> None:
            notes.append(message)

    with shown_on(Noting()):
        found = FeatureCache(tmp_path).get(key(), Doubler(), read)
    process.join()
    assert process.exitcode == 0
    np.testing.assert_array_equal(found.values, EXPECTED)
    assert found.computed == 0
    assert notes == ["another process computes features c · train; waiting for it"]


def test_features_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    class Broken(Doubler):
        def __call__(self, groups: Groups) -> np.ndarray:
            return super().__call__(groups) * np.float32(np.nan)

    with pytest.raises(WeightsError, match="checkpoint 'c' gives features that are not finite on task 't-v1'"):
        FeatureCache(tmp_path).get(key(), Broken(), read)


def test_a_cache_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "features").write_text("in the way")
    with pytest.raises(CacheError, match="cannot be written .* name another with --cache-dir"):
        FeatureCache(tmp_path).get(key(), Doubler(), read)


def test_pruning_keeps_what_is_of_use(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    cache.get(key(), Doubler(), read)
    cache.get(key(extraction=0), Doubler(), read)
    cache.get(key(data="other", checkpoint="second"), Doubler(), read)
    assert cache.prune() > 0
    assert sorted(manifest.key.checkpoint for manifest, _ in cache.entries()) == ["c", "second"]
    cache.prune(checkpoint="second")
    assert [manifest.key.checkpoint for manifest, _ in cache.entries()] == ["c"]
    cache.prune(everything=True)
    assert cache.entries() == []


class Tripler(Doubler):
    """A backbone with features of three pixels of each sample."""

    def __call__(self, groups: Groups) -> np.ndarray:
        return super().__call__(groups)[:, :, None] + np.arange(3, dtype=np.float32)[:, None]


def test_features_of_pixels_have_shards_of_as_many_rows(tmp_path: Path) -> None:
    of_pixels = key(pixels=3, places="p")
    found = FeatureCache(tmp_path).get(of_pixels, Tripler(), read)
    np.testing.assert_array_equal(found.values, EXPECTED[:, :, None] + np.arange(3)[:, None])
    assert found.values.shape == (ROWS, 3, 1)
    ((manifest, _),) = FeatureCache(tmp_path).entries()
    assert {shard.rows for shard in list(manifest.shards.values())[:-1]} == {SHARD // 3}
    again = FeatureCache(tmp_path).get(of_pixels, Tripler(), read)
    assert again.values.tobytes() == found.values.tobytes()
    assert again.computed == 0


def test_other_pixels_have_their_own_entry(tmp_path: Path) -> None:
    digests = {key(**changes).digest for changes in ({}, {"pixels": 3, "places": "p"}, {"pixels": 3, "places": "q"})}
    assert len(digests) == 3


def test_an_entry_that_was_copied_from_another_is_not_believed(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    cache.get(key(), Doubler(), read)
    other = key(backbone="other")
    shutil.copytree(tmp_path / "features" / key().digest, tmp_path / "features" / other.digest)
    assert cache.get(other, Doubler(), read).computed == ROWS


def test_pruning_touches_nothing_that_is_not_an_entry(tmp_path: Path) -> None:
    mine = tmp_path / "features" / "mine"
    mine.mkdir(parents=True)
    (mine / "x.npy").touch()
    (tmp_path / "features" / ("0" * 64)).symlink_to(mine)
    assert FeatureCache(tmp_path).prune(everything=True) == 0
    assert (mine / "x.npy").is_file()
