"""Standings as a LaTeX table."""

from collections.abc import Callable, Sequence
from typing import Final

from ssl4eo_bench.results.files import MetricValue
from ssl4eo_bench.results.standings import Row, Standings
from ssl4eo_bench.spec.tasks import LESS_IS_BETTER

CAPTION: Final = (
    "Test metrics in percent, means over seeds; in small type the 95 % interval over the test samples. The best of "
    "each protocol is bold, the second underlined."
)

SPECIAL: Final = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--"}
)

Column = tuple[str, str, Callable[[Row], MetricValue | None]]
"""Two lines of heading, and the value in a row."""


def latex(standings: Standings) -> str:
    """A board as one table for booktabs: the best of each protocol in bold, the second underlined.

    Of one task it has all metrics that are shown, of several the leading one of each, and their mean.
    """
    columns = _columns(standings)
    single, *several = standings.tasks
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_escaped(CAPTION if several else f'{single}. {CAPTION}')}}}",
        rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
        r"\toprule",
        *([_line(["", *(_escaped(task) for task, _, _ in columns)])] if several else []),
        _line(["checkpoint", *(_escaped(metric) for _, metric, _ in columns)]),
    ]
    for protocol, rows in standings.protocols.items():
        lines += [r"\midrule", _line([rf"\multicolumn{{{len(columns) + 1}}}{{l}}{{{_escaped(protocol)}}}"])]
        marked = (_marked(metric, [value_of(row) for row in rows]) for _, metric, value_of in columns)
        lines += [_line([_escaped(row.checkpoint), *cells]) for row, *cells in zip(rows, *marked, strict=True)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def _columns(standings: Standings) -> list[Column]:
    single = len(standings.tasks) == 1
    columns: list[Column] = [
        (task, metric, _value_of(task, metric))
        for task, metrics in standings.metrics.items()
        for metric in (metrics if single else metrics[:1])
    ]
    if single or all(row.mean is None for row in standings.rows):
        return columns
    return [("", "mean", lambda row: None if row.mean is None else MetricValue(value=row.mean)), *columns]


def _value_of(task: str, metric: str) -> Callable[[Row], MetricValue | None]:
    return lambda row: row.entries[task].metrics[metric] if task in row.entries else None


def _marked(metric: str, values: Sequence[MetricValue | None]) -> list[str]:
    """The cells of a column in one protocol, its two best values marked."""
    best = sorted({value.value for value in values if value}, reverse=metric not in LESS_IS_BETTER)[:2]
    marks = dict(zip(best, (r"\textbf", r"\underline"), strict=False)) if len(values) > 1 else {}
    return [_cell(value, marks.get(value.value, "")) if value else "" for value in values]


def _cell(value: MetricValue, mark: str) -> str:
    number, _, interval = value.percent.partition(" ")
    shown = rf"{mark}{{{number}}}" if mark else number
    return rf"{shown} {{\scriptsize {_escaped(interval)}}}" if interval else shown


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _escaped(text: str) -> str:
    return text.translate(SPECIAL)
