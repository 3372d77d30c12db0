"""Packs: the same pixels, labels and features as from the published files, whatever happened on the way."""

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.canonical import digest
from ssl4eo_bench.config.task import SPLITS, Groups, Split, SplitName, Task
from ssl4eo_bench.data import packing
from ssl4eo_bench.data.checks import verify
from ssl4eo_bench.data.packing import damaged_files, pack
from ssl4eo_bench.data.packs import Contents, PackedSource, open_source, pack_folder, read_pack
from ssl4eo_bench.data.splits import open_splits
from ssl4eo_bench.errors import DamagedFileError, MissingDataError
from ssl4eo_bench.files import atomic, places, shards
from ssl4eo_bench.files.hashing import file_hash
from ssl4eo_bench.files.shards import Shard, ShardStore

SIDES = {10: 12, 20: 6, 60: 2}
COUNTS: dict[SplitName, int] = {"train": 13, "val": 6, "test": 4}
NAMES = {split: [f"{split}-{number:02d}" for number in range(count)] for split, count in COUNTS.items()}
BANDS = catalogue.task("bigearthnet").bands


@dataclass(frozen=True)
class Files:
    """Small tiles with the bands of BigEarthNet: a file for each sample, and a list for each split."""

    folder: Path

    def ids(self, split: SplitName) -> list[str]:
        return (self.folder / f"{split}.csv").read_text().splitlines()

    def absent(self, ids: Sequence[str]) -> list[str]:
        return [id_ for id_ in ids if not (self.folder / f"{id_}.npz").is_file()]

    def targets(self, ids: Sequence[str]) -> np.ndarray:
        return np.stack([np.load(self.folder / f"{id_}.npz")["labels"] for id_ in ids])

    def read(self, ids: Sequence[str], bands: Sequence[str]) -> Groups:
        samples = [np.load(self.folder / f"{id_}.npz") for id_ in ids]
        of = {side: [band.name for band in BANDS if band.resolution == side and band.name in bands] for side in SIDES}
        return tuple(np.stack([[one[name] for name in names] for one in samples]) for names in of.values() if names)

    def fingerprint(self, ids: Sequence[str]) -> str:
        return hashlib.sha256(b"".join((self.folder / f"{id_}.npz").read_bytes() for id_ in ids)).hexdigest()


def open_files(data_dir: Path) -> Files:
    if not (data_dir / "bigearthnet" / "test.csv").is_file():
        raise MissingDataError("no files")
    return Files(data_dir / "bigearthnet")


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Task, Path]:
    """Files in a data directory; they are packed in shards of 4 rows."""
    monkeypatch.setattr(packing, "SHARD_ROWS", 4)
    rng, folder = np.random.default_rng(0), tmp_path / "data" / "bigearthnet"
    folder.mkdir(parents=True)
    for split, names in NAMES.items():
        (folder / f"{split}.csv").write_text("".join(f"{name}\n" for name in names))
        for name in names:
            sides = {band.name: SIDES[band.resolution] for band in BANDS}
            pixels: dict[str, np.ndarray] = {
                band: rng.integers(0, 10_000, (side, side), dtype=np.uint16) for band, side in sides.items()
            }
            pixels["labels"] = rng.integers(0, 2, 19, dtype=np.uint8)
            np.savez(folder / f"{name}.npz", **pixels)  # type: ignore[arg-type]
    splits = {split: Split.of(names) for split, names in NAMES.items()}
    changes = {"image_size": 12, "splits": splits, "files": (), "class_counts": {}, "tells": (), "open": open_files}
    return catalogue.task("bigearthnet").model_copy(update=changes), tmp_path / "data"


def packed(task: Task, data_dir: Path, **options: bool) -> Path:
    folder = pack_folder(task, data_dir)
    pack(task, open_splits(task, data_dir, packed=False, **options), folder)
    return folder


def written(folder: Path) -> dict[str, int]:
    """When each array of a pack was written."""
    return {file.name: file.stat().st_mtime_ns for file in folder.glob("*.npy")}


def in_chunks(folder: Path) -> dict[str, Any]:
    """The manifest of a pack as earlier versions wrote it, without its checksum."""
    raw: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    del raw["checksum"]
    raw["chunks"] = [{"samples": one["samples"], "files": one["files"]} for one in raw.pop("shards").values()]
    return raw


def test_a_pack_gives_what_the_files_give(dataset: tuple[Task, Path]) -> None:
    task, data_dir = dataset
    plain = task.open(data_dir)
    packed(task, data_dir)
    source = open_source(task, data_dir)
    assert isinstance(source, PackedSource)
    names = [band.name for band in task.bands]
    rng = np.random.default_rng(0)
    for split in SPLITS:
        ids = source.ids(split)
        assert ids == plain.ids(split)
        assert source.absent([*ids, "other"]) == ["other"]
        for chosen in (ids, ids[1:3], [str(id_) for id_ in rng.permutation(ids)[:9]]):
            np.testing.assert_array_equal(source.targets(chosen), plain.targets(chosen))
            for bands in (names, ["B12", "B02", "B09"], ["B8A"]):
                for left, right in zip(source.read(chosen, bands), plain.read(chosen, bands), strict=True):
                    np.testing.assert_array_equal(left, right, strict=True)


def test_features_from_a_pack_are_identical(
    command: Callable[..., tuple[int, str, str]], sample_of: Callable[[str], Path], tmp_path: Path
) -> None:
    task, samples = catalogue.task("eurosat"), tmp_path / "cache" / "samples"
    samples.unlink()  # those of all tests, which no test may change
    home = Path(shutil.copytree(sample_of(task.name), samples / sample_of(task.name).name))
    what = ("--task", task.name, "--protocol", "linear", "--checkpoint", "bandstats", "--sample", "--limit", 60)
    wanted = ("run", *what, "--json")
    code, out, err = command(*wanted)
    assert code == 0, err
    (first,) = json.loads(out)
    packed(task, home, sample=True)
    code, out, err = command(*wanted, "--force")
    assert code == 0, err
    (again,) = json.loads(out)
    assert again["result"]["provenance"]["features_computed"] == sum(again["result"]["counts"].values())
    assert again["result"]["metrics"] == first["result"]["metrics"]
    assert again["result"]["selection"] == first["result"]["selection"]


def test_a_pack_that_was_interrupted_is_not_used_and_continues(
    dataset: tuple[Task, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, data_dir = dataset
    numbers: list[int] = []
    write, stop_at = ShardStore.write, 2

    def counted(store: ShardStore, number: int, *rest: Any) -> None:
        if number == stop_at:
            raise KeyboardInterrupt
        numbers.append(number)
        write(store, number, *rest)

    monkeypatch.setattr(ShardStore, "write", counted)
    with pytest.raises(KeyboardInterrupt):
        packed(task, data_dir)
    assert not read_pack(pack_folder(task, data_dir)).complete
    assert not isinstance(open_source(task, data_dir), PackedSource)
    stop_at = 99
    packed(task, data_dir)
    assert numbers == [0, 1, 2, 3, 4, 5]
    assert isinstance(open_source(task, data_dir), PackedSource)


def test_a_packing_that_never_began_does_not_stand_in_the_way(dataset: tuple[Task, Path]) -> None:
    task, data_dir = dataset
    folder = pack_folder(task, data_dir)
    folder.mkdir(parents=True)
    (folder / f".00000-10m.npy.4194305-{atomic._host()}.x").touch()  # no process has such a number
    assert not isinstance(open_source(task, data_dir), PackedSource)
    packed(task, data_dir)
    assert isinstance(open_source(task, data_dir), PackedSource)
    assert not list(folder.glob(".[0-9]*"))


def test_files_that_changed_meanwhile_are_packed_again(dataset: tuple[Task, Path]) -> None:
    task, data_dir = dataset
    folder = packed(task, data_dir)
    store = read_pack(folder).store
    ShardStore(folder, store.about, {number: store.shards[number] for number in range(3)}).write_manifest()
    first, second = (data_dir / "bigearthnet" / f"train-0{number}.npz" for number in (0, 1))
    first.write_bytes(second.read_bytes())
    packed(task, data_dir)
    again = read_pack(folder)
    assert again.complete
    assert [number for number, shard in again.store.shards.items() if shard != store.shards[number]] == [0]


def test_a_disk_that_is_too_small_is_noticed_before(
    dataset: tuple[Task, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "free_bytes", lambda folder: 1000)
    with pytest.raises(MissingDataError, match="takes .* kB, but the disk of .* has 1.0 kB free"):
        packed(*dataset)


def test_lists_are_in_official_order_and_rows_in_sorted_order(dataset: tuple[Task, Path]) -> None:
    task, data_dir = dataset
    for split, names in NAMES.items():
        (data_dir / "bigearthnet" / f"{split}.csv").write_text("".join(f"{name}\n" for name in reversed(names)))
    plain, folder = task.open(data_dir), packed(task, data_dir)
    source = open_source(task, data_dir)
    assert isinstance(source, PackedSource)
    assert {split: source.ids(split) for split in SPLITS} == {split: names[::-1] for split, names in NAMES.items()}
    np.testing.assert_array_equal(np.load(folder / "00000-labels.npy"), plain.targets(NAMES["train"][:4]))
    np.testing.assert_array_equal(source.targets(NAMES["train"][2:9]), plain.targets(NAMES["train"][2:9]))


def test_the_fingerprint_follows_the_content(dataset: tuple[Task, Path]) -> None:
    task, data_dir = dataset
    folder = packed(task, data_dir)
    source = open_source(task, data_dir)
    ids = source.ids("val")
    before = source.fingerprint(ids)
    assert before != source.fingerprint(ids[:-1])
    store = read_pack(folder).store
    others = {number: replace(one, files=dict.fromkeys(one.files, "0" * 64)) for number, one in store.shards.items()}
    ShardStore(folder, store.about, others).write_manifest()
    assert before == source.fingerprint(ids)  # what it reads is compared with the manifest that it was opened with
    assert before != open_source(task, data_dir).fingerprint(ids)


def test_fingerprints_stay_what_they_are(tmp_path: Path) -> None:
    contents = Contents(
        task="t",
        version=1,
        bands=("B02",),
        splits={split: Split.of([split]) for split in SPLITS},
        lists={split: hashlib.sha256(split.encode()).hexdigest() for split in SPLITS},
        chunk_rows=2,
    )
    for split in SPLITS:
        (tmp_path / f"{split}.txt").write_text(split)
    files = {"00000-labels.npy": "0" * 64, "00000-10m.npy": "1" * 64}
    made = {number: Shard(files, {"samples": "s"}) for number in range(2)}
    ShardStore(tmp_path, contents.model_dump(mode="json"), made).write_manifest()
    expected = "3953fc762f7c6ac7782f45061dadaa29cc5801053394d38e036e5f0d60797e38"
    assert PackedSource(tmp_path, {"B02": "10m"}).fingerprint(["val", "test"]) == expected


def test_damaged_arrays_are_found_and_only_their_shards_are_written_again(dataset: tuple[Task, Path]) -> None:
    task, data_dir = dataset
    folder = packed(task, data_dir)
    assert damaged_files(folder) == []
    before = written(folder)
    flipped, cut, gone = folder / "00000-10m.npy", folder / "00001-20m.npy", folder / "00002-60m.npy"
    content = flipped.read_bytes()
    flipped.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    cut.write_bytes(cut.read_bytes()[:-100])
    gone.unlink()
    assert damaged_files(folder) == [flipped, cut, gone]
    source = open_source(task, data_dir)
    for number, band in enumerate(("B02", "B05", "B01")):
        with pytest.raises(DamagedFileError, match=rf"0000{number}.*`ssl4eo-bench data prepare bigearthnet`"):
            source.read(NAMES["train"][number * 4 : number * 4 + 3], [band])
    packed(task, data_dir)
    assert damaged_files(folder) == []
    after = written(folder)
    assert {name for name in after if after[name] == before[name]} == {name for name in after if name[4] in "345"}


@pytest.mark.parametrize("name", ["00000-10m.npy", "00000-labels.npy"])
def test_one_flipped_bit_or_an_empty_array_is_never_read(dataset: tuple[Task, Path], name: str) -> None:
    task, data_dir = dataset
    folder = packed(task, data_dir)
    good, ids = (folder / name).read_bytes(), NAMES["train"][:3]
    np.save(folder / name, np.empty((0, 4), dtype=np.uint8))
    empty = (folder / name).read_bytes()
    for content in (good[:-1] + bytes([good[-1] ^ 1]), good[:80] + bytes([good[80] ^ 1]) + good[81:], b"", empty):
        (folder / name).write_bytes(content)
        source = open_source(task, data_dir)
        with pytest.raises(DamagedFileError, match=f"{name} is not what was packed"):
            source.targets(ids) if "labels" in name else source.read(ids, ["B02"])


def test_an_array_that_is_cut_off_after_it_was_opened_is_found(dataset: tuple[Task, Path]) -> None:
    task, data_dir = dataset
    folder = packed(task, data_dir)
    source, ids = open_source(task, data_dir), NAMES["train"][:4]
    source.read(ids, ["B02"])
    (folder / "00000-10m.npy").write_bytes((folder / "00000-10m.npy").read_bytes()[:-1000])
    for chosen in (ids, ids[::-1]):
        with pytest.raises(DamagedFileError, match=r"is not what was packed; run `ssl4eo-bench data prepare"):
            source.read(chosen, ["B02"])


@pytest.mark.parametrize("damage", ["cut", "reversed", "edited", "gone"])
def test_a_list_that_is_not_what_was_packed_is_refused_and_written_again(
    dataset: tuple[Task, Path], damage: str
) -> None:
    task, data_dir = dataset
    folder = packed(task, data_dir)
    file, names = folder / "val.txt", NAMES["val"]
    whole, before = file.read_text(), written(folder)
    changed = {"cut": names[:3], "reversed": names[::-1], "edited": ["x", *names[1:]]}
    if damage == "gone":
        file.unlink()
    else:
        file.write_text("".join(f"{name}\n" for name in changed[damage]))
    with pytest.raises(DamagedFileError, match=r"val.txt is not what was packed; run `ssl4eo-bench data prepare bige"):
        open_splits(task, data_dir)
    assert damaged_files(folder) == [file]
    assert str(file) in [fault.where for fault in verify(task, data_dir)]
    packed(task, data_dir)
    assert file.read_text() == whole
    assert written(folder) == before


def test_a_manifest_that_was_edited_is_refused(dataset: tuple[Task, Path]) -> None:
    task, data_dir = dataset
    file = packed(task, data_dir) / "manifest.json"
    text = file.read_text()
    for changed in (text.replace('"chunk_rows": 4', '"chunk_rows": 3'), text[: len(text) // 2], ""):
        file.write_text(changed)
        with pytest.raises(
            DamagedFileError, match=r"manifest.json is not what was written; delete the folder .*prepare"
        ):
            open_source(task, data_dir)


def test_a_pack_that_lists_chunks_is_read_and_kept(dataset: tuple[Task, Path]) -> None:
    task, data_dir = dataset
    folder = packed(task, data_dir)
    source, before = open_source(task, data_dir), written(folder)
    ids, raw = source.ids("test"), in_chunks(folder)
    (folder / "manifest.json").write_text(json.dumps(raw | {"checksum": digest(raw)}))
    earlier = open_source(task, data_dir)
    assert isinstance(earlier, PackedSource)
    assert earlier.fingerprint(ids) == source.fingerprint(ids)
    np.testing.assert_array_equal(earlier.targets(ids), source.targets(ids))
    packed(task, data_dir)
    assert written(folder) == before


def test_a_pack_without_checksums_of_its_lists_is_not_read_and_upgraded_in_place(dataset: tuple[Task, Path]) -> None:
    task, data_dir = dataset
    folder = packed(task, data_dir)
    raw, before = in_chunks(folder), written(folder)
    del raw["lists"]
    (folder / "manifest.json").write_text(json.dumps(raw))
    assert not isinstance(open_source(task, data_dir), PackedSource)
    shutil.copytree(folder, data_dir / "alone" / "packed" / folder.name)
    with pytest.raises(MissingDataError, match="is a pack that was not finished or is of an earlier format"):
        open_source(task, data_dir / "alone")
    packed(task, data_dir)
    assert isinstance(open_source(task, data_dir), PackedSource)
    assert written(folder) == before


def test_each_file_is_hashed_once_whatever_the_threads(
    dataset: tuple[Task, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, data_dir = dataset
    folder = packed(task, data_dir)
    source, ids = open_source(task, data_dir), NAMES["train"][:4]
    source.ids("train")  # the lists have been checked
    for file in folder.glob("*.npy"):
        file.touch()  # else this process knows what it has written
    hashed: list[str] = []

    def counted(file: Path) -> str:
        hashed.append(file.name)
        return file_hash(file)

    monkeypatch.setattr(shards, "file_hash", counted)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: source.read(ids[number % 4 :], ["B02", "B05"]), range(16)))
    assert sorted(hashed) == ["00000-10m.npy", "00000-20m.npy"]
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again.targets(ids), source.targets(ids))
