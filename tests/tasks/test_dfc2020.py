"""DFC2020: splits, layouts, labels, and what is refused. All images here are made up; no real tile is at hand."""

import hashlib
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.bands import SENTINEL_2
from ssl4eo_bench.config.task import IGNORED, SPLITS, Source, Split
from ssl4eo_bench.data.images import decode_geotiff, write_geotiff
from ssl4eo_bench.data.split_lists import held_out
from ssl4eo_bench.data.splits import open_splits
from ssl4eo_bench.errors import DamagedFileError, MissingDataError, SplitError
from ssl4eo_bench.tasks.dfc2020 import CODES, contest_ids
from tests.conftest import real_data_dir

SampleOf = Callable[[str], Path]
TILE = "ROIs0000_test_{}_0_p7.tif"


def write(root: Path, *, labels: np.ndarray | None = None, image: np.ndarray | None = None, sensor: str = "s2") -> Path:
    """One tile, p7 of the fit part, below `root`."""
    rng = np.random.default_rng(0)
    if image is None and sensor == "s2":
        levels = np.where(np.array(SENTINEL_2) == "B10", 15, 1500)[:, None, None]
        image = (levels * rng.uniform(0.9, 1.1, (13, 256, 256))).astype(np.uint16)
    elif image is None:
        image = rng.normal(-12.0, 3.0, (2, 256, 256))
    write_geotiff(root / f"{sensor}_0" / TILE.format(sensor), image)
    codes = rng.integers(0, 11, (1, 256, 256)).astype(np.int32) if labels is None else labels
    write_geotiff(root / "dfc_0" / TILE.format("dfc"), codes)
    return root


def opened(root: Path, name: str = "dfc2020") -> Source:
    return catalogue.task(name).open(root)


ID = "ROIs0000_test_p7"


TYPES = pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.uint16])


@TYPES
def test_codes_become_classes_by_name(tmp_path: Path, dtype: type) -> None:
    codes: np.ndarray = np.zeros((1, 256, 256), dtype=dtype)
    codes[0, 0, :11] = np.arange(11)
    (labels,) = opened(write(tmp_path, labels=codes)).targets([ID])
    ignored = IGNORED
    assert labels[0, :11].tolist() == [ignored, 0, 1, ignored, 2, 3, 4, 5, ignored, 6, 7]
    assert (labels[1:] == ignored).all()
    assert catalogue.task("dfc2020").classes == tuple(CODES)
    assert tuple(CODES)[5] == "Urban/Built-up"


def write_without_place(file: Path, pixels: np.ndarray) -> None:
    """A GeoTIFF as the contest's: EPSG:4326 and an identity transform."""
    file.parent.mkdir(parents=True)
    count, height, width = pixels.shape
    profile = {"count": count, "height": height, "width": width, "dtype": pixels.dtype, "crs": "EPSG:4326"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # the task must give none
        with rasterio.open(file, "w", driver="GTiff", interleave="pixel", **profile) as opened_file:
            opened_file.write(pixels)
        with rasterio.open(file) as opened_file:
            assert opened_file.crs.to_epsg() == 4326
            assert opened_file.transform.is_identity


def test_files_as_the_contest_published_them_are_read_without_a_warning(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    optical = rng.integers(500, 3000, (13, 256, 256)).astype(np.uint16)
    optical[SENTINEL_2.index("B10")] = 11
    decibel = rng.normal(-12.0, 3.0, (2, 256, 256))
    codes = rng.choice(list(CODES.values()), (1, 256, 256)).astype(np.int32)
    for part, kind in (("ROIs0000_test", "0"), ("ROIs0000_validation", "validation")):
        for sensor, pixels in (("s2", optical), ("s1", decibel), ("dfc", codes)):
            write_without_place(tmp_path / "dfc2020" / part / f"{sensor}_{kind}" / f"{part}_{sensor}_0_p0.tif", pixels)
    ids = ["ROIs0000_test_p0", "ROIs0000_validation_p0"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = opened(tmp_path)
        assert source.absent(ids) == []
        (pixels,) = source.read(ids, SENTINEL_2)
        (radar,) = opened(tmp_path, "dfc2020-s1").read(ids, ["VV", "VH"])
        labels = source.targets(ids)
    assert [array.dtype.name for array in (pixels, radar, labels)] == ["uint16", "float32", "uint8"]
    np.testing.assert_array_equal(pixels, np.stack([optical, optical]))
    np.testing.assert_array_equal(radar, np.stack([decibel, decibel]).astype(np.float32))
    np.testing.assert_array_equal(np.array(list(CODES.values()))[labels], np.concatenate([codes, codes]))


def test_no_tile_tells_its_neighbours() -> None:
    assert {task.clusters for name, task in catalogue.tasks().items() if name.startswith("dfc2020")} == {None}


def test_the_pixels_of_the_classes_are_all_pixels_of_a_part() -> None:
    contest, cobench = (catalogue.task(name).class_counts for name in ("dfc2020", "dfc2020-cobench"))
    assert sum(contest["train", "val"]) == 5128 * 256 * 256
    assert sum(contest["test",]) == 986 * 256 * 256
    assert cobench == {SPLITS: contest["train", "val"]}


@pytest.mark.parametrize("code", [-1, -246, -(2**31), 2**31 - 1, 256 + 5])
def test_codes_do_not_wrap_around(tmp_path: Path, code: int) -> None:
    codes = np.full((1, 256, 256), 10, dtype=np.int32)
    codes[0, 5, 5] = code
    with pytest.raises(DamagedFileError, match=f"dfc_0_p7.tif holds code {code}, but dfc labels go from 0 to 10"):
        opened(write(tmp_path, labels=codes)).targets([ID])


@TYPES
def test_a_map_with_higher_codes_is_refused_as_an_lc_map(tmp_path: Path, dtype: type) -> None:
    codes: np.ndarray = np.full((1, 256, 256), 10).astype(dtype)
    assert opened(write(tmp_path / "good", labels=codes)).targets([ID]).max() == 7
    codes[0, 5, 5] = 17
    with pytest.raises(DamagedFileError, match=r"dfc_0_p7.tif holds code 17, .* probably an lc map"):
        opened(write(tmp_path / "bad", labels=codes)).targets([ID])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_radar_comes_as_float32_decibel_whatever_is_on_disk(tmp_path: Path, dtype: type) -> None:
    decibel: np.ndarray = np.random.default_rng(1).normal(-12, 4, (2, 256, 256)).astype(dtype)
    source = opened(write(tmp_path, image=decibel, sensor="s1"), "dfc2020-s1")
    (both,) = source.read([ID], ["VV", "VH"])
    assert both.dtype == np.float32
    np.testing.assert_array_equal(both[0], decibel.astype(np.float32))
    np.testing.assert_array_equal(source.read([ID], ["VH"])[0][0, 0], both[0, 1])


@pytest.mark.parametrize(("value", "comes_as"), [(np.nan,) * 2, (np.inf,) * 2, (-np.inf,) * 2, (1e300, np.inf)])
def test_radar_that_is_not_finite_comes_as_it_is_stored(tmp_path: Path, value: float, comes_as: float) -> None:
    decibel = np.full((2, 256, 256), -10.0)
    decibel[1, 3, 4:6] = value
    (pixels,) = opened(write(tmp_path, image=decibel, sensor="s1"), "dfc2020-s1").read([ID], ["VV", "VH"])
    decibel[1, 3, 4:6] = comes_as
    np.testing.assert_array_equal(pixels[0], decibel)
    (pixels,) = opened(write(tmp_path, image=np.full((2, 256, 256), value), sensor="s1"), "dfc2020-s1").read(
        [ID], ["VV", "VH"]
    )
    np.testing.assert_array_equal(pixels, np.full((1, 2, 256, 256), comes_as))


def test_intensities_are_refused_beside_values_that_are_not_finite(tmp_path: Path) -> None:
    intensities = np.full((2, 256, 256), 0.25)
    intensities[0, 0, :2] = np.nan, -np.inf
    source = opened(write(tmp_path, image=intensities, sensor="s1"), "dfc2020-s1")
    with pytest.raises(DamagedFileError, match=r"values from 0.25 to 0.25 and none below 0: intensities"):
        source.read([ID], ["VV", "VH"])


def test_another_band_order_is_refused(tmp_path: Path) -> None:
    levels = np.full((13, 256, 256), 1500, dtype=np.uint16)
    levels[9] = 12  # B10 where B09 belongs: B8A was put last
    with pytest.raises(DamagedFileError, match="band 11 of mean 1500, which cannot be B10"):
        opened(write(tmp_path, image=levels))


def test_optical_pixels_of_another_type_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match="in float32, but 13 bands of 256 × 256 pixels in uint16"):
        opened(write(tmp_path, image=np.zeros((13, 256, 256), dtype=np.float32)))


def test_validation_is_a_tenth_of_the_fit_part_at_random() -> None:
    fit = [f"ROIs0000_test_p{number}" for number in range(5128)]
    kept = [id_ for id_ in fit if int(hashlib.sha256(id_.encode()).hexdigest(), 16) % 10 == 0]
    assert [id_ for id_ in fit if held_out(id_)] == kept == list(contest_ids("val"))
    assert kept[:6] == [f"ROIs0000_test_p{number}" for number in (0, 4, 10, 15, 35, 38)]
    for name in ("dfc2020", "dfc2020-s1"):
        splits = catalogue.task(name).splits
        assert splits["val"] == Split.of(kept)
        assert splits["train"] == Split.of(sorted(set(fit) - set(kept)))
        assert splits["test"] == Split.of([f"ROIs0000_validation_p{number}" for number in range(986)])
        assert [split.count for split in splits.values()] == [4643, 485, 986]


def test_the_lists_of_copernicus_bench_are_those_of_the_task() -> None:
    folder = real_data_dir() / "dfc2020"
    files = {"train": "dfc-train-new.as-set.csv", "val": "dfc-val-new.csv", "test": "dfc-test-new.csv"}
    if not all((folder / file).is_file() for file in files.values()):
        pytest.skip(f"no lists in {folder}; set SSL4EO_BENCH_TEST_DATA to a directory that holds them")
    listed = {
        split: [line[: -len(".tif")].replace("_dfc_0_", "_") for line in (folder / file).read_text().split()]
        for split, file in files.items()
    }
    assert sorted(id_ for ids in listed.values() for id_ in ids) == sorted([*contest_ids("train"), *contest_ids("val")])
    for name in ("dfc2020-cobench", "dfc2020-cobench-s1"):
        assert catalogue.task(name).splits == {split: Split.of(ids) for split, ids in listed.items()}


def zipped(folder: Path, root: Path, archive: Path, *, inside: str = "") -> None:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w") as opened_zip:
        for file in sorted(folder.rglob("*.tif")):
            name = f"{inside}{file.relative_to(root)}"
            opened_zip.write(file, name)
            opened_zip.writestr(f"__MACOSX/{name}", b"no image")


def test_any_layout_of_folders_and_archives_is_the_same_dataset(sample_of: SampleOf, tmp_path: Path) -> None:
    official = sample_of("dfc2020-s1") / "dfc2020"
    expected = open_splits(catalogue.task("dfc2020-s1"), sample_of("dfc2020-s1"), sample=True)
    other = tmp_path / "dfc2020"
    part = official / "ROIs0000_test"
    zipped(part / "s1_0", part, other / "s1_0.zip")  # as packed, without the outer folder
    zipped(part / "dfc_0", official, other / "zips" / "labels.zip", inside="wrapped/")
    shutil.copytree(official / "ROIs0000_validation" / "s1_validation", other / "s1_validation" / "s2")
    shutil.copytree(official / "ROIs0000_validation" / "dfc_validation", other / "any" / "where")
    shutil.copy(official / "sample-tiles.txt", other / "any")
    found = open_splits(catalogue.task("dfc2020-s1"), tmp_path, sample=True)
    for split in SPLITS:
        assert found[split].ids == expected[split].ids
        first = found[split].ids[:2]
        np.testing.assert_array_equal(found[split].reader.targets(first), expected[split].reader.targets(first))
        bands = ["VV", "VH"]
        np.testing.assert_array_equal(
            found[split].reader.read(first, bands)[0], expected[split].reader.read(first, bands)[0]
        )


def copy_of(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to, copy_function=lambda source, target: Path(target).symlink_to(source))
    return to


@pytest.mark.parametrize("kind", ["s1", "dfc"])
def test_a_tile_without_image_or_labels_is_absent(sample_of: SampleOf, tmp_path: Path, kind: str) -> None:
    root = copy_of(sample_of("dfc2020-s1"), tmp_path / "copy")
    next(root.rglob(f"ROIs0000_test_{kind}_0_p3.tif")).unlink()  # which is in train
    task = catalogue.task("dfc2020-s1")
    with pytest.raises(MissingDataError, match=r"1 samples .* \(1 of 28 train.* such as ROIs0000_test_p3; .*https://"):
        open_splits(task, root, sample=True)
    assert len(open_splits(task, root, sample=True, partial=True)["train"].ids) == 27


def test_the_lists_of_copernicus_bench_decide(sample_of: SampleOf, tmp_path: Path) -> None:
    task = catalogue.task("dfc2020-cobench-s1")
    root = copy_of(sample_of(task.name), tmp_path / "copy")
    folder = root / "dfc2020" / "dfc2020_s1s2"
    listed = (folder / "dfc-val-new.csv").read_text()
    assert listed.startswith("ROIs0000_test_dfc_0_p16.tif\n")
    for wrong in ("ROIs0000_test_s1_0_p16.tif", "p16"):
        (folder / "dfc-val-new.csv").unlink()
        (folder / "dfc-val-new.csv").write_text(f"{wrong}\r\n{listed}")
        with pytest.raises(SplitError, match=f"names {wrong}, but names like ROIs0000_test_dfc_0_p609.tif"):
            open_splits(task, root, sample=True)
    (folder / "dfc-val-new.csv").unlink()
    with pytest.raises(MissingDataError, match="dfc-val-new.csv is absent; get https://hf.co"):
        open_splits(task, root, sample=True)


def test_an_incomplete_part_is_not_the_contest(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"6,113 samples .* \(4,642 of 4,643 train, 485 of 485 val"):
        open_splits(catalogue.task("dfc2020"), write(tmp_path))


def test_the_fingerprint_sees_images_and_labels(tmp_path: Path) -> None:
    before = opened(write(tmp_path)).fingerprint([ID])
    assert opened(tmp_path).fingerprint([ID]) == before
    codes = np.full((1, 256, 256), 3, dtype=np.uint16)
    assert opened(write(tmp_path, labels=codes)).fingerprint([ID]) != before


def test_what_to_fetch_is_said_for_every_task() -> None:
    contest, cobench = (catalogue.task(name).files for name in ("dfc2020-s1", "dfc2020-cobench"))
    assert [file.name for file in contest] == ["s1_0.zip", "dfc_0.zip", "s1_validation.zip", "dfc_validation.zip"]
    assert all("IEEE DataPort account" in file.instructions and file.url is None for file in contest)
    assert [(file.unpack, file.md5) for file in cobench] == [(True, "f10ba017dab6f38b7a6857b169ea924b")]


def test_the_sample_is_laid_out_as_published(sample_of: SampleOf) -> None:
    root = sample_of("dfc2020") / "dfc2020"
    image = root / "ROIs0000_validation" / "s2_validation" / "ROIs0000_validation_s2_0_p0.tif"
    pixels = decode_geotiff(image.read_bytes(), shape=(13, 256, 256), dtype="uint16", where="")
    assert pixels[SENTINEL_2.index("B10")].mean() < 0.1 * pixels[SENTINEL_2.index("B8A")].mean()
    assert (root / "ROIs0000_test" / "dfc_0" / "ROIs0000_test_dfc_0_p66.tif").is_file()
    labels = root / "ROIs0000_test" / "dfc_0" / "ROIs0000_test_dfc_0_p1.tif"
    decode_geotiff(labels.read_bytes(), shape=(1, 256, 256), dtype="int32", where="")
    assert sum(file.stat().st_size for file in root.rglob("*") if file.is_file()) < 150e6


def test_most_tiles_of_the_sample_show_several_classes_and_some_ignored_pixels(sample_of: SampleOf) -> None:
    labels = open_splits(catalogue.task("dfc2020"), sample_of("dfc2020"), sample=True)["train"].targets()
    assert min(len(np.unique(tile)) for tile in labels) >= 4  # three classes and the ignored one
    assert 0.005 < (labels == IGNORED).mean() < 0.1
