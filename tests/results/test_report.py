import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl4eo_bench.config.protocols import PROTOCOLS
from ssl4eo_bench.config.records import ClassResult, Epoch
from ssl4eo_bench.errors import ResultError, UnknownNameError, WriteError
from ssl4eo_bench.metrics.counts import Counts
from ssl4eo_bench.results import scores as scores_module
from ssl4eo_bench.results.files import RunFilter, RunResult, read_results, write_result
from ssl4eo_bench.results.frame import frame_of
from ssl4eo_bench.results.ranked_rows import make_leaderboard
from ssl4eo_bench.results.report import render
from ssl4eo_bench.results.report.groups import groups_of
from ssl4eo_bench.results.report.render import write_report
from ssl4eo_bench.results.report.report_figures import figure_sections
from tests.conftest import ROOT, without
from tests.results.html_page import Page

Make = Callable[..., RunResult]
Command = Callable[..., tuple[int, str, str]]


def report(results: Path, **options: Any) -> Page:
    file = results.parent / "report.html"
    write_report(results, file, **{"cache_dir": results.parent / "cache", **options})
    return Page(file.read_text(encoding="utf-8"))


def keep(results: Path, result: RunResult, **arrays: np.ndarray) -> None:
    """Let there be scores of the samples of a result."""
    folder = results.parent / "cache" / "scores"
    folder.mkdir(parents=True, exist_ok=True)
    ids = np.array([f"id{number}" for number in range(result.counts["test"])])
    np.savez(folder / f"{result.digest}.npz", **{"ids": ids, **arrays})  # type: ignore[arg-type]


def finetuned(result: RunResult) -> RunResult:
    """As if the whole network had been trained on, with one rate."""
    spec = result.spec.model_copy(update={"protocol": PROTOCOLS["finetune"]})
    history = tuple(Epoch(rate=1e-3, epoch=n, loss=1 / n, val=0.3 + n / 10) for n in (1, 2, 3))
    selection = result.selection.model_copy(update={"rate": 1e-3, "epoch": 3, "history": history})
    return result.model_copy(update={"spec": spec, "digest": spec.digest, "selection": selection})


@pytest.fixture
def results(tmp_path: Path, make_result: Make) -> Path:
    folder = tmp_path / "results"
    write_result(folder, make_result(checkpoint="bandstats", accuracy=1 / 3))
    write_result(folder, make_result(checkpoint="tf_efficientnet_lite0.in1k", accuracy=0.5))
    write_result(folder, make_result(checkpoint="tf_efficientnet_lite0.in1k", accuracy=0.6, seed=1))
    write_result(folder, make_result(checkpoint="tf_efficientnet_lite0.in1k", accuracy=0.4, fraction=0.1))
    return folder


def test_the_page_says_what_is_in_it(results: Path) -> None:
    page = report(results)
    for words in (
        "4 runs: 2 checkpoints on eurosat-v1 with linear-v2. The newest is of 2026-01-01 .",
        "50.00 48.00–52.00",
        "+16.67",
        "Dots are values, lines their intervals; hollow ones are floors",
        "Ranks are ranges",
        "bandstats floor",
    ):
        assert words in page.text
    assert "Sample." not in page.text


def test_long_tables_are_cut_and_say_so(results: Path, make_result: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    write_result(results, make_result(checkpoint="bandstats", accuracy=0.3, by="knn"))
    monkeypatch.setattr(render, "MOST_ROWS", 2)
    page = report(results)
    assert page.text.count("1 of 2 rows; all of them are in the CSV above; here are the best.") == 1
    assert "2 of 4 rows; all of them are in the CSV above." in page.text
    monkeypatch.setattr(render, "MOST_ROWS", 8)
    assert "rows; all of them" not in report(results).text


def test_the_page_is_whole_and_can_be_read_aloud(results: Path) -> None:
    page = report(results)
    policy = next(tag["content"] for tag in page.all("meta") if tag.get("http-equiv") == "Content-Security-Policy")
    assert (policy or "").startswith("default-src 'none'; img-src data:;")
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "data", "srcset") if tag != "a" else ():
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png"))
    assert not {"link", "iframe", "img", "object"} & {tag for tag, _ in page.tags}
    figures = [svg for svg in page.all("svg") if svg.get("class") == "plot"]
    assert len(figures) == len(page.all("figure")) >= 3
    assert {svg["role"] for svg in figures} == {"img"}
    assert all((svg["aria-label"] or "").startswith("eurosat-v1, linear-v2. ") for svg in figures)
    assert len(page.all("caption")) == len(page.all("table"))
    assert len(page.all("input") + page.all("select")) == len(page.all("label"))


def test_references_lead_somewhere_and_colours_are_those_of_the_theme(results: Path) -> None:
    report(results)
    text = (results.parent / "report.html").read_text(encoding="utf-8")
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    used = re.findall(r'(?:href="|url\(|labelledby=")#?([\w.-]+)[")]', text)
    assert set(used) <= set(ids)
    assert len(used) > 10
    drawn = "".join(re.findall(r'<svg class="plot".*?</svg>', text, re.DOTALL))
    assert "var(--ink)" in drawn
    assert not re.search(r"#[0-9a-f]{6}\b", drawn)
    light, dark = (part for part in re.split(r"@media \(prefers-color-scheme: dark\)", text)[:2])
    for variable in set(re.findall(r"var\((--\w+)\)", drawn)):
        assert f"{variable}:" in light
        assert f"{variable}:" in dark


def test_the_same_results_give_the_same_bytes(results: Path, tmp_path: Path) -> None:
    def made(name: str) -> dict[str, bytes]:
        files = write_report(
            results, tmp_path / name / "r.html", cache_dir=tmp_path, figures_dir=tmp_path / name / "figures"
        )
        return {file.name: file.read_bytes() for file in files}

    first, second = made("first"), made("second")
    assert first == second
    assert {"r.html", "eurosat-v1.linear-v2.classes.png", "eurosat-v1.linear-v2.classes.pdf"} <= set(first)
    assert len(first) == 1 + 3 * first["r.html"].count(b"<figure>")
    assert first["eurosat-v1.linear-v2.classes.svg"].startswith(b"<?xml")


def test_text_from_results_is_text(results: Path, make_result: Make) -> None:
    attack = '"><script>alert(1)</script><!-- $\\frac'
    result = make_result(checkpoint="resnet50.random", seed=5)
    classes = tuple(one.model_copy(update={"name": attack}) for one in result.classes[1:])
    classes = (ClassResult(name="nowhere", support=0, precision=0.0, f1=0.0), *classes)
    checkpoint = result.spec.checkpoint.model_copy(update={"licence": attack, "citation": attack})
    made = result.provenance.model_copy(update={"device": attack, "versions": {attack: attack}, "commit": attack})
    spoilt = result.model_copy(
        update={
            "spec": result.spec.model_copy(update={"checkpoint": checkpoint}),
            "classes": classes,
            "confusion": tuple((1,) * 10 for _ in range(10)),
            "warnings": (attack,),
            "provenance": made,
        }
    )
    for file in results.rglob("*.json"):
        file.unlink()
    write_result(results, spoilt)
    page = report(results)
    assert len(page.all("script")) == 1
    assert "alert(1)" in page.text
    assert "nowhere (0)" in page.text  # a class without samples


def test_reports_on_the_sample_are_marked_and_what_is_left_out_is_counted(results: Path, make_result: Make) -> None:
    write_result(results, make_result(checkpoint="resnet50.random", accuracy=0.89, sample=True))
    for marks in ({"partial": True}, {"limit": 10}, {"dirty": True}):
        write_result(results, make_result(checkpoint="resnet50.random", accuracy=0.89, **marks))
    official, sample = report(results), report(results, sample=True)
    assert "89.00" not in official.text
    assert (
        "Not in this report: 1 run from a checkout with changes that were not committed, 2 runs on a part of the samples, "
        "1 run on the embedded sample." in official.text
    )
    assert "Sample. These runs are on small, made-up images." in sample.text
    assert "1 run: 1 checkpoint on" in sample.text


def test_tasks_and_protocols_can_be_chosen(results: Path, make_result: Make) -> None:
    write_result(results, make_result("eurosat-rgb", checkpoint="bandstats", accuracy=0.9))
    assert "There is no mean over tasks" in report(results).text
    both = report(results, wanted=RunFilter(tasks=["eurosat", "eurosat-rgb"], protocols=["linear"])).text
    assert "5 runs" in both
    assert "61.67" in both  # the mean is over the tasks that were asked for: of 33.33 and 90.00
    assert "There is no mean over tasks" not in both
    assert "1 run: 1 checkpoint on eurosat-rgb-v1" in report(results, wanted=RunFilter(tasks=["eurosat-rgb"])).text
    with pytest.raises(UnknownNameError, match=r"results of task 'eurosat-rg' not found; did you mean 'eurosat-rgb'\?"):
        report(results, wanted=RunFilter(tasks=["eurosat-rg"]))
    with pytest.raises(UnknownNameError, match="results of protocol 'knn' not found"):
        report(results, wanted=RunFilter(protocols=["knn"]))


def test_without_results_there_is_no_report(tmp_path: Path, make_result: Make) -> None:
    with pytest.raises(ResultError, match="does not exist; name yours with --results"):
        report(tmp_path / "nowhere")
    folder = tmp_path / "results"
    folder.mkdir()
    with pytest.raises(ResultError, match="no such official results; make some with `ssl4eo-bench run`.$"):
        report(folder)
    with pytest.raises(ResultError, match="no such sample results; make some with `ssl4eo-bench run`.$"):
        report(folder, sample=True)
    write_result(folder, make_result(sample=True))
    with pytest.raises(ResultError, match="--sample shows those on the embedded sample"):
        report(folder)
    write_result(folder, make_result(fraction=0.1))
    assert "No run is on all training samples" in report(folder).text


def test_without_its_figures_there_is_no_page(results: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError, match="cannot be written"):
        report(results, figures_dir=tmp_path / "file")
    assert not (tmp_path / "report.html").exists()


def test_figures_of_single_samples_need_their_scores(
    results: Path, make_result: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = (
        "Calibration: left out, since neither the results nor the cache hold scores of single samples of these runs."
    )
    assert titles in report(results).text
    rng = np.random.default_rng(0)
    count = make_result().counts["test"]
    scores, targets = rng.dirichlet(np.ones(10), count), rng.integers(10, size=count)
    accuracy = float((scores.argmax(axis=1) == targets).mean())
    result = make_result(checkpoint="tf_efficientnet_lite0.in1k", accuracy=accuracy)
    monkeypatch.setattr(scores_module, "ids_digest", lambda _: result.spec.task.splits["test"].digest)
    write_result(results, result)
    keep(results, result, scores=scores, targets=scores.argmax(axis=1))  # another metric than the result's
    assert titles in report(results).text
    keep(results, result, scores=scores, targets=targets, embedding=rng.normal(size=(count, 2)))
    metrics = dict(result.metrics["test"])
    metrics["ece"] = metrics["accuracy"].model_copy(update={"value": 0.123})
    write_result(results, result.model_copy(update={"metrics": {**result.metrics, "test": metrics}}))
    page = report(results)
    assert titles not in page.text
    words = [svg["aria-label"] or "" for svg in page.all("svg")]
    assert any("Reliability diagram" in one and "tf_efficientnet_lite0.in1k, ECE 12.3 %" in one for one in words)
    assert any("Map of 900 test features of tf_efficientnet_lite0.in1k" in one for one in words)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", "other samples"], ids=["empty", "torn", "other"])
def test_scores_that_cannot_be_used_are_as_if_they_were_not_there(
    results: Path, make_result: Make, content: bytes | str
) -> None:
    result = make_result(checkpoint="tf_efficientnet_lite0.in1k")
    keep(results, result, scores=np.ones((3, 10)), targets=np.zeros(3, int), ids=np.array(["a", "b", "c"]))
    if isinstance(content, bytes):
        (results.parent / "cache" / "scores" / f"{result.digest}.npz").write_bytes(content)
    assert "Calibration: left out" in report(results).text


def test_label_maps_are_shown_where_examples_are_kept(
    tmp_path: Path, make_result: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = make_result("dfc2020").counts["test"]
    confusions = np.tile(np.eye(8, dtype=int) + 1, (count, 1, 1))
    result = make_result(
        "dfc2020", checkpoint="bandstats", accuracy=float(Counts.of_confusion(confusions.sum(0)).miou())
    )
    write_result(tmp_path / "results", result)
    assert "Label maps: left out" in report(tmp_path / "results").text
    monkeypatch.setattr(scores_module, "ids_digest", lambda _: result.spec.task.splits["test"].digest)
    maps = np.random.default_rng(0).integers(8, size=(2, 6, 6)).astype(np.int16)
    keep(
        tmp_path / "results",
        result,
        confusions=confusions,
        examples=np.array(["tile a", "tile b"]),
        examples_rgb=np.zeros((2, 6, 6, 3), np.uint8),
        examples_truth=maps,
        examples_predicted=maps,
    )
    page = report(tmp_path / "results")
    assert any(
        "2 test tiles with their labels and what bandstats" in (svg["aria-label"] or "") for svg in page.all("svg")
    )
    assert "IoU, F1, AP on test" in page.text
    assert "tile a" in page.text


def test_fine_tuning_has_learning_curves(results: Path, make_result: Make) -> None:
    write_result(results, finetuned(make_result(checkpoint="tf_efficientnet_lite0.in1k")))
    page = report(results, wanted=RunFilter(protocols=["finetune"]))
    words = [svg["aria-label"] or "" for svg in page.all("svg")]
    assert any("Learning curves of tf_efficientnet_lite0.in1k. Chosen: rate 0.001, epoch 3." in one for one in words)
    assert "rate 0.001, epoch 3" in page.text
    assert "This is the head that fine-tuning started from." in page.text


def test_many_checkpoints_are_cut_to_the_best_and_the_floors(tmp_path: Path, make_result: Make) -> None:
    results = []
    for number in range(10):
        result = make_result(checkpoint="tf_efficientnet_lite0.in1k", accuracy=0.5 + number / 100)
        checkpoint = result.spec.checkpoint.model_copy(update={"name": f"model{number}"})
        results.append(result.model_copy(update={"spec": result.spec.model_copy(update={"checkpoint": checkpoint})}))
    for seed, name in enumerate(("bandstats", "resnet18.random", "resnet50.random")):
        results.append(make_result(checkpoint=name, accuracy=0.2 + seed / 10))
    (group,) = groups_of(frame_of(results))
    floors = ["resnet50.random", "resnet18.random", "bandstats"]
    assert [one.name for one in group.shown] == [*(f"model{n}" for n in (9, 8, 7, 6, 5, 4)), *floors]
    assert [one.name for one in group.best] == ["model9", "model8", "model7", "resnet50.random"]
    assert len({(one.style.number, one.style.floor) for one in group.shown}) == len(group.shown)
    titles = [section.title for section in figure_sections(group, [], tmp_path, tmp_path)]
    assert titles == ["Classes", "Choice of the penalty", "Calibration", "Maps of the features"]
    assert [section.is_single for section in figure_sections(group, [], tmp_path, tmp_path)][:2] == [True, True]


def test_confusions_name_the_most_frequent_mistake(tmp_path: Path, make_result: Make) -> None:
    result = make_result()
    names = [one.name for one in result.classes]
    counts = np.diag([50] * len(names))
    counts[2, 4] = 7
    confused = result.model_copy(update={"confusion": tuple(map(tuple, counts.tolist()))})
    (group,) = groups_of(frame_of([confused]))
    (figure,) = next(
        e for e in figure_sections(group, [], tmp_path, tmp_path) if e.title == "Confusion matrices"
    ).figures
    assert f"Most often mistaken: {names[2]} for {names[4]}, 7 times." in figure.words


def test_dots_lie_on_the_axis_of_their_column(results: Path) -> None:
    board = make_leaderboard(frame_of(run for run in read_results(results) if run.fraction == 1))
    column = board.columns[0]
    assert (column.task, column.metric, column.leads) == ("eurosat-v1", "accuracy", True)
    (low, at, high), (worst_low, worst_at, worst_high) = (
        (column.place(lead.low or 0), column.place(lead.value), column.place(lead.high or 0))
        for lead in (row.entries["eurosat-v1"].lead for row in board.rows)
    )
    assert column.ticks == (0.3, 0.35, 0.4, 0.45, 0.5, 0.55)
    assert 0 < worst_low < worst_at < worst_high < low < at < high < 100
    assert column.place(0.425) == 50


def test_published_numbers_stand_beside_what_they_compare_with(results: Path) -> None:
    head = "task,checkpoint,model,method,protocol,split,metric,value,fraction,source,url,note"
    row = "eurosat,tf_efficientnet_lite0.in1k,Lite0,,{},test,accuracy,0.5,1,Some & al.,https://example.org/{},"
    (results / "published.csv").write_text(
        "\n".join((head, row.format("linear", "a"), row.format("other", "b"))) + "\n"
    )
    page = report(results)
    assert "+0.00 over 50.0 published" in page.text
    assert "Published numbers that do not compare 1" in page.text
    assert "50.0 (Some & al.) ; protocol other." in page.text
    links = [link["href"] for link in page.all("a") if (link["href"] or "").startswith("http")]
    assert links == ["https://example.org/a", "https://example.org/b"]


def test_the_command_writes_the_page_and_names_it(results: Path, command: Command) -> None:
    code, out, err = command("report", "--results", results, "--quiet", "--figures", "figures")
    assert (code, err) == (0, "")
    assert out.splitlines() == ["report.html", "9 figure files in figures"]
    assert Path("report.html").is_file()
    assert len(list(Path("figures").iterdir())) == 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--task", "mars"), "error: results of task 'mars' not found; known: eurosat, eurosat-v1."),
        (("--out", "."), "error: . is a directory; name a file with --out."),
        (("--out", "/proc/nowhere/r.html"), "error: /proc/nowhere/r.html cannot be written"),
    ],
)
def test_mistakes_are_one_sentence(results: Path, command: Command, options: tuple[str, ...], message: str) -> None:
    code, out, err = command("report", "--quiet", "--results", results, *options)
    assert (code, out) == (2, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_the_committed_results_make_a_light_page_where_torch_cannot_be_imported(tmp_path: Path) -> None:
    if not (ROOT / "results").is_dir():
        pytest.skip("the repository's results are not here")
    done = subprocess.run(
        [sys.executable, "-m", "ssl4eo_bench", "report", "--results", str(ROOT / "results"), "--quiet"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": without({"torch"}, tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "report.html\n", "")
    assert (tmp_path / "report.html").stat().st_size < 5_000_000
