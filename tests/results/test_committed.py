"""The results in this repository."""

import shutil
from pathlib import Path

import pytest

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.protocols import PROTOCOLS
from ssl4eo_bench.results.published import differences, read_published
from ssl4eo_bench.results.tables import write_tables
from ssl4eo_bench.results.views import write_leaderboard
from tests.conftest import ROOT

COMMITTED = ROOT / "results"
MOCO = "resnet50.ssl4eo_s12-moco_v2-s2l1c"


@pytest.mark.skipif(not (COMMITTED / "runs").is_dir(), reason="the repository's results are not here")
def test_tables_and_leaderboard_are_those_of_the_result_files(tmp_path: Path) -> None:
    """So every committed file can still be read, and nothing generated is stale."""
    shutil.copytree(COMMITTED / "runs", tmp_path / "runs")
    shutil.copy(COMMITTED / "published.csv", tmp_path)
    made = [*write_tables(tmp_path), *write_leaderboard(tmp_path)]
    assert {file.relative_to(tmp_path) for file in made} == {
        file.relative_to(COMMITTED) for file in (*COMMITTED.glob("tables/*"), *COMMITTED.glob("leaderboard*"))
    }
    for file in made:
        assert file.read_bytes() == (COMMITTED / file.relative_to(tmp_path)).read_bytes(), file.name


def test_published_numbers_name_tasks_and_checkpoints_of_the_suite() -> None:
    numbers, known = read_published(COMMITTED / "published.csv"), catalogue.load_catalogue().checkpoints
    assert {number.task for number in numbers} <= set(catalogue.tasks())
    assert {number.checkpoint for number in numbers if number.checkpoint} <= set(known)


def test_numbers_on_the_two_splits_of_bigearthnet_are_told_apart() -> None:
    """91.8 and 88.7 are one network on two splits: the one was scored on val of the older split."""
    moco = [n for n in read_published(COMMITTED / "published.csv") if n.checkpoint == MOCO and "bigearthnet" in n.task]
    assert [(n.task, n.split) for n in moco if n.value == 0.918] == [("bigearthnet-google", "val")]
    assert [(n.task, n.split) for n in moco if n.value == 0.887] == [("bigearthnet", "test")]
    for number in moco:  # and neither says how it was made, so that it could stand beside one of the suite's protocols
        for protocol in PROTOCOLS:
            for task in ("bigearthnet", "bigearthnet-google"):
                assert differences(number, task=task, protocol=protocol, metric="micro_map")
