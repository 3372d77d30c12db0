"""Progress of long work, shown on stderr."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich import progress as rich_progress
from rich.console import Console
from rich.filesize import decimal
from rich.table import Column
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
        self._noted: set[str] = set()

    @contextmanager
    def stage(self, what: str, *, total: int, unit: str) -> Iterator[Advance]:
        """Show a bar for one stage."""
        if not self._console.is_terminal or self._console.is_dumb_terminal:  # one that draws no bar anew
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
        """Show a line that stays, once: every run of a sweep may have the same to say."""
        if message not in self._noted:
            self._noted.add(message)
            self._console.print(message, style="bold", markup=False, soft_wrap=True)


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
