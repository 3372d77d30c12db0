"""Every parser of foreign bytes gives a valid value or one sentence, whatever the bytes are.

A few mutations of each kind are tried, and thousands with `SSL4EO_BENCH_FAULTS=long`.
"""

import gzip
import hashlib
import io
import json
import re
import shutil
import tarfile
import zipfile
from argparse import Namespace
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pytest
import rasterio
import torch
from PIL import Image
from pyarrow import parquet
from safetensors.torch import save as safetensors_bytes

from ssl4eo_bench.cli.run_display import show_result
from ssl4eo_bench.cli.sweep_files import read_sweep
from ssl4eo_bench.config.canonical import digest
from ssl4eo_bench.config.catalogue import load_catalogue
from ssl4eo_bench.config.weights import EmbeddingFile
from ssl4eo_bench.data.embedding_files import read_vectors
from ssl4eo_bench.data.hdf5 import Hdf5File, write_hdf5
from ssl4eo_bench.data.images import decode_geotiff, decode_jpeg, lonlat, write_geotiff, write_jpeg
from ssl4eo_bench.data.own_images import ImageFile
from ssl4eo_bench.data.own_listings import csv_listing
from ssl4eo_bench.data.packs import PackedSource
from ssl4eo_bench.data.split_lists import csv_rows, parquet_columns, read_list, unpacked
from ssl4eo_bench.data.trees import gather_files
from ssl4eo_bench.files.archives import unpack
from ssl4eo_bench.files.shards import MANIFEST
from ssl4eo_bench.models.weight_reader import read_weights
from ssl4eo_bench.results.files import RunResult, parse_result
from ssl4eo_bench.results.published import read_published
from ssl4eo_bench.results.views import leaderboard_files
from ssl4eo_bench.tasks.bigearthnet import Patches, _description
from tests.conftest import ROOT
from tests.faults.fuzzing import Parse, fuzz
from tests.faults.tally import LONG, keep
from tests.faults.test_hostile_data import IDS, small_pack, with_labels
from tests.results.conftest import make_result as make_result_fixture

COUNT = 400 if LONG else 10
PIXELS = np.random.default_rng(0).integers(0, 255, (3, 16, 16)).astype(np.uint8)
VECTORS = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
FOUND: dict[str, Callable[[Path], tuple[Parse, list[bytes]]]] = {}
"""Makes a parser and valid inputs of each kind in a folder."""


def kind(name: str) -> Callable[[Callable[[Path], tuple[Parse, list[bytes]]]], None]:
    def add(make: Callable[[Path], tuple[Parse, list[bytes]]]) -> None:
        FOUND[name] = make

    return add


def on_file(file: Path, parse: Callable[[Path], object]) -> Parse:
    """A parser of bytes that writes them to a file first."""

    def parse_bytes(content: bytes) -> object:
        file.write_bytes(content)
        return parse(file)

    return parse_bytes


@kind("catalogue YAML")
def _(folder: Path) -> tuple[Parse, list[bytes]]:
    text = """
shared: {scaling: &scaling {mean: {B04: 1.0, B03: 2, B02: 3}, std: {B04: 1, B03: 1, B02: 1}}}
checkpoints:
  mine.random: &mine
    arch: resnet18
    weights: {random: true}
    bands: [B04, B03, B02]
    image_size: 64
    scaling: *scaling
    pretraining: {method: none, data: none, epochs: 3}
  other: {<<: *mine, weights: {path: w.pth, sha256: "%s", layout: {prefix: a., renames: [["^b", c]]}}}
suites: {both: [mine.random, other]}
""" % ("a" * 64)
    return on_file(folder / "a.yaml", load_catalogue), [text.encode()]


@kind("sweep file")
def _(folder: Path) -> tuple[Parse, list[bytes]]:
    text = "task: [eurosat-rgb, so2sat]\nprotocol: linear\nseed: [0, 1]\nfraction: 0.5\nsample: true\nlimit: 60\n"
    return on_file(folder / "a.yaml", lambda file: read_sweep(["run", str(file), "--seed", "2"])), [text.encode()]


@kind("split list")
def _(folder: Path) -> tuple[Parse, list[bytes]]:
    return on_file(folder / "a.txt", read_list), ["Forest_1.jpg\nWälder_2.jpg\r\n\n".encode()]


@kind("CSV list")
def _(folder: Path) -> tuple[Parse, list[bytes]]:
    rows = b'a,"b, c"\r\nd,e\n'
    return on_file(folder / "a", lambda file: csv_rows(file.read_bytes(), file, cure="fetch it")), [rows]


@kind("packed list")
def _(folder: Path) -> tuple[Parse, list[bytes]]:
    return on_file(folder / "a.gz", unpacked), [gzip.compress(b"a,b\n" * 100)]


@kind("labels JSON")
def _(folder: Path) -> tuple[Parse, list[bytes]]:
    (folder / "p").mkdir()
    patches = Patches(folder, by_product=False, fields=2)
    content = json.dumps({"labels": ["Pastures"], "corresponding_s2_patch": "x"}).encode()
    return on_file(folder / "p" / "p_labels_metadata.json", lambda _: _description(patches, "p")), [content]


@kind("GeoTIFF")
def _(folder: Path) -> tuple[Parse, list[bytes]]:
    write_geotiff(folder / "a.tif", PIXELS)
    tiled = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
    with rasterio.open(folder / "a.tif") as opened:
        profile = opened.profile | tiled
    with rasterio.open(folder / "b.tif", "w", **profile) as opened:
        opened.write(PIXELS)

    def parse(content: bytes) -> object:
        lonlat(content)
        return decode_geotiff(content, shape=(3, 16, 16), dtype="uint8", where="a.tif")

    return parse, [(folder / name).read_bytes() for name in ("a.tif", "b.tif")]


@kind("JPEG")
def _(folder: Path) -> tuple[Parse, list[bytes]]:
    write_jpeg(folder / "a.jpg", PIXELS)
    return lambda content: decode_jpeg(content, shape=(3, 16, 16), where="a.jpg"), [(folder / "a.jpg").read_bytes()]


@kind("images of one's own")
def _(folder: Path) -> tuple[Parse, list[bytes]]:
    write_jpeg(folder / "a.jpg", PIXELS)
    write_geotiff(folder / "a.tif", PIXELS)
    Image.fromarray(PIXELS.transpose(1, 2, 0)).save(folder / "a.png")
    Image.fromarray(PIXELS[0].astype(np.uint16)).save(folder / "deep.png")
    valid = [file.read_bytes() for file in sorted(folder.iterdir())]
    return on_file(folder / "image", lambda file: ImageFile.of(file).pixels()), valid


@kind("CSV of one's own images")
def _(folder: Path) -> tuple[Parse, list[bytes]]:
    rows = b"path,labels,split\r\na.png,x;y,train\r\n"
    return on_file(folder / "a.csv", csv_listing), [rows]


@kind("HDF5")
def _(folder: Path) -> tuple[Parse, list[bytes]]:
    write_hdf5(folder / "a.h5", {"x": VECTORS}, {"mark": True})
    with h5py.File(folder / "b.h5", "w") as opened:
        opened["x"] = VECTORS

    def parse(file: Path) -> object:
        found = Hdf5File(file)
        found.attribute("mark")
        rows = min(found.shape("x")[0], 8)
        return found.rows("x", range(rows)) if np.prod(found.shape("x")[1:]) < 10**6 else None

    return on_file(folder / "c.h5", parse), [(folder / name).read_bytes() for name in ("a.h5", "b.h5")]


@kind("zip of images")
def _(folder: Path) -> tuple[Parse, list[bytes]]:
    with zipfile.ZipFile(folder / "b", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.jpg", bytes(1000))
        archive.writestr("a/2.jpg", VECTORS.tobytes())

    def parse(file: Path) -> object:
        tree = gather_files(file.parent, re.compile(r"\d\.jpg"))
        return [(tree[name].read(), tree[name].stamp()) for name in sorted(tree)]

    return on_file(folder / "a.zip", parse), [(folder / "b").read_bytes()]


@kind("archive")
def _(folder: Path) -> tuple[Parse, list[bytes]]:
    valid = []
    for name, mode in (("a.tar", "w"), ("a.tar.gz", "w:gz")):
        with tarfile.open(folder / name, mode, format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
            for path in ("b/c.txt", "b/" + "d" * 120 + "/é.txt"):
                member = tarfile.TarInfo(path)
                member.size = 600
                archive.addfile(member, io.BytesIO(bytes(600)))
        valid.append((folder / name).read_bytes())
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("b/c.txt", bytes(600))
        zipped.writestr("b/d.txt", VECTORS.tobytes())
    valid.append((folder / "a.zip").read_bytes())

    def parse(content: bytes) -> None:
        ending = {b"PK": ".zip", b"\x1f\x8b": ".tar.gz"}.get(content[:2], ".tar")
        shutil.rmtree(folder / "unpacked", ignore_errors=True)
        archive = folder / f"given{ending}"
        archive.write_bytes(content)
        before = set(folder.iterdir())
        try:
            unpack(archive, folder / "unpacked", limit=10_000_000)
        finally:
            assert set(folder.iterdir()) - before <= {folder / "unpacked"}, "written outside of the folder"

    return parse, valid


@kind("weights")
def _(folder: Path) -> tuple[Parse, list[bytes]]:
    content = {"state_dict": {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2)}, "epoch": 3}
    torch.save(content | {"args": Namespace(a=[1, {"b": (2,)}])}, folder / "zip")
    torch.save(content, folder / "legacy", _use_new_zipfile_serialization=False)
    (folder / "safetensors").write_bytes(safetensors_bytes({"a": torch.zeros(2, 3), "b": torch.ones(1)}))
    return on_file(folder / "a.pth", read_weights), [
        (folder / name).read_bytes() for name in ("zip", "legacy", "safetensors")
    ]


@kind("embeddings")
def _(folder: Path) -> tuple[Parse, list[bytes]]:
    np.savez(folder / "a.npz", ids=np.array(IDS), features=VECTORS, about=np.array("{}"))
    np.savez_compressed(folder / "b.npz", ids=np.array(IDS), features=np.asfortranarray(VECTORS))
    features = pa.FixedSizeListArray.from_arrays(pa.array(VECTORS.ravel()), 4)
    parquet.write_table(pa.table({"id": IDS, "features": features}), folder / "a.parquet")

    def parse(content: bytes) -> object:
        file = folder / ("given.parquet" if content[:1] == b"P" and content[:2] != b"PK" else "given.npz")
        file.write_bytes(content)
        return read_vectors([EmbeddingFile(path=str(file), sha256=hashlib.sha256(content).hexdigest())], IDS, "a")

    return parse, [(folder / name).read_bytes() for name in ("a.npz", "b.npz", "a.parquet")]


@kind("metadata in Parquet")
def _(folder: Path) -> tuple[Parse, list[bytes]]:
    table = pa.table({"patch_id": IDS, "labels": [["a", "b"]] * 8})
    parquet.write_table(table, folder / "a.parquet")
    return on_file(folder / "b.parquet", lambda file: parquet_columns(file, ("patch_id", "labels"))), [
        (folder / "a.parquet").read_bytes()
    ]


@kind("pack")
def _(folder: Path) -> tuple[Parse, list[bytes]]:
    """Manifests that somebody has written anew, and arrays with the checksum of what was put there."""
    small_pack(folder)
    manifest, labels = (folder / MANIFEST).read_bytes(), (folder / "00000-labels.npy").read_bytes()

    def parse(content: bytes) -> object:
        (folder / MANIFEST).write_bytes(manifest)
        if content.startswith(b"\x93NUMPY"):
            with_labels(folder, content)
            return PackedSource(folder, {"B04": "10m"}).targets(IDS)
        described = loose_json(content)
        if isinstance(described, dict):
            described.pop("checksum", None)
            (folder / MANIFEST).write_text(json.dumps(described), encoding="utf-8")
        else:
            (folder / MANIFEST).write_bytes(content)
        source = PackedSource(folder, {"B04": "10m"})
        there = [id_ for id_ in IDS if id_ not in source.absent(IDS)]
        return [source.fingerprint(there), source.targets(there), source.read(there, ["B04"])] if there else None

    return parse, [manifest, labels]


def loose_json(content: bytes) -> object:
    """What JSON says; None where it is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


@kind("result JSON")
def _(folder: Path) -> tuple[Parse, list[bytes]]:
    """As they are, and with a right checksum and digest, so that more than these is read."""
    make: Callable[..., RunResult] = make_result_fixture.__wrapped__()  # type: ignore[attr-defined]
    result = make("eurosat-rgb", "resnet18.random")
    valid = json.dumps(json.loads(result.model_dump_json(exclude_none=True)), indent=1).encode()

    def parse(content: bytes) -> object:
        described = loose_json(content)
        if isinstance(described, dict):
            with suppress(TypeError, ValueError):
                content = (json.dumps(described | {"checksum": digest(described)}, indent=1) + "\n").encode()
        found = parse_result(content, result.spec.path)
        with redirect_stdout(io.StringIO()):
            show_result(found)
        return leaderboard_files([found], [])

    return parse, [valid]


@kind("published.csv")
def _(folder: Path) -> tuple[Parse, list[bytes]]:
    shipped = (ROOT / "results" / "published.csv").read_bytes().splitlines(keepends=True)[:6]
    return on_file(folder / "a.csv", read_published), [b"".join(shipped)]


@pytest.mark.parametrize("name", FOUND)
def test_foreign_bytes_give_a_value_or_a_sentence(name: str, tmp_path: Path) -> None:
    parse, valid = FOUND[name](tmp_path)
    for content in valid:
        parse(content)  # also imports what the children need
    tally, wrong = fuzz(f"fuzzed input: {name}", parse, valid, COUNT)
    keep(tally)
    assert tally.tried == COUNT
    assert not wrong, "\n".join(wrong)
