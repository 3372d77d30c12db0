"""Two sensors as one source: the bands of each from its own files, under one id."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.task import SPLITS, Source
from ssl4eo_bench.data.combined import combined
from ssl4eo_bench.data.packing import pack
from ssl4eo_bench.data.packs import PackedSource, open_source, pack_folder
from ssl4eo_bench.data.splits import open_splits

SampleOf = Callable[[str], Path]
PAIRS = ("bigearthnet", "bigearthnet-v2", "so2sat", "dfc2020")
NAME = "dfc2020-s1s2"


def opened(name: str, folder: Path) -> Source:
    return catalogue.task(name).open(folder)


@pytest.mark.parametrize("name", PAIRS)
def test_a_task_of_both_sensors_is_the_two_tasks_side_by_side(name: str, sample_of: SampleOf) -> None:
    folder, both = sample_of(f"{name}-s1s2"), catalogue.task(f"{name}-s1s2")
    optical, radar = catalogue.task(name), catalogue.task(f"{name}-s1")
    assert both.bands == optical.bands + radar.bands
    assert (both.splits, both.class_counts, both.clusters) == (optical.splits, optical.class_counts, optical.clusters)
    assert (both.kind, both.classes, both.headline) == (optical.kind, optical.classes, False)
    assert set(optical.files) | set(radar.files) == set(both.files)
    assert len(set(both.files)) == len(both.files)
    sources = [task.open(folder) for task in (both, optical, radar)]
    for split in SPLITS:
        assert len({tuple(source.ids(split)) for source in sources}) == 1
    ids = sources[0].ids("val")[:3]
    names = [tuple(band.name for band in task.bands) for task in (both, optical, radar)]
    pixels, *apart = (source.read(ids, wanted) for source, wanted in zip(sources, names, strict=True))
    assert both.groups(names[0]) == optical.groups(names[1]) + radar.groups(names[2])
    for group, expected in zip(pixels, (*apart[0], *apart[1]), strict=True):
        assert group.dtype == expected.dtype
        np.testing.assert_array_equal(group, expected)
    np.testing.assert_array_equal(sources[0].targets(ids), sources[1].targets(ids))


def test_any_bands_come_in_the_order_of_the_task(sample_of: SampleOf) -> None:
    task = catalogue.task("bigearthnet-s1s2")
    reader = open_splits(task, sample_of(task.name), sample=True)["val"].reader
    ids = reader.ids("val")[:2]
    reader.require_selection(ids)
    assert task.groups(("VH", "B11", "B02")) == (("B02",), ("B11",), ("VH",))
    assert [group.shape[1:] for group in reader.read(ids, ("VH", "B11", "B02"))] == [
        (1, 120, 120),
        (1, 60, 60),
        (1, 120, 120),
    ]
    assert [group.dtype for group in reader.read(ids, ("VV",))] == [np.float32]


@pytest.fixture
def copy(sample_of: SampleOf, tmp_path: Path) -> Path:
    """A copy of the sample of DFC2020 with both sensors."""
    shutil.copytree(sample_of(NAME), tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize("kind", ["s1", "s2"])
def test_a_sample_without_one_of_its_images_is_absent(copy: Path, kind: str) -> None:
    ids = opened(NAME, copy).ids("test")
    (image,) = copy.rglob(f"ROIs0000_validation_{kind}_0_{ids[0].rpartition('_')[2]}.tif")
    image.unlink()
    assert opened(NAME, copy).absent(ids) == ids[:1]


@pytest.mark.parametrize("kind", ["s1", "s2"])
def test_the_fingerprint_tells_when_an_image_of_either_sensor_changed(copy: Path, kind: str) -> None:
    ids = opened(NAME, copy).ids("test")[:2]
    before = opened(NAME, copy).fingerprint(ids)
    (image,) = copy.rglob(f"ROIs0000_validation_{kind}_0_{ids[0].rpartition('_')[2]}.tif")
    image.write_bytes(image.read_bytes() + b"0")
    assert opened(NAME, copy).fingerprint(ids) != before


class Placed:
    def place_and_date(self, ids: list[str]) -> np.ndarray:
        return np.array([[11.5, 48.1, float(id_)] for id_ in ids])


def test_place_and_date_are_those_of_the_first_sensor() -> None:
    source: Any = combined({"Sentinel-2": Placed(), "Sentinel-1": object()})  # type: ignore[dict-item]
    assert source.place_and_date(["3", "4"]).tolist() == [[11.5, 48.1, 3.0], [11.5, 48.1, 4.0]]


def test_a_pack_keeps_both_sensors_in_their_own_types(copy: Path) -> None:
    task = catalogue.task(NAME)
    samples = open_splits(task, copy, sample=True)
    pack(task, samples, pack_folder(task, copy))
    packed, ids = open_source(task, copy), samples["test"].ids[:3]
    assert isinstance(packed, PackedSource)
    names = [band.name for band in task.bands]
    for wanted in (names, ["VH"], ["VV", "B10"]):
        expected = samples["test"].reader.read(ids, wanted)
        for group, other in zip(packed.read(ids, wanted), expected, strict=True):
            assert group.dtype == other.dtype
            np.testing.assert_array_equal(group, other)
    np.testing.assert_array_equal(packed.targets(ids), samples["test"].reader.targets(ids))
