"""Standings as text: Markdown, HTML, LaTeX, CSV, and the columns of Papers with Code."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Final

import pandas as pd

from ssl4eo_bench.config.task import Kind
from ssl4eo_bench.results.generated import csv_text
from ssl4eo_bench.results.latex import latex
from ssl4eo_bench.results.panels import Cell, Link, Panel, explanation, notes, panels
from ssl4eo_bench.results.standings import Standings

HEADING: Final = "# Leaderboard\n"
NOTES: Final = "Published numbers that do not compare"

KINDS: Final[dict[Kind, str]] = {
    "multiclass": "Image Classification",
    "multilabel": "Multi-Label Image Classification",
    "segmentation": "Semantic Segmentation",
}
"""What Papers with Code calls the kinds of tasks."""

PAGE: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Leaderboard</title>
<style>
:root {{ color-scheme: light dark; --line: #d0d0d0; --soft: #5a5a5a; --odd: #f5f6f7; }}
@media (prefers-color-scheme: dark) {{ :root {{ --line: #444; --soft: #a8a8a8; --odd: #1d1f21; }} }}
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 90rem; padding: 0 1rem; }}
h2 {{ font-size: 1.15rem; margin: 2rem 0 .5rem; overflow-wrap: anywhere; }}
p {{ color: var(--soft); max-width: 45rem; }}
li {{ overflow-wrap: anywhere; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }}
th, td {{ border-bottom: 1px solid var(--line); padding: .35rem .5rem; text-align: right; }}
thead th {{ border-bottom-width: 2px; vertical-align: bottom; }}
tbody th {{ font-weight: normal; min-width: 9rem; overflow-wrap: anywhere; }}
tbody tr:nth-child(odd) {{ background: var(--odd); }}
.words {{ text-align: left; }}
</style>
</head>
<body>
<main>
<h1>Leaderboard</h1>
<p>{explanation}</p>
{sections}
</main>
</body>
</html>
"""

SECTION: Final = """\
<section>
<h2 id="{id}">{title}</h2>
<div class="scroll" role="region" aria-labelledby="{id}" tabindex="0">
<table aria-labelledby="{id}">
<thead>
{head}
</thead>
<tbody>
{body}
</tbody>
</table>
</div>
{note}</section>"""


def markdown(standings: Standings) -> str:
    """A board in Markdown."""
    parts = [HEADING, f"{explanation(standings)}\n"]
    for panel in panels(standings):
        head, *body = ("| " + " | ".join(map(_in_markdown, cells)) + " |" for cells in (panel.columns, *panel.rows))
        rule = "|" + "".join("---|" if column in panel.words else "---:|" for column in panel.columns)
        parts += [f"## {panel.title}\n", "\n".join((head, rule, *body)) + "\n"]
        if panel.note:
            parts.append(f"{panel.note}\n")
    if remarks := notes(standings):
        lines = [f"- {note.about}: {_in_markdown(note.number)}: {note.differences}" for note in remarks]
        parts += [f"## {NOTES}\n", "\n".join(lines) + "\n"]
    return "\n".join(parts)


def html(standings: Standings) -> str:
    """A board as one page that needs nothing else: no network and no script."""
    sections = [_section(panel, f"table{number}") for number, panel in enumerate(panels(standings), start=1)]
    if remarks := notes(standings):
        items = [
            f"<li>{escape(note.about)}: {_in_html(note.number)}: {escape(note.differences)}</li>" for note in remarks
        ]
        sections += [f"<section>\n<h2>{NOTES}</h2>\n<ul>", *items, "</ul>\n</section>"]
    return PAGE.format(explanation=escape(explanation(standings)), sections="\n".join(sections))


def papers_with_code(standings: Standings) -> str:
    """A board in the columns of Papers with Code: CSV of fractions, the protocol beside the model's name."""
    records = [
        (KINDS[entry.task.kind], task, metric, value.value, f"{row.checkpoint} ({row.protocol})")
        for row in standings.rows
        for task, entry in row.entries.items()
        for metric, value in entry.metrics.items()
    ]
    return csv_text(pd.DataFrame(records, columns=["task", "dataset", "metric", "value", "model"]))


def _in_markdown(cell: Cell) -> str:
    return f"[{cell.text}]({cell.url})" if isinstance(cell, Link) else cell.replace("|", "\\|")


def _section(panel: Panel, id_: str) -> str:
    head = _line(panel, panel.columns, lambda _: ("th", ' scope="col"'))
    body = (
        _line(panel, row, lambda column: ("th", ' scope="row"') if column == "checkpoint" else ("td", ""))
        for row in panel.rows
    )
    note = f"<p>{escape(panel.note)}</p>\n" if panel.note else ""
    return SECTION.format(id=id_, title=escape(panel.title), head=head, body="\n".join(body), note=note)


def _line(panel: Panel, cells: Sequence[Cell], tag_of: Callable[[str], tuple[str, str]]) -> str:
    texts = []
    for column, cell in zip(panel.columns, cells, strict=True):
        tag, attributes = tag_of(column)
        words = ' class="words"' if column in panel.words else ""
        texts.append(f"<{tag}{attributes}{words}>{_in_html(cell)}</{tag}>")
    return f"<tr>{''.join(texts)}</tr>"


def _in_html(cell: Cell) -> str:
    if isinstance(cell, Link):
        return f'<a href="{escape(cell.url)}">{escape(cell.text)}</a>'
    return escape(cell).replace("–", "\u2060–\u2060")  # narrow columns do not part an interval


FORMATS: Final[dict[str, Callable[[Standings], str]]] = {
    "csv": lambda standings: csv_text(standings.frame()),
    "md": markdown,
    "html": html,
    "latex": latex,
    "pwc": papers_with_code,
}
"""By their names on the command line."""
