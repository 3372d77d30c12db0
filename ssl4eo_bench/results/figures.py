"""Figures of results: plain data in, a matplotlib figure out.

Curves differ in colour, marker and dashes, so that no colour has to be told from another. Metrics are fractions and
shown in percent.
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from ssl4eo_bench.config.records import ReliabilityBin
from ssl4eo_bench.config.task import IGNORED
from ssl4eo_bench.metrics.calibration import BINS, wilson
from ssl4eo_bench.results.figure_style import HEAT, INK, MUTED, PAPER, Hover, HoverFigure, SeriesStyle, styled

NO_LABEL: Final = "#c5cad0"
CLASSES: Final = (
    *("#3b78c3", "#e0792b", "#3f9b57", "#cf4b4b", "#8c6bc8", "#9a6a4d", "#dd7fb8", "#8a8a8a", "#b3a62c", "#35a9bd"),
    *("#7fa8de", "#f0b27a", "#8ccf9a", "#ea9a96", "#bfaae0", "#c9a78f", "#7a4a78", "#2f5d50", "#d8cd70", "#5f7a1e"),
)
PERCENT: Final = FuncFormatter(lambda value, _: f"{100 * value:.4g} %")
NUMBERED: Final = 20
"""Classes up to which the cells of a confusion matrix are numbered."""


@dataclass(frozen=True)
class Series:
    """Points that belong together: places `x` and values `y` `[N]`, and their `spread`, drawn to both sides of them.

    `chosen` is the number of the point that was chosen.
    """

    name: str
    style: SeriesStyle
    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float] | None = None
    chosen: int | None = None


@dataclass(frozen=True)
class CostPoint:
    """What a checkpoint costs, in operations of one image, and reaches; `about` is for who points at it.

    Only those in the legend have a style.
    """

    name: str
    style: SeriesStyle | None
    flops: float
    value: float
    low: float
    high: float
    about: str


@styled
def cost_quality(points: Sequence[CostPoint], metric: str) -> HoverFigure:
    """A test metric with its interval against the cost of one image; a line joins those that nothing cheaper beats."""
    named = [Series(one.name, one.style, [one.flops], [one.value]) for one in points if one.style]
    figure = _figure(3.8, 2.9, named)
    axes = figure.subplots()
    front: list[CostPoint] = []
    for one in sorted(points, key=lambda one: (one.flops, -one.value)):
        if not front or one.value > front[-1].value:
            front.append(one)
        look = one.style.points if one.style else {"color": MUTED, "marker": ".", "alpha": 0.5}
        axes.plot([one.flops] * 2, [one.low, one.high], color=look["color"], linewidth=1.2, alpha=0.7)
        axes.plot(one.flops, one.value, linestyle="", **look)
        text = f"{one.name}: {100 * one.value:.2f} % ({100 * one.low:.2f}–{100 * one.high:.2f}), {one.about}"
        figure.hovers.append(Hover(axes, one.flops, one.value, text))
    axes.step(
        [one.flops for one in front], [one.value for one in front], where="post", color=MUTED, linewidth=1, zorder=1
    )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1e9:g}"))
    axes.set_xlabel("GFLOPs of one image")
    _percent(axes, f"{metric} on test")
    return figure


@styled
def label_efficiency(curves: Sequence[Series], metric: str) -> HoverFigure:
    """A test metric against the fraction of the training samples, with the spread over seeds."""
    figure = _figure(3.8, 2.9, curves)
    axes = figure.subplots()
    fractions = sorted({x for curve in curves for x in curve.x})
    for curve in reversed(curves):  # the first are on top
        _line(axes, curve, markers=True)
        _point_out(figure, axes, curve, lambda x: f"{100 * x:g} % of the training samples")
        if curve.spread is not None:
            y, spread = np.asarray(curve.y), np.asarray(curve.spread)
            axes.fill_between(curve.x, y - spread, y + spread, color=curve.style.colour, alpha=0.18, linewidth=0)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(fractions))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(PERCENT)
    axes.set_xlabel("share of the training samples")
    _percent(axes, f"{metric} on test")
    return figure


@styled
def penalties(curves: Sequence[Series], metric: str) -> HoverFigure:
    """A metric on `val` over C, the inverse penalty, with the chosen point of each curve in a ring."""
    figure = _figure(3.8, 2.9, curves)
    axes = figure.subplots()
    for curve in reversed(curves):
        _line(axes, curve)
        _point_out(figure, axes, curve, lambda C: f"C = {C:.2g}")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _power_of_ten(x)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("C (weak penalty to the right)")
    _percent(axes, f"{metric} on val")
    return figure


@styled
def learning(loss: Sequence[Series], val: Sequence[Series], metric: str) -> HoverFigure:
    """Training loss and a metric on `val` by epoch, one line for each learning rate, the chosen epoch in a ring."""
    figure = _figure(6.4, 2.8, val)
    left, right = figure.subplots(1, 2)
    for axes, curves, in_percent in ((left, loss, False), (right, val, True)):
        for curve in curves:
            _line(axes, curve, markers=True)
            _point_out(figure, axes, curve, lambda epoch: f"epoch {epoch:g}", in_percent=in_percent)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("epoch")
    left.set_ylabel("training loss")
    _percent(right, f"{metric} on val")
    return figure


@styled
def class_scores(panels: Mapping[str, Sequence[Series]], classes: Sequence[str], support: Sequence[int]) -> HoverFigure:
    """Metrics of each class, one panel for each metric: `x` are values, `y` are class numbers.

    `support` is how many test samples or pixels each class has.
    """
    names = [f"{_short(name)}  ({count:,})" for name, count in zip(classes, support, strict=True)]
    width = 0.07 * max(map(len, names)) + 1.4 * len(panels)
    figure = _figure(width, 0.8 + 0.27 * len(classes), next(iter(panels.values())))
    row = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    for axes, (metric, series) in zip(row, panels.items(), strict=True):
        for one in reversed(series):
            axes.plot(one.x, one.y, linestyle="", clip_on=False, **one.style.points)
            figure.hovers += [
                Hover(axes, x, y, f"{one.name}, {classes[int(y)]}: {metric} {100 * x:.1f} %")
                for x, y in zip(one.x, one.y, strict=True)
                if np.isfinite(x)
            ]
        axes.set_title(metric)
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.xaxis.set_major_formatter(PERCENT)
        axes.tick_params("y", length=0)
        axes.spines["left"].set_visible(False)
    row[0].set_yticks(range(len(classes)), names)
    row[0].set_ylim(len(classes) - 0.5, -0.5)
    return figure


@styled
def confusion(counts: np.ndarray, classes: Sequence[str]) -> HoverFigure:
    """A confusion matrix `[C, C]` as shares of each true class, in percent; rows are true classes."""
    size = len(classes)
    totals = counts.sum(1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    side = 0.34 * size + 1.9 if size <= NUMBERED else 7.0
    figure = _figure(max(side, 3.6), max(side - 0.1, 3.5))
    axes = figure.subplots()
    for (row, column), share in np.ndenumerate(shares):
        if not counts[row, column]:
            continue
        corner = (column - 0.5, row - 0.5)
        count, total = counts[row, column], totals[row, 0]
        text = f"{classes[row]}, predicted as {classes[column]}: {count:,} of {total:,} ({100 * share:.1f} %)"
        figure.hovers.append(Hover(axes, column, row, text, is_cell=True))
        strength = 0.06 + 0.94 * share
        axes.add_patch(Rectangle(corner, 1, 1, facecolor=HEAT, alpha=strength, linewidth=0))
        if size <= NUMBERED:
            colour = PAPER if strength > 0.65 else INK  # where both have the same contrast, in light and in dark
            axes.text(column, row, _cell(share), ha="center", va="center", fontsize=8, color=colour)
    names = [_short(name, 24) for name in classes]
    axes.set_xticks(range(size), names, rotation=90)
    axes.set_yticks(range(size), names)
    axes.set_xlim(-0.5, size - 0.5)
    axes.set_ylim(size - 0.5, -0.5)
    axes.set_aspect("equal")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true, 100 % each row")
    return figure


@styled
def calibration(bins: Sequence[ReliabilityBin], style: SeriesStyle) -> HoverFigure:
    """A reliability diagram: the share that was right in each bin of confidence, with its 95 % interval."""
    figure = _figure(2.9, 3.3)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    confidence, count = np.array([one.confidence for one in bins]), np.array([one.count for one in bins])
    correct = np.array([one.correct for one in bins])
    share, (low, high) = correct / count, wilson(correct, count)
    upper.plot((0, 1), (0, 1), ":", color=MUTED, linewidth=1)
    upper.vlines(confidence, low, high, color=style.colour, linewidth=1.2)
    upper.plot(confidence, share, linestyle="", **style.points)
    figure.hovers += [
        Hover(
            upper,
            one.confidence,
            of_bin,
            f"confidence {100 * one.confidence:.1f} %: {one.correct:,} of {one.count:,} right, {100 * of_bin:.1f} % "
            f"({100 * lowest:.1f}–{100 * highest:.1f})",
        )
        for one, of_bin, lowest, highest in zip(bins, share, low, high, strict=True)
    ]
    middles = [(one.bin + 0.5) / BINS for one in bins]
    lower.bar(middles, count / count.sum(), width=0.9 / BINS, color=style.colour, alpha=0.6)
    upper.set_xlim(0, 1)
    upper.set_ylim(-0.02, 1.02)
    _percent(upper, "share that was right")
    _percent(lower, "of all")
    lower.xaxis.set_major_formatter(PERCENT)
    lower.set_xlabel("confidence")
    return figure


@styled
def embedding(points: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> HoverFigure:
    """A map of features: points `[N, 2]` in the colours of their class numbers `[N]`, grey for other numbers."""
    figure = _figure(4.3, 3.6 + 0.09 * len(classes))
    axes = figure.subplots()
    drawn: dict[str, Any] = {"s": 9, "linewidths": 0, "rasterized": True}  # as points they would take megabytes
    others = ~np.isin(labels, range(len(classes)))
    axes.scatter(*points[others].T, color=MUTED, alpha=0.25, **drawn)
    coloured = np.flatnonzero(~others)
    order = np.random.default_rng(0).permutation(coloured)  # else the last class hides the others
    axes.scatter(*points[order].T, color=[_class_colour(label) for label in labels[order]], alpha=0.6, **drawn)
    for number in np.unique(labels[coloured]):
        x, y = np.median(points[labels == number], axis=0)
        box = {"boxstyle": "circle,pad=0.15", "facecolor": PAPER, "edgecolor": _class_colour(number), "linewidth": 1}
        axes.text(x, y, str(number + 1), ha="center", va="center", fontsize=7, bbox=box)
    handles = [Patch(color=_class_colour(number)) for number in range(len(classes))]
    names = [f"{number + 1}  {_short(name, 24)}" for number, name in enumerate(classes)]
    figure.legend(handles, names, loc="outside lower left", ncols=2)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel("first principal component")
    axes.set_ylabel("second")
    return figure


@styled
def label_maps(
    ids: Sequence[str], rgb: np.ndarray, truth: np.ndarray, predicted: np.ndarray, classes: Sequence[str]
) -> HoverFigure:
    """K tiles beside their true and predicted label maps.

    The tiles are `[K, S, S, 3]` bytes, the maps class numbers `[K, S, S]`, `IGNORED` where a pixel has none.
    """
    figure = _figure(4.3, 1.55 * len(ids) + 0.4)
    grid = figure.subplots(len(ids), 3, squeeze=False)
    for row, name, *pictures in zip(grid, ids, rgb, _coloured(truth), _coloured(predicted), strict=True):
        for axes, picture in zip(row, pictures, strict=True):
            axes.imshow(picture, interpolation="nearest")
            axes.set_axis_off()
        row[0].set_title(_short(str(name), 30), fontsize=7, color=MUTED)
    for axes, title in zip(grid[0][1:], ("labels", "prediction"), strict=True):
        axes.set_title(title)
    seen = [number for number in range(len(classes)) if (truth == number).any() or (predicted == number).any()]
    handles: list[Artist] = [Patch(color=_class_colour(number)) for number in seen]
    names = [_short(classes[number], 24) for number in seen]
    if (truth == IGNORED).any():
        handles.append(Patch(color=NO_LABEL))
        names.append("no label")
    figure.legend(handles, names, loc="outside lower left", ncols=2)
    return figure


def _figure(width: float, height: float, series: Sequence[Series] = ()) -> HoverFigure:
    """An empty figure, in inches, with a legend of the series below it."""
    columns = 1 if any(len(one.name) > 30 for one in series) else 2
    rows = -(-len(series) // columns)
    figure = HoverFigure(figsize=(width, height + 0.18 * rows), layout="constrained")
    if series:
        handles = [Line2D([], [], linestyle=one.style.dashes, **one.style.points) for one in series]
        figure.legend(handles, [one.name for one in series], loc="outside lower left", ncols=columns)
    return figure


def _line(axes: Axes, series: Series, *, markers: bool = False) -> None:
    style = series.style
    axes.plot(series.x, series.y, linestyle=style.dashes, **style.points | ({} if markers else {"marker": ""}))
    if series.chosen is not None:
        x, y = series.x[series.chosen], series.y[series.chosen]
        if not markers:
            axes.plot(x, y, linestyle="", **style.points)
        axes.plot(x, y, "o", markersize=11, markerfacecolor="none", markeredgecolor=style.colour)


def _point_out(
    figure: HoverFigure, axes: Axes, series: Series, place: Callable[[float], str], *, in_percent: bool = True
) -> None:
    """Give each point of a series a text: its name, its place in words, its value and spread."""
    spreads = series.spread or [0.0] * len(series.x)
    for x, y, spread in zip(series.x, series.y, spreads, strict=True):
        around = f" ± {100 * spread:.2f}" if spread else ""
        value = f"{100 * y:.2f}{around} %" if in_percent else f"{y:.4g}"
        figure.hovers.append(Hover(axes, x, y, f"{series.name}, {place(x)}: {value}"))


def _percent(axes: Axes, label: str) -> None:
    axes.yaxis.set_major_formatter(PERCENT)
    axes.set_ylabel(label)


def _power_of_ten(value: float) -> str:
    return "10" + f"{np.log10(value):.0f}".translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _cell(share: float) -> str:
    rounded = f"{100 * share:.0f}"
    return "" if rounded == "0" else rounded


def _short(name: str, width: int = 38) -> str:
    short = textwrap.shorten(name, width, placeholder=" …")
    return short if short != "…" else name[: width - 1] + "…"


def _class_colour(number: int) -> str:
    return CLASSES[number % len(CLASSES)]


def _coloured(maps: np.ndarray) -> np.ndarray:
    """Label maps `[K, S, S]` as pictures `[K, S, S, 3]` in [0, 1]."""
    table = np.array([to_rgb(_class_colour(number)) for number in range(IGNORED)] + [to_rgb(NO_LABEL)])
    pictures: np.ndarray = table[np.clip(maps, 0, IGNORED)]
    return pictures
