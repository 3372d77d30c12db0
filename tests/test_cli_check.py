"""`check` as a user meets it."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.conftest import ROOT, Git
from tests.results.forging import regenerate

Command = Callable[..., tuple[int, str, str]]

RUN = "runs/eurosat-rgb-v1/linear-v2/tf_efficientnet_lite0.in1k/seed0.json"
TABLE = "tables/eurosat-rgb-v1.linear-v2.csv"

RESULTS = len(list((ROOT / "results" / "runs").rglob("*.json")))
GENERATED = len([*(ROOT / "results").glob("tables/*"), *(ROOT / "results").glob("leaderboard*")])


def test_good_results_pass(command: Command, committed: Path, git: Git) -> None:
    code, out, err = command("check", "--results", committed, "--quiet")
    assert (code, err) == (0, "")
    head = git("rev-parse", "HEAD")[:10]
    assert out == f"{RESULTS} result files, {GENERATED} generated files, compared with HEAD ({head}): all is well\n"


def test_findings_are_told_with_file_and_cure(command: Command, committed: Path) -> None:
    (committed / TABLE).write_text("checkpoint,seed,\n", encoding="utf-8")
    (committed / RUN).write_text((committed / RUN).read_text(encoding="utf-8") + "\n", encoding="utf-8")
    files = ("--markdown", "out/check.md", "--junit", "out/check.xml")
    code, out, _ = command("check", "--results", committed, *files)
    assert code == 1
    (finding,) = (line for line in out.splitlines() if RUN in line)
    assert "was formatted anew: its bytes are not those that were written" in finding
    assert "restore it, or remove it and run again" in finding
    assert "note: tables and leaderboard were not compared" in out
    assert f"{RESULTS} result files, {GENERATED} generated files, compared with HEAD (" in out
    assert out.endswith("): 1 finding\n")
    assert f"| `{RUN}` | was formatted anew" in Path("out/check.md").read_text(encoding="utf-8")
    suite = ET.parse("out/check.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == (str(RESULTS + GENERATED), "1")


def test_a_narrow_terminal_shows_the_whole_finding(
    command: Command, committed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("FORCE_COLOR", "1")
    (committed / RUN).unlink()
    regenerate(committed)
    _, out, _ = command("check", "--results", committed)
    rows = [line.split("  ") for line in out.splitlines()]
    cells = "".join(row[0].strip() for row in rows)
    assert RUN in cells
    assert max(map(len, re.sub(r"\x1b\[[0-9;]*m", "", out).splitlines()[:-1])) <= 60


def test_results_in_no_repository_are_checked_by_themselves(command: Command, results: Path, tmp_path: Path) -> None:
    code, out, _ = command("check", "--results", results)
    assert code == 0
    assert "compared with nothing: all is well" in out
    assert "since these results are in no commit" in out
    before = shutil.copytree(results, tmp_path / "before")
    code, out, _ = command("check", "--results", results, "--against", before)
    assert code == 0
    assert f"compared with {before}: all is well" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--results", "nowhere"),
            "results directory nowhere does not exist; name yours with --results, or make one with `ssl4eo-bench run`.",
        ),
        (("--results", ".", "--against", ""), "--against is empty; name a commit or a results directory."),
    ],
)
def test_what_cannot_be_checked_is_refused_in_one_sentence(
    command: Command, arguments: tuple[str, ...], message: str
) -> None:
    assert command("check", *arguments) == (2, "", f"error: {message}\n")


def test_a_page_that_cannot_be_written_is_refused(command: Command, results: Path) -> None:
    Path("file").touch()
    code, _, err = command("check", "--results", results, "--markdown", "file/check.md")
    assert code == 2
    assert err.startswith("error: file/check.md cannot be written")


def test_a_repository_without_git_is_no_reason_to_compare_nothing(
    command: Command, committed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(committed / "runs/eurosat-rgb-v1/knn-v3")
    regenerate(committed)
    monkeypatch.setenv("PATH", "/nowhere")
    code, _, err = command("check", "--results", committed)
    assert code == 2
    assert "is in a git repository, and git is not installed; install it." in err


def test_tolerances_that_are_no_file_are_found(command: Command, committed: Path) -> None:
    (committed / "tolerances.yaml").unlink(missing_ok=True)
    (committed / "tolerances.yaml").mkdir()
    code, out, _ = command("check", "--results", committed)
    assert code == 1
    assert "tolerances.yaml" in out
