"""What is shown of results on a terminal and in a pipe, in words and as JSON."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from ssl4eo_bench.cli.display import table
from ssl4eo_bench.cli.run_display import show_outcomes
from ssl4eo_bench.executors.outcomes import Outcome
from ssl4eo_bench.progress_bars import ConsoleProgress
from ssl4eo_bench.results.files import RunResult, write_result

Make = Callable[..., RunResult]
Command = Callable[..., tuple[int, str, str]]
ADDRESS = "https://example.org/a/place/with/a/very/long/name/that/no/terminal/of/eighty/columns/shows/on/a/line.tar.gz"


def outcome(result: RunResult, **changes: Any) -> Outcome:
    return Outcome(Mock(), "done", result.model_copy(update=changes))


def shown(capsys: pytest.CaptureFixture[str], *outcomes: Outcome) -> list[str]:
    show_outcomes(outcomes, Path("results"), Path("cache"), json=False)
    return capsys.readouterr().out.splitlines()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes stdout and stderr a terminal, as rich asks the environment for it."""

    def make(columns: int, **variables: str) -> None:
        for name, value in {"TTY_COMPATIBLE": "1", "TERM": "xterm", "COLUMNS": str(columns), **variables}.items():
            monkeypatch.setenv(name, value)

    return make


def test_a_warning_of_many_runs_is_said_once(make_result: Make, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [outcome(make_result(seed=seed), warnings=("C is at the end of the path",)) for seed in range(6)]
    lines = shown(
        capsys, *runs, outcome(make_result(checkpoint="bandstats"), warnings=("C is at the end of the path",))
    )
    (line,) = (line for line in lines if line.startswith("warning"))
    assert line == "warning      resnet18.random, bandstats: C is at the end of the path"


def test_a_table_of_finetune_has_rate_and_epoch(make_result: Make, capsys: pytest.CaptureFixture[str]) -> None:
    result = make_result()
    chosen = result.selection.model_copy(update={"rate": 3e-4, "epoch": 12})
    _, _, names, _, values, *_ = shown(capsys, outcome(result, selection=chosen))
    assert names.split()[-3:] == ["rate", "epoch", "status"]
    assert values.split()[-3:] == ["0.0003", "12", "done"]
    assert shown(capsys, outcome(make_result()))[2].split()[-2:] == ["C", "status"]


def test_seeds_stay_on_a_narrow_terminal(
    make_result: Make, capsys: pytest.CaptureFixture[str], terminal: Callable[..., None]
) -> None:
    terminal(60)
    lines = shown(capsys, outcome(make_result()))
    assert any("seed" in line and "accuracy" in line for line in lines)
    assert "(a wider terminal also shows C, macro F1, micro mAP)" in lines


def test_runs_that_enter_no_table_are_counted(make_result: Make, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [outcome(make_result(**marks)) for marks in ({}, {"limit": 5}, {"partial": True, "sample": True})]
    assert shown(capsys, *runs)[-1] == "kept out     2 of 3 runs enter no table: limit5, partial"
    told = "kept out     1 of 1 runs enter no table: uncommitted changes of the code"
    assert shown(capsys, outcome(make_result(dirty=True)))[-1] == told
    assert not any(line.startswith("kept out") for line in shown(capsys, outcome(make_result(sample=True))))


def test_nothing_is_folded_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    table("", ["file", "cure"], [(ADDRESS, f"fetch {ADDRESS} " * 3)], prose=["file", "cure"])
    ConsoleProgress().note(f"fetch {ADDRESS}")
    captured = capsys.readouterr()
    assert captured.out.count(ADDRESS) == 4
    assert captured.err == f"fetch {ADDRESS}\n"


def test_a_note_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    display = ConsoleProgress()
    for note in ("one", "two", "one"):
        display.note(note)
    assert capsys.readouterr().err == "one\ntwo\n"


def test_colours_and_bars_are_for_terminals_that_want_them(
    capsys: pytest.CaptureFixture[str], terminal: Callable[..., None]
) -> None:
    def bar() -> str:
        with ConsoleProgress().stage("reading", total=1, unit="files") as advance:
            advance(1)
        return capsys.readouterr().err

    terminal(80)
    assert "\x1b[32m" in bar()
    terminal(80, NO_COLOR="1")
    assert "\x1b[3" not in bar()
    assert "reading" not in bar().partition("\x1b")[0]
    terminal(80, TERM="dumb")
    assert bar() == ""
    table("", ["name"], [("value",)])
    assert "\x1b" not in capsys.readouterr().out


def test_numbers_are_numbers_in_json(command: Command, make_result: Make) -> None:
    write_result(Path("results"), make_result(accuracy=0.9))
    (run,) = json.loads(command("list", "runs", "--json")[1])
    assert (run["test %"], run["seed"], run["fraction"]) == (90.0, 0, 1.0)
    assert " 90.00 " in command("list", "runs")[1]
    tasks = {row["task"]: row for row in json.loads(command("list", "tasks", "--json")[1])}
    assert tasks["eurosat"]["train/val/test"] == {"train": 16200, "val": 5400, "test": 5400}
    assert tasks["eurosat-rgb"]["bands"] == {"B04": "byte", "B03": "byte", "B02": "byte"}
    protocols = {row["protocol"]: row for row in json.loads(command("list", "protocols", "--json")[1])}
    assert protocols["linear"]["settings"]["tolerance"] == 1e-5
    assert protocols["linear-ssl4eo"]["settings"] is None


def test_the_leaderboard_of_the_sample_is_shown(command: Command, make_result: Make) -> None:
    write_result(Path("results"), make_result(accuracy=0.8, sample=True))
    code, out, err = command("leaderboard", "--sample", "--format", "csv")
    assert (code, err) == (0, "")
    assert out.splitlines()[1].startswith("1,1,linear-v2,resnet18.random,1,,0.8,")
    code, _, err = command("leaderboard", "--format", "csv")
    assert code == 2
    assert "no such official results on all training samples; make some" in err
    code, _, err = command("leaderboard", "--sample", "--task", "so2sat")
    assert "results on all training samples of task 'so2sat' not found; did you mean 'eurosat'?" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("list", "runs"), "there are no runs in results; `ssl4eo-bench run --help` shows how to make some"),
        (("tables",), "no result in results enters a table; `ssl4eo-bench list runs --results results` shows what"),
        (
            ("leaderboard",),
            "no result in results enters a table; `ssl4eo-bench list runs --results results` shows what",
        ),
        (
            ("list", "runs", "--results", "nowhere"),
            "nowhere does not exist; name yours with --results, or make one with",
        ),
        (("cache", "list", "--cache-dir", "nowhere"), "nothing is cached in nowhere; runs keep their features there"),
        (
            ("data", "status", "eurosat", "--data-dir", "nowhere"),
            "nowhere does not exist; name yours with --data-dir, or see",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_empty_folder_says_what_to_do_next(command: Command, words: tuple[str, ...], told: str) -> None:
    Path("results").mkdir()
    assert told in command(*words)[2]


def test_a_filter_that_is_misspelt_is_told(command: Command, make_result: Make) -> None:
    write_result(Path("results"), make_result())
    code, out, err = command("list", "runs", "--task", "eurosta")
    assert (code, out, err) == (0, "", "no run fits these options; did you mean 'eurosat'?\n")
    assert "shows all of them" in command("list", "runs", "--seed", "7")[2]
    told = (
        "no result is called 'eurosat-v1/linear/resnet18.random'; did you mean 'eurosat-v1/linear-v2/resnet18.random/se"
    )
    assert told in command("show", "eurosat-v1/linear/resnet18.random")[2]
    told = "no task of these results has the metric 'macro-f1'; did you mean 'macro_f1'?"
    assert told in command("leaderboard", "--metric", "macro-f1")[2]
