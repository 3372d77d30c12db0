"""So2Sat: known splits, what is read, and what is refused. All files are made up: no image of So2Sat lies here."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.task import SPLITS, Split, SplitName, UnlistedSplit
from ssl4eo_bench.data.reader import Reader
from ssl4eo_bench.data.split_lists import held_out
from ssl4eo_bench.data.splits import OpenSplit, open_splits
from ssl4eo_bench.errors import DamagedFileError, MissingDataError, SplitError
from ssl4eo_bench.metrics.classification import evaluate
from ssl4eo_bench.tasks.so2sat import CLASSES, CULTURE_10, V2
from tests.conftest import real_data_dir

SampleOf = Callable[[str], Path]

# As the data's README gives them (sen2, and Sentinel-1's Lee-filtered intensities in sen1).
SEN2 = ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"]
VH, VV = 4, 5
COUNTS: dict[SplitName, int] = {"train": 352366, "val": 24119, "test": 24188}
FILES: dict[SplitName, str] = {"train": "training", "val": "validation", "test": "testing"}


def write(file: Path, rows: int, *, stored: int = 0, scale: float = 1.0) -> None:
    """A file of the official layout with `rows` rows, of which the first are written and the others take no space."""
    rng = np.random.default_rng(rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    with h5py.File(file, "w") as opened:
        for name, shape in {"sen1": (32, 32, 8), "sen2": (32, 32, 10), "label": (17,)}.items():
            opened.create_dataset(name, (rows, *shape), dtype="<f8", chunks=(1, *shape) if rows else None)
        if not stored:
            return
        opened["sen1"][:stored] = rng.gamma(1.0, 0.1, (stored, 32, 32, 8))
        opened["sen2"][:stored] = scale * rng.uniform(0.01, 2.8, (stored, 32, 32, 10))
        opened["label"][:stored] = np.eye(17)[rng.integers(0, 17, stored)]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Version 2, cut to the first 30 rows of each file."""
    for name in FILES.values():
        write(tmp_path / "so2sat" / f"{name}.h5", 30, stored=30)
    return tmp_path


def opened(root: Path, task: str = "so2sat", split: SplitName = "val") -> OpenSplit:
    """The 30 rows that `small` has of a file; `open_splits` would go through 400,673 ids each time."""
    chosen = catalogue.task(task)
    ids = tuple(f"{FILES[split]}-{row:06d}" for row in range(30))
    return OpenSplit(ids, Reader(chosen, chosen.open(root)))


def alter(file: Path, array: str, row: int, value: object) -> None:
    with h5py.File(file, "r+") as opened:
        opened[array][row] = value


def replace(file: Path, array: str, values: np.ndarray) -> None:
    with h5py.File(file, "r+") as opened:
        del opened[array]
        opened[array] = values


def test_the_known_splits_are_those_of_the_official_counts() -> None:
    for name in ("so2sat", "so2sat-s1"):
        for split in SPLITS:
            ids = [f"{FILES[split]}-{row:06d}" for row in range(COUNTS[split])]
            assert catalogue.task(name).splits[split] == Split.of(ids)


def test_culture10_trains_on_the_training_file_of_version_2() -> None:
    task = catalogue.task("so2sat-culture10")
    every = [f"training-{row:06d}" for row in range(COUNTS["train"])]
    assert CULTURE_10.md5["training"] == V2.md5["training"]
    assert task.splits["train"] == Split.of([id_ for id_ in every if not held_out(id_)])
    assert task.splits["val"] == Split.of([id_ for id_ in every if held_out(id_)])
    assert task.splits["test"] == UnlistedSplit()


def test_nothing_is_claimed_of_splits_that_nobody_counted() -> None:
    for name in ("so2sat-random", "so2sat-block"):
        assert set(catalogue.task(name).splits.values()) == {UnlistedSplit()}


def test_only_one_variant_is_in_the_headline() -> None:
    assert [name for name, task in catalogue.tasks().items() if name.startswith("so2sat") and task.headline] == [
        "so2sat"
    ]


def test_whole_files_open_as_the_official_splits(tmp_path: Path) -> None:
    for split, count in COUNTS.items():
        write(tmp_path / "so2sat" / f"{FILES[split]}.h5", count, stored=2)
    task = catalogue.task("so2sat")
    found = open_splits(task, tmp_path)
    assert {split: samples.record for split, samples in found.items()} == task.splits


@pytest.mark.parametrize("name", ["so2sat-random", "so2sat-culture10"])
def test_val_is_carved_from_training_and_never_from_test(tmp_path: Path, name: str) -> None:
    folder = {"so2sat-random": "random", "so2sat-culture10": "culture_10"}[name]
    write(tmp_path / "so2sat" / folder / "training.h5", 500, stored=1)
    write(tmp_path / "so2sat" / folder / "testing.h5", 90, stored=1)
    source = catalogue.task(name).open(tmp_path)
    listed = {split: source.ids(split) for split in SPLITS}
    ids = {split: set(listed[split]) - set(source.absent(listed[split])) for split in SPLITS}
    assert not ids["train"] & ids["val"]
    assert ids["train"] | ids["val"] == {f"training-{row:06d}" for row in range(500)}
    assert ids["test"] == {f"testing-{row:06d}" for row in range(90)}
    assert 30 <= len(ids["val"]) <= 70


def test_the_carve_never_changes() -> None:
    # Worked out with sha256sum and bc: those whose last decimal digit is 0.
    assert [row for row in range(100) if held_out(f"training-{row:06d}")] == [47, 85, 87, 91]


def test_bands_are_found_by_name(small: Path) -> None:
    samples = opened(small, split="test")
    with h5py.File(small / "so2sat" / "testing.h5") as file:
        stored = file["sen2"][:]
    (pixels,) = samples.reader.read(samples.ids, SEN2)
    assert pixels.dtype == np.float32
    for position, name in enumerate(SEN2):
        (alone,) = samples.reader.read(samples.ids, [name])
        np.testing.assert_array_equal(alone[:, 0], stored[..., position].astype(np.float32), err_msg=name)
        np.testing.assert_array_equal(pixels[:, position], alone[:, 0], err_msg=name)
    (few,) = samples.reader.read(samples.ids[3:9], ["B04", "B02"])  # in the task's order, whatever is asked
    np.testing.assert_array_equal(few, stored[3:9][..., [0, 2]].transpose(0, 3, 1, 2).astype(np.float32))


def test_rows_may_lie_apart_and_in_any_file(small: Path) -> None:
    source = opened(small).reader
    ids = ["testing-000029", "training-000003", "testing-000000"]
    (pixels,) = source.read(ids, ["B08"])
    for row, id_ in enumerate(ids):
        np.testing.assert_array_equal(pixels[row], source.read([id_], ["B08"])[0][0])


def test_radar_is_the_filtered_intensity_in_decibel(small: Path) -> None:
    alter(small / "so2sat" / "validation.h5", "sen1", 5, 0.0)
    samples = opened(small, "so2sat-s1")
    with h5py.File(small / "so2sat" / "validation.h5") as file:
        stored = file["sen1"][:]
    (pixels,) = samples.reader.read(samples.ids, ["VH", "VV"])
    assert pixels.dtype == np.float32
    for position, channel in enumerate([VV, VH]):
        expected = 10 * np.log10(np.maximum(stored[..., channel], 1e-6))
        np.testing.assert_allclose(pixels[:, position], expected, atol=1e-4)
    np.testing.assert_allclose(pixels[5], -60.0, atol=1e-4)


@pytest.mark.parametrize("dtype", ["<f8", "uint8", "int64", "float32"])
def test_labels_are_read_whatever_their_type(small: Path, dtype: str) -> None:
    classes = np.arange(30) % 17
    replace(small / "so2sat" / "validation.h5", "label", np.eye(17)[classes].astype(dtype))
    targets = opened(small).targets()
    assert targets.dtype == np.int64
    np.testing.assert_array_equal(targets, classes)


@pytest.mark.parametrize(
    ("label", "total"),
    [(np.zeros(17), "0"), (np.eye(17)[1] + np.eye(17)[4], "2"), (np.full(17, 1 / 17), "1"), (-np.eye(17)[2], "-1")],
)
def test_a_row_without_its_one_class_is_refused_by_number(small: Path, label: np.ndarray, total: str) -> None:
    alter(small / "so2sat" / "validation.h5", "label", 11, label)
    samples = opened(small)
    with pytest.raises(DamagedFileError, match=rf"validation\.h5 has labels of sum {total} in row 11"):
        samples.targets()
    assert len(samples.reader.targets(samples.ids[:11])) == 11


@pytest.mark.parametrize(("stored", "read"), [(np.nan,) * 2, (np.inf,) * 2, (-np.inf,) * 2, (1e300, np.inf)])
@pytest.mark.parametrize(("task", "array", "channel"), [("so2sat", "sen2", 2), ("so2sat-s1", "sen1", VV)])
def test_values_that_are_not_finite_come_as_they_are_stored(
    small: Path, task: str, array: str, channel: int, stored: float, read: float
) -> None:
    shutil.copytree(small / "so2sat", small / "before" / "so2sat")
    samples = opened(small / "before", task)
    names = [band.name for band in catalogue.task(task).bands]
    (before,) = samples.reader.read(samples.ids, names)
    with h5py.File(small / "so2sat" / "validation.h5", "r+") as file:
        file[array][17, 3, 4, channel] = stored
        file[array][18, ..., channel] = stored
    (after,) = opened(small, task).reader.read(samples.ids, names)
    position = {"sen2": 2, "sen1": 0}[array]
    before[17, position, 3, 4] = before[18, position] = read
    np.testing.assert_array_equal(after, before)


def test_rows_that_a_file_lacks_are_absent(small: Path) -> None:
    with pytest.raises(MissingDataError) as refusal:
        open_splits(catalogue.task("so2sat"), small)
    message = str(refusal.value)
    assert "(352,336 of 352,366 train, 24,089 of 24,119 val, 24,158 of 24,188 test)" in message
    assert "such as testing-000030" in message
    assert "ftp://m1483140:m1483140@dataserv.ub.tum.de/" in message
    there = open_splits(catalogue.task("so2sat"), small, partial=True)
    assert {split: samples.ids for split, samples in there.items()} == {
        split: opened(small, split=split).ids for split in SPLITS
    }


def test_a_longer_file_is_refused(small: Path) -> None:
    write(small / "so2sat" / "validation.h5", 24120, stored=1)
    with pytest.raises(SplitError, match=r"validation\.h5 has 24,120 rows, but the official file has 24,119"):
        opened(small)


@pytest.mark.parametrize(
    ("name", "folder"), [("so2sat", ""), ("so2sat-block", "block"), ("so2sat-culture10", "culture_10")]
)
def test_an_absent_file_is_named_with_its_address(tmp_path: Path, name: str, folder: str) -> None:
    write(tmp_path / "so2sat" / folder / "training.h5", 5, stored=5)
    with pytest.raises(MissingDataError) as refusal:
        opened(tmp_path, name)
    message = str(refusal.value)
    assert str(tmp_path / "so2sat" / folder / "testing.h5") in message
    assert str(tmp_path / "so2sat" / folder / "training.h5") not in message
    assert f"dataserv.ub.tum.de/{folder}" in message
    assert "https://mediatum.ub.tum.de/1" in message


@pytest.mark.parametrize(("array", "task"), [("sen2", "so2sat"), ("sen1", "so2sat-s1"), ("label", "so2sat")])
def test_a_file_without_an_array_is_refused(small: Path, array: str, task: str) -> None:
    with h5py.File(small / "so2sat" / "testing.h5", "r+") as file:
        del file[array]
    with pytest.raises(DamagedFileError, match=rf"testing\.h5 holds no array '{array}'"):
        opened(small, task)


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        ("sen2", (30, 10, 32, 32)),
        ("sen2", (30, 32, 32, 13)),
        ("sen2", (29, 32, 32, 10)),
        ("label", (30,)),
        ("label", (30, 18)),
    ],
)
def test_arrays_of_other_shapes_are_refused(small: Path, array: str, shape: tuple[int, ...]) -> None:
    replace(small / "so2sat" / "testing.h5", array, np.zeros(shape))
    with pytest.raises(DamagedFileError, match=rf"testing\.h5 holds '{array}' of shape {re.escape(str(shape))}"):
        opened(small)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    for name in ("training", "testing"):
        write(tmp_path / "so2sat" / "random" / f"{name}.h5", 0)
    with pytest.raises(DamagedFileError, match="with N > 0 is expected"):
        opened(tmp_path, "so2sat-random")


def test_a_copy_in_digital_numbers_is_refused(small: Path) -> None:
    write(small / "so2sat" / "validation.h5", 30, stored=30, scale=10000.0)
    samples = opened(small)
    with pytest.raises(
        DamagedFileError, match=r"validation\.h5 has values up to 2.,... in row \d+ of 'sen2'.*multiplied by 10,000"
    ):
        samples.reader.read(samples.ids, SEN2)


def test_digital_numbers_are_noticed_in_every_row(small: Path) -> None:
    with h5py.File(small / "so2sat" / "validation.h5", "r+") as file:
        file["sen2"][23] = 10000 * file["sen2"][23]
        file["sen2"][23, 0, 0] = np.nan
    samples = opened(small)
    with pytest.raises(DamagedFileError, match="in row 23 of 'sen2'.*multiplied by 10,000"):
        samples.reader.read(samples.ids, ["B02"])
    samples.reader.read(samples.ids[:23], SEN2)


def test_radar_that_is_in_decibel_already_is_refused(small: Path) -> None:
    replace(small / "so2sat" / "validation.h5", "sen1", np.full((30, 32, 32, 8), -12.0))
    samples = opened(small, "so2sat-s1")
    with pytest.raises(DamagedFileError, match=r"\.h5 has values down to -12\.0 in row 0 of 'sen1'.*in decibel"):
        samples.reader.read(samples.ids, ["VV"])
    opened(small).reader.read(samples.ids, SEN2)  # the other sensor's task does not care


def real_predictions() -> tuple[np.ndarray, np.ndarray]:
    """The labels of all 24,188 test samples, in file order, and what a real network predicts for them."""
    file = real_data_dir() / "so2sat" / "labels_and_predictions.npz"
    if not file.is_file():
        pytest.skip(f"{file} is not there; set SSL4EO_BENCH_TEST_DATA to a directory that holds it")
    with np.load(file) as stored:
        return stored["label"].astype(np.int64), stored["pred"].astype(np.int64)


def test_real_predictions_get_the_scores_that_their_authors_state() -> None:
    labels, predicted = real_predictions()
    scores = np.eye(17)[predicted]
    found = evaluate(scores, labels, CLASSES)
    stated = {"accuracy": 0.6937, "balanced_accuracy": 0.5867, "macro_f1": 0.5765}
    assert {name: round(found.metrics[name].value, 4) for name in stated} == stated
    confusion = np.array(found.confusion)
    chance = confusion.sum(0) @ confusion.sum(1) / confusion.sum() ** 2
    assert (confusion.trace() / confusion.sum() - chance) / (1 - chance) == pytest.approx(0.6644, abs=5e-5)


def test_the_data_directory_may_be_so2sat_itself(small: Path) -> None:
    ids = opened(small).ids
    inside, beside = (opened(root).reader.read(ids, SEN2)[0] for root in (small / "so2sat", small))
    np.testing.assert_array_equal(inside, beside)


def test_fingerprints_tell_files_and_ids_apart(small: Path) -> None:
    source = opened(small).reader
    ids = [f"validation-{row:06d}" for row in range(9)]
    before, other = source.fingerprint(ids), source.fingerprint(["testing-000000"])
    assert source.fingerprint(ids) == before
    assert source.fingerprint(ids[:5]) != before
    write(small / "so2sat" / "validation.h5", 31, stored=31)
    assert source.fingerprint(ids) != before
    assert source.fingerprint(["testing-000000"]) == other


def test_the_sample_has_the_official_layout(sample_of: SampleOf) -> None:
    for name in ("training", "validation", "testing"):
        with h5py.File(sample_of("so2sat") / "so2sat" / f"{name}.h5") as file:
            assert {key: (array.dtype, array.shape[1:]) for key, array in file.items()} == {
                "sen1": (np.float64, (32, 32, 8)),
                "sen2": (np.float64, (32, 32, 10)),
                "label": (np.float64, (17,)),
            }
            assert 0 < np.median(file["sen2"]) < 1
            assert np.median(file["sen1"][..., VV]) > np.median(file["sen1"][..., VH]) > 0


def test_the_sample_of_an_uncounted_release_is_not_taken_for_it(sample_of: SampleOf, tmp_path: Path) -> None:
    shutil.copytree(sample_of("so2sat-random"), tmp_path / "data")
    with pytest.raises(SplitError, match="data holds the embedded sample of task 'so2sat-random', not the dataset"):
        open_splits(catalogue.task("so2sat-random"), tmp_path / "data")


def test_downloads_are_for_people_and_resumable() -> None:
    (first, _) = catalogue.task("so2sat-block").files
    assert first.url is None
    assert first.name == "block/training.h5"
    assert "`curl -C - -O ftp://m1613658:m1613658@dataserv.ub.tum.de/block/training.h5`" in first.instructions
    assert {file.name: file.md5 for file in catalogue.task("so2sat").files} == {
        "training.h5": "702bc6a9368ebff4542d791e53469244",
        "validation.h5": "71cfa6795de3e22207229d06d6f8775d",
        "testing.h5": "e81426102b488623a723beab52b31a8a",
    }
    sizes = {file.name: file.about_bytes for file in catalogue.task("so2sat").files}
    assert sizes["training.h5"] == pytest.approx(52.0e9, rel=0.01)


def test_there_are_seventeen_zones() -> None:
    assert len(CLASSES) == 17
    assert (CLASSES[0], CLASSES[9], CLASSES[16]) == ("Compact high rise", "Heavy industry", "Water")
