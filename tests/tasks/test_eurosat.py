"""EuroSAT: official lists, official files, and what is refused. Real images where they are, else the sample."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.canonical import ids_digest
from ssl4eo_bench.config.task import SPLITS, SplitName
from ssl4eo_bench.data.images import write_geotiff, write_jpeg
from ssl4eo_bench.data.splits import open_splits
from ssl4eo_bench.data.synthesis import display_image
from ssl4eo_bench.errors import DamagedFileError, MissingDataError, SplitError
from ssl4eo_bench.tasks.eurosat import CLASSES, DISPLAY, FILE_ORDER, RGB

SampleOf = Callable[[str], Path]

# Per class, alphabetically: counted in the lists of arXiv:1911.06721 and of torchgeo's EuroSATSpatial.
CLASS_COUNTS: dict[str, dict[SplitName, list[int]]] = {
    "eurosat-rgb": {
        "train": [1791, 1787, 1799, 1505, 1492, 1195, 1481, 1863, 1460, 1827],
        "val": [613, 605, 628, 499, 507, 409, 481, 583, 511, 564],
        "test": [596, 608, 573, 496, 501, 396, 538, 554, 529, 609],
    },
    "eurosat-rgb-spatial": {
        "train": [1788, 1309, 1854, 1698, 1659, 1767, 1716, 1927, 1507, 975],
        "val": [394, 614, 330, 462, 488, 118, 477, 566, 662, 1289],
        "test": [818, 1077, 816, 340, 353, 115, 307, 507, 331, 736],
    },
}


@pytest.mark.parametrize("name", CLASS_COUNTS)
def test_the_official_splits_are_complete(real_data: Path, name: str) -> None:
    opened = open_splits(catalogue.task(name), real_data)
    ids = [id_ for samples in opened.values() for id_ in samples.ids]
    assert len(set(ids)) == len(ids) == 27000
    for split in SPLITS:
        assert np.bincount(opened[split].targets()).tolist() == CLASS_COUNTS[name][split]
        assert opened[split].record == catalogue.task(name).splits[split]


def test_both_releases_have_the_same_splits() -> None:
    for variant in ("", "-spatial"):
        rgb, multispectral = catalogue.task(f"eurosat-rgb{variant}"), catalogue.task(f"eurosat{variant}")
        assert rgb.splits == multispectral.splits
        assert rgb.classes == multispectral.classes == tuple(CLASSES)


def test_b8a_is_last_in_the_file_and_found_by_name(real_data: Path) -> None:
    samples = open_splits(catalogue.task("eurosat"), real_data, partial=True)["train"]
    (pixels,) = samples.reader.read(samples.ids, FILE_ORDER)
    level = dict(zip(FILE_ORDER, pixels.mean(axis=(0, 2, 3)), strict=True))
    # Means over all of EuroSAT as the SSL4EO-S12 loader gives them, to 25 % for these 145 patches.
    published = {"B01": 1354, "B04": 947, "B08": 2301, "B8A": 2600, "B09": 732, "B10": 12.1, "B11": 1821, "B12": 1118}
    for band, mean in published.items():
        assert level[band] == pytest.approx(mean, rel=0.25), band


def test_the_rgb_release_is_the_stretched_multispectral_one(real_data: Path) -> None:
    multispectral = open_splits(catalogue.task("eurosat"), real_data, partial=True)["train"]
    rgb = open_splits(catalogue.task("eurosat-rgb"), real_data)["train"]
    ids = [id_ for id_ in multispectral.ids if id_ in set(rgb.ids)][:60]
    (dn,) = multispectral.reader.read(ids, RGB)
    order = catalogue.task("eurosat").groups(RGB)[0]
    (shown,) = rgb.reader.read(ids, RGB)
    for image, display in zip(dn, shown, strict=True):
        by_name = np.stack([image[order.index(band)] for band in RGB])
        difference = np.abs(display_image(by_name, DISPLAY).astype(int) - display.astype(int))
        assert np.median(difference) <= 4  # JPEG


def test_an_archive_reads_like_the_folder_it_unpacks_to(sample_of: SampleOf, tmp_path: Path) -> None:
    task = catalogue.task("eurosat")
    folder = sample_of("eurosat")
    packed = tmp_path / "eurosat"
    packed.mkdir()
    for file in (folder / "eurosat").glob("*.txt"):
        shutil.copy(file, packed)
    with zipfile.ZipFile(packed / "EuroSATallBands.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted((folder / "eurosat" / "ds").rglob("*.tif")):
            archive.write(file, file.relative_to(folder / "eurosat"))
    unpacked, zipped = (open_splits(task, root, sample=True)["val"] for root in (folder, tmp_path))
    np.testing.assert_array_equal(
        unpacked.reader.read(unpacked.ids, FILE_ORDER)[0], zipped.reader.read(zipped.ids, FILE_ORDER)[0]
    )
    assert unpacked.reader.fingerprint(unpacked.ids) != zipped.reader.fingerprint(zipped.ids)


def test_the_data_directory_may_be_eurosat_itself(sample_of: SampleOf) -> None:
    opened = open_splits(catalogue.task("eurosat"), sample_of("eurosat") / "eurosat", sample=True)
    assert len(opened["train"].ids) == 240


@pytest.fixture
def copy(sample_of: SampleOf, tmp_path: Path) -> Path:
    """A copy of the RGB sample that may be spoilt."""
    shutil.copytree(sample_of("eurosat-rgb"), tmp_path / "data")
    return tmp_path / "data"


def image(root: Path, name: str) -> Path:
    return root / "eurosat" / "2750" / name.split("_")[0] / f"{name}.jpg"


def test_a_list_in_another_order_is_the_same_split(copy: Path) -> None:
    exact = copy / "eurosat" / "eurosat-test.txt"
    lines = exact.read_text().splitlines()
    exact.unlink()
    (copy / "eurosat" / "eurosat-test.as-set.txt").write_text("\r\n".join(reversed(lines)))
    opened = open_splits(catalogue.task("eurosat-rgb"), copy, sample=True)
    assert opened["test"].record.digest == ids_digest(line.removesuffix(".jpg") for line in lines)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [*lines, lines[0]], "names AnnualCrop_25 more than once"),
        (lambda lines: lines[1:], "has 119 ids, but the official one has 120"),
        (lambda lines: ["Forest_3001.jpg", *lines[1:]], "names Forest_3001, which EuroSAT does not have"),
        (lambda lines: ["Desert_1.jpg", *lines[1:]], "names Desert_1, which EuroSAT does not have"),
        (lambda lines: ["Forest_0.jpg", *lines[1:]], "names Forest_0, which EuroSAT does not have"),
        (lambda lines: ["AnnualCrop_1.jpg", *lines[1:]], "at least one id belongs to another split"),
    ],
)
def test_a_spoilt_list_is_refused(copy: Path, change: Callable[[list[str]], list[str]], message: str) -> None:
    file = copy / "eurosat" / "eurosat-val.txt"
    file.write_text("\n".join(change(file.read_text().splitlines())))
    with pytest.raises(SplitError, match=message):
        open_splits(catalogue.task("eurosat-rgb"), copy, sample=True)


def test_an_absent_list_is_refused_with_its_address(copy: Path) -> None:
    (copy / "eurosat" / "eurosat-val.txt").unlink()
    with pytest.raises(MissingDataError, match=r"eurosat-val.txt is absent; get it from https://hf.co"):
        open_splits(catalogue.task("eurosat-rgb"), copy, sample=True)


def test_an_image_of_another_size_is_refused_by_name(copy: Path) -> None:
    write_jpeg(image(copy, "River_30"), np.zeros((3, 32, 32), dtype=np.uint8))
    samples = open_splits(catalogue.task("eurosat-rgb"), copy, sample=True)["val"]
    with pytest.raises(DamagedFileError, match=r"River_30\.jpg holds 3 bands of 32 × 32 pixels in uint8, but"):
        samples.reader.read(samples.ids, RGB)


def test_a_copy_with_more_images_than_eurosat_is_refused(copy: Path) -> None:
    folder = copy / "eurosat" / "2750" / "SeaLake"
    for number in range(27000 - 600 + 1):
        (folder / f"extra_{number}.jpg").touch()
    with pytest.raises(MissingDataError, match="holds 27,001 images, but EuroSAT has 27,000"):
        open_splits(catalogue.task("eurosat-rgb"), copy, sample=True)


def test_a_copy_with_another_band_order_is_refused(sample_of: SampleOf, tmp_path: Path) -> None:
    shutil.copytree(sample_of("eurosat"), tmp_path / "data")
    source = open_splits(catalogue.task("eurosat"), tmp_path / "data", sample=True)["train"].reader
    (pixels,) = source.read(["AnnualCrop_1"], FILE_ORDER)
    in_ssl4eo_order = pixels[0][[*range(8), 12, 8, 9, 10, 11]]
    (file,) = tmp_path.rglob("AnnualCrop_1.tif")
    write_geotiff(file, in_ssl4eo_order)
    with pytest.raises(DamagedFileError, match=r"which cannot be B10: its bands are not in the official order"):
        open_splits(catalogue.task("eurosat"), tmp_path / "data", sample=True)
