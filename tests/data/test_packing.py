"""Packs: the same pixels, labels and features as from the published files, whatever happened on the way."""

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.task import SPLITS, Split, Task
from ssl4eo_bench.data import packing, packs
from ssl4eo_bench.data.checks import verify
from ssl4eo_bench.data.packing import damaged_chunks, pack
from ssl4eo_bench.data.packs import PackedSource, open_source, pack_folder, read_manifest, write_manifest
from ssl4eo_bench.data.splits import open_splits
from ssl4eo_bench.errors import DamagedFileError, MissingDataError

SampleOf = Callable[[str], Path]


@pytest.fixture
def dataset(sample_of: SampleOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Task, Path]:
    """A copy of a sample that stands for a dataset, in chunks of 100 rows."""
    monkeypatch.setattr(packing, "CHUNK_ROWS", 100)
    shutil.copytree(sample_of("bigearthnet"), tmp_path / "data")
    return catalogue.task("bigearthnet"), tmp_path / "data"


def packed(task: Task, data_dir: Path) -> Path:
    folder = pack_folder(task, data_dir)
    pack(task, open_splits(task, data_dir, sample=True), folder)
    return folder


def test_a_pack_gives_what_the_files_give(dataset: tuple[Task, Path]) -> None:
    task, data_dir = dataset
    plain = task.open(data_dir)
    packed(task, data_dir)
    source = open_source(task, data_dir)
    assert isinstance(source, PackedSource)
    names = [band.name for band in task.bands]
    rng = np.random.default_rng(0)
    for split in SPLITS:
        assert Split.of(source.ids(split)) == Split.of(plain.ids(split))
        ids = source.ids(split)
        for chosen in (ids[:120], ids[5:8], [str(id_) for id_ in rng.permutation(ids)[:70]]):
            np.testing.assert_array_equal(source.targets(chosen), plain.targets(chosen))
            for bands in (names, ["B12", "B02", "B09"], ["B8A"]):
                for left, right in zip(source.read(chosen, bands), plain.read(chosen, bands), strict=True):
                    assert left.dtype == right.dtype
                    np.testing.assert_array_equal(left, right)


def test_a_pack_that_was_cut_off_is_not_used_and_goes_on(
    dataset: tuple[Task, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, data_dir = dataset
    written: list[int] = []
    write = packing._write_chunk

    def stop_at_the_third(*arguments: object) -> packs.Chunk:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(int(str(arguments[4])))
        return write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(packing, "_write_chunk", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        packed(task, data_dir)
    assert not read_manifest(pack_folder(task, data_dir)).complete
    assert not isinstance(open_source(task, data_dir), PackedSource)
    written.clear()

    def count(*arguments: object) -> packs.Chunk:
        written.append(int(str(arguments[4])))
        return write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(packing, "_write_chunk", count)
    packed(task, data_dir)
    assert written == [2, 3, 4, 5]
    assert isinstance(open_source(task, data_dir), PackedSource)


def test_files_that_changed_meanwhile_are_packed_again(dataset: tuple[Task, Path]) -> None:
    task, data_dir = dataset
    folder = packed(task, data_dir)
    manifest = read_manifest(folder)
    write_manifest(folder, manifest.model_copy(update={"chunks": manifest.chunks[:3]}))
    first = open_splits(task, data_dir, sample=True)["train"].ids[0]
    file = next((data_dir / "bigearthnet" / "BigEarthNet-v1.0" / first).glob("*_B02.tif"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    packed(task, data_dir)
    again = read_manifest(folder)
    assert again.complete
    assert again.chunks[0] != manifest.chunks[0]
    assert again.chunks[1:] == manifest.chunks[1:]


def test_the_fingerprint_follows_the_content(dataset: tuple[Task, Path]) -> None:
    task, data_dir = dataset
    folder = packed(task, data_dir)
    source = open_source(task, data_dir)
    ids = source.ids("val")
    before = source.fingerprint(ids)
    assert before == source.fingerprint(ids)
    assert before != source.fingerprint(ids[:-1])
    manifest = read_manifest(folder)
    others = tuple(
        chunk.model_copy(update={"files": dict.fromkeys(chunk.files, "0" * 64)}) for chunk in manifest.chunks
    )
    write_manifest(folder, manifest.model_copy(update={"chunks": others}))
    assert before == source.fingerprint(ids)  # what it reads is compared with the manifest that it was opened with
    assert before != open_source(task, data_dir).fingerprint(ids)


def test_damage_is_found(dataset: tuple[Task, Path]) -> None:
    task, data_dir = dataset
    folder = packed(task, data_dir)
    assert damaged_chunks(folder) == []
    flipped, cut, gone = folder / "00000-10m.npy", folder / "00001-20m.npy", folder / "00002-60m.npy"
    content = bytearray(flipped.read_bytes())
    content[-1] ^= 1
    flipped.write_bytes(content)
    cut.write_bytes(cut.read_bytes()[:-100])
    gone.unlink()
    assert damaged_chunks(folder) == [flipped, cut, gone]
    source = open_source(task, data_dir)
    rows = sorted(source.ids("train"))
    for number, band in enumerate(("B02", "B05", "B01")):
        with pytest.raises(DamagedFileError, match=rf"0000{number}.*`ssl4eo-bench data prepare bigearthnet`"):
            source.read(rows[number * 100 : number * 100 + 5], [band])


def test_an_array_that_is_cut_off_after_it_was_opened_is_found(dataset: tuple[Task, Path]) -> None:
    task, data_dir = dataset
    folder = packed(task, data_dir)
    source = open_source(task, data_dir)
    assert isinstance(source, PackedSource)
    ids, bands = sorted(source.ids("train"))[90:100], [task.bands[0].name]
    source.read(ids, bands)
    for file in folder.glob("00000-*m.npy"):
        file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(DamagedFileError, match=r"is not what was packed; run `ssl4eo-bench data prepare"):
        source.read(ids, bands)


def test_a_disk_that_is_too_small_is_noticed_before(
    dataset: tuple[Task, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, data_dir = dataset
    monkeypatch.setattr(packing, "free_bytes", lambda folder: 1000)
    with pytest.raises(MissingDataError, match="GB"):
        packed(task, data_dir)


def test_features_from_a_pack_are_identical(command: Callable[..., tuple[int, str, str]], shared_samples: Path) -> None:
    wanted = ("run", "--task", "bigearthnet", "--protocol", "linear", "--checkpoint", "bandstats", "--sample", "--json")
    code, out, err = command(*wanted)
    assert code == 0, err
    (first,) = json.loads(out)
    task = catalogue.task("bigearthnet")
    home = shared_samples / f"{task.name}-v{task.version}"
    folder = packed(task, home)
    try:
        code, out, err = command(*wanted, "--force")
        assert code == 0, err
    finally:
        shutil.rmtree(folder.parent)
    (again,) = json.loads(out)
    assert again["result"]["provenance"]["features_computed"] == sum(again["result"]["counts"].values())
    assert again["result"]["metrics"] == first["result"]["metrics"]
    assert again["result"]["selection"] == first["result"]["selection"]


def test_a_packing_that_never_began_does_not_stand_in_the_way(dataset: tuple[Task, Path]) -> None:
    task, data_dir = dataset
    folder = pack_folder(task, data_dir)
    folder.mkdir(parents=True)
    (folder / ".00000-10m.npy.x").touch()
    assert not isinstance(open_source(task, data_dir), PackedSource)
    packed(task, data_dir)
    assert isinstance(open_source(task, data_dir), PackedSource)
    assert not list(folder.glob(".[0-9]*"))


def test_only_damaged_chunks_are_written_again(dataset: tuple[Task, Path]) -> None:
    task, data_dir = dataset
    folder = packed(task, data_dir)
    before = {file.name: file.stat().st_mtime_ns for file in folder.glob("*.npy")}
    (folder / "00002-20m.npy").write_bytes(b"junk")
    pack(task, open_splits(task, data_dir, sample=True, packed=False), folder)
    assert damaged_chunks(folder) == []
    changed = {file.name for file in folder.glob("*.npy") if file.stat().st_mtime_ns != before[file.name]}
    assert changed == {f"00002-{what}.npy" for what in ("10m", "20m", "60m", "labels")}


def test_lists_are_in_official_order_and_rows_in_sorted_order(dataset: tuple[Task, Path]) -> None:
    task, data_dir = dataset
    plain = task.open(data_dir)
    before = {split: plain.ids(split) for split in SPLITS}
    for split in SPLITS:
        file = data_dir / "bigearthnet" / f"{split}.csv"
        file.write_text("".join(f"{line}\n" for line in reversed(file.read_text().splitlines())))
    folder = packed(task, data_dir)
    source = open_source(task, data_dir)
    assert isinstance(source, PackedSource)
    for split in SPLITS:
        assert source.ids(split) == before[split][::-1] != sorted(before[split])
    ids = sorted(source.ids("train"))
    np.testing.assert_array_equal(np.load(folder / "00000-labels.npy"), plain.targets(ids[:100]))
    np.testing.assert_array_equal(source.targets(ids[95:105]), plain.targets(ids[95:105]))


@pytest.mark.parametrize("damage", ["cut", "reversed", "rotated", "edited", "gone"])
def test_a_list_that_is_not_what_was_packed_is_refused(dataset: tuple[Task, Path], damage: str) -> None:
    task, data_dir = dataset
    folder = packed(task, data_dir)
    file = folder / "val.txt"
    whole = file.read_text()
    lines = whole.splitlines(keepends=True)
    changed = {
        "cut": lines[: len(lines) // 2],
        "reversed": lines[::-1],
        "rotated": lines[1:] + lines[:1],
        "edited": ["x" + lines[0][1:], *lines[1:]],
    }
    if damage == "gone":
        file.unlink()
    else:
        file.write_text("".join(changed[damage]))
    with pytest.raises(DamagedFileError, match=r"val.txt is not what was packed; run `ssl4eo-bench data prepare bige"):
        open_splits(task, data_dir, sample=True)
    assert damaged_chunks(folder) == [file]
    if damage == "edited":
        assert str(file) in [fault.where for fault in verify(task, data_dir)]
    before = {array.name: array.stat().st_mtime_ns for array in folder.glob("*.npy")}
    pack(task, open_splits(task, data_dir, sample=True, packed=False), folder)
    assert file.read_text() == whole
    assert before == {array.name: array.stat().st_mtime_ns for array in folder.glob("*.npy")}


@pytest.mark.parametrize("name", ["00000-10m.npy", "00000-labels.npy"])
def test_one_flipped_bit_or_an_empty_array_is_never_read(dataset: tuple[Task, Path], name: str) -> None:
    task, data_dir = dataset
    folder = packed(task, data_dir)
    good = (folder / name).read_bytes()
    ids = sorted(open_source(task, data_dir).ids("train"))[:5]
    np.save(folder / name, np.empty((0, 4), dtype=np.uint8))
    empty = (folder / name).read_bytes()
    for content in (good[:-1] + bytes([good[-1] ^ 1]), good[:80] + bytes([good[80] ^ 1]) + good[81:], b"", empty):
        (folder / name).write_bytes(content)
        source = open_source(task, data_dir)
        with pytest.raises(DamagedFileError, match=f"{name} is not what was packed"):
            source.targets(ids) if "labels" in name else source.read(ids, ["B02"])


def test_a_manifest_that_was_edited_is_refused(dataset: tuple[Task, Path]) -> None:
    task, data_dir = dataset
    folder = packed(task, data_dir)
    file = folder / "manifest.json"
    text = file.read_text()
    for changed in (text.replace('"chunk_rows": 100', '"chunk_rows": 99'), text[: len(text) // 2], ""):
        file.write_text(changed)
        with pytest.raises(
            DamagedFileError, match=r"manifest.json is not what was written; delete the folder .*prepare"
        ):
            open_source(task, data_dir)


def test_a_pack_of_the_earlier_format_is_not_read_and_upgraded_in_place(dataset: tuple[Task, Path]) -> None:
    task, data_dir = dataset
    folder = packed(task, data_dir)
    raw = json.loads((folder / "manifest.json").read_text())
    del raw["lists"], raw["checksum"]
    (folder / "manifest.json").write_text(json.dumps(raw))
    assert not isinstance(open_source(task, data_dir), PackedSource)
    shutil.copytree(folder, data_dir / "alone" / "packed" / folder.name)
    with pytest.raises(MissingDataError, match="is a pack that was not finished or is of an earlier format"):
        open_source(task, data_dir / "alone")
    before = {file.name: file.stat().st_mtime_ns for file in folder.glob("*.npy")}
    packed(task, data_dir)
    assert isinstance(open_source(task, data_dir), PackedSource)
    assert before == {file.name: file.stat().st_mtime_ns for file in folder.glob("*.npy")}


def test_each_file_is_hashed_once_whatever_the_threads(
    dataset: tuple[Task, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, data_dir = dataset
    packed(task, data_dir)
    hashed: list[str] = []
    digest = hashlib.file_digest

    def counted(*arguments: Any) -> Any:
        hashed.append(Path(arguments[0].name).name)
        return digest(*arguments)

    source = open_source(task, data_dir)
    monkeypatch.setattr("ssl4eo_bench.data.packs.hashlib.file_digest", counted)
    ids = sorted(source.ids("train"))[:100]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda start: source.read(ids[start : start + 5], ["B02", "B05"]), range(0, 100, 5)))
    assert sorted(hashed) == ["00000-10m.npy", "00000-20m.npy"]
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again.targets(ids), source.targets(ids))
