"""BigEarthNet on real patches and the official lists where they are here, and on made-up ones for every fault."""

import bz2
import gzip
import hashlib
import json
import shutil
import tarfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.warp import transform

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.task import SPLITS, Split, Task
from ssl4eo_bench.data.releases import make_files
from ssl4eo_bench.data.splits import open_splits
from ssl4eo_bench.errors import DamagedFileError, MissingDataError, SplitError
from ssl4eo_bench.tasks._bigearthnet_lists import WITHOUT_ANY_CLASS
from ssl4eo_bench.tasks._bigearthnet_names import WITHOUT_CLASS
from ssl4eo_bench.tasks.bigearthnet import NUMBER_OF_43, GoogleLists, Metadata
from tests.conftest import real_data_dir

SampleOf = Callable[[str], Path]
Command = Callable[..., tuple[int, str, str]]

WRONG_LABEL = "S2B_MSIL2A_20180515T112109_51_5"  # its JSON says urban fabric, its pixels and the v2 labels say fields
SNOW = "S2B_MSIL2A_20180204T94161_57_38"
RADAR_PATCH = "S1A_IW_GRDH_1SDV_20170613T165043_33UUP_87_48"

# The official label_indices.json has the 43 names in this order; `None` are those without one of the 19 classes.
OFFICIAL_43_TO_19 = {
    "Continuous urban fabric": 0,
    "Discontinuous urban fabric": 0,
    "Industrial or commercial units": 1,
    "Road and rail networks and associated land": None,
    "Port areas": None,
    "Airports": None,
    "Mineral extraction sites": None,
    "Dump sites": None,
    "Construction sites": None,
    "Green urban areas": None,
    "Sport and leisure facilities": None,
    "Non-irrigated arable land": 2,
    "Permanently irrigated land": 2,
    "Rice fields": 2,
    "Vineyards": 3,
    "Fruit trees and berry plantations": 3,
    "Olive groves": 3,
    "Pastures": 4,
    "Annual crops associated with permanent crops": 3,
    "Complex cultivation patterns": 5,
    "Land principally occupied by agriculture, with significant areas of natural vegetation": 6,
    "Agro-forestry areas": 7,
    "Broad-leaved forest": 8,
    "Coniferous forest": 9,
    "Mixed forest": 10,
    "Natural grassland": 11,
    "Moors and heathland": 12,
    "Sclerophyllous vegetation": 12,
    "Transitional woodland/shrub": 13,
    "Beaches, dunes, sands": 14,
    "Bare rock": None,
    "Sparsely vegetated areas": 11,
    "Burnt areas": None,
    "Inland marshes": 15,
    "Peatbogs": 15,
    "Salt marshes": 16,
    "Salines": 16,
    "Intertidal flats": None,
    "Water courses": 17,
    "Water bodies": 17,
    "Coastal lagoons": 18,
    "Estuaries": 18,
    "Sea and ocean": 18,
}


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the real patches, unpacked, and the official lists."""
    given = real_data_dir() / "bigearthnet"
    if not given.is_dir():
        pytest.skip(f"no real BigEarthNet in {given}; set SSL4EO_BENCH_TEST_DATA to a directory that holds it")
    home = tmp_path_factory.mktemp("real") / "bigearthnet"
    home.mkdir()
    for archive in given.glob("*.tar.gz"):
        with tarfile.open(archive) as opened:
            opened.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.3 has none
            opened.extractall(home)
    for file in (*given.glob("*.csv.gz"), given / "metadata.parquet"):
        shutil.copy(file, home)
    return home.parent


def linked(folder: Path, place: Path) -> Path:
    """A copy of a folder in which what stands in its folders is linked."""
    place.mkdir(parents=True)
    for path in folder.iterdir():
        if path.is_file():
            shutil.copy(path, place)
        else:
            (place / path.name).mkdir()
            for patch in path.iterdir():
                (place / path.name / patch.name).symlink_to(patch)
    return place


def own(patch: Path) -> Path:
    """A linked patch, copied in place of its link."""
    source = patch.resolve()
    patch.unlink()
    return Path(shutil.copytree(source, patch))


@pytest.fixture
def copy(sample_of: SampleOf, tmp_path: Path) -> Callable[[str], tuple[Task, Path]]:
    """A task's sample in which lists may be damaged, and patches that `own` has copied: there are thousands of files."""

    def get(name: str) -> tuple[Task, Path]:
        return catalogue.task(name), linked(sample_of(name) / "bigearthnet", tmp_path / name / "bigearthnet").parent

    return get


Copy = Callable[[str], tuple[Task, Path]]


def patches(real: Path, folder: str = "BigEarthNet-v1.0") -> list[Path]:
    return sorted((real / "bigearthnet" / folder).iterdir())


def test_the_43_names_become_the_19_classes_of_the_official_table() -> None:
    names = list(catalogue.task("bigearthnet").classes)
    assert len(OFFICIAL_43_TO_19) == 43
    assert sum(number is None for number in OFFICIAL_43_TO_19.values()) == 11
    assert [name.count("/") for name in names] == [0] * 19  # the slash belongs to one of the 43
    assert {name: NUMBER_OF_43.get(name) for name in OFFICIAL_43_TO_19} == OFFICIAL_43_TO_19
    assert {name for name, number in OFFICIAL_43_TO_19.items() if number is None} == WITHOUT_CLASS


def test_real_patches_are_read_as_rasterio_and_json_read_them(real: Path) -> None:
    task = catalogue.task("bigearthnet")
    opened = open_splits(task, real, partial=True)
    names = [band.name for band in task.bands]
    official = {
        split: set(gzip.decompress((real / "bigearthnet" / f"{split}.csv.gz").read_bytes()).decode().split())
        for split in SPLITS
    }
    assert {split: len(samples.ids) for split, samples in opened.items()} == {"train": 11, "val": 5, "test": 4}
    for split, samples in opened.items():
        groups = samples.reader.read(samples.ids, names)
        labels = samples.targets()
        for row, id_ in enumerate(samples.ids):
            assert id_ in official[split]
            folder = real / "bigearthnet" / "BigEarthNet-v1.0" / id_
            for bands, pixels in zip(task.groups(names), groups, strict=True):
                for column, band in enumerate(bands):
                    with rasterio.open(folder / f"{id_}_{band}.tif") as file:
                        np.testing.assert_array_equal(pixels[row, column], file.read(1))
                        assert pixels.dtype == file.dtypes[0] == "uint16"
            if id_ != WRONG_LABEL:
                described = json.loads((folder / f"{id_}_labels_metadata.json").read_text(encoding="utf-8"))["labels"]
                expected = {OFFICIAL_43_TO_19[name] for name in described} - {None}
                assert set(np.flatnonzero(labels[row]).tolist()) == expected
    assert SNOW in {patch.name for patch in patches(real)} - {i for s in opened.values() for i in s.ids}


def test_labels_of_real_patches_agree_with_version_2(real: Path) -> None:
    """Version 2 labels the same places anew: most labels of the six original patches are the same."""
    task = catalogue.task("bigearthnet")
    opened = open_splits(task, real, partial=True)
    table = pd.read_parquet(real / "bigearthnet" / "metadata.parquet").set_index("s2v1_name")
    shared = found = 0
    for samples in opened.values():
        for id_, row in zip(samples.ids, samples.targets(), strict=True):
            if id_ in table.index and id_ != WRONG_LABEL:
                ours = {task.classes[number] for number in np.flatnonzero(row)}
                shared += len(ours & set(table["labels"][id_]))
                found += len(ours)
    assert found > 10
    assert shared / found > 0.7


def test_real_radar_patches_are_in_decibel_and_keep_their_fractions(real: Path) -> None:
    task = catalogue.task("bigearthnet-s1")
    source = task.open(real)
    ids = [id_ for split in SPLITS for id_ in source.ids(split)]
    present = sorted(set(ids) - set(source.absent(ids)))
    assert len(present) == 5  # six patches, one of them under snow
    (pixels,) = source.read(present, ["VV", "VH"])
    assert pixels.dtype == np.float32
    assert (pixels % 1 != 0).mean() > 0.99
    assert -20 < np.median(pixels[:, 0]) < -5
    assert np.median(pixels[:, 0]) > np.median(pixels[:, 1])
    with rasterio.open(real / f"bigearthnet/BigEarthNet-S1-v1.0/{RADAR_PATCH}/{RADAR_PATCH}_VH.tif") as file:
        np.testing.assert_array_equal(pixels[present.index("S2A_MSIL2A_20170613T101031_87_48"), 1], file.read(1))
    assert source.targets(present).any(axis=1).all()


@pytest.mark.parametrize(
    ("name", "folder"), [("bigearthnet", "BigEarthNet-v1.0"), ("bigearthnet-s1", "BigEarthNet-S1-v1.0")]
)
def test_place_and_date_of_real_patches_are_those_of_their_metadata(name: str, folder: str, real: Path) -> None:
    source = catalogue.task(name).open(real)
    described_by = {
        patch: json.loads((patch / f"{patch.name}_labels_metadata.json").read_text()) for patch in patches(real, folder)
    }
    placed = {patch: described for patch, described in described_by.items() if "coordinates" in described}
    assert len(placed) >= 6
    for patch, described in placed.items():
        id_ = described.get("corresponding_s2_patch", patch.name)
        ((longitude, latitude, day),) = source.place_and_date([id_])  # type: ignore[attr-defined]
        corners = described["coordinates"]
        xs, ys = [corners["ulx"], corners["lrx"]], [corners["uly"], corners.get("lry", corners.get("lly"))]
        crs = CRS.from_wkt(described["projection"])
        (expected_longitude,), (expected_latitude,) = transform(crs, "EPSG:4326", [sum(xs) / 2], [sum(ys) / 2])
        assert (longitude, latitude) == pytest.approx((expected_longitude, expected_latitude), abs=1e-4)
        recorded = described.get("acquisition_date") or described["acquisition_time"]
        assert day == (datetime.fromisoformat(recorded[:10]) - datetime(1970, 1, 1)).days


def test_real_pairs_are_read_band_by_band_as_rasterio_reads_the_files(real: Path) -> None:
    task, home = catalogue.task("bigearthnet-s1s2"), real / "bigearthnet"
    described = {patch: patch / f"{patch.name}_labels_metadata.json" for patch in patches(real, "BigEarthNet-S1-v1.0")}
    pairs = {json.loads(file.read_text())["corresponding_s2_patch"]: patch for patch, file in described.items()}
    assert len(pairs) == 6
    ids, names = sorted(pairs), [band.name for band in task.bands]
    source = task.open(real)
    assert source.absent(ids) == []
    groups = source.read(ids, names)
    assert [group.dtype for group in groups] == [np.uint16, np.uint16, np.uint16, np.float32]
    planes = {
        band: group[:, at]
        for bands, group in zip(task.groups(names), groups, strict=True)
        for at, band in enumerate(bands)
    }
    assert {band.name: band.unit for band in task.bands} == {
        name: "db" if name in ("VV", "VH") else "dn" for name in names
    }
    for number, id_ in enumerate(ids):
        grounds = set()
        for band in names:
            folder = pairs[id_] if band in ("VV", "VH") else home / "BigEarthNet-v1.0" / id_
            with rasterio.open(folder / f"{folder.name}_{band}.tif") as file:
                np.testing.assert_array_equal(planes[band][number], file.read(1))
                grounds.add((file.crs.to_epsg(), file.bounds))
        assert len(grounds) == 1  # both halves of a pair show the same ground
    levels = {band: float(np.median(planes[band])) for band in names}
    assert -25 < levels["VH"] < levels["VV"] < -5
    assert all(10 < levels[band] < 6000 for band in names if band[0] == "B")
    np.testing.assert_array_equal(source.targets(ids), catalogue.task("bigearthnet").open(real).targets(ids))


def test_the_official_lists_are_those_of_the_task(real: Path) -> None:
    source = catalogue.task("bigearthnet").open(real)
    ids = {split: source.ids(split) for split in SPLITS}
    assert {split: len(found) for split, found in ids.items()} == {"train": 269695, "val": 123723, "test": 125866}
    assert {split: Split.of(found) for split, found in ids.items()} == dict(catalogue.task("bigearthnet").splits)
    assert len(set().union(*ids.values())) == 519284


def google(data_dir: Path) -> dict[str, bytes]:
    """Google's lists, as far as they are there."""
    return {file.name: file.read_bytes() for file in (data_dir / "bigearthnet").glob("bigearthnet-*.txt")}


@pytest.fixture
def official(real: Path, tmp_path: Path) -> Path:
    """A data directory with the official lists alone."""
    (tmp_path / "bigearthnet").mkdir()
    for file in (real / "bigearthnet").glob("*.csv.gz"):
        shutil.copy(file, tmp_path / "bigearthnet")
    return tmp_path


def test_googles_lists_follow_from_the_official_ones_to_the_byte(
    real: Path, official: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = catalogue.task("bigearthnet-google")
    with monkeypatch.context() as small:  # too small a disk for the archive
        small.setattr("ssl4eo_bench.cli.data_commands.free_bytes", lambda _: 10**9)
        small.setattr("ssl4eo_bench.files.places.free_bytes", lambda _: 10**9)
        code, out, err = command("data", "download", "bigearthnet-google", "--data-dir", official, "--yes", "--quiet")
    assert (code, out.count("is made\n"), out.count(".csv.gz")) == (1, 3, 5)
    assert " are needed, but the disk of" in err
    assert err.endswith(f"still missing: {official / 'bigearthnet' / 'BigEarthNet-S2-v1.0.tar.gz'}\n")
    made = google(official)
    assert {name: hashlib.md5(content).hexdigest() for name, content in made.items()} == {
        "bigearthnet-train.txt": "343f7224951da0879cabcceae7b34a64",
        "bigearthnet-val.txt": "8fe0292aa346c0833850a322e1c1e783",
        "bigearthnet-test.txt": "efce8d370cf5f55afc415ace88605218",
    }
    assert {name: content.count(b"\n") + 1 for name, content in made.items()} == {
        "bigearthnet-train.txt": 354196,
        "bigearthnet-val.txt": 118065,
        "bigearthnet-test.txt": 118065,
    }
    lists = GoogleLists(official / "bigearthnet")
    assert {split: Split.of(lists.ids(split)) for split in SPLITS} == dict(task.splits)
    counts = {split: split_.count for split, split_ in task.splits.items()}
    assert counts == {"train": 311667, "val": 103944, "test": 103728}
    without = {f"{image}_{place}" for image, places in WITHOUT_ANY_CLASS.items() for place in places.split()}
    assert len(without) == 57
    assert [len(without & set(lists.ids(split))) for split in SPLITS] == [33, 12, 10]
    given = bz2.decompress((real_data_dir() / "bigearthnet/patches_with_no_19_class_targets.csv.bz2").read_bytes())
    assert without == set(given.decode().split())


def test_lists_that_are_not_googles_are_not_written(official: Path) -> None:
    file = official / "bigearthnet" / "test.csv.gz"
    names = gzip.decompress(file.read_bytes()).decode().split()
    file.write_bytes(gzip.compress("\n".join(names[1:]).encode()))
    message = (
        r"bigearthnet-train.txt, made from the official lists in .*, has md5 .* but the published file has 343f72.*"
    )
    with pytest.raises(DamagedFileError, match=f"{message}delete the official lists there, and fetch them again"):
        make_files(catalogue.task("bigearthnet-google"), official)
    assert google(official) == {}
    file.unlink()
    with pytest.raises(MissingDataError, match=r"test.csv \(or test.csv.gz\) is absent; get train.csv"):
        make_files(catalogue.task("bigearthnet-google"), official)


def test_status_says_that_googles_lists_are_made(official: Path, command: Command) -> None:
    _, out, _ = command("data", "status", "bigearthnet-google", "--data-dir", official)
    assert "3 made from the official lists" in out
    assert "by hand" not in out
    assert ".csv" not in out  # they are there, packed


def test_googles_lists_are_said_to_be_made_if_they_are_absent(copy: Copy) -> None:
    task, home = copy("bigearthnet-google")
    (home / "bigearthnet" / "bigearthnet-val.txt").unlink()
    with pytest.raises(
        MissingDataError, match=r"bigearthnet-val.txt .*run `ssl4eo-bench data prepare bigearthnet-goog"
    ):
        task.open(home).ids("val")


def test_test_patches_are_of_a_hundred_images_and_half_as_many_tiles(real: Path) -> None:
    ids = gzip.decompress((real / "bigearthnet" / "test.csv.gz").read_bytes()).decode().split()
    images = catalogue.task("bigearthnet").clusters
    tiles = catalogue.task("bigearthnet-v2").clusters
    assert images
    assert tiles
    assert len({images.of(id_) for id_ in ids}) == 123
    assert len({tiles.of(id_) for id_ in Metadata(real / "bigearthnet").ids("test")}) == 46
    assert images.of("S2B_MSIL2A_20170924T93020_3_55") == "S2B_MSIL2A_20170924T93020"
    assert tiles.of("S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57") == "T33UUP"


def test_the_published_two_column_lists_follow_from_the_local_ones(real: Path) -> None:
    """The sizes of the files to be downloaded are right: names of one sensor and the other, a comma, CR and LF."""
    table = pd.read_parquet(real / "bigearthnet" / "metadata.parquet")
    partner = dict(zip(table["s2v1_name"], table["s1_name"], strict=True))
    source = catalogue.task("bigearthnet").open(real)
    published = {file.name: file.size for file in catalogue.task("bigearthnet").files}
    for split in SPLITS:
        lengths = [len(id_) + len(partner[id_]) + 3 for id_ in source.ids(split) if id_ in partner]
        size = published[f"{split}.csv"]
        assert size is not None
        assert size / len(source.ids(split)) == pytest.approx(np.mean(lengths), rel=2e-3)


def test_the_metadata_of_version_2_give_its_split_and_labels(real: Path) -> None:
    metadata = (real / "bigearthnet" / "metadata.parquet").read_bytes()
    lists = Metadata(real / "bigearthnet")
    task = catalogue.task("bigearthnet-v2")
    counts = {split: len(lists.ids(split)) for split in SPLITS}
    assert counts == {"train": 237871, "val": 122342, "test": 119825}
    assert {split: Split.of(lists.ids(split)) for split in SPLITS} == dict(task.splits)
    assert [file.md5 for file in task.files if file.name == "metadata.parquet"] == [hashlib.md5(metadata).hexdigest()]
    support = np.zeros(19, dtype=int)
    for id_ in lists.ids("test"):
        for name in lists.labels(id_):
            support[task.classes.index(name)] += 1
    assert support.tolist() == [
        12824, 2018, 50052, 5710, 26722, 22078, 29846, 9942, 36377, 39043, 44284, 2211, 3759, 40523, 152, 4519, 117,
        16846, 11854,
    ]  # fmt: skip


def test_partial_runs_on_the_real_patches(real: Path, command: Command) -> None:
    wanted = ("run", "--task", "bigearthnet", "--protocol", "linear", "--checkpoint", "bandstats", "--data-dir", real)
    code, _, err = command(*wanted)
    assert code == 2
    assert "519,264 samples" in err
    assert "BigEarthNet-S2-v1.0.tar.gz" in err
    code, out, err = command(*wanted, "--partial", "--json")
    assert code == 0, err
    (outcome,) = json.loads(out)
    assert outcome["result"]["spec"]["partial"]
    assert outcome["result"]["counts"] == {"train": 11, "val": 5, "test": 4}


def band_file(home: Path, band: str) -> Path:
    """A band of the first patch, which may be damaged."""
    (file,) = own(min(home.glob("bigearthnet/*/*"))).glob(f"*_{band}.tif")
    return file


def numbers(file: Path) -> str:
    """Column and row of a patch of the sample, as its name ends in them."""
    return "_".join(file.parent.name.split("_")[-2:])


def test_native_resolutions_are_read_as_they_are_stored(sample_of: SampleOf) -> None:
    samples = open_splits(catalogue.task("bigearthnet"), sample_of("bigearthnet"), sample=True)["val"]
    groups = samples.reader.read(samples.ids[:2], ["B12", "B01", "B04"])
    assert [group.shape for group in groups] == [(2, 1, 120, 120), (2, 1, 60, 60), (2, 1, 20, 20)]


def test_labels_without_a_class_are_ignored(copy: Copy) -> None:
    task, home = copy("bigearthnet")
    id_ = open_splits(task, home, sample=True)["test"].ids[0]
    file = own(home / f"bigearthnet/BigEarthNet-v1.0/{id_}") / f"{id_}_labels_metadata.json"
    file.write_text(json.dumps({"labels": ["Airports", "Sea and ocean"]}), encoding="utf-8")
    source = task.open(home)
    assert np.flatnonzero(source.targets([id_])[0]).tolist() == [18]
    file.write_text(json.dumps({"labels": ["Airports"]}), encoding="utf-8")
    assert not source.targets([id_]).any()
    file.write_text(json.dumps({"labels": ["Transitional woodland, shrub"]}), encoding="utf-8")
    with pytest.raises(DamagedFileError, match=f"{id_}.*none of the 43"):
        source.targets([id_])


def test_lists_may_have_one_column_or_two_and_any_line_end(copy: Copy) -> None:
    task, home = copy("bigearthnet")
    expected = task.open(home).ids("val")
    file = home / "bigearthnet" / "val.csv"
    assert b"\r\n" in file.read_bytes()
    assert all("," not in id_ and "\r" not in id_ for id_ in expected)
    packed = "".join(f"{id_}\n" for id_ in expected).encode()
    file.unlink()
    (home / "bigearthnet" / "val.csv.gz").write_bytes(gzip.compress(packed))
    assert task.open(home).ids("val") == expected
    (home / "bigearthnet" / "val.csv.gz").write_bytes(gzip.compress(packed)[:-20])
    with pytest.raises(DamagedFileError, match="gzip"):
        task.open(home).ids("val")


def test_partners_come_from_the_radar_labels_if_the_lists_lack_them(copy: Copy) -> None:
    task, home = copy("bigearthnet-s1")
    expected = task.open(home)
    ids = expected.ids("test")[:3]
    (pixels,) = expected.read(ids, ["VH"])
    for split in SPLITS:
        file = home / "bigearthnet" / f"{split}.csv"
        file.write_text("".join(line.split(",")[0] + "\n" for line in file.read_text().splitlines()))
    source = task.open(home)
    assert source.absent(ids) == []
    np.testing.assert_array_equal(source.read(ids, ["VH"])[0], pixels)


def test_partners_come_from_the_package_that_has_them(
    copy: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, home = copy("bigearthnet-s1")
    pairs = dict(line.split(",") for line in (home / "bigearthnet" / "test.csv").read_text().split())
    for split in SPLITS:
        file = home / "bigearthnet" / f"{split}.csv"
        file.write_text("".join(line.split(",")[0] + "\n" for line in file.read_text().splitlines()))
    package = tmp_path / "site" / "bigearthnet_common"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    first, second, *_ = pairs
    swapped = pairs | {first: pairs[second], second: pairs[first]}  # what labels on disk would not say
    rows = "".join(f"{radar},{optical},Finland,Fall\n" for optical, radar in swapped.items())
    table = bz2.compress(f"s1_name,s2_name,country,season\n{rows}".encode())
    (package / "s1_s2_name_country_season.csv.bz2").write_bytes(table)
    (by_labels,) = task.open(home).read([first, second], ["VV", "VH"])
    monkeypatch.syspath_prepend(tmp_path / "site")
    (by_package,) = task.open(home).read([first, second], ["VV", "VH"])
    np.testing.assert_array_equal(by_package, by_labels[::-1])


def test_google_lists_leave_snow_and_cloud_out(copy: Copy) -> None:
    task, home = copy("bigearthnet-google")
    listed = (home / "bigearthnet" / "bigearthnet-val.txt").read_text().split()
    snow = (home / "bigearthnet" / "patches_with_seasonal_snow.csv").read_text().split()
    kept = task.open(home).ids("val")
    assert set(kept) == set(listed) - set(snow)
    assert len(listed) == len(kept) + 3
    for number, split in enumerate(SPLITS):
        with (home / "bigearthnet" / f"bigearthnet-{split}.txt").open("a", encoding="utf-8") as file:
            file.write(f"\nS2A_MSIL2A_20170613T101031_99_{number}")  # not the sample any more
    with pytest.raises(SplitError, match="the official one has 311,667"):
        open_splits(task, home)


def test_releases_are_not_taken_for_each_other(sample_of: SampleOf) -> None:
    for name, other in (("bigearthnet", "bigearthnet-v2"), ("bigearthnet-v2", "bigearthnet")):
        with pytest.raises(MissingDataError, match="no Sentinel-2 patches"):
            catalogue.task(name).open(sample_of(other))


def test_version_2_needs_its_metadata(copy: Copy) -> None:
    task, home = copy("bigearthnet-v2")
    file = home / "bigearthnet" / "metadata.parquet"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DamagedFileError, match="metadata"):
        task.open(home).ids("val")
    file.unlink()
    with pytest.raises(MissingDataError, match="zenodo"):
        task.open(home).ids("val")


def test_an_archive_that_is_still_packed_is_named(tmp_path: Path) -> None:
    (tmp_path / "bigearthnet").mkdir()
    (tmp_path / "bigearthnet" / "BigEarthNet-S2-v1.0.tar.gz").touch()
    with pytest.raises(MissingDataError, match=r"BigEarthNet-S2-v1.0.tar.gz is there, but packed"):
        catalogue.task("bigearthnet").open(tmp_path)


@pytest.mark.parametrize("fault", ["other size", "other type", "absent"])
def test_a_faulty_band_file_is_named(copy: Copy, fault: str) -> None:
    task, home = copy("bigearthnet")
    file = band_file(home, "B05")
    if fault == "other size":
        shutil.copy(file.with_name(file.name.replace("B05", "B02")), file)
    elif fault == "other type":
        with rasterio.open(file) as opened:
            profile = opened.profile | {"dtype": "float32"}
        with rasterio.open(file, "w", **profile) as opened:
            opened.write(np.ones((1, 60, 60), dtype=np.float32))
    else:
        file.unlink()
    source = task.open(home)
    with pytest.raises((DamagedFileError, MissingDataError), match=file.name):
        source.read([file.parent.name], ["B05"])


def test_radar_values_that_are_not_finite_come_as_they_are_stored(copy: Copy) -> None:
    task, home = copy("bigearthnet-s1")
    file = band_file(home, "VV")
    with rasterio.open(file, "r+") as opened:
        pixels = opened.read()
        pixels[0, 3, 4:6] = np.nan, -np.inf
        opened.write(pixels)
    source = task.open(home)
    (id_,) = [id_ for split in SPLITS for id_ in source.ids(split) if id_.split("_", 3)[-1] == numbers(file)]
    (read,) = source.read([id_], ["VV"])
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read[0], pixels)


def test_a_changed_file_changes_the_fingerprint(copy: Copy) -> None:
    task, home = copy("bigearthnet")
    source = task.open(home)
    file = band_file(home, "B02")
    before = source.fingerprint([file.parent.name])
    assert source.fingerprint([file.parent.name]) == before
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert source.fingerprint([file.parent.name]) != before


def test_both_releases_may_lie_in_one_folder(sample_of: SampleOf, tmp_path: Path) -> None:
    names = ("bigearthnet", "bigearthnet-s1", "bigearthnet-v2", "bigearthnet-v2-s1")
    (tmp_path / "bigearthnet").mkdir()
    for path in (path for name in names for path in (sample_of(name) / "bigearthnet").iterdir()):
        (tmp_path / "bigearthnet" / path.name).unlink(missing_ok=True)
        (tmp_path / "bigearthnet" / path.name).symlink_to(path)
    for name in names:
        opened = open_splits(catalogue.task(name), tmp_path, sample=True)
        assert len(opened["val"].ids) == 57, name
    for name in ("bigearthnet-s1", "bigearthnet-v2-s1"):
        gone = "BigEarthNet-S1-v1.0" if name == "bigearthnet-s1" else "BigEarthNet-S1"
        (tmp_path / "bigearthnet" / gone).rename(tmp_path / "away")
        with pytest.raises(MissingDataError, match="no Sentinel-1 patches"):
            catalogue.task(name).open(tmp_path)
        (tmp_path / "away").rename(tmp_path / "bigearthnet" / gone)


@pytest.mark.parametrize("content", ["{", "{}", '{"labels": 5}', '{"labels": null}', '{"labels": [["Pastures"]]}'])
def test_labels_that_cannot_be_read_are_named(copy: Copy, content: str) -> None:
    task, home = copy("bigearthnet")
    id_ = open_splits(task, home, sample=True)["test"].ids[0]
    patch = own(home / f"bigearthnet/BigEarthNet-v1.0/{id_}")
    (patch / f"{id_}_labels_metadata.json").write_text(content, encoding="utf-8")
    with pytest.raises(DamagedFileError, match=f"{id_}_labels_metadata.json does not hold"):
        task.open(home).targets([id_])


def test_metadata_with_a_foreign_label_are_refused(copy: Copy) -> None:
    task, home = copy("bigearthnet-v2")
    file = home / "bigearthnet" / "metadata.parquet"
    table = pd.read_parquet(file)
    table["labels"] = [["Unicorns"]] * len(table)
    table.to_parquet(file)
    with pytest.raises(DamagedFileError, match="the label Unicorns, which is none of the 19"):
        task.open(home).targets([str(table["patch_id"][0])])
