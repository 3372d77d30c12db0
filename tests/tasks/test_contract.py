"""What every task promises, checked on every task found: a new module in `tasks/` is tested by being there."""

import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.task import SPLITS, Source, Task
from ssl4eo_bench.data.contract import CHECKS, run_checks
from ssl4eo_bench.data.splits import open_splits
from ssl4eo_bench.errors import MissingDataError
from tests.conftest import ROOT

NAMES = sorted(catalogue.tasks())

SAME_READERS = (
    *("bigearthnet-google", "bigearthnet-s1s2", "bigearthnet-v2-s1", "dfc2020-cobench", "dfc2020-s1s2"),
    *("eurosat-spatial", "eurosat-rgb-spatial", "so2sat-block", "so2sat-culture10"),
)
"""Starts of the names of tasks whose readers are checked on damaged files under another name: each check copies all."""

SampleOf = Callable[[str], Path]


@pytest.fixture(params=NAMES)
def task(request: pytest.FixtureRequest) -> Task:
    return catalogue.task(request.param)


def band_names(task: Task) -> list[str]:
    return [band.name for band in task.bands]


def test_every_module_in_tasks_is_found() -> None:
    files = {file.stem for file in (ROOT / "tasks").glob("[!_]*.py")}
    assert files == set(catalogue.task_modules()) == {name.split("-")[0] for name in NAMES}


def test_every_check_of_its_contract_passes(task: Task, sample_of: SampleOf, monkeypatch: pytest.MonkeyPatch) -> None:
    if task.name != task.name.split("-")[0]:  # variants share the maker of their sample, which takes its time
        monkeypatch.delitem(CHECKS, "sample again")
    if task.name.startswith(SAME_READERS):
        monkeypatch.delitem(CHECKS, "cut-off files")
        monkeypatch.delitem(CHECKS, "absent files")
    checked = dict(run_checks(task, sample_of(task.name), sample=True))
    assert {name: fault for name, fault in checked.items() if fault} == {}
    assert checked["clusters"] is None or task.clusters
    assert len(checked) == 1 + len(CHECKS)


def test_the_card_is_complete(task: Task) -> None:
    assert task.citation
    assert task.licence
    assert (task.bands[0].unit == "byte") == (task.display is not None)
    assert set(task.embedded().splits) == set(SPLITS)


def test_pixels_have_the_type_of_their_unit(task: Task, sample_of: SampleOf) -> None:
    samples = open_splits(task, sample_of(task.name), sample=True)["train"]
    names = band_names(task)
    for group, bands in zip(samples.reader.read(samples.ids[:1], names), task.groups(names), strict=True):
        (unit,) = {band.unit for band in task.bands if band.name in bands}
        assert group.dtype == {"dn": np.uint16, "byte": np.uint8, "reflectance": np.float32, "db": np.float32}[unit]


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


def test_an_empty_data_directory_is_refused_with_the_cure(task: Task, tmp_path: Path) -> None:
    with pytest.raises(MissingDataError) as refusal:
        open_splits(task, tmp_path)
    assert "http" in str(refusal.value)
