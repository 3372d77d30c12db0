import csv
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest

from ssl4eo_bench.errors import ResultError
from ssl4eo_bench.results.files import RunResult, read_results, write_result
from ssl4eo_bench.results.leaderboard import leaderboard_files, official_standings, refuse_generated, write_leaderboard
from ssl4eo_bench.results.published import published_numbers

Make = Callable[..., RunResult]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def results(tmp_path: Path, make_result: Make) -> Path:
    write_result(tmp_path, make_result(checkpoint="bandstats", accuracy=1 / 3))
    write_result(tmp_path, make_result(checkpoint="resnet18.random", accuracy=0.5))
    write_result(tmp_path, make_result(checkpoint="resnet18.random", accuracy=0.6, seed=1))
    write_result(tmp_path, make_result(checkpoint="resnet18.random", accuracy=0.7, by="knn"))
    write_result(tmp_path, make_result("eurosat-rgb", checkpoint="tf_efficientnet_lite0.in1k", accuracy=0.8))
    write_result(tmp_path, make_result("eurosat-rgb", checkpoint="resnet18.random", accuracy=0.7))
    return tmp_path


def test_the_csv_has_fractions_in_full_precision(results: Path) -> None:
    write_leaderboard(results)
    rows = list(csv.DictReader(StringIO((results / "leaderboard.csv").read_text())))
    assert [(row["protocol"], row["checkpoint"]) for row in rows] == [
        ("knn-v3", "resnet18.random"),
        ("linear-v2", "resnet18.random"),
        ("linear-v2", "bandstats"),
        ("linear-v2", "tf_efficientnet_lite0.in1k"),
    ]
    _, random, floor, lite0 = rows
    assert list(random)[:6] == ["rank_first", "rank_last", "protocol", "checkpoint", "seeds", "mean"]
    assert (random["seeds"], random["eurosat-v1.seeds"], random["eurosat-rgb-v1.seeds"]) == ("1", "2", "1")
    assert float(floor["eurosat-v1.accuracy"]) == 1 / 3
    assert float(floor["eurosat-v1.accuracy_low"]) == 1 / 3 - 0.02
    assert float(lite0["eurosat-rgb-v1.over_floor"]) == 0.8 - 0.7
    assert (lite0["eurosat-rgb-v1.floor"], lite0["eurosat-rgb-v1.rank_last"]) == ("resnet18.random", "1")
    empty = ("rank_first", "rank_last", "mean", "eurosat-v1.accuracy", "eurosat-v1.seeds", "eurosat-v1.over_floor")
    assert [lite0[column] for column in empty] == [""] * 6


def test_what_would_be_written_is_what_is_written(results: Path) -> None:
    texts = leaderboard_files(read_results(results), published_numbers(results))
    assert list(texts) == ["leaderboard.csv", "leaderboard.md"]
    for _ in range(2):
        assert write_leaderboard(results) == [results / name for name in texts]
        assert all((results / name).read_bytes() == text.encode() for name, text in texts.items())


def test_fractions_and_unofficial_runs_do_not_stand_there(results: Path, make_result: Make) -> None:
    before = leaderboard_files(read_results(results), ())
    for marks in ({"fraction": 0.1}, {"partial": True}, {"limit": 10}, {"sample": True, "limit": 10}):
        write_result(results, make_result(checkpoint="resnet50.random", **marks))
    assert leaderboard_files(read_results(results), ()) == before
    write_result(results, make_result(checkpoint="resnet50.random", sample=True))
    after = leaderboard_files(read_results(results), ())
    assert set(after) - set(before) == {"leaderboard.sample.csv", "leaderboard.sample.md"}
    assert {name: after[name] for name in before} == before


def test_files_go_with_the_last_result_unless_they_are_someones(results: Path) -> None:
    write_leaderboard(results)
    (results / "leaderboard.sample.md").write_text("mine")
    for file in (results / "runs").rglob("*.json"):
        file.unlink()
    assert write_leaderboard(results) == []
    assert [file.name for file in results.glob("leaderboard*")] == ["leaderboard.sample.md"]


def test_a_view_is_of_some_tasks_and_protocols(results: Path) -> None:
    board = official_standings(results, tasks=["eurosat-rgb"], protocols=["linear-v2"])
    assert [(row.checkpoint, row.ranks) for row in board.rows] == [
        ("tf_efficientnet_lite0.in1k", (1, 1)),
        ("resnet18.random", (2, 2)),
    ]
    both = official_standings(results, tasks=["eurosat", "eurosat-rgb"])
    assert set(both.counted.values()) == {("eurosat-rgb-v1", "eurosat-v1")}
    assert [row.mean for row in both.rows if row.mean] == [pytest.approx((0.55 + 0.7) / 2)]


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"tasks": ["eurosat", "so2sat"]}, r"has task 'so2sat'; there is eurosat, eurosat-rgb,"),
        ({"protocols": ["finetune"]}, r"has protocol 'finetune'; there is knn, knn-v3, linear, linear-v2\."),
        ({"tasks": ["eurosat-rgb"], "protocols": ["knn"]}, r"has no such official result; `list runs --results"),
    ],
)
def test_a_view_of_nothing_is_refused(results: Path, chosen: dict[str, list[str]], message: str) -> None:
    with pytest.raises(ResultError, match=message):
        official_standings(results, **chosen)


def test_a_view_never_takes_the_place_of_the_leaderboard(results: Path) -> None:
    with pytest.raises(ResultError, match=r"is for the leaderboard of all results; name another file with --out"):
        refuse_generated(results / "runs" / ".." / "leaderboard.md", results)
    refuse_generated(results / "mine.md", results)
    refuse_generated(results.parent / "leaderboard.md", results)


def test_the_command_writes_files_and_views_write_none(results: Path, command: Command) -> None:
    here = ("--results", results)
    code, out, err = command("leaderboard", *here)
    assert code == 0, err
    assert out.startswith(f"{results / 'leaderboard.csv'}\n{results / 'leaderboard.md'}\n# Leaderboard\n")
    before = {file: file.read_bytes() for file in results.glob("*.*")}
    assert command("leaderboard", *here, "--task", "eurosat-rgb")[1].count("\n| ") == 3
    assert command("leaderboard", *here, "--format", "latex")[1].startswith("% needs \\usepackage{booktabs}\n")
    for name, start in (
        ("b.html", "<!doctype html>"),
        ("b.tex", "% needs"),
        ("b.csv", "rank_first,"),
        ("b.md", "# Lead"),
    ):
        assert command("leaderboard", *here, "--out", name) == (0, f"{name}\n", "")
        assert Path(name).read_text().startswith(start)
    code, _, err = command("leaderboard", *here, "--format", "csv", "--out", results / "leaderboard.csv")
    assert (code, err.count("\n")) == (2, 1)
    assert {file: file.read_bytes() for file in results.glob("*.*")} == before
    (results / "published.csv").write_text("nonsense\n")
    assert "published.csv must have the columns task" in command("leaderboard", *here)[2]
