"""What a shell is told when it asks how a command line could go on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytest.importorskip("argcomplete", reason="argcomplete is not installed")


def asked(line: str, folder: Path) -> list[str]:
    """The words that a shell would offer at the end of a line."""
    variables = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE": "1"}
    answer = folder / "answer"
    answer.touch()
    done = subprocess.run(
        [sys.executable, "-m", "ssl4eo_bench"],
        cwd=ROOT,
        env=os.environ
        | variables
        | {"_ARGCOMPLETE_STDOUT_FILENAME": str(answer), "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
    return answer.read_text().split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ssl4eo-bench lea", {"leaderboard"}),
        ("ssl4eo-bench run --prot", {"--protocol"}),
        ("ssl4eo-bench run --task eurosat so2sat-", {"so2sat-s1", "so2sat-block"}),
        ("ssl4eo-bench compare resnet18.ran", {"resnet18.random"}),
        ("ssl4eo-bench leaderboard --format ", {"csv", "md", "html", "latex"}),
        ("ssl4eo-bench show eurosat-rgb-v1/linear-v2/bandst", {"eurosat-rgb-v1/linear-v2/bandstats/seed0"}),
    ],
)
def test_a_line_is_completed(line: str, words: set[str], tmp_path: Path) -> None:
    offered = asked(line, tmp_path)
    assert words <= set(offered)
    assert all(word.startswith(line.split(" ")[-1]) for word in offered)


def test_a_line_of_no_command_has_no_completion(tmp_path: Path) -> None:
    assert asked("ssl4eo-bench nonsense --ta", tmp_path) == []
