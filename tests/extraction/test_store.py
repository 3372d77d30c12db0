"""The feature cache survives kills, damage and other processes, and halves what that does not harm."""

import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ssl4eo_bench.config.records import Cost
from ssl4eo_bench.config.task import Groups
from ssl4eo_bench.errors import CacheError, DamagedFileError, WeightsError
from ssl4eo_bench.extraction import store as cache_module
from ssl4eo_bench.extraction.store import LARGEST_ERROR, Extraction, FeatureCache, FeatureKey, Features, Origin, halved
from ssl4eo_bench.files import atomic
from ssl4eo_bench.files.cached_items import prune
from ssl4eo_bench.progress import Silent, shown_on

ROWS, SHARD = 70, 16
EXPECTED = 2.0 * np.arange(ROWS, dtype=np.float32).reshape(-1, 1)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "SHARD_ROWS", SHARD)


class Doubler:
    """A backbone whose feature is twice the pixel."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def origin(self, samples: int) -> Origin:
        return Origin(samples, ("doubler",), ("0" * 64,), Cost(parameters=3, flops=None, width=1))

    def __call__(self, groups: Groups) -> np.ndarray:
        self.seen += groups[0].ravel().astype(int).tolist()
        return (2.0 * groups[0].reshape(-1, 1)).astype(np.float32)


class Mixed(Doubler):
    """A backbone whose features fit half precision in the first shard only."""

    def __call__(self, groups: Groups) -> np.ndarray:
        features = super().__call__(groups)
        return np.where(features < 2 * SHARD, features, 1e5 + features)


class Tripler(Doubler):
    """A backbone with features of three pixels of each sample."""

    def __call__(self, groups: Groups) -> np.ndarray:
        return super().__call__(groups)[:, :, None] + np.arange(3, dtype=np.float32)[:, None]


def read(start: int, stop: int) -> Iterator[Groups]:
    for first in range(start, stop, 5):
        yield (np.arange(first, min(first + 5, stop), dtype=np.float64).reshape(-1, 1, 1, 1),)


def key(**changes: object) -> FeatureKey:
    base = {"task": "t-v1", "split": "train", "rows": ROWS, "ids": "i", "data": "d", "checkpoint": "c"}
    return FeatureKey.model_validate(base | {"backbone": "b", "inputs": "n"} | changes)


def get(root: Path, backbone: Doubler | None = None, /, **changes: object) -> Features:
    return FeatureCache(root).get(Extraction(key(**changes), [backbone or Doubler()], read))


def bits(found: Features) -> bytes:
    return np.asarray(found.values).tobytes()


def test_features_are_computed_once_and_come_back_bit_for_bit(tmp_path: Path) -> None:
    backbone = Doubler()
    first, again = get(tmp_path, backbone), get(tmp_path, backbone)
    assert backbone.seen == list(range(ROWS))
    np.testing.assert_array_equal(first.values, EXPECTED)
    assert bits(first) == bits(again)
    assert (first.origin.computed, again.origin.computed) == (ROWS, 0)
    assert again.origin.runners == ("doubler",)
    assert again.origin.weights_sha256 == ("0" * 64,)


def test_entries_are_computed_anew_once_where_that_is_asked_for(tmp_path: Path) -> None:
    def damaged(start: int, stop: int) -> Iterator[Groups]:
        yield from ((groups[0] + 1,) for groups in read(start, stop))

    FeatureCache(tmp_path).get(Extraction(key(), [Doubler()], damaged))
    renewed: set[str] = set()
    found = [FeatureCache(tmp_path, renewed).get(Extraction(key(), [Doubler()], read)) for _ in range(2)]
    found.append(get(tmp_path))
    assert [one.origin.computed for one in found] == [ROWS, 0, 0]
    for one in found:
        np.testing.assert_array_equal(one.values, EXPECTED)
    assert FeatureCache(tmp_path, renewed).get(Extraction(key(ids="other"), [Doubler()], read)).origin.computed == ROWS


def test_half_precision_is_taken_where_it_does_no_harm(tmp_path: Path) -> None:
    assert get(tmp_path).values.dtype == np.float16
    for expected_computed in (ROWS, 0):
        mixed = get(tmp_path, Mixed(), backbone="mixed")
        np.testing.assert_array_equal(mixed.values, np.where(EXPECTED < 2 * SHARD, EXPECTED, 1e5 + EXPECTED))
        assert mixed.values.dtype == np.float32
        assert mixed.origin.computed == expected_computed


@pytest.mark.parametrize(
    "change",
    [
        *({"task": "t-v2"}, {"ids": "j"}, {"data": "e"}, {"backbone": "x"}, {"weights": "0" * 64}, {"inputs": "x"}),
        *({"extraction": 99}, {"pixels": 3, "places": "p"}),
    ],
)
def test_whatever_decides_the_features_has_its_own_entry(tmp_path: Path, change: dict[str, object]) -> None:
    get(tmp_path)
    assert get(tmp_path, **change).origin.computed == ROWS
    assert get(tmp_path, checkpoint="same by another name").origin.computed == 0


def test_keys_stay_what_they_are() -> None:
    assert key().digest == "2d6881dfe7397bc161c931e283b52b9c045e783d5883c81c45744aaccdae57c7"
    assert key(pixels=3, places="p").digest != key(pixels=3, places="q").digest


@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_keeps_finished_shards_and_leaves_nothing_half_written(tmp_path: Path, threads: int) -> None:
    def breaks(start: int, stop: int) -> Iterator[Groups]:
        for groups in read(start, stop):
            if 40 in groups[0]:
                raise DamagedFileError("40 is damaged")
            yield groups

    with pytest.raises(DamagedFileError):
        FeatureCache(tmp_path).get(Extraction(key(), [Doubler()], breaks, threads=threads))
    (entry,) = (tmp_path / "features").iterdir()
    files = {file.name for file in entry.iterdir()} - {"lock", "manifest.lock", "in-use"}
    assert files == {"manifest.json", "shard-00000.npy", "shard-00001.npy"}
    resumed = FeatureCache(tmp_path).get(Extraction(key(), [Doubler()], read, threads=threads))
    assert resumed.origin.computed == ROWS - 2 * SHARD
    np.testing.assert_array_equal(resumed.values, EXPECTED)


@pytest.mark.parametrize("damage", ["torn", "edited", "deleted"])
def test_a_damaged_shard_is_computed_again(tmp_path: Path, damage: str) -> None:
    get(tmp_path)
    (shard,) = tmp_path.rglob("shard-00002.npy")
    content = shard.read_bytes()
    if damage == "deleted":
        shard.unlink()
    else:
        shard.write_bytes(content[:-9] if damage == "torn" else content[:-9] + b"\x00" + content[-8:])
    (entry,) = FeatureCache(tmp_path).entries()
    assert entry.damaged() == [shard]
    repaired = get(tmp_path)
    assert repaired.origin.computed == SHARD
    np.testing.assert_array_equal(repaired.values, EXPECTED)
    assert entry.damaged() == []


def test_shards_of_another_length_are_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    get(tmp_path)
    monkeypatch.setattr(cache_module, "SHARD_ROWS", 2 * SHARD)
    np.testing.assert_array_equal(get(tmp_path).values, EXPECTED)


def test_an_entry_of_an_earlier_version_is_used(tmp_path: Path) -> None:
    get(tmp_path)
    (file,) = tmp_path.rglob("manifest.json")
    content = json.loads(file.read_text())
    shards = content["shards"].values()
    earlier = {name: one | {"sha256": sha256} for one in shards for name, sha256 in one.pop("files").items()}
    file.write_text(json.dumps({"key": content["key"], "shards": earlier}))
    found = get(tmp_path)
    assert (found.origin.computed, found.origin.runners) == (0, ("doubler",))
    np.testing.assert_array_equal(found.values, EXPECTED)


def test_a_damaged_manifest_starts_over(tmp_path: Path) -> None:
    get(tmp_path)
    (manifest,) = tmp_path.rglob("manifest.json")
    manifest.write_text(manifest.read_text()[:50])
    assert get(tmp_path).origin.computed == ROWS


def test_an_entry_that_was_copied_from_another_is_not_believed(tmp_path: Path) -> None:
    get(tmp_path)
    shutil.copytree(tmp_path / "features" / key().digest, tmp_path / "features" / key(backbone="other").digest)
    assert get(tmp_path, backbone="other").origin.computed == ROWS


def _slow_fill(root: Path) -> None:
    cache_module.SHARD_ROWS = SHARD

    def slow(start: int, stop: int) -> Iterator[Groups]:
        for groups in read(start, stop):
            time.sleep(0.02)
            (root / "started").touch()
            yield groups

    FeatureCache(root).get(Extraction(key(), [Doubler()], slow))


def test_a_killed_process_is_resumed_and_its_lock_is_free(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_slow_fill, args=(tmp_path,))
    process.start()
    entry = tmp_path / "features" / key().digest
    while not (entry / "shard-00002.npy").exists():
        assert process.is_alive()
        time.sleep(0.005)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    left = f".shard-00002.npy.{process.pid}-{atomic._host()}.x1y2"
    (entry / left).write_bytes(b"half")  # what a kill in the middle of a write leaves
    backbone = Doubler()
    np.testing.assert_array_equal(get(tmp_path, backbone).values, EXPECTED)
    assert 0 < len(backbone.seen) <= ROWS - 2 * SHARD
    assert not list(entry.glob(".*"))


def test_two_processes_share_one_entry(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_slow_fill, args=(tmp_path,))
    process.start()
    while not (tmp_path / "started").exists():
        assert process.is_alive()
        time.sleep(0.005)
    notes: list[str] = []

    class Noting(Silent):
        def note(self, message: str) -> None:
            notes.append(message)

    with shown_on(Noting()):
        found = get(tmp_path)
    process.join()
    assert process.exitcode == 0
    np.testing.assert_array_equal(found.values, EXPECTED)
    assert found.origin.computed == 0
    (note,) = notes
    assert note.startswith("another process computes features c · train; waiting for it (process ")


def test_features_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    class Broken(Doubler):
        def __call__(self, groups: Groups) -> np.ndarray:
            return super().__call__(groups) * np.float32(np.nan)

    with pytest.raises(WeightsError, match="checkpoint 'c' gives features that are not finite on task 't-v1'"):
        get(tmp_path, Broken())


def test_counts_of_the_reader_are_stored_with_the_features(tmp_path: Path) -> None:
    ids = [f"s{number}" for number in range(ROWS)]
    for counts in ({"s3": 2, "s69": 1, "other": 7}, {}):
        FeatureCache(tmp_path).get(Extraction(key(), [Doubler()], read, ids=ids, not_finite=counts))
        assert {id_: counts[id_] for id_ in ids if id_ in counts} == {"s3": 2, "s69": 1}


def test_a_cache_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "features").write_text("in the way")
    with pytest.raises(CacheError, match="cannot be written .* name another with --cache-dir"):
        get(tmp_path)


def test_pruning_deletes_useless_or_chosen_entries_and_nothing_else(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    mine = tmp_path / "features" / "mine"
    mine.mkdir(parents=True)
    (mine / "x.npy").touch()
    (tmp_path / "features" / ("0" * 64)).symlink_to(mine)
    get(tmp_path)
    get(tmp_path, extraction=0)
    get(tmp_path, data="other", checkpoint="second")
    assert prune(tmp_path, useless=cache.is_useless)[0]
    assert sorted(entry.key.checkpoint for entry in cache.entries()) == ["c", "second"]
    prune(tmp_path, useless=lambda item: cache.is_of(item, "second"))
    assert [entry.key.checkpoint for entry in cache.entries()] == ["c"]
    prune(tmp_path, useless=lambda item: item.kind == "features")
    assert cache.entries() == []
    assert (mine / "x.npy").is_file()


def test_features_of_pixels_have_shards_of_as_many_rows(tmp_path: Path) -> None:
    found = get(tmp_path, Tripler(), pixels=3, places="p")
    expected = EXPECTED[:, :, None] + np.arange(3)[:, None]
    np.testing.assert_array_equal(found.values, expected.reshape(-1, 1))
    (entry,) = FeatureCache(tmp_path).entries()
    assert entry.rows == ROWS
    assert {shard.facts["rows"] for shard in list(entry.store.shards.values())[:-1]} == {SHARD // 3}
    again = get(tmp_path, Tripler(), pixels=3, places="p")
    assert (bits(again), again.origin.computed) == (bits(found), 0)


def ordinary(shape: tuple[int, ...] = (500, 8)) -> np.ndarray:
    return np.random.default_rng(0).normal(1.0, 2.0, shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(500, 8), (100, 5, 8)])
def test_ordinary_features_take_half_the_bytes_and_lose_less_than_said(shape: tuple[int, ...]) -> None:
    features = ordinary(shape)
    found = halved(features)
    assert found.dtype == np.float16
    assert found.shape == shape
    error = (found.astype(np.float64) - features).reshape(-1, 8)
    assert (np.sqrt(np.square(error).mean(0)) <= LARGEST_ERROR * features.reshape(-1, 8).std(0)).all()


@pytest.mark.parametrize(
    ("column", "why"),
    [
        (1e6 + np.arange(500), "too large"),
        (1000 + np.linspace(0, 0.01, 500), "varies little around a large value"),
        (np.linspace(0, 1e-8, 500), "too small"),
        (np.full(500, 0.1), "a constant that would become another"),
    ],
)
def test_a_feature_that_would_be_harmed_keeps_all_in_full_precision(column: np.ndarray, why: str) -> None:
    features = ordinary()
    features[:, 3] = column
    np.testing.assert_array_equal(halved(features), features, err_msg=why, strict=True)


def test_features_that_are_zero_do_no_harm() -> None:
    features = ordinary()
    features[:, 3] = 0.0
    assert halved(features).dtype == np.float16


def test_several_devices_share_the_shards_and_give_the_same_features(tmp_path: Path) -> None:
    backbones = [Doubler(), Doubler(), Doubler()]
    found = FeatureCache(tmp_path / "many").get(Extraction(key(), backbones, read))
    assert bits(found) == bits(get(tmp_path / "one"))
    assert all(backbone.seen for backbone in backbones)
    assert sorted(number for backbone in backbones for number in backbone.seen) == list(range(ROWS))


def test_a_device_that_fails_stops_the_others(tmp_path: Path) -> None:
    class Fails(Doubler):
        def __call__(self, groups: Groups) -> np.ndarray:
            raise ZeroDivisionError

    failed = threading.Event()

    class Waits(Doubler):
        def __call__(self, groups: Groups) -> np.ndarray:
            failed.wait(0.2)
            return super().__call__(groups)

    waits = Waits()
    with pytest.raises(ZeroDivisionError):
        FeatureCache(tmp_path).get(Extraction(key(), [Fails(), waits], read))
    assert len(waits.seen) < ROWS / 2


def test_any_process_can_compute_its_own_shards(tmp_path: Path) -> None:
    parts = [(4, 0), (2,), (3, 1)]
    backbones = [Doubler() for _ in parts]
    rows = [
        FeatureCache(tmp_path).compute(Extraction(key(), [one], read), part)
        for one, part in zip(backbones, parts, strict=True)
    ]
    assert rows == [SHARD + ROWS % SHARD, SHARD, 2 * SHARD]
    assert FeatureCache(tmp_path).missing(key()) == []
    assert FeatureCache(tmp_path).compute(Extraction(key(), [Doubler()], read), range(5)) == 0
    found = get(tmp_path, whole := Doubler())
    assert whole.seen == []
    assert bits(found) == bits(get(tmp_path / "one"))
    again = FeatureCache(tmp_path, renewed=set()).compute(Extraction(key(), [Doubler()], read), [1])
    assert again == SHARD
    assert FeatureCache(tmp_path).missing(key()) == []
