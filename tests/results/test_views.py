import csv
from collections.abc import Callable
from html.parser import HTMLParser
from io import StringIO

import pytest

from ssl4eo_bench.results.files import RunResult
from ssl4eo_bench.results.latex import latex
from ssl4eo_bench.results.published import PublishedNumber
from ssl4eo_bench.results.standings import Standings, standings
from ssl4eo_bench.results.views import FORMATS, html, markdown, papers_with_code

Make = Callable[..., RunResult]

LITE0 = "tf_efficientnet_lite0.in1k"


def number(**changes: object) -> PublishedNumber:
    values: dict[str, object] = {
        "task": "eurosat",
        "checkpoint": LITE0,
        "model": "EfficientNet",
        "method": "",
        "protocol": "linear",
        "split": "test",
        "metric": "accuracy",
        "value": 0.6,
        "fraction": 1.0,
        "source": "A <paper> | of ours",
        "url": "https://example.org/?a=1&b=2",
        "note": "",
    }
    return PublishedNumber.model_validate(values | changes)


@pytest.fixture
def one_task(make_result: Make) -> Standings:
    results = [
        make_result(checkpoint=LITE0, accuracy=0.7),
        make_result(checkpoint="bandstats", accuracy=0.3),
        make_result(checkpoint="resnet18.random", accuracy=0.4),
    ]
    return standings(results, [number(), number(value=0.918, split="val")])


@pytest.fixture
def two_tasks(make_result: Make) -> Standings:
    results = [
        make_result(checkpoint=LITE0, accuracy=0.7),
        make_result(checkpoint=LITE0, accuracy=0.7, seed=1),
        make_result("dfc2020", checkpoint=LITE0, accuracy=0.5),
        make_result(checkpoint="bandstats", accuracy=0.3),
    ]
    return standings(results, counted=["dfc2020-v2", "eurosat-v1"])


def test_markdown_of_one_task_is_one_table_for_each_protocol(one_task: Standings) -> None:
    lines = markdown(one_task).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert table == [
        "| rank | checkpoint | accuracy | over floor | published | over published | micro_map | macro_f1 | seeds |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|",
        f"| 1 | {LITE0} | 70.00 (68.00–72.00) | +30.00 | [60.0](https://example.org/?a=1&b=2) | +10.00 | 80.00 | 69.00 "
        "| 1 |",
        "| 2 | resnet18.random | 40.00 (38.00–42.00) | floor |  |  | 50.00 | 39.00 | 1 |",
        "| 3 | bandstats | 30.00 (28.00–32.00) | floor |  |  | 40.00 | 29.00 | 1 |",
    ]


def test_a_number_of_another_split_is_a_sentence_and_in_no_column(one_task: Standings) -> None:
    for text in (markdown(one_task), html(one_task)):
        (sentence,) = (line for line in text.splitlines() if "91.8" in line)
        assert "split val of eurosat" in sentence
        assert sentence.startswith(("- ", "<li>"))
    assert "91.8" not in latex(one_task)
    assert "0.918" not in FORMATS["csv"](one_task)


def test_markdown_of_several_tasks_starts_with_all_of_them(two_tasks: Standings) -> None:
    text = markdown(two_tasks)
    head, _, first, second, *_ = (line for line in text.splitlines() if line.startswith("|"))
    assert head == "| rank | checkpoint | mean | dfc2020-v2 miou | eurosat-v1 accuracy | seeds |"
    assert first == f"| 1 | {LITE0} | 60.00 | 50.00 (48.00–52.00) | 70.00 (68.00–72.00) | 1 |"
    assert second == "|  | bandstats |  |  | 30.00 (28.00–32.00) | 1 |"
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## linear-v2",
        "## dfc2020-v2 · linear-v2",
        "## eurosat-v1 · linear-v2",
    ]
    assert "over floor" in text.split("## eurosat")[1]
    assert "over floor" not in text.split("## dfc2020")[1].split("## eurosat")[0]  # no floor was run there


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_whole_and_can_be_read_aloud(two_tasks: Standings) -> None:
    text = html(two_tasks)
    tags = Tags(text).found
    names = [name for name, _ in tags]
    assert not {"script", "link", "img", "iframe"} & set(names)
    assert "url(" not in text
    assert "@import" not in text
    assert ("html", {"lang": "en"}) in tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    labels = [attributes["aria-labelledby"] for name, attributes in tags if name == "table"]
    assert labels == ids
    assert names.count("table") == 3
    assert all(attributes.get("scope") in ("col", "row") for name, attributes in tags if name == "th")
    regions = [attributes for name, attributes in tags if attributes.get("role") == "region"]
    assert [region["tabindex"] for region in regions] == ["0"] * 3  # a table that scrolls can be reached by keyboard


def test_html_is_escaped(one_task: Standings) -> None:
    text = html(one_task)
    Tags(text)
    assert "A &lt;paper&gt; | of ours" in text
    assert 'href="https://example.org/?a=1&amp;b=2"' in text


def test_latex_marks_what_may_be_the_best_and_is_escaped(one_task: Standings) -> None:
    text = latex(one_task)
    assert r"rank & checkpoint & accuracy & micro\_map & macro\_f1 \\" in text
    rows = [line for line in text.splitlines() if "scriptsize" in line]
    assert rows[0].startswith(r"1 & tf\_efficientnet\_lite0.in1k & \textbf{70.00} {\scriptsize (68.00--72.00)} & 80.00")
    assert rows[1].startswith(r"2 & resnet18.random & 40.00 {\scriptsize")
    assert "textbf" not in rows[2] + rows[1]
    assert {line.count(" & ") for line in rows} == {4}
    assert r"\caption{eurosat-v1. Test metrics in percent" in text
    assert r"95 \% interval" in text


def test_latex_of_several_tasks_has_the_leading_metrics_and_the_mean(two_tasks: Standings) -> None:
    text = latex(two_tasks)
    assert "\\begin{tabular}{clrrr}" in text
    assert "&  &  & dfc2020-v2 & eurosat-v1 \\\\\nrank & checkpoint & mean & miou & accuracy \\\\" in text
    assert "bandstats &  &  & 30.00" in text


def test_what_cannot_be_told_apart_shares_its_ranks_in_every_view(make_result: Make) -> None:
    results = [
        make_result("so2sat", checkpoint="resnet50.ssl4eo_s12-moco_v2-s2l1c", accuracy=0.601),
        make_result("so2sat", checkpoint="resnet18.random", accuracy=0.6),
        make_result("so2sat", checkpoint="bandstats", accuracy=0.3),
    ]
    board = standings(results)
    table = [line for line in markdown(board).splitlines() if line.startswith("|")]
    assert [line.split(" | ")[0] for line in table[2:]] == ["| 1–2", "| 1–2", "| 3"]
    assert "| B01 B09 B10 |" in table[2]
    assert "Zero bands" in markdown(board)
    assert html(board).count("<td>1\u2060–\u20602</td>") == 2
    rows = [line for line in latex(board).splitlines() if "scriptsize" in line]
    assert [line.partition(" & ")[0] for line in rows] == ["1--2", "1--2", "3"]
    assert [line.count("textbf") for line in rows] == [1, 1, 0]
    assert "60.10}$^{*}$" in rows[0]
    frame = board.frame()
    assert list(zip(frame["rank_first"], frame["rank_last"], strict=True)) == [(1, 2), (1, 2), (3, 3)]


def test_papers_with_code_has_one_line_for_each_number(two_tasks: Standings) -> None:
    lines = list(csv.reader(StringIO(papers_with_code(two_tasks))))
    assert lines[0] == ["task", "dataset", "metric", "value", "model"]
    assert ["Semantic Segmentation", "dfc2020-v2", "miou", "0.5", f"{LITE0} (linear-v2)"] in lines
    assert len(lines) == 1 + 3 * 3


def test_without_a_mean_there_is_no_rank_over_tasks(make_result: Make) -> None:
    text = markdown(standings([make_result(checkpoint=LITE0), make_result("eurosat-rgb", checkpoint=LITE0)]))
    assert "| checkpoint | eurosat-v1 accuracy | eurosat-rgb-v1 accuracy | seeds |" in text
    assert "for checkpoints that have all of them" in text
