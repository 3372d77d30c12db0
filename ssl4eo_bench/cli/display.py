"""What a person sees on stdout: tables, or JSON."""

from collections.abc import Iterable, Mapping, Sequence
from json import dumps
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

UNLIMITED = 10_000
"""Characters of a line that is never folded."""


def print_json(value: object) -> None:
    """Print a value to stdout as JSON."""
    print(dumps(value, indent=1))


def show_checks(kind: str, found: Iterable[tuple[str, str, str | None]], *, json: bool) -> int:
    """Print names, checks and faults, which are none where a check does not apply; returns the exit code."""
    rows: list[dict[str, Any]] = [
        {kind: name, "check": check, "ok": None if fault is None else not fault, "fault": fault or ""}
        for name, check, fault in found
    ]
    words = {None: "–", True: "yes", False: "no"}
    show_rows(rows if json else [row | {"ok": words[row["ok"]]} for row in rows], json=json, prose=("fault",))
    return 1 if any(row["fault"] for row in rows) else 0


def show_rows(
    rows: Sequence[Mapping[str, Any]],
    *,
    json: bool,
    right: Sequence[str] = (),
    spare: Sequence[str] = (),
    prose: Sequence[str] = (),
) -> None:
    """Print rows with the same names as JSON, or as a table of the columns that are not empty; see `table`."""
    if json:
        print_json(rows)
    elif rows:
        names = [name for name in rows[0] if any(row[name] not in ("", None) for row in rows)]
        cells = [[_cell(row[name]) for name in names] for row in rows]
        table("", names, cells, right=right, spare=spare, prose=prose)


def _cell(value: object) -> object:
    """What a table shows of a value: of a tuple a line for each, of none nothing."""
    return "\n".join(value) if isinstance(value, tuple) else "" if value is None else value


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Sequence[str] = (),
    spare: Sequence[str] = (),
    prose: Sequence[str] = (),
) -> None:
    """Print a table to stdout, below its title.

    Args:
        title: may be empty.
        columns: their names.
        rows: cells in the order of the columns.
        right: columns that are aligned to the right: numbers.
        spare: columns that are left out on a narrow terminal, the first of them first.
        prose: columns that take several lines on a narrow terminal; the last one always may.
    """
    console = Console(highlight=False)
    if not console.is_terminal:  # a file or a pipe has no edge to fold at
        console.width = UNLIMITED
    cells = [[str(cell) for cell in row] for row in rows]
    spare = [column for column in spare if column in columns]
    unlimited = console.options.update(max_width=UNLIMITED)
    for left_out in range(len(spare) + 1):
        shown = [position for position, column in enumerate(columns) if column not in spare[:left_out]]
        drawn = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
        for position in shown:
            justify: Literal["left", "right"] = "right" if columns[position] in right else "left"
            whole = position != shown[-1] and columns[position] not in prose
            drawn.add_column(columns[position], justify=justify, overflow="fold", no_wrap=whole)
        for row in cells:
            drawn.add_row(*(Text(row[position]) for position in shown))
        if console.measure(drawn, options=unlimited).maximum <= console.width:
            break
    with console.capture() as captured:
        if title:  # not the table's own title, which is folded at its width
            console.print(Text(title, style="table.title"))
        console.print(drawn)
    for text in captured.get().splitlines():
        print(text.rstrip())
    if left_out:
        print(f"(a wider terminal also shows {', '.join(spare[:left_out])})")
