"""HTML pages from templates: each is one file that needs no network and no other file."""

import base64
import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ssl4eo_bench.errors import shortlist
from ssl4eo_bench.results.leaderboard import Column, Leaderboard, Row
from ssl4eo_bench.results.markdown import (
    UNMATCHED,
    cost_cells,
    cost_text,
    floor_note,
    percent,
    points,
    rank_range,
    terms,
)

HERE = Path(__file__).parent


def render(template: str, **values: Any) -> str:
    """The page that a template of this folder gives with these values."""
    templates = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,  # whatever stands in a result file is text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"percent": percent, "points": points, "rank_range": rank_range, "csv_uri": _csv_uri}
    templates.globals |= {
        "terms": terms,
        "style": _asset("page.css"),
        "unmatched_title": UNMATCHED,
        "floor_note": floor_note,
        "shortlist": partial(shortlist, at_most=20),
        "cost_cells": cost_cells,
        "cost_text": cost_text,
    }
    return templates.get_template(template).render(**values)


def script_of(name: str) -> dict[str, str]:
    """A script of this folder, and the hash by which a content security policy lets it run, and no other."""
    script = _asset(name)
    return {"script": script, "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}


def leaderboard_page(board: Leaderboard) -> str:
    """The leaderboard as one page without scripts: of each protocol a table over all tasks, and one of each task."""
    columns, tables = board.columns, list[tuple[str, str, Sequence[Column], Sequence[Row]]]()
    for protocol, rows in board.protocols.items():
        if len(board.tasks) > 1:
            tables.append((protocol, "", [column for column in columns if column.leads], rows))
        for task in board.tasks:
            if of_task := [row for row in rows if task in row.entries]:
                of_task.sort(key=lambda row: (-row.entries[task].lead.value, row.name))
                own = [column for column in columns if column.task == task]
                tables.append((f"{task} · {protocol}", task, own, of_task))
    return render("leaderboard.html.j2", board=board, tables=tables)


def _csv_uri(text: str) -> str:
    """CSV as an address that holds it."""
    return f"data:text/csv;base64,{base64.b64encode(text.encode()).decode()}"


def _asset(name: str) -> Markup:
    return Markup((HERE / name).read_text(encoding="utf-8"))
