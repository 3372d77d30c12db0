"""Stores of shards: written by anyone, read only if whole, one array whatever the shards."""

import json
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ssl4eo_bench.config.canonical import digest
from ssl4eo_bench.errors import DamagedFileError
from ssl4eo_bench.files import shards
from ssl4eo_bench.files.hashing import file_hash
from ssl4eo_bench.files.shards import Shard, ShardedArray, ShardStore

ROWS = (16, 16, 16, 5)
WHOLE = np.random.default_rng(0).normal(size=(sum(ROWS), 3)).astype(np.float32)
ABOUT = {"what": "numbers"}


def part(number: int) -> np.ndarray:
    return WHOLE[16 * number : 16 * number + ROWS[number]]


def write(folder: Path, number: int) -> None:
    (ShardStore.open(folder) or ShardStore(folder, ABOUT)).write(number, {f"{number}.npy": part(number)}, {"made": "x"})


def filled(folder: Path, dtype: Callable[[int], type] = lambda _: np.float32) -> ShardStore:
    store = ShardStore(folder, ABOUT)
    for number in range(len(ROWS)):
        store.write(number, {f"{number}.npy": part(number).astype(dtype(number))}, {"made": "x"})
    return store


def whole(store: ShardStore) -> ShardedArray:
    stored = [store.array(number, f"{number}.npy") for number in range(len(ROWS))]
    return ShardedArray([array for array in stored if array])


def test_any_process_writes_any_shard(tmp_path: Path) -> None:
    start = multiprocessing.get_context("spawn").Process
    processes = [start(target=write, args=(tmp_path, number)) for number in (3, 0, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    store = ShardStore.open(tmp_path)
    assert store is not None
    assert store.missing(len(ROWS)) == [1]
    write(tmp_path, 1)
    again = ShardStore.open(tmp_path)
    assert again is not None
    assert again.missing(len(ROWS)) == []
    assert again.shards[3].facts == {"made": "x"}
    np.testing.assert_array_equal(whole(again), WHOLE)


def test_threads_of_a_process_write_shards_at_once(tmp_path: Path) -> None:
    store = ShardStore(tmp_path, ABOUT)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: store.write(number, {f"{number}.npy": part(number)}, {}), range(4)))
    opened = ShardStore.open(tmp_path)
    assert opened is not None
    assert opened.missing(4) == store.missing(4) == []


def test_a_shard_that_is_written_anew_replaces_what_was_read_before(tmp_path: Path) -> None:
    store = filled(tmp_path)
    before = whole(store)
    np.testing.assert_array_equal(before, WHOLE)
    store.write(1, {"1.npy": -part(1)}, {})
    np.testing.assert_array_equal(before[16:32], part(1))  # its memory map outlives the file
    np.testing.assert_array_equal(whole(store)[16:32], -part(1))


@pytest.mark.parametrize("about", [{"what": "other numbers"}, ABOUT])
def test_a_store_that_begins_anew_forgets_the_shards_that_were_there(tmp_path: Path, about: dict[str, str]) -> None:
    filled(tmp_path)
    store = ShardStore(tmp_path, about)
    store.write_manifest()
    store.write(0, {"0.npy": part(0)}, {})
    opened = ShardStore.open(tmp_path)
    assert opened is not None
    assert (opened.about, opened.missing(4)) == (about, [1, 2, 3])


def test_a_manifest_that_was_edited_or_torn_is_none(tmp_path: Path) -> None:
    filled(tmp_path)
    file = tmp_path / "manifest.json"
    text = file.read_text()
    for content in (
        text.replace("numbers", "letters"),
        text[:50],
        "",
        "[]",
        "{}",
        '{"shards": 1}',
        '{"shards": {"": 1}}',
    ):
        file.write_text(content)
        assert ShardStore.open(tmp_path) is None
    file.unlink()
    assert ShardStore.open(tmp_path) is None


def test_manifests_of_earlier_versions_are_read(tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    pack = {"task": "t", "chunks": [{"samples": "s", "files": {"00000-10m.npy": "0"}}]}
    file.write_text(json.dumps(pack | {"checksum": digest(pack)}))
    found = ShardStore.open(tmp_path)
    assert found is not None
    assert found.about == {"task": "t"}
    assert found.shards == {0: Shard({"00000-10m.npy": "0"}, {"samples": "s"})}
    file.write_text(json.dumps({"key": {}, "shards": {"shard-00012.npy": {"rows": 3, "sha256": "1"}}}))
    found = ShardStore.open(tmp_path)
    assert found is not None
    assert found.about == {"key": {}}
    assert found.shards == {12: Shard({"shard-00012.npy": "1"}, {"rows": 3})}


def test_a_process_compares_a_file_once_unless_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 0)
    hashed: list[Path] = []

    def counted(file: Path) -> str:
        hashed.append(file)
        return file_hash(file)

    monkeypatch.setattr(shards, "file_hash", counted)
    for age, expected in ((None, 0), (1, 1), (1, 1), (2, 2)):
        if age is not None:
            os.utime(tmp_path / "0.npy", ns=(age, age))
        store = ShardStore.open(tmp_path)
        assert store is not None
        assert store.is_sound(0)
        assert len(hashed) == expected


@pytest.mark.parametrize("damage", ["cut off", "edited", "deleted"])
@pytest.mark.parametrize("mapped", [True, False])
def test_a_file_that_changes_after_it_was_checked_is_not_read(tmp_path: Path, damage: str, mapped: bool) -> None:
    store = filled(tmp_path)
    array = store.array(1, "1.npy")
    assert array is not None
    np.testing.assert_array_equal(array.read(2, 5), part(1)[2:5])
    file = tmp_path / "1.npy"
    content = file.read_bytes()
    if damage == "deleted":
        file.unlink()
    else:
        file.write_bytes(content[:-9] if damage == "cut off" else content[:-1] + bytes([content[-1] ^ 1]))
        os.utime(file, ns=(0, 0))  # a file system may count in steps longer than this test
    with pytest.raises(DamagedFileError, match=r"1\.npy has changed since it was checked; run the command again"):
        array.mapped() if mapped else array.read(2, 5)
    opened = ShardStore.open(tmp_path)
    assert opened is not None
    assert (opened.damaged(1), opened.missing(4)) == ([file], [1])


@pytest.mark.parametrize("maps", [1, 128])
@pytest.mark.parametrize("mixed", [True, False])
def test_one_array_whatever_the_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mixed: bool, maps: int) -> None:
    monkeypatch.setattr(shards, "OPEN_MAPS", maps)
    expected = WHOLE.copy()
    if mixed:
        expected[:16] = expected[:16].astype(np.float16)
    found = whole(filled(tmp_path, lambda number: np.float16 if mixed and number == 0 else np.float32))
    assert (found.shape, len(found), found.size) == ((53, 3), 53, 159)
    assert found.dtype == np.float32
    rows = np.random.default_rng(1).permutation(53)
    slices = [(0, 16), (3, 9), (10, 40), (48, 60), (5, 5), (60, 70), (None, None, 7), (None, None, -1), (-3, None)]
    for index in [*(slice(*bounds) for bounds in slices), rows, rows[:0], rows % 2 == 0]:
        np.testing.assert_array_equal(found[index], expected[index], strict=True)
    np.testing.assert_array_equal(np.asarray(found), expected, strict=True)
    np.testing.assert_array_equal(found.astype("float64"), expected.astype("float64"), strict=True)
    for wrong in (np.array([53]), np.array([-1]), rows[:9] > 3):
        with pytest.raises(IndexError):
            found[wrong]


def test_a_slice_of_one_shard_copies_nothing_and_leaves_the_file_alone(tmp_path: Path) -> None:
    store = filled(tmp_path)
    found = whole(store)
    assert np.shares_memory(found[17:20], found[16:32])
    found[17:20][:] = 0
    assert ShardStore.open(tmp_path).missing(4) == []  # type: ignore[union-attr]


def test_values_of_several_pixels_become_rows(tmp_path: Path) -> None:
    values = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    store = ShardStore(tmp_path, {})
    store.write(0, {"0.npy": values}, {})
    array = store.array(0, "0.npy")
    assert array is not None
    np.testing.assert_array_equal(
        ShardedArray([array, array]).flattened(), np.concatenate([values, values]).reshape(-1, 4)
    )


def test_a_file_without_an_array_is_damaged_even_if_its_checksum_is_right(tmp_path: Path) -> None:
    store = filled(tmp_path)
    (tmp_path / "1.npy").write_bytes(b"")
    store.shards[1] = Shard({"1.npy": file_hash(tmp_path / "1.npy")}, {"made": "x"})
    assert store.missing(len(ROWS)) == [1]
