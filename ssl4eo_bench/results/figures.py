"""Figures of results: plain data in, a matplotlib figure out.

Curves differ in colour, marker and dashes, so that no colour has to be told from another. Metrics are fractions and
shown in percent.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from ssl4eo_bench.config.task import IGNORED
from ssl4eo_bench.results.figure_style import HEAT, INK, MUTED, PAPER, SeriesStyle, styled

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
    """Points that belong together.

    Attributes:
        name: for the legend.
        style: of line and points.
        x: places `[N]`.
        y: values `[N]`.
        spread: of the values `[N]`, drawn to both sides of them.
        chosen: number of the point that was chosen.
    """

    name: str
    style: SeriesStyle
    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float] | None = None
    chosen: int | None = None


@styled
def label_efficiency(curves: Sequence[Series], metric: str) -> Figure:
    """A test metric against the fraction of the training samples, with the spread over seeds."""
    figure = _figure(4.3, 3.0, curves)
    axes = figure.subplots()
    fractions = sorted({x for curve in curves for x in curve.x})
    for curve in reversed(curves):  # the first are on top
        _line(axes, curve, markers=True)
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
def penalties(curves: Sequence[Series], metric: str) -> Figure:
    """A metric on `val` over C, the inverse penalty, with the chosen point of each curve in a ring."""
    figure = _figure(4.3, 3.0, curves)
    axes = figure.subplots()
    for curve in reversed(curves):
        _line(axes, curve)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _power_of_ten(x)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("C (weak penalty to the right)")
    _percent(axes, f"{metric} on val")
    return figure


@styled
def learning(loss: Sequence[Series], val: Sequence[Series], metric: str) -> Figure:
    """Training loss and a metric on `val` by epoch, one line for each learning rate, the chosen epoch in a ring."""
    figure = _figure(6.4, 2.8, val)
    left, right = figure.subplots(1, 2)
    for axes, curves in ((left, loss), (right, val)):
        for curve in curves:
            _line(axes, curve, markers=True)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("epoch")
    left.set_ylabel("training loss")
    _percent(right, f"{metric} on val")
    return figure


@styled
def class_scores(panels: Mapping[str, Sequence[Series]], classes: Sequence[str], support: Sequence[int]) -> Figure:
    """Metrics of each class, one panel for each metric.

    Args:
        panels: by metric; `x` are values, `y` are class numbers.
        classes: their names.
        support: test samples or pixels of each.
    """
    names = [f"{_short(name)}  ({count:,})" for name, count in zip(classes, support, strict=True)]
    width = 0.07 * max(map(len, names)) + 1.4 * len(panels)
    figure = _figure(width, 0.8 + 0.27 * len(classes), next(iter(panels.values())))
    row = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    for axes, (metric, series) in zip(row, panels.items(), strict=True):
        for one in reversed(series):
            axes.plot(one.x, one.y, linestyle="", clip_on=False, **one.style.points)
        axes.set_title(metric)
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.xaxis.set_major_formatter(PERCENT)
        axes.tick_params("y", length=0)
        axes.spines["left"].set_visible(False)
    row[0].set_yticks(range(len(classes)), names)
    row[0].set_ylim(len(classes) - 0.5, -0.5)
    return figure


@styled
def confusion(counts: np.ndarray, classes: Sequence[str]) -> Figure:
    """A confusion matrix as shares of each true class, in percent.

    Args:
        counts: `[C, C]`, rows are true classes.
        classes: their names.
    """
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
def calibration(curves: Sequence[Series], shares: Sequence[Series]) -> Figure:
    """A reliability diagram.

    Args:
        curves: share that was right against mean confidence, by bin.
        shares: of all predictions in each bin, at the same places.
    """
    figure = _figure(4.3, 4.6, curves)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot((0, 1), (0, 1), ":", color=MUTED, linewidth=1)
    for curve, share in zip(curves, shares, strict=True):
        _line(upper, curve, markers=True)
        _line(lower, share, markers=True)
    upper.set_xlim(0, 1)
    upper.set_ylim(-0.02, 1.02)
    _percent(upper, "share that was right")
    _percent(lower, "of all")
    lower.set_ylim(bottom=0)
    lower.xaxis.set_major_formatter(PERCENT)
    lower.set_xlabel("confidence")
    return figure


@styled
def embedding(points: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> Figure:
    """A map of features.

    Args:
        points: `[N, 2]`.
        labels: class numbers `[N]`; samples with another number are grey.
        classes: their names.
    """
    figure = _figure(4.3, 3.6 + 0.09 * len(classes))
    axes = figure.subplots()
    drawn: dict[str, Any] = {"s": 5, "linewidths": 0, "rasterized": True}  # as points they would take megabytes
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
) -> Figure:
    """Tiles beside their true and predicted label maps.

    Args:
        ids: of the tiles `[K]`.
        rgb: what they look like, `[K, S, S, 3]` bytes.
        truth: class numbers `[K, S, S]`, `IGNORED` where a pixel has none.
        predicted: class numbers `[K, S, S]`.
        classes: their names.
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


def _figure(width: float, height: float, series: Sequence[Series] = ()) -> Figure:
    """An empty figure, in inches, with a legend of the series below it."""
    columns = 1 if any(len(one.name) > 30 for one in series) else 2
    rows = -(-len(series) // columns)
    figure = Figure(figsize=(width, height + 0.18 * rows), layout="constrained")
    FigureCanvasAgg(figure)
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
