"""Place and date of samples, from the files of a task to a backbone that reads them."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

import ssl4eo_bench as bench
from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.inputs import map_inputs
from ssl4eo_bench.data.images import lonlat, write_geotiff
from ssl4eo_bench.data.packing import pack
from ssl4eo_bench.data.packs import open_source, pack_folder
from ssl4eo_bench.data.reader import Reader
from ssl4eo_bench.data.sample_dataset import ensure_sample
from ssl4eo_bench.data.splits import open_splits
from ssl4eo_bench.errors import DataError, MissingDataError, SpecError


def test_the_centre_of_a_geotiff(tmp_path: Path) -> None:
    write_geotiff(tmp_path / "a.tif", np.zeros((1, 64, 64), np.uint16))
    longitude, latitude = lonlat((tmp_path / "a.tif").read_bytes())
    # UTM zone 32: its central meridian is 9° east, where x = 500,000 m; 320 m are 0.0044° of longitude here
    assert longitude == pytest.approx(9.0044, abs=1e-4)
    assert latitude == pytest.approx(48.7501, abs=1e-4)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_geotiff_without_a_place(tmp_path: Path) -> None:
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", count=1, height=4, width=4, dtype="uint8") as opened:
        opened.write(np.zeros((1, 4, 4), np.uint8))
    assert np.isnan(lonlat((tmp_path / "a.tif").read_bytes())).all()


def test_real_patches_lie_where_their_files_say(real_data: Path) -> None:
    source = bench.load_task("eurosat").open(real_data)
    ids = [id_ for id_ in source.ids("test") if not source.absent([id_])][:20]
    found = Reader(bench.load_task("eurosat"), source).place_and_date(ids)
    assert ((found[:, 0] > -25) & (found[:, 0] < 45)).all()  # EuroSAT is of 34 countries in Europe
    assert ((found[:, 1] > 34) & (found[:, 1] < 72)).all()
    assert np.isnan(found[:, 2]).all()


class Told:
    """Reads what the task says, with the place and date of each sample."""

    def __init__(self, found: np.ndarray) -> None:
        self._found = found

    def place_and_date(self, ids: list[str]) -> np.ndarray:
        return self._found


@pytest.mark.parametrize(
    "found",
    [
        np.zeros((2, 3)),
        np.zeros((1, 2)),
        np.zeros((1, 3), np.float32),
        np.array([[181.0, 0, 0]]),
        np.array([[0, 91.0, 0]]),
    ],
)
def test_what_cannot_be_a_place_is_refused(found: np.ndarray) -> None:
    reader = Reader(bench.load_task("eurosat"), Told(found))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="gives place and date as float"):
        reader.place_and_date(["a"])


def entry(reads: tuple[str, ...]) -> Checkpoint:
    fields = {"name": "n", "arch": "python:m:Net", "weights": {"random": True}, "bands": ["B02"], "image_size": 64}
    return Checkpoint.model_validate(fields | {"scaling": {"divide": 10000}, "reads": reads})


def test_only_what_is_read_and_told_is_part_of_the_inputs() -> None:
    task = bench.load_task("eurosat")
    mappings = {
        reads: map_inputs(task.bands, entry(reads), tells=task.tells) for reads in ((), ("date",), ("lonlat", "date"))
    }
    assert mappings["lonlat", "date"].metadata == ("lonlat",)
    assert mappings[("date",)].metadata is None
    assert mappings[("date",)].identity() == mappings[()].identity()
    assert mappings[("date",)].identity() != mappings["lonlat", "date"].identity()


def test_a_pack_tells_the_same(tmp_path: Path) -> None:
    task = bench.load_task("eurosat")
    folder = ensure_sample(task, tmp_path)
    opened = open_splits(task, folder, sample=True, limit=3)
    pack(task, opened, pack_folder(task, folder))
    inputs = map_inputs(task.bands, entry(("lonlat",)), tells=task.tells)
    ids = opened["train"].ids
    *pixels, told = Reader(task, open_source(task, folder)).read_inputs(ids, inputs)
    *expected, place = opened["train"].reader.read_inputs(ids, inputs)
    assert [np.array_equal(a, b) for a, b in zip(pixels, expected, strict=True)] == [True]
    assert np.array_equal(told, place, equal_nan=True)
    assert told.shape == (3, 3)
    assert np.isfinite(told[:, :2]).all()


def test_a_pack_of_before_is_refused_for_those_who_read_places(tmp_path: Path) -> None:
    task = bench.load_task("eurosat")
    folder = ensure_sample(task, tmp_path)
    opened = open_splits(task, folder, sample=True, limit=1)
    pack(task.model_copy(update={"tells": ()}), opened, pack_folder(task, folder))
    reader = Reader(task, open_source(task, folder))
    reader.read_inputs(opened["train"].ids, map_inputs(task.bands, entry(())))
    with pytest.raises(MissingDataError, match="has no place and date of its samples; delete the folder"):
        reader.read_inputs(opened["train"].ids, map_inputs(task.bands, entry(("lonlat",)), tells=task.tells))


PLACED = """
import torch
from torch import nn
class Net(nn.Module):
    reads = ("lonlat", "date")
    def forward(self, images, meta):
        known = torch.where(meta.lonlat.isnan(), 0.0, meta.lonlat)
        return torch.cat([images.mean(dim=(2, 3)), known, meta.date.isnan().float()[:, None]], dim=1)
"""


def test_a_backbone_gets_what_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL4EO_BENCH_BACKBONES", str(tmp_path))
    (tmp_path / "net_placed.py").write_text(PLACED)
    (tmp_path / "mine.yaml").write_text(
        "checkpoints: {mine: {arch: 'python:net_placed:Net', weights: {random: true}, bands: [B02, B03], "
        "image_size: 16, scaling: {divide: 10000}}}"
    )
    found = bench.features(
        "eurosat",
        "mine",
        checkpoint_files=[tmp_path / "mine.yaml"],
        sample=True,
        limit=4,
        cache_dir=tmp_path,
        quiet=True,
    )
    task = bench.load_task("eurosat")
    source = task.open(ensure_sample(task, tmp_path))
    assert np.allclose(found.features[:, 2:4], source.place_and_date(found.ids)[:, :2], atol=1e-2)  # type: ignore[attr-defined]
    assert (found.features[:, 4] == 1).all()
    with pytest.raises(SpecError, match="reads lonlat of each image, which protocol 'finetune' does not"):
        bench.run(
            "eurosat", "finetune", "mine", checkpoint_files=[tmp_path / "mine.yaml"], sample=True, cache_dir=tmp_path
        )
