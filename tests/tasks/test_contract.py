"""What every task promises, checked on every task found: a new module in `tasks/` is tested by being there."""

import multiprocessing
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.bands import SENTINEL_1, SENTINEL_2
from ssl4eo_bench.config.task import IGNORED, SPLITS, Source, Split, Task
from ssl4eo_bench.data.splits import open_splits
from ssl4eo_bench.errors import DamagedFileError, DataError, MissingDataError
from tests.conftest import ROOT

NAMES = sorted(catalogue.tasks())

SampleOf = Callable[[str], Path]


@pytest.fixture(params=NAMES)
def task(request: pytest.FixtureRequest) -> Task:
    return catalogue.task(request.param)


def band_names(task: Task) -> list[str]:
    return [band.name for band in task.bands]


def test_every_module_in_tasks_is_found() -> None:
    files = {file.stem for file in (ROOT / "tasks").glob("[!_]*.py")}
    assert files == set(catalogue.task_modules()) == {name.split("-")[0] for name in NAMES}


def test_the_card_is_complete(task: Task) -> None:
    assert task.version >= 1
    assert len(set(task.classes)) == len(task.classes) > 1
    assert task.citation
    assert task.licence
    assert task.how_to_get
    assert set(band_names(task)) <= set(SENTINEL_2 + SENTINEL_1)
    assert len(set(band_names(task))) == len(task.bands)
    assert (task.bands[0].unit == "byte") == (task.display is not None)
    assert set(task.splits) == set(task.sample.splits) == set(SPLITS)
    listed = [split for split in task.splits.values() if isinstance(split, Split)]
    assert all(len(split.digest) == 64 and split.count > 0 for split in listed)
    assert len({split.digest for split in listed}) == len(listed)


def test_official_counts_are_of_all_classes_and_samples(task: Task) -> None:
    for splits, counts in task.class_counts.items():
        assert len(counts) == len(task.classes)
        assert min(counts) > 0
        assert len(set(splits)) == len(splits) > 0
        sizes = [task.splits[split].count for split in splits]
        if task.kind == "multiclass" and None not in sizes:
            assert sum(counts) == sum(size or 0 for size in sizes)
    assert len({split for splits in task.class_counts for split in splits}) == sum(map(len, task.class_counts))


def test_ids_tell_clusters_where_the_card_says_so(task: Task, sample_of: SampleOf) -> None:
    if task.clusters is not None:
        ids = open_splits(task, sample_of(task.name), sample=True)["test"].ids
        found = {task.clusters.of(id_) for id_ in ids}
        assert 1 <= len(found) < len(ids)
        assert all(isinstance(cluster, str) and cluster for cluster in found)


def test_sample_splits_open_are_disjoint_and_hold_every_class(task: Task, sample_of: SampleOf) -> None:
    opened = open_splits(task, sample_of(task.name), sample=True)
    ids = [id_ for samples in opened.values() for id_ in samples.ids]
    assert len(set(ids)) == len(ids)
    for split, samples in opened.items():
        assert list(samples.ids) == sorted(samples.ids)
        assert samples.record == task.sample.splits[split]
        targets = samples.targets()
        if task.kind == "multiclass":
            assert targets.dtype == np.int64
            assert targets.shape == (len(samples.ids),)
            assert set(targets) == set(range(len(task.classes)))
        elif task.kind == "segmentation":
            assert targets.dtype == np.uint8
            assert targets.shape == (len(samples.ids), task.image_size, task.image_size)
            assert set(np.unique(targets)) - {IGNORED} == set(range(len(task.classes)))
        else:
            assert targets.dtype == np.uint8
            assert targets.shape == (len(samples.ids), len(task.classes))
            assert set(np.unique(targets)) == {0, 1}
            assert targets.any(axis=0).all()


def test_pixels_have_the_shapes_types_and_levels_of_the_card(task: Task, sample_of: SampleOf) -> None:
    samples = open_splits(task, sample_of(task.name), sample=True)["train"]
    names = band_names(task)
    groups = samples.reader.read(samples.ids[:6], names)
    expected = task.groups(names)
    assert [group.shape[:2] for group in groups] == [(6, len(bands)) for bands in expected]
    for group, bands in zip(groups, expected, strict=True):
        resolution = next(band.resolution for band in task.bands if band.name == bands[0])
        assert group.shape[2] == group.shape[3] == task.image_size * 10 // resolution
        (unit,) = {band.unit for band in task.bands if band.name in bands}
        assert group.dtype == {"dn": np.uint16, "byte": np.uint8, "reflectance": np.float32, "db": np.float32}[unit]
        if unit == "dn":
            assert 1 <= np.median(group) < 20000
        if unit == "reflectance":
            assert np.median(group) < 10


def test_samples_are_independent_of_their_neighbours(task: Task, sample_of: SampleOf) -> None:
    samples = open_splits(task, sample_of(task.name), sample=True)["test"]
    names = band_names(task)
    together = samples.reader.read(samples.ids[:4], names)
    for row in range(4):
        for group, alone in zip(together, samples.reader.read(samples.ids[row : row + 1], names), strict=True):
            np.testing.assert_array_equal(group[row], alone[0])


def _sum_in_worker(pickled: bytes, ids: tuple[str, ...], bands: list[str]) -> int:
    source: Source = pickle.loads(pickled)
    return sum(int(group.astype(np.int64).sum()) for group in source.read(ids, bands))


def test_sources_and_tasks_work_in_spawned_workers(task: Task, sample_of: SampleOf) -> None:
    assert pickle.loads(pickle.dumps(task)).name == task.name
    samples = open_splits(task, sample_of(task.name), sample=True)["test"]
    ids, names = samples.ids[:3], band_names(task)
    expected = sum(int(group.astype(np.int64).sum()) for group in samples.reader.read(ids, names))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_sum_in_worker, (pickle.dumps(samples.reader), ids, names)) == expected


@pytest.mark.parametrize("name", sorted({name.split("-")[0] for name in NAMES}))  # variants share their maker
def test_the_sample_is_the_same_every_time(name: str, sample_of: SampleOf, tmp_path: Path) -> None:
    task = catalogue.task(name)
    task.sample.make(tmp_path)
    first, again = (open_splits(task, folder, sample=True)["val"] for folder in (sample_of(task.name), tmp_path))
    names = band_names(task)
    for left, right in zip(first.reader.read(first.ids, names), again.reader.read(again.ids, names), strict=True):
        np.testing.assert_array_equal(left, right)


def test_the_sample_is_not_taken_for_the_dataset(task: Task, sample_of: SampleOf) -> None:
    with pytest.raises(DataError):
        open_splits(task, sample_of(task.name))


def test_an_empty_data_directory_is_refused_with_the_cure(task: Task, tmp_path: Path) -> None:
    with pytest.raises(MissingDataError) as refusal:
        open_splits(task, tmp_path)
    assert "http" in str(refusal.value)


def read_train(task: Task, folder: Path, at_most: int | None = None) -> None:
    samples = open_splits(task, folder, sample=True)["train"]
    samples.reader.read(samples.ids[:at_most], band_names(task))


IMAGES = (".tif", ".jpg", ".h5")


def test_cut_off_files_are_refused_by_name(task: Task, sample_of: SampleOf, tmp_path: Path) -> None:
    shutil.copytree(sample_of(task.name), tmp_path / "copy")
    files = [file for file in (tmp_path / "copy").rglob("*") if file.suffix in IMAGES]
    assert files
    for file in files:
        os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(DamagedFileError) as refusal:
        read_train(task, tmp_path / "copy", 2)
    assert any(file.name in str(refusal.value) for file in files)
    assert "\n" not in str(refusal.value)


def test_absent_files_are_refused_in_one_sentence(task: Task, sample_of: SampleOf, tmp_path: Path) -> None:
    shutil.copytree(sample_of(task.name), tmp_path / "copy")
    gone = [file for file in (tmp_path / "copy").rglob("*") if file.suffix in IMAGES]
    for file in gone[::2]:
        file.unlink()
    with pytest.raises(DataError) as refusal:
        read_train(task, tmp_path / "copy")
    assert "\n" not in str(refusal.value)
