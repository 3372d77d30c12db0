"""The leaderboard as a LaTeX table."""

from collections.abc import Sequence
from typing import Final

from ssl4eo_bench.config.records import MetricValue
from ssl4eo_bench.config.task import metric_label
from ssl4eo_bench.results.leaderboard import Column, Leaderboard, Row
from ssl4eo_bench.results.markdown import rank_range
from ssl4eo_bench.results.paired_ranks import Ranks

UNRANKED: Final = "Test metrics in percent, means over seeds; in small type the 95 % interval over the test samples."
CAPTION: Final = (
    f"{UNRANKED} Bold is what may be the best of its protocol: no paired test, corrected over all pairs, puts another "
    "checkpoint above it."
)
ZERO: Final = " A star marks backbones some of whose input bands the task lacks."

SPECIAL: Final = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--"}
)


def latex(board: Leaderboard) -> str:
    """A leaderboard as one table for booktabs: what may be the best of its protocol in bold.

    Of one task it has all metrics that are shown, of several the leading one of each, and their mean.
    """
    single, *several = board.tasks
    columns = [column for column in board.columns if column.leads or not several]
    mean = ["mean"] if several and board.has_mean else []
    caption = CAPTION if any(entry.ranks for entry in board.entries) else UNRANKED
    caption += ZERO if any(entry.spec.inputs.filled for entry in board.entries) else ""
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_escaped(caption if several else f'{single}. {caption}')}}}",
        rf"\begin{{tabular}}{{cl{'r' * len([*mean, *columns])}}}",
        r"\toprule",
        *([_line(["", "", *("" for _ in mean), *(_escaped(column.task) for column in columns)])] if several else []),
        _line(["rank", "checkpoint", *mean, *(_escaped(metric_label(column.metric)) for column in columns)]),
    ]
    for protocol, rows in board.protocols.items():
        lines += [r"\midrule", _line([rf"\multicolumn{{{len([*mean, *columns]) + 2}}}{{l}}{{{_escaped(protocol)}}}"])]
        for row in rows:
            cells = (*(_mean(row) for _ in mean), *(_metric(row, column) for column in columns))
            lines.append(_line([_escaped(rank_range(row.ranks)), _escaped(row.name), *cells]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def _mean(row: Row) -> str:
    return "" if row.mean is None else _cell(MetricValue(value=row.mean), row.ranks)


def _metric(row: Row, column: Column) -> str:
    if column.task not in row.entries:
        return ""
    entry = row.entries[column.task]
    starred = bool(entry.spec.inputs.filled)
    return _cell(entry.metrics[column.metric], entry.ranks if column.leads else None, starred=starred)


def _cell(value: MetricValue, ranks: Ranks | None, *, starred: bool = False) -> str:
    """A metric: bold where nothing is above it, with a star where input bands were zero."""
    number, _, interval = value.percent.partition(" ")
    shown = rf"\textbf{{{number}}}" if ranks and ranks[0] == 1 else number
    shown += "$^{*}$" if starred else ""
    return rf"{shown} {{\scriptsize {_escaped(interval)}}}" if interval else shown


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _escaped(text: str) -> str:
    return text.translate(SPECIAL)
