"""What a person sees on the terminal: progress on stderr, tables on stdout."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from json import dumps
from typing import Any, Literal

from rich import progress as rich_progress
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.filesize import decimal
from rich.table import Column, Table
from rich.text import Text

from ssl4eo_bench.progress import Advance

PAUSE = 20.0
"""Seconds between two lines about one stage in a log."""


class ConsoleProgress:
    """Progress bars with rate and remaining time; where there is no terminal, a line now and then.

    Bytes are shown in kB, MB or GB.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)

    @contextmanager
    def stage(self, what: str, *, total: int, unit: str) -> Iterator[Advance]:
        """Show a bar for one stage."""
        if not self._console.is_terminal:
            yield _lines(self._console, what, total, unit)
            return
        columns = (
            rich_progress.TextColumn("{task.description}"),
            rich_progress.BarColumn(bar_width=16),
            *(
                (rich_progress.DownloadColumn(), rich_progress.TransferSpeedColumn())
                if unit == "bytes"
                else (rich_progress.MofNCompleteColumn(), _Rate(unit))
            ),
            rich_progress.TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        )
        with rich_progress.Progress(*columns, console=self._console, refresh_per_second=4) as bars:
            task = bars.add_task(what, total=total or None)
            yield lambda done: bars.advance(task, done)

    def note(self, message: str) -> None:
        """Show a line that stays."""
        self._console.print(message, style="bold", markup=False)


def _lines(console: Console, what: str, total: int, unit: str) -> Advance:
    """Count units of a stage; print a line at most every `PAUSE` seconds, and one at its end if it took long."""
    done = 0
    begun = last = time.monotonic()

    def amount(number: float) -> str:
        return decimal(int(number)) if unit == "bytes" else f"{number:,.0f}"

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        now = time.monotonic()
        seconds, finished = now - begun, done >= total > 0
        if now - last < PAUSE and not (finished and seconds > 2):
            return
        last, rate = now, done / max(seconds, 1e-9)
        of = f" of {amount(total)}" if total else ""
        left = f", {(total - done) / rate:,.0f} s left" if rate and total and not finished else ""
        text = f"{amount(done)}{of}{'' if unit == 'bytes' else f' {unit}'}, {amount(rate)}/s{left}"
        console.print(f"{what}: {f'{seconds:.0f} s' if total == 1 else text}", markup=False, soft_wrap=True)

    return advance


class _Rate(rich_progress.ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__(table_column=Column(no_wrap=True))
        self._unit = unit

    def render(self, task: rich_progress.Task) -> Text:
        """Show the units done in a second."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} {self._unit}/s" if speed else f"– {self._unit}/s", style="cyan")


def print_json(value: object) -> None:
    """Print a value to stdout as JSON."""
    print(dumps(value, indent=1))


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
        names = [name for name in rows[0] if any(row[name] != "" for row in rows)]
        cells = [["\n".join(cell) if isinstance(cell := row[name], tuple) else cell for name in names] for row in rows]
        table("", names, cells, right=right, spare=spare, prose=prose)


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Sequence[str] = (),
    spare: Sequence[str] = (),
    prose: Sequence[str] = (),
) -> None:
    """Print a table to stdout.

    Args:
        title: printed above the table.
        columns: names of the columns.
        rows: cells in the order of the columns.
        right: columns that are aligned to the right: numbers.
        spare: columns that are left out on a narrow terminal, the first of them first.
        prose: columns that take several lines on a narrow terminal; the last one always may.
    """
    console = Console(highlight=False)
    if not console.is_terminal:  # a file or a pipe has no edge to fold at
        console.width = 200
    cells = [[str(cell) for cell in row] for row in rows]
    spare = [column for column in spare if column in columns]
    unlimited = console.options.update(max_width=10_000)
    for left_out in range(len(spare) + 1):
        shown = [position for position, column in enumerate(columns) if column not in spare[:left_out]]
        drawn = Table(title=title or None, title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
        for position in shown:
            justify: Literal["left", "right"] = "right" if columns[position] in right else "left"
            whole = position != shown[-1] and columns[position] not in prose
            drawn.add_column(columns[position], justify=justify, overflow="fold", no_wrap=whole)
        for row in cells:
            drawn.add_row(*(Text(row[position]) for position in shown))
        if console.measure(drawn, options=unlimited).maximum <= console.width:
            break
    with console.capture() as captured:
        console.print(drawn)
    for text in captured.get().splitlines():
        print(text.rstrip())
    if left_out:
        print(f"(a wider terminal also shows {', '.join(spare[:left_out])})")
