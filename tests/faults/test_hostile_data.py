"""Files of datasets that point elsewhere, never end, or are of another kind than their names say."""

import hashlib
import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.canonical import digest
from ssl4eo_bench.data.hdf5 import Hdf5File
from ssl4eo_bench.data.packs import PackedSource, read_pack
from ssl4eo_bench.data.reader import Reader
from ssl4eo_bench.data.split_lists import csv_rows, parquet_columns, read_list, unpacked
from ssl4eo_bench.data.trees import gather_files
from ssl4eo_bench.errors import BenchError, DamagedFileError, DataError
from ssl4eo_bench.files.hashing import file_hash
from ssl4eo_bench.files.shards import MANIFEST, ShardStore
from ssl4eo_bench.models.containers import examine

IDS = [f"id{number}" for number in range(8)]
VALUES = np.arange(24.0).reshape(6, 4)


def linked(file: Path, kind: str) -> Path:
    """An HDF5 file whose array `x` lies in another file, or nowhere."""
    other = file.with_name("other.h5")
    with h5py.File(other, "w") as opened:
        opened["x"] = VALUES
    other.with_suffix(".raw").write_bytes(VALUES.tobytes())
    with h5py.File(file, "w") as opened:
        if kind == "virtual":
            layout = h5py.VirtualLayout(VALUES.shape, VALUES.dtype)
            layout[:] = h5py.VirtualSource("absent.h5", "x", VALUES.shape)
            opened.create_virtual_dataset("x", layout)
        elif kind == "external":
            raw = [(str(other.with_suffix(".raw")), 0, VALUES.nbytes)]
            opened.create_dataset("x", VALUES.shape, VALUES.dtype, external=raw)
        elif kind == "link":
            opened["x"] = h5py.ExternalLink(str(other), "x")
        elif kind == "soft link":
            opened["elsewhere"] = h5py.ExternalLink(str(other), "/")
            opened["x"] = h5py.SoftLink("/elsewhere/x")
        elif kind == "objects":
            opened.create_dataset("x", (6,), h5py.string_dtype())
        else:
            opened.create_dataset("x", VALUES.shape, VALUES.dtype)
    return file


@pytest.mark.parametrize("kind", ["virtual", "external", "link", "soft link", "objects", "never written"])
def test_values_outside_of_an_hdf5_file_are_not_read(tmp_path: Path, kind: str) -> None:
    file = Hdf5File(linked(tmp_path / "a.h5", kind))
    for read in (lambda: file.rows("x", [0]), lambda: file.shape("x")):
        with pytest.raises(DamagedFileError, match=r"a\.h5 (has the values of 'x' in other files|holds no array 'x')"):
            read()


def test_what_is_told_of_an_hdf5_file_is_one_value(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as opened:
        opened.attrs["several"] = [1, 2]
    assert Hdf5File(tmp_path / "a.h5").attribute("several") is None


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    """To open one waits for somebody who writes to it."""
    for name in ("a.jpg", "a.h5", "a.zip", "a.txt", "a.gz", "a.parquet", "a.pth"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "images").mkdir()
    os.mkfifo(tmp_path / "images" / "b.jpg")
    calls: dict[str, Callable[[Path], object]] = {
        "a.h5": lambda file: Hdf5File(file).shape("x"),
        "a.zip": lambda file: gather_files(file.parent, re.compile(r".*\.jpg")),
        "a.txt": read_list,
        "a.gz": unpacked,
        "a.parquet": lambda file: parquet_columns(file, ["x"]),
    }
    for name, call in calls.items():
        with pytest.raises(BenchError, match="it is no regular file"):
            call(tmp_path / name)
    for call in (file_hash, examine):
        with pytest.raises(OSError, match="it is no regular file"):
            call(tmp_path / "a.pth")
    (tmp_path / "a.zip").unlink()
    with pytest.raises(DamagedFileError, match=r"b\.jpg cannot be read \(it is no regular file\)"):
        gather_files(tmp_path, re.compile(r".*\.jpg"))["b.jpg"].read()


def test_what_does_not_fit_into_memory_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "large.txt").touch()
    os.truncate(tmp_path / "large.txt", 10**13)
    with pytest.raises(DamagedFileError, match="it has more than 1,073,741,824 bytes"):
        read_list(tmp_path / "large.txt")


def test_a_long_field_of_a_csv_file_is_one_sentence(tmp_path: Path) -> None:
    for content in (b"a" * 200_000, b"\xff", b'"' + b"a" * 200_000):
        with pytest.raises(DamagedFileError, match=r"a\.csv is not CSV in UTF-8 \(.*\); fetch it again"):
            csv_rows(content, tmp_path / "a.csv", cure="fetch it again")


def small_pack(folder: Path) -> None:
    """Write a pack of eight samples of one pixel."""
    about = {"task": "eurosat", "version": 1, "bands": ["B04"], "splits": {}, "lists": {}, "chunk_rows": 8}
    for split in ("train", "val", "test"):
        ids = IDS if split == "train" else []
        (folder / f"{split}.txt").write_text("".join(f"{id_}\n" for id_ in ids), encoding="utf-8")
        about["splits"][split] = {"count": len(ids), "digest": "0"}  # type: ignore[index]
        about["lists"][split] = file_hash(folder / f"{split}.txt")  # type: ignore[index]
    store = ShardStore(folder, about)
    store.write_manifest()
    store.write(0, {"00000-10m.npy": np.zeros((8, 1, 1, 1)), "00000-labels.npy": np.arange(8)}, {"samples": "a"})


def with_labels(folder: Path, content: bytes) -> None:
    """Put other labels into a pack, with their checksum."""
    (folder / "00000-labels.npy").write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    del manifest["checksum"]
    manifest["shards"]["0"]["files"]["00000-labels.npy"] = hashlib.sha256(content).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest | {"checksum": digest(manifest)}), encoding="utf-8")


def array_bytes(array: np.ndarray) -> bytes:
    written = io.BytesIO()
    np.save(written, array)
    return written.getvalue()


def test_labels_of_a_pack_that_cannot_be_are_one_sentence(tmp_path: Path) -> None:
    small_pack(tmp_path)
    whole = array_bytes(np.arange(8))
    for content in (b"", whole[:90], whole[:-8], array_bytes(np.arange(4)), array_bytes(np.array(1))):
        with_labels(tmp_path, content)
        with pytest.raises(DamagedFileError, match=r"00000-labels\.npy is not what was packed.*data prepare eurosat"):
            PackedSource(tmp_path, {"B04": "10m"}).targets(IDS)
    for labels in (np.arange(8) + 5, np.arange(8) - 1):
        with_labels(tmp_path, array_bytes(labels))
        with pytest.raises(DataError, match="which are no multiclass labels of 10 classes"):
            Reader(catalogue.task("eurosat"), PackedSource(tmp_path, {"B04": "10m"})).targets(IDS)


def test_a_pack_names_no_files_elsewhere_and_no_billions_of_shards(tmp_path: Path) -> None:
    small_pack(tmp_path)
    manifest = json.loads((tmp_path / MANIFEST).read_text(encoding="utf-8"))
    del manifest["checksum"]
    manifest["splits"]["train"]["count"] = 10**15
    (tmp_path / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    assert not read_pack(tmp_path).complete
    manifest["shards"]["0"]["files"]["../../secret"] = "0"
    (tmp_path / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(DamagedFileError, match="is not what was written"):
        read_pack(tmp_path)
