"""Standings as a LaTeX table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ssl4eo_bench.config.records import MetricValue
from ssl4eo_bench.results.panels import ranks
from ssl4eo_bench.results.ranks import Ranks
from ssl4eo_bench.results.standings import Row, Standings

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


@dataclass(frozen=True)
class Column:
    """A metric of a task; or, without a task, the mean over tasks."""

    task: str
    metric: str
    leads: bool

    def cell(self, row: Row) -> str:
        """What it shows of a row: bold where nothing is above it, with a star where input bands were zero."""
        if not self.task:
            return "" if row.mean is None else _cell(MetricValue(value=row.mean), row.ranks, starred=False)
        if self.task not in row.entries:
            return ""
        entry = row.entries[self.task]
        return _cell(entry.metrics[self.metric], entry.ranks if self.leads else None, starred=bool(entry.filled))


def latex(standings: Standings) -> str:
    """A board as one table for booktabs: what may be the best of its protocol in bold.

    Of one task it has all metrics that are shown, of several the leading one of each, and their mean.
    """
    columns = _columns(standings)
    single, *several = standings.tasks
    entries = [entry for row in standings.rows for entry in row.entries.values()]
    caption = (CAPTION if any(entry.ranks for entry in entries) else UNRANKED) + (
        ZERO if any(entry.filled for entry in entries) else ""
    )
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_escaped(caption if several else f'{single}. {caption}')}}}",
        rf"\begin{{tabular}}{{cl{'r' * len(columns)}}}",
        r"\toprule",
        *([_line(["", "", *(_escaped(column.task) for column in columns)])] if several else []),
        _line(["rank", "checkpoint", *(_escaped(column.metric) for column in columns)]),
    ]
    for protocol, rows in standings.protocols.items():
        lines += [r"\midrule", _line([rf"\multicolumn{{{len(columns) + 2}}}{{l}}{{{_escaped(protocol)}}}"])]
        for row in rows:
            cells = (column.cell(row) for column in columns)
            lines.append(_line([_escaped(ranks(row.ranks)), _escaped(row.checkpoint), *cells]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def _columns(standings: Standings) -> list[Column]:
    single = len(standings.tasks) == 1
    columns = [
        Column(task, metric, leads=metric == metrics[0])
        for task, metrics in standings.metrics.items()
        for metric in (metrics if single else metrics[:1])
    ]
    has_mean = not single and any(row.mean is not None for row in standings.rows)
    return [Column("", "mean", leads=True), *columns] if has_mean else columns


def _cell(value: MetricValue, of_ranks: Ranks | None, *, starred: bool) -> str:
    number, _, interval = value.percent.partition(" ")
    shown = rf"\textbf{{{number}}}" if of_ranks and of_ranks[0] == 1 else number
    shown += "$^{*}$" if starred else ""
    return rf"{shown} {{\scriptsize {_escaped(interval)}}}" if interval else shown


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _escaped(text: str) -> str:
    return text.translate(SPECIAL)
