"""The figures of a task and protocol: which there are, what they say in words, and how they are drawn."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ssl4eo_bench.config.records import FigureData
from ssl4eo_bench.errors import ResultFileError
from ssl4eo_bench.results import figures
from ssl4eo_bench.results.figure_data import figure_data, read_figure_data
from ssl4eo_bench.results.figure_style import HoverFigure, SeriesStyle
from ssl4eo_bench.results.figures import CostPoint, Series
from ssl4eo_bench.results.files import RunResult
from ssl4eo_bench.results.leaderboard import Entry
from ssl4eo_bench.results.markdown import cost_text
from ssl4eo_bench.results.report.groups import RunGroup, ShownCheckpoint
from ssl4eo_bench.results.scores import kept_arrays, stored_scores

Arrays = Mapping[str, np.ndarray]
Data = Mapping[str, FigureData]
EMPTY = np.empty(0)

MOST_POINTS = 200
"""Of a plot of cost and quality: the best checkpoints."""


@dataclass(frozen=True)
class ReportFigure:
    """A figure of the report; its name is unique within its task and protocol.

    `words` are what it shows, for those who do not see it. The caption stands above it.
    """

    name: str
    words: str
    draw: Callable[[], HoverFigure]
    caption: str = ""


@dataclass(frozen=True)
class FigureSection:
    """Figures of one kind, with what they show and how to read it; without figures, a note on why there are none.

    `narrowest` is the width of a figure, in letters' heights, from which on several stand side by side.
    """

    title: str
    note: str
    figures: tuple[ReportFigure, ...] = ()
    narrowest: int = 29

    @property
    def is_single(self) -> bool:
        """Whether there is one figure."""
        return len(self.figures) == 1


def figure_sections(group: RunGroup, entries: Sequence[Entry], results: Path, cache_dir: Path) -> list[FigureSection]:
    """The figures of a group of runs, single ones first; `entries` are those of the leaderboard.

    Their data is in the results directory, or else in the cache.
    """
    data = {one.name: _data(one.run, results, cache_dir) for one in group.shown}
    found = (
        _cost_quality(group, entries),
        _label_efficiency(group),
        _class_scores(group),
        _penalties(group),
        _learning(group),
        _confusions(group),
        _calibration(group, data),
        _embeddings(group, data),
        _label_maps(group, cache_dir),
    )
    return sorted(filter(None, found), key=lambda section: not section.is_single)


def _data(result: RunResult, results: Path, cache_dir: Path) -> FigureData:
    """The figure data of a result: from the file beside it, or made from what the cache holds of the run."""
    with suppress(ResultFileError):  # `check` tells what is wrong with it
        if found := read_figure_data(results, result.digest, result.checksum):
            return found
    with suppress(ValueError):  # of scores that are no probabilities
        return figure_data(_kept(cache_dir, result)) or FigureData()
    return FigureData()


def _kept(cache_dir: Path, result: RunResult) -> Arrays:
    """What is kept of each test sample of a run; nothing where it is not there, damaged, or not of this result."""
    try:
        arrays = kept_arrays(result, cache_dir)
        stored_scores(arrays, result)
    except ValueError:
        return {}
    places = arrays.get("embedding", EMPTY)
    if places.shape != (len(arrays["ids"]), 2) or not np.isfinite(places).all():
        arrays.pop("embedding", None)
    return arrays


def _cost_quality(group: RunGroup, entries: Sequence[Entry]) -> FigureSection | None:
    styles = {one.name: one.style for one in group.shown}
    priced = sorted((entry for entry in entries if entry.cost and entry.cost.flops), key=lambda one: -one.lead.value)
    found = [_cost_point(entry, styles.get(entry.spec.checkpoint.name)) for entry in priced[:MOST_POINTS]]
    if len(found) < 2:
        return None
    words = "; ".join(f"{one.name}: {100 * one.value:.1f} % at {one.flops / 1e9:.3g} GFLOPs" for one in found[:20])
    figure = ReportFigure(
        "cost-quality",
        f"{group.metric} on test against GFLOPs of one image. {words}.",
        partial(figures.cost_quality, found, group.metric),
    )
    without = len(entries) - len(priced)
    note = (
        f"Test {group.metric} with its 95 % interval against the computation of one image. The line joins what nothing "
        f"cheaper reaches.{f' Not shown: {without} whose cost is not known.' if without else ''}"
    )
    return FigureSection("Cost and quality", note, (figure,))


def _cost_point(entry: Entry, style: SeriesStyle | None) -> CostPoint:
    assert entry.cost
    lead, flops = entry.lead, float(entry.cost.flops or 0)
    low, high = lead.value if lead.low is None else lead.low, lead.value if lead.high is None else lead.high
    about = cost_text(entry.cost, entry.images_per_second)
    return CostPoint(entry.spec.checkpoint.name, style, flops, lead.value, low, high, about)


def _label_efficiency(group: RunGroup) -> FigureSection | None:
    by_fraction = (
        group.frame.groupby(["checkpoint", "fraction"])[group.runs[0].main_metric].agg(["mean", "std"]).fillna(0.0)
    )
    curves = []
    for one in group.shown:
        points = by_fraction.loc[one.name]
        if len(points) > 1:
            x, mean, spread = points.index.tolist(), points["mean"].tolist(), points["std"].tolist()
            curves.append(Series(one.name, one.style, x, mean, spread))
    if not curves:
        return None
    words = "; ".join(
        f"{curve.name}: "
        + ", ".join(f"{100 * y:.1f} % at {100 * x:g} %" for x, y in zip(curve.x, curve.y, strict=True))
        for curve in curves
    )
    figure = ReportFigure(
        "label-efficiency",
        f"{group.metric} on test against the share of the training samples. {words}.",
        partial(figures.label_efficiency, curves, group.metric),
    )
    note = (
        f"Test {group.metric} by share of the training samples: mean over seeds; the band is one standard deviation to "
        "both sides."
    )
    return FigureSection("Label efficiency", note, (figure,))


def _class_scores(group: RunGroup) -> FigureSection:
    first, is_map = group.shown[0], group.kind == "segmentation"
    metrics = ({"IoU": "iou"} if is_map else {}) | {"F1": "f1", "AP": "average_precision"}
    classes, support = [c.name for c in first.run.classes], [c.support for c in first.run.classes]
    panels = {
        title: [_dots(one, metric) for one in group.shown if len(one.run.classes) == len(classes)]
        for title, metric in metrics.items()
    }
    hardest = sorted(first.run.classes, key=lambda c: c.f1)[:3]
    words = ", ".join(f"{c.name} {100 * c.f1:.1f} %" for c in hardest)
    figure = ReportFigure(
        "classes",
        f"Metrics of each class of {len(classes)}. The lowest F1 of {first.name}: {words}.",
        partial(figures.class_scores, panels, classes, support),
    )
    note = (
        f"{', '.join(panels)} on test (AP is average precision); behind each name, how many "
        f"{'pixels' if is_map else 'samples'} the class has. {_which_runs(group)}"
    )
    return FigureSection("Classes", note, (figure,))


def _dots(one: ShownCheckpoint, metric: str) -> Series:
    values = [getattr(c, metric) for c in one.run.classes]
    return Series(one.name, one.style, [np.nan if value is None else value for value in values], range(len(values)))


def _confusions(group: RunGroup) -> FigureSection | None:
    found = []
    for one in group.best:
        if one.run.confusion is None:
            continue
        counts, classes = np.array(one.run.confusion), [c.name for c in one.run.classes]
        wrong = counts - np.diag(np.diag(counts))
        row, column = np.unravel_index(wrong.argmax(), wrong.shape)
        worst = f"Most often mistaken: {classes[row]} for {classes[column]}, {wrong[row, column]:,} times."
        words = f"Confusion matrix of {one.name}. {worst if wrong.any() else 'Nothing is mistaken.'}"
        draw = partial(figures.confusion, counts, classes)
        found.append(ReportFigure(f"confusion.{one.name}", words, draw, one.name))
    note = f"Of each true class (row), the percentage that was predicted as each class (column). {_which_runs(group)}"
    return FigureSection("Confusion matrices", note, tuple(found)) if found else None


def _penalties(group: RunGroup) -> FigureSection | None:
    fitted = [one for one in group.shown if one.run.selection.path]
    if not fitted:
        return None
    chosen = ", ".join(f"{one.name} C = {one.run.selection.C:.2g}" for one in fitted)
    figure = ReportFigure(
        "penalties",
        f"{group.metric} on val over C. Chosen: {chosen}.",
        partial(figures.penalties, [_path(one) for one in fitted], group.metric),
    )
    start = " This is the head that fine-tuning started from." if group.shown[0].run.selection.history else ""
    note = (
        f"Validation {group.metric} over the path of C; the chosen C is in a ring.{start} A ring at the edge of the "
        f"grid would mean that a better C may lie outside. {_which_runs(group)}"
    )
    return FigureSection("Choice of the penalty", note, (figure,))


def _path(one: ShownCheckpoint) -> Series:
    path, C = one.run.selection.path, one.run.selection.C
    chosen = next((number for number, point in enumerate(path) if point.C == C), None)
    return Series(one.name, one.style, [p.C for p in path], [p.val for p in path], chosen=chosen)


def _learning(group: RunGroup) -> FigureSection | None:
    found = []
    for one in group.best:
        selection, loss, val = one.run.selection, [], []
        for number, rate in enumerate(dict.fromkeys(epoch.rate for epoch in selection.history or ())):
            of_rate = [epoch for epoch in selection.history or () if epoch.rate == rate]
            epochs = [epoch.epoch for epoch in of_rate]
            chosen = epochs.index(selection.epoch) if rate == selection.rate and selection.epoch in epochs else None
            name, style = f"rate {rate:g}", SeriesStyle(number)
            loss.append(Series(name, style, epochs, [epoch.loss for epoch in of_rate]))
            val.append(Series(name, style, epochs, [epoch.val for epoch in of_rate], chosen=chosen))
        if val:
            words = f"Learning curves of {one.name}. Chosen: rate {selection.rate:g}, epoch {selection.epoch}."
            draw = partial(figures.learning, loss, val, group.metric)
            found.append(ReportFigure(f"learning.{one.name}", words, draw, one.name))
    note = f"Training loss and validation {group.metric}; the chosen epoch and rate are in a ring. {_which_runs(group)}"
    return FigureSection("Learning curves", note, tuple(found)) if found else None


def _calibration(group: RunGroup, data: Data) -> FigureSection | None:
    if group.kind == "segmentation":
        return None  # the scores of single pixels are not kept
    found = []
    for one in (one for one in group.shown if data[one.name].reliability):
        name = f"{one.name}, ECE {100 * one.run.metrics['test']['ece'].value:.1f} %"
        words = f"Reliability diagram, with the expected calibration error: {name}."
        draw = partial(figures.calibration, data[one.name].reliability, one.style)
        found.append(ReportFigure(f"calibration.{one.name}", words, draw, name))
    if not found:
        return FigureSection("Calibration", _not_kept("scores of single samples"))
    of = "the top class" if group.kind == "multiclass" else "all pairs of sample and class"
    note = (
        f"Where a probe says 80 %, is it right four times out of five? Predictions of {of} in 15 bins of confidence; "
        "on the dotted line, confidence is deserved. Lines are 95 % intervals (Wilson's), as if predictions were "
        "independent; bars are the share of all predictions in each bin. ECE is the expected calibration error. "
        f"{_which_runs(group)}"
    )
    return FigureSection("Calibration", note, tuple(found), narrowest=15)


def _embeddings(group: RunGroup, data: Data) -> FigureSection | None:
    if group.kind == "segmentation":
        return None
    found = []
    for one in (one for one in group.best if data[one.name].places):
        classes, points = [c.name for c in one.run.classes], data[one.name].points
        draw = partial(figures.embedding, points[:, :2], points[:, 2], classes)
        words = f"Map of {len(points):,} test features of {one.name}, coloured by class."
        found.append(ReportFigure(f"embedding.{one.name}", words, draw, one.name))
    if not found:
        return FigureSection("Maps of the features", _not_kept("places of single samples"))
    grey = " Samples with one label have its colour, others are grey." if group.kind == "multilabel" else ""
    note = (
        "Test features on their first two principal components, of 1,000 samples at most. What overlaps here may still "
        f"be apart in the other dimensions, where the probe works.{grey} {_which_runs(group)}"
    )
    return FigureSection("Maps of the features", note, tuple(found), narrowest=20)


def _label_maps(group: RunGroup, cache_dir: Path) -> FigureSection | None:
    if group.kind != "segmentation":
        return None
    needed = ("examples", "examples_rgb", "examples_truth", "examples_predicted")
    found = []
    for one in group.best:
        arrays = _kept(cache_dir, one.run)
        if not set(needed) <= set(arrays):
            continue
        classes = [c.name for c in one.run.classes]
        ids, rgb, truth, predicted = (arrays[name] for name in needed)
        words = f"{len(ids)} test tiles with their labels and what {one.name} predicts."
        draw = partial(figures.label_maps, ids.tolist(), rgb, truth, predicted, classes)
        found.append(ReportFigure(f"label-maps.{one.name}", words, draw, one.name))
    note = f"Test tiles, their labels, and what was predicted. {_which_runs(group)}" if found else _not_kept("examples")
    return FigureSection("Label maps", note, tuple(found), narrowest=20)


def _not_kept(what: str) -> str:
    return f"left out, since neither the results nor the cache hold {what} of these runs"


def _which_runs(group: RunGroup) -> str:
    """Which runs these figures are of."""
    seeds = sorted({one.run.spec.seed for one in group.shown})
    seed = f"seed {seeds[0]}" if len(seeds) == 1 else "the first seed"
    whole = {one.run.fraction for one in group.shown} == {1.0}
    return f"Of the runs with {seed} on {'all training samples' if whole else 'the most training samples there are'}."
