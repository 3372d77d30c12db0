"""`compare` as a user meets it, from real runs on the embedded sample."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., tuple[int, str, str]]

RUN = ("run", "--task", "eurosat", "--checkpoint", "bandstats", "--sample", "--quiet")
LINEAR, KNN = (f"eurosat-v1/{protocol}/bandstats/seed0-sample" for protocol in ("linear-v2", "knn-v3"))
PROTOCOLS = ("knn-v3", "linear-v2")


@pytest.fixture
def compare(command: Command) -> Command:
    """Calls `compare` where bandstats was run with two protocols."""
    for protocol in ("linear", "knn"):
        assert command(*RUN, "--protocol", protocol)[0] == 0
    return lambda *arguments: command("compare", *arguments)


def test_a_comparison_from_runs_to_figure(compare: Command, command: Command) -> None:
    code, out, err = compare(LINEAR, KNN, "--figure", "forest.png", "--quiet")
    assert (code, err) == (0, "")
    assert re.search(r"eurosat-v1 +linear-v2, sample / knn-v3, sample +1 +240 +accuracy", out)
    assert re.search(r"^(A is better|B is better|no evidence of a difference): eurosat-v1 \(", out, re.MULTILINE)
    assert "note  eurosat-v1: samples are drawn one by one, since their ids name no groups of neighbours" in out
    assert Path("forest.png").read_bytes().startswith(b"\x89PNG")

    code, out, _ = compare(LINEAR, KNN, "--metric", "micro_map", "--json")
    found = json.loads(out)
    assert (code, found["a"]) == (0, LINEAR)
    (one,) = found["comparisons"]
    shown = json.loads(command("show", LINEAR, "--json")[1])
    assert one["a"] == pytest.approx(shown["metrics"]["test"]["micro_map"]["value"], abs=1e-9)
    assert one["verdict"] in {"A is better", "B is better", "no evidence of a difference"}

    for file in (Path().resolve().parent / "cache" / "scores").glob("*.npz"):
        file.unlink()
    code, out, err = compare(LINEAR, KNN)
    assert (code, err) == (0, "")  # result files are enough for the main metric
    assert "note  eurosat-v1: no test of McNemar's, which needs the scores that runs leave in the cache" in out
    other = ("--metric", "macro_f1")
    code, _, err = compare(LINEAR, KNN, *other)
    assert code == 2
    assert "scores of runs/eurosat-v1/linear-v2/bandstats/seed0-sample.json and 1 more are not in the cache" in err
    again = shlex.split(err.split("`")[1])
    assert command(*again[1:], "--quiet")[0] == 0
    assert "scores of runs/eurosat-v1/knn-v3/bandstats/seed0-sample.json are not in" in compare(LINEAR, KNN, *other)[2]


def test_the_command_for_scores_that_are_gone_says_what_was_changed_of_the_checkpoint(command: Command) -> None:
    one = ("--checkpoint", "timm:test_resnet.random", "--image-size", "32", "--precision", "bfloat16", "--limit", "20")
    assert command("run", "--task", "eurosat-rgb", "--protocol", "linear", "--sample", *one, "--seed", "0", "1")[0] == 0
    for file in (Path().resolve().parent / "cache" / "scores").glob("*.npz"):
        file.unlink()
    runs = "runs/eurosat-rgb-v1/linear-v2/timm-test_resnet.random@32@bfloat16/seed{}-sample-limit20.json"
    metric = ("--metric", "macro_f1")
    _, _, err = command("compare", runs.format(0), runs.format(1), *metric)
    again = err.split("`")[1]
    assert "--checkpoint timm:test_resnet.random --image-size 32 --precision bfloat16" in again
    assert command(*shlex.split(again)[1:], "--quiet")[0] == 0
    assert f"scores of {runs.format(1)} are not in" in command("compare", runs.format(0), runs.format(1), *metric)[2]


def test_options_that_cannot_be_are_refused(command: Command) -> None:
    Path("results").mkdir()
    for arguments, message in (
        (("a", "b", "--figure", "forest.bmp"), "--figure forest.bmp must end in .png, .svg or .pdf."),
        (("a", "b"), "no result is called 'a'"),
        (("a", "a"), "A and B are both a"),
        (("a", "b", "--metric"), "--metric: expected one argument"),
        (("a",), "the following arguments are required: B"),
    ):
        code, _, err = command("compare", *arguments)
        assert code == 2
        assert message in err
        assert "Traceback" not in err


def test_notes_name_the_rows_that_they_are_of(command: Command, results: Path) -> None:
    code, out, _ = command("compare", "tf_efficientnet_lite0.in1k", "bandstats", "--results", results, "--quiet")
    assert code == 0
    fractions = [f"eurosat-rgb-v1 ({protocol}, {share} of train)" for protocol in PROTOCOLS for share in (0.01, 0.1)]
    assert f"note  {', '.join(fractions)}: the spread of the difference over 3 seeds is counted" in out
    assert "note  eurosat-rgb-v1: no test of McNemar's" in out  # of all its rows
