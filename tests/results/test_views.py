import csv
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from ssl4eo_bench.errors import BenchError, ResultError
from ssl4eo_bench.results.files import RunFilter, RunResult, write_result
from ssl4eo_bench.results.frame import frame_of
from ssl4eo_bench.results.latex import latex
from ssl4eo_bench.results.leaderboard import Leaderboard
from ssl4eo_bench.results.markdown import markdown
from ssl4eo_bench.results.ranked_rows import make_leaderboard
from ssl4eo_bench.results.report.pages import leaderboard_page
from ssl4eo_bench.results.views import (
    FORMATS,
    chosen_leaderboard,
    refuse_generated,
    write_generated_files,
)
from tests.results.conftest import published_number
from tests.results.html_page import Page

Make = Callable[..., RunResult]
Command = Callable[..., tuple[int, str, str]]

LITE0 = "tf_efficientnet_lite0.in1k"
SOURCE = {"source": "A <paper> | of ours", "url": "https://example.org/?a=1&b=2"}


@pytest.fixture
def one_task(make_result: Make) -> Leaderboard:
    results = [
        make_result(checkpoint=LITE0, accuracy=0.7),
        make_result(checkpoint="bandstats", accuracy=0.3),
        make_result(checkpoint="resnet18.random", accuracy=0.4),
    ]
    numbers = [published_number(**SOURCE), published_number(**SOURCE, value=0.918, split="val")]
    return make_leaderboard(frame_of(results), numbers)


@pytest.fixture
def two_tasks(make_result: Make) -> Leaderboard:
    results = [
        make_result(checkpoint=LITE0, accuracy=0.7),
        make_result(checkpoint=LITE0, accuracy=0.7, seed=1),
        make_result("dfc2020", checkpoint=LITE0, accuracy=0.5),
        make_result(checkpoint="bandstats", accuracy=0.3),
    ]
    return make_leaderboard(frame_of(results), counted=["dfc2020-v2", "eurosat-v1"])


def test_markdown_of_one_task_is_one_table_for_each_protocol(one_task: Leaderboard) -> None:
    lines = markdown(one_task).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert table == [
        "| rank | checkpoint | accuracy | over floor | published | over published | micro mAP | macro F1 | seeds |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|",
        f"| 1 | {LITE0} | 70.00 (68.00–72.00) | +30.00 | [60.0](https://example.org/?a=1&b=2) | +10.00 | 80.00 | 69.00 "
        "| 1 |",
        "| 2 | resnet18.random | 40.00 (38.00–42.00) | floor |  |  | 50.00 | 39.00 | 1 |",
        "| 3 | bandstats | 30.00 (28.00–32.00) | floor |  |  | 40.00 | 29.00 | 1 |",
    ]


def test_a_number_of_another_split_is_a_sentence_and_in_no_column(one_task: Leaderboard) -> None:
    for text in (markdown(one_task), leaderboard_page(one_task)):
        (sentence,) = (line for line in text.splitlines() if "91.8" in line)
        assert "split val of eurosat" in sentence
        assert sentence.startswith(("- ", "<li>"))
    assert "91.8" not in latex(one_task)
    assert "0.918" not in FORMATS["csv"](one_task)


def test_markdown_of_several_tasks_starts_with_all_of_them(two_tasks: Leaderboard) -> None:
    text = markdown(two_tasks)
    head, _, first, second, *_ = (line for line in text.splitlines() if line.startswith("|"))
    assert head == "| rank | checkpoint | mean | dfc2020-v2 mIoU | eurosat-v1 accuracy | seeds |"
    assert first == f"| 1 | {LITE0} | 60.00 | 50.00 (48.00–52.00) | 70.00 (68.00–72.00) | 1 |"
    assert second == "|  | bandstats |  |  | 30.00 (28.00–32.00) | 1 |"
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## linear-v2",
        "## dfc2020-v2 · linear-v2",
        "## eurosat-v1 · linear-v2",
    ]
    assert "over floor" in text.split("## eurosat")[1]
    assert "over floor" not in text.split("## dfc2020")[1].split("## eurosat")[0]  # no floor was run there


def test_html_is_whole_and_can_be_read_aloud(two_tasks: Leaderboard) -> None:
    text = leaderboard_page(two_tasks)
    page = Page(text)
    assert not {"script", "button", "link", "img", "iframe"} & {name for name, _ in page.tags}
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text
    assert page.all("html") == [{"lang": "en"}]
    titles = [title for tag, title in page.texts if tag == "h2"]
    assert titles == ["linear-v2", "dfc2020-v2 · linear-v2", "eurosat-v1 · linear-v2"]
    assert [one["aria-labelledby"] for one in page.all("section")] == [one["id"] for one in page.all("h2")]
    assert len(page.all("table")) == len(page.all("caption")) == 3
    assert all(one.get("scope") in ("col", "row") for one in page.all("th"))
    regions = [attributes for _, attributes in page.tags if attributes.get("role") == "region"]
    assert [(one["tabindex"], (one["aria-label"] or "").partition(",")[0]) for one in regions] == [
        ("0", title) for title in titles
    ]  # a table that scrolls can be reached by keyboard


def test_html_shows_all_metrics_of_a_task_and_its_floor(two_tasks: Leaderboard) -> None:
    overview, _, details = leaderboard_page(two_tasks).split("<section")[1:]
    heads = [text for tag, text in Page(f"<section{details.partition('</section>')[0]}</section>").texts if tag == "th"]
    assert heads == [
        "rank",
        "checkpoint",
        "accuracy",
        "micro mAP",
        "macro F1",
        "over floor",
        "seeds",
        LITE0,
        "bandstats",
    ]
    assert "The floor is bandstats." in details
    assert ">+40.00</td>" in details
    assert "+40.00 over bandstats" in overview
    assert "macro F1" not in overview
    assert ">60.00</td>" in overview  # the mean
    assert ">60.00</td>" not in details


def test_html_is_escaped(one_task: Leaderboard) -> None:
    text = leaderboard_page(one_task)
    Page(text)
    assert "A &lt;paper&gt; | of ours" in text
    assert 'href="https://example.org/?a=1&amp;b=2"' in text


def test_latex_marks_what_may_be_the_best_and_is_escaped(one_task: Leaderboard) -> None:
    text = latex(one_task)
    assert r"rank & checkpoint & accuracy & micro mAP & macro F1 \\" in text
    rows = [line for line in text.splitlines() if "scriptsize" in line]
    assert rows[0].startswith(r"1 & tf\_efficientnet\_lite0.in1k & \textbf{70.00} {\scriptsize (68.00--72.00)} & 80.00")
    assert rows[1].startswith(r"2 & resnet18.random & 40.00 {\scriptsize")
    assert "textbf" not in rows[2] + rows[1]
    assert {line.count(" & ") for line in rows} == {4}
    assert r"\caption{eurosat-v1. Test metrics in percent" in text
    assert r"95 \% interval" in text


def test_latex_of_several_tasks_has_the_leading_metrics_and_the_mean(two_tasks: Leaderboard) -> None:
    text = latex(two_tasks)
    assert "\\begin{tabular}{clrrr}" in text
    assert "&  &  & dfc2020-v2 & eurosat-v1 \\\\\nrank & checkpoint & mean & mIoU & accuracy \\\\" in text
    assert "bandstats &  &  & 30.00" in text


def test_what_cannot_be_told_apart_shares_its_ranks_in_every_view(make_result: Make) -> None:
    results = [
        make_result("so2sat", checkpoint="resnet50.ssl4eo_s12-moco_v2-s2l1c", accuracy=0.601),
        make_result("so2sat", checkpoint="resnet18.random", accuracy=0.6),
        make_result("so2sat", checkpoint="bandstats", accuracy=0.3),
    ]
    board = make_leaderboard(frame_of(results))
    table = [line for line in markdown(board).splitlines() if line.startswith("|")]
    assert [line.split(" | ")[0] for line in table[2:]] == ["| 1–2", "| 1–2", "| 3"]
    assert "| B01 B09 B10 |" in table[2]
    assert "Zero bands" in markdown(board)
    assert leaderboard_page(board).count(">1–2</td>") == 2
    rows = [line for line in latex(board).splitlines() if "scriptsize" in line]
    assert [line.partition(" & ")[0] for line in rows] == ["1--2", "1--2", "3"]
    assert [line.count("textbf") for line in rows] == [1, 1, 0]
    assert "60.10}$^{*}$" in rows[0]
    frame = board.frame()
    assert list(zip(frame["rank_first"], frame["rank_last"], strict=True)) == [(1, 2), (1, 2), (3, 3)]


def test_without_a_mean_there_is_no_rank_over_tasks(make_result: Make) -> None:
    text = markdown(
        make_leaderboard(frame_of([make_result(checkpoint=LITE0), make_result("eurosat-rgb", checkpoint=LITE0)]))
    )
    assert "| checkpoint | eurosat-v1 accuracy | eurosat-rgb-v1 accuracy | seeds |" in text
    assert "for checkpoints that have all of them" in text


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
    write_generated_files(results)
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


def test_a_view_is_of_some_tasks_and_protocols(results: Path) -> None:
    board = chosen_leaderboard(results, RunFilter(tasks=["eurosat-rgb"], protocols=["linear-v2"]))
    assert [(row.name, row.ranks) for row in board.rows] == [
        ("tf_efficientnet_lite0.in1k", (1, 1)),
        ("resnet18.random", (2, 2)),
    ]
    both = chosen_leaderboard(results, RunFilter(tasks=["eurosat", "eurosat-rgb"]))
    assert set(both.counted.values()) == {("eurosat-rgb-v1", "eurosat-v1")}
    assert [row.mean for row in both.rows if row.mean] == [pytest.approx((0.55 + 0.7) / 2)]


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"tasks": ["eurosat", "so2sat"]}, r"of task 'so2sat' not found; did you mean 'eurosat'"),
        ({"protocols": ["finetune"]}, r"of protocol 'finetune' not found; known: knn, knn-v3, linear, linear-v2\."),
        (
            {"tasks": ["eurosat-rgb"], "protocols": ["knn"]},
            r"no such official results on all training samples; make some with",
        ),
    ],
)
def test_a_view_of_nothing_is_refused(results: Path, chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        chosen_leaderboard(results, RunFilter(**chosen))


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
    before = {file: file.read_bytes() for file in results.glob("[!.]*.*")}
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
    assert {file: file.read_bytes() for file in results.glob("[!.]*.*")} == before
    (results / "published.csv").write_text("nonsense\n")
    assert "published.csv must have the columns task" in command("leaderboard", *here)[2]
