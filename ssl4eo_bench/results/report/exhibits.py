"""The figures of a task and protocol: which there are, what they say in words, and how they are drawn."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
from matplotlib.figure import Figure

from ssl4eo_bench.metrics.calibration import reliability
from ssl4eo_bench.results import figures
from ssl4eo_bench.results.figures import Look, Series
from ssl4eo_bench.results.files import RunResult
from ssl4eo_bench.results.report.collect import Group, Shown, fraction, main_value
from ssl4eo_bench.results.scores import kept_arrays, stored_scores

Arrays = Mapping[str, np.ndarray]
EMPTY = np.empty(0)


@dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes:
        name: for its file, unique within its task and protocol.
        caption: below it.
        words: what it shows, for those who do not see it.
        draw: makes it.
    """

    name: str
    caption: str
    words: str
    draw: Callable[[], Figure]


@dataclass(frozen=True)
class Exhibit:
    """Figures of one kind, with what they show and how to read it; without figures, a note on why there are none."""

    title: str
    note: str
    pictures: tuple[Picture, ...] = ()


def exhibits(group: Group, cache_dir: Path) -> list[Exhibit]:
    """What there is to show of a group.

    Args:
        group: whose.
        cache_dir: where the scores of single samples are kept.
    """
    scores = {one.name: _kept(cache_dir, one.run) for one in group.shown}
    found = (
        _label_efficiency(group),
        _class_scores(group),
        _penalties(group),
        _calibration(group, scores),
        _learning(group),
        _confusions(group),
        _embeddings(group, scores),
        _label_maps(group, scores),
    )
    return [exhibit for exhibit in found if exhibit]


def _kept(cache_dir: Path, result: RunResult) -> Arrays:
    """What is kept of each test sample of a run; nothing where it is not there, damaged, or not of this result."""
    try:
        arrays = kept_arrays(result, cache_dir)
        stored_scores(arrays, result)
    except ValueError:
        return {}
    if arrays.get("embedding", EMPTY).shape != (len(arrays["ids"]), 2):
        arrays.pop("embedding", None)
    return arrays


def _label_efficiency(group: Group) -> Exhibit | None:
    curves = []
    for one in group.shown:
        by_fraction: dict[float, list[float]] = {}
        for run in one.runs:
            by_fraction.setdefault(fraction(run), []).append(main_value(run).value)
        if len(by_fraction) > 1:
            means = [fmean(values) for values in by_fraction.values()]
            spread = [stdev(values) if len(values) > 1 else 0.0 for values in by_fraction.values()]
            curves.append(Series(one.name, one.look, tuple(by_fraction), means, spread))
    if not curves:
        return None
    words = "; ".join(
        f"{curve.name}: "
        + ", ".join(f"{100 * y:.1f} % at {100 * x:g} %" for x, y in zip(curve.x, curve.y, strict=True))
        for curve in curves
    )
    picture = Picture(
        "label-efficiency",
        "",
        f"{group.metric} on test against the share of the training samples. {words}.",
        partial(figures.label_efficiency, curves, group.metric),
    )
    return Exhibit(
        "Label efficiency",
        f"Test {group.metric} by share of the training samples: mean over seeds; the band is one standard deviation to "
        "both sides.",
        (picture,),
    )


def _class_scores(group: Group) -> Exhibit:
    first = group.shown[0].run
    metrics = {"F1": "f1", "AP": "average_precision"}
    if first.spec.task.kind == "segmentation":
        metrics = {"IoU": "iou", **metrics}
    classes, support = [c.name for c in first.classes], [c.support for c in first.classes]
    panels = {
        title: [_dots(one, metric) for one in group.shown if len(one.run.classes) == len(classes)]
        for title, metric in metrics.items()
    }
    hardest = sorted(first.classes, key=lambda c: c.f1)[:3]
    words = ", ".join(f"{c.name} {100 * c.f1:.1f} %" for c in hardest)
    picture = Picture(
        "classes",
        "",
        f"Metrics of each class of {len(classes)}. The lowest F1 of {group.shown[0].name}: {words}.",
        partial(figures.class_scores, panels, classes, support),
    )
    unit = "pixels" if first.spec.task.kind == "segmentation" else "samples"
    note = (
        f"{', '.join(panels)} on test (AP is average precision); behind each name, how many {unit} the class has. "
        f"{_one_run(group)}"
    )
    return Exhibit("Classes", note, (picture,))


def _dots(one: Shown, metric: str) -> Series:
    values = [getattr(c, metric) for c in one.run.classes]
    return Series(one.name, one.look, [np.nan if value is None else value for value in values], range(len(values)))


def _confusions(group: Group) -> Exhibit | None:
    pictures = []
    for one in group.some:
        if one.run.confusion is None:
            continue
        counts, classes = np.array(one.run.confusion), [c.name for c in one.run.classes]
        wrong = counts - np.diag(np.diag(counts))
        row, column = np.unravel_index(wrong.argmax(), wrong.shape)
        worst = f"Most often mistaken: {classes[row]} for {classes[column]}, {wrong[row, column]:,} times."
        words = f"Confusion matrix of {one.name}. {worst if wrong.any() else 'Nothing is mistaken.'}"
        draw = partial(figures.confusion, counts, classes)
        pictures.append(Picture(f"confusion.{one.name}", one.name, words, draw))
    note = f"Of each true class (row), the percentage that was predicted as each class (column). {_one_run(group)}"
    return Exhibit("Confusion matrices", note, tuple(pictures)) if pictures else None


def _penalties(group: Group) -> Exhibit | None:
    curves = [_path(one) for one in group.shown if one.run.selection.path]
    if not curves:
        return None
    chosen = ", ".join(f"{one.name} C = {one.run.selection.C:.2g}" for one in group.shown if one.run.selection.path)
    picture = Picture(
        "penalties",
        "",
        f"{group.metric} on val over C. Chosen: {chosen}.",
        partial(figures.penalties, curves, group.metric),
    )
    start = " This is the head that fine-tuning started from." if group.shown[0].run.selection.history else ""
    return Exhibit(
        "Choice of the penalty",
        f"Validation {group.metric} over the path of C; the chosen C is in a ring.{start} A ring at the edge of the "
        f"grid would mean that a better C may lie outside. {_one_run(group)}",
        (picture,),
    )


def _path(one: Shown) -> Series:
    path, C = one.run.selection.path, one.run.selection.C
    chosen = next((number for number, point in enumerate(path) if point.C == C), None)
    return Series(one.name, one.look, [p.C for p in path], [p.val for p in path], chosen=chosen)


def _learning(group: Group) -> Exhibit | None:
    pictures = []
    for one in group.some:
        if not (history := one.run.selection.history):
            continue
        selection, loss, val = one.run.selection, [], []
        for number, rate in enumerate(dict.fromkeys(epoch.rate for epoch in history)):
            of_rate = [epoch for epoch in history if epoch.rate == rate]
            epochs = [epoch.epoch for epoch in of_rate]
            chosen = epochs.index(selection.epoch) if rate == selection.rate and selection.epoch in epochs else None
            name = f"rate {rate:g}"
            loss.append(Series(name, Look(number), epochs, [epoch.loss for epoch in of_rate]))
            val.append(Series(name, Look(number), epochs, [epoch.val for epoch in of_rate], chosen=chosen))
        words = f"Learning curves of {one.name}. Chosen: rate {selection.rate:g}, epoch {selection.epoch}."
        draw = partial(figures.learning, loss, val, group.metric)
        pictures.append(Picture(f"learning.{one.name}", one.name, words, draw))
    note = f"Training loss and validation {group.metric}; the chosen epoch and rate are in a ring. {_one_run(group)}"
    return Exhibit("Learning curves", note, tuple(pictures)) if pictures else None


def _calibration(group: Group, scores: Mapping[str, Arrays]) -> Exhibit | None:
    if group.runs[0].spec.task.kind == "segmentation":
        return None  # the scores of single pixels are not kept
    curves, shares = [], []
    for one, arrays in _with(group.shown, scores, "scores", "targets"):
        found = reliability(arrays["scores"], arrays["targets"])
        name = f"{one.name}, ECE {100 * one.run.metrics['test']['ece'].value:.1f} %"
        curves.append(Series(name, one.look, found.confidence.tolist(), found.correct.tolist()))
        shares.append(Series(name, one.look, found.confidence.tolist(), found.share.tolist()))
    if not curves:
        return Exhibit("Calibration", _not_kept("scores of single samples"))
    picture = Picture(
        "calibration",
        "",
        f"Reliability diagram, with the expected calibration error: {'; '.join(one.name for one in curves)}.",
        partial(figures.calibration, curves, shares),
    )
    of = "the top class" if group.runs[0].spec.task.kind == "multiclass" else "all pairs of sample and class"
    note = (
        f"Where a probe says 80 %, is it right four times out of five? Predictions of {of} in 15 bins of confidence; "
        f"on the dotted line, confidence is deserved. ECE is the expected calibration error. {_one_run(group)}"
    )
    return Exhibit("Calibration", note, (picture,))


def _embeddings(group: Group, scores: Mapping[str, Arrays]) -> Exhibit | None:
    if group.runs[0].spec.task.kind == "segmentation":
        return None
    pictures = []
    for one, arrays in _with(group.some, scores, "embedding", "targets"):
        classes = [c.name for c in one.run.classes]
        draw = partial(figures.embedding, arrays["embedding"], _single(arrays["targets"]), classes)
        words = f"Map of the test features of {one.name}, coloured by class."
        pictures.append(Picture(f"embedding.{one.name}", one.name, words, draw))
    if not pictures:
        return Exhibit("Maps of the features", _not_kept("places of single samples"))
    grey = " Samples with one label have its colour, others are grey."
    note = (
        "Test features on their first two principal components. What overlaps here may still be apart in the other "
        f"dimensions, where the probe works.{grey if group.runs[0].spec.task.kind == 'multilabel' else ''} "
        f"{_one_run(group)}"
    )
    return Exhibit("Maps of the features", note, tuple(pictures))


def _single(targets: np.ndarray) -> np.ndarray:
    """The class of each sample, -1 for those with several or none."""
    if targets.ndim == 1:
        return targets
    classes: np.ndarray = np.where(targets.sum(1) == 1, targets.argmax(1), -1)
    return classes


def _label_maps(group: Group, scores: Mapping[str, Arrays]) -> Exhibit | None:
    needed = ("examples", "examples_rgb", "examples_truth", "examples_predicted")
    pictures = []
    for one, arrays in _with(group.some, scores, *needed):
        classes = [c.name for c in one.run.classes]
        ids, rgb, truth, predicted = (arrays[name] for name in needed)
        words = f"{len(ids)} test tiles with their labels and what {one.name} predicts."
        draw = partial(figures.label_maps, ids.tolist(), rgb, truth, predicted, classes)
        pictures.append(Picture(f"label-maps.{one.name}", one.name, words, draw))
    if pictures:
        note = f"Test tiles, their labels, and what was predicted. {_one_run(group)}"
        return Exhibit("Label maps", note, tuple(pictures))
    return Exhibit("Label maps", _not_kept("examples")) if group.runs[0].spec.task.kind == "segmentation" else None


def _with(shown: Sequence[Shown], scores: Mapping[str, Arrays], *names: str) -> Iterator[tuple[Shown, Arrays]]:
    """Those whose arrays are there."""
    return ((one, scores[one.name]) for one in shown if set(names) <= set(scores[one.name]))


def _not_kept(what: str) -> str:
    return f"left out, since the cache holds no {what} of these runs"


def _one_run(group: Group) -> str:
    """Which runs these figures are of."""
    seeds = sorted({one.run.spec.seed for one in group.shown})
    fractions = sorted({fraction(one.run) for one in group.shown})
    seed = f"seed {seeds[0]}" if len(seeds) == 1 else "the first seed"
    share = "all training samples" if fractions == [1.0] else "the most training samples there are"
    return f"Of the runs with {seed} on {share}."
