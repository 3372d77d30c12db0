"""Differences between A and B with their intervals, one line for each task: a forest plot."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ssl4eo_bench.config.task import metric_label
from ssl4eo_bench.results.compare import Comparison
from ssl4eo_bench.results.figure_style import INK, MUTED, PAPER, save_figure, styled

LINE = 0.42
"""Inches for each comparison."""


def draw_forest(comparisons: Sequence[Comparison], a: str, b: str, file: Path) -> None:
    """Write the figure, in the format that the file's ending names; equal input gives equal bytes.

    Filled markers are evidence of a difference after correction, hollow ones are none: it reads without colour.
    """
    save_figure(_forest(comparisons, a, b), file, name="forest")


@styled
def _forest(comparisons: Sequence[Comparison], a: str, b: str) -> Figure:
    figure = Figure(figsize=(7.5, 1.3 + LINE * len(comparisons)), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(0, color=MUTED, linewidth=1, zorder=1)
    for line, one in enumerate(comparisons):
        evidence = one.verdict != "no evidence of a difference"
        low, value, high = (100 * number for number in (one.low, one.difference, one.high))
        axes.plot([low, high], [line, line], color=INK, solid_capstyle="butt", zorder=2)
        axes.plot(value, line, "o", color=INK, markerfacecolor=INK if evidence else PAPER, markersize=7, zorder=3)
        text, weight = f"{value:+.2f} ({low:+.2f} to {high:+.2f})", "bold" if evidence else "normal"
        axes.annotate(text, (1.02, line), xycoords=("axes fraction", "data"), va="center", weight=weight)
    axes.set_yticks(
        range(len(comparisons)), [f"{one.task}, {one.setting}\n{metric_label(one.metric)}" for one in comparisons]
    )
    axes.set_ylim(len(comparisons) - 0.4, -0.6)
    reach = 1.1 * max((abs(100 * bound) for one in comparisons for bound in (one.low, one.high)), default=0) or 1.0
    axes.set_xlim(-reach, reach)
    axes.set_xlabel("A − B in percentage points, 95 % interval\n● evidence of a difference    ○ no evidence")
    axes.set_title(f"A  {a}\nB  {b}", pad=20)
    for text, x, side in (("← B is better", 0, "left"), ("A is better →", 1, "right")):
        axes.annotate(text, (x, 1), (0, 5), xycoords="axes fraction", textcoords="offset points", ha=side, color=MUTED)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return figure
