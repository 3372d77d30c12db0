"""The results in this repository."""

import shutil
from pathlib import Path

import pytest

from ssl4eo_bench.results.tables import write_leaderboard, write_tables
from tests.conftest import ROOT

COMMITTED = ROOT / "results"


@pytest.mark.skipif(not COMMITTED.is_dir(), reason="the repository's results are not here")
def test_tables_and_leaderboard_are_those_of_the_result_files(tmp_path: Path) -> None:
    """So every committed file can still be read, and nothing generated is stale."""
    shutil.copytree(COMMITTED / "runs", tmp_path / "runs")
    made = [*write_tables(tmp_path), *write_leaderboard(tmp_path)]
    assert {file.relative_to(tmp_path) for file in made} == {
        file.relative_to(COMMITTED) for file in (*COMMITTED.glob("tables/*"), *COMMITTED.glob("leaderboard*"))
    }
    for file in made:
        assert file.read_bytes() == (COMMITTED / file.relative_to(tmp_path)).read_bytes(), file.name
