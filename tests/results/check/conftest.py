import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ssl4eo_bench.progress import Silent
from ssl4eo_bench.results.check.base import base_of
from ssl4eo_bench.results.check.findings import Finding, Report
from ssl4eo_bench.results.check.gate import check
from tests.conftest import ROOT

COMMITTED = ROOT / "results"

Git = Callable[..., str]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A copy of the results of this repository, in no repository."""
    if not COMMITTED.is_dir():
        pytest.skip("the repository's results are not here")
    return Path(shutil.copytree(COMMITTED, tmp_path / "repository" / "results"))


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    """Calls git in `repository`, as nobody in particular."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    (tmp_path / "repository").mkdir(exist_ok=True)

    def call(*arguments: str) -> str:
        who = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")
        done = subprocess.run(
            ["git", *who, *arguments], cwd=tmp_path / "repository", capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return call


@pytest.fixture
def committed(results: Path, git: Git) -> Path:
    """The same results, committed."""
    git("init", "--quiet", "--initial-branch", "main")
    git("add", ".")
    git("commit", "--quiet", "--message", "results")
    return results


def report_on(results: Path, against: str | None = None) -> Report:
    return check(results, base_of(results, against), Silent())


def only(report: Report) -> Finding:
    """The one finding of a report."""
    (finding,) = report.findings
    return finding
