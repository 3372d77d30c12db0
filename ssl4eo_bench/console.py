"""What a person sees on the terminal: progress on stderr, tables on stdout."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bars
from rich.progress import TimeRemainingColumn as Remaining
from rich.table import Column, Table
from rich.text import Text

from ssl4eo_bench.config.inputs import Channel, InputMapping
from ssl4eo_bench.config.task import MAIN_METRIC, SHARED_METRICS
from ssl4eo_bench.progress import Advance

if TYPE_CHECKING:  # what only lists names needs no results
    from ssl4eo_bench.config.records import MetricValue
    from ssl4eo_bench.results.files import RunResult

SPARKS = "▁▂▃▄▅▆▇█"

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
        """A bar for one stage."""
        if not self._console.is_terminal:
            yield _Lines(self._console, what, total, unit).advance
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            *((DownloadColumn(), TransferSpeedColumn()) if unit == "bytes" else (MofNCompleteColumn(), _Rate(unit))),
            Remaining(compact=True, elapsed_when_finished=True),
        )
        with Bars(*columns, console=self._console, refresh_per_second=4) as bars:
            task = bars.add_task(what, total=total or None)
            yield lambda done: bars.advance(task, done)

    def note(self, message: str) -> None:
        """A line that stays."""
        self._console.print(message, style="bold", markup=False)


class _Lines:
    """Lines about one stage in a log: after every tenth of it, but not more often than every `PAUSE` seconds."""

    def __init__(self, console: Console, what: str, total: int, unit: str) -> None:
        self._console = console
        self._what = what
        self._total = total
        self._unit = unit
        self._done = 0
        self._begun = self._last = time.monotonic()

    def advance(self, done: int) -> None:
        """Count, and say so if it is time."""
        self._done += done
        now = time.monotonic()
        finished = self._done >= self._total > 0
        if now - self._last < PAUSE and not (finished and now - self._begun > 2):
            return
        self._last = now
        if self._total == 1:
            self._console.print(f"{self._what}: {now - self._begun:.0f} s", markup=False, soft_wrap=True)
            return
        rate = self._done / max(now - self._begun, 1e-9)
        left = f", {(self._total - self._done) / rate:,.0f} s left" if rate and self._total and not finished else ""
        amounts = [decimal(int(n)) if self._unit == "bytes" else f"{n:,.0f}" for n in (self._done, self._total, rate)]
        of = f" of {amounts[1]}" if self._total else ""
        unit = "" if self._unit == "bytes" else f" {self._unit}"
        self._console.print(f"{self._what}: {amounts[0]}{of}{unit}, {amounts[2]}/s{left}", markup=False, soft_wrap=True)


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__(table_column=Column(no_wrap=True))
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Units per second."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} {self._unit}/s" if speed else f"– {self._unit}/s", style="cyan")


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
        title: above it.
        columns: their names.
        rows: cells in the order of the columns.
        right: columns of numbers.
        spare: columns that are left out on a narrow terminal, the first of them first.
        prose: columns that take several lines on a narrow terminal; the last one always may.
    """
    console, cells = _stdout(), [[str(cell) for cell in row] for row in rows]
    left_out: list[str] = []
    drawn = _drawn(title, columns, cells, right, left_out, prose)
    while len(left_out) < len(spare) and _natural_width(console, drawn) > console.width:
        left_out.append(spare[len(left_out)])
        drawn = _drawn(title, columns, cells, right, left_out, prose)
    with console.capture() as captured:
        console.print(drawn)
    for text in captured.get().splitlines():
        console.out(text.rstrip(), highlight=False)
    if left_out:
        line(f"(a wider terminal also shows {', '.join(left_out)})")


def _natural_width(console: Console, drawn: Table) -> int:
    return console.measure(drawn, options=console.options.update(max_width=10_000)).maximum


def _drawn(
    title: str,
    columns: Sequence[str],
    rows: list[list[str]],
    right: Sequence[str],
    left_out: Sequence[str],
    prose: Sequence[str],
) -> Table:
    drawn = Table(title=title or None, title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    shown = [position for position, column in enumerate(columns) if column not in left_out]
    for position in shown:
        justify: Literal["left", "right"] = "right" if columns[position] in right else "left"
        whole = position != shown[-1] and columns[position] not in prose
        drawn.add_column(columns[position], justify=justify, overflow="fold", no_wrap=whole)
    for row in rows:
        drawn.add_row(*(Text(row[position]) for position in shown))
    return drawn


def line(text: str = "") -> None:
    """Print a line to stdout."""
    _stdout().print(text, markup=False, soft_wrap=True)


def percent(metric: "MetricValue | None") -> str:
    """A metric in percent, with its interval if it has one; nothing if it is not there."""
    return "" if metric is None else metric.percent


def show_metrics(results: "Sequence[tuple[RunResult, str]]") -> None:
    """Print the test metrics of results, each with its status; one table for each task."""
    by_task: dict[str, list[tuple[RunResult, str]]] = {}
    for result, status in results:
        by_task.setdefault(f"{result.spec.task_slug} · {result.spec.protocol_slug}", []).append((result, status))
    for name, members in by_task.items():
        main = MAIN_METRIC[members[0][0].spec.task.kind]
        metrics = list(dict.fromkeys((main, *SHARED_METRICS)))
        fractions = ["fraction"] if any(result.spec.fraction for result, _ in members) else []
        columns = ["checkpoint", "seed", *fractions, *metrics, "C", "status"]
        rows = []
        for result, status in members:
            test, C = result.metrics["test"], result.selection.C
            chosen = "" if C is None else f"{C:.2g}"
            of_train = [f"{result.spec.fraction or 1:g}"] if fractions else []
            shown = [percent(test[main]), *(f"{100 * test[metric].value:.2f}" for metric in metrics[1:])]
            marks = ", ".join((status, *result.spec.marks))
            rows.append((result.spec.checkpoint.name, result.spec.seed, *of_train, *shown, chosen, marks))
        title = f"{name}: test in percent, {main} with 95 % interval"
        table(title, columns, rows, right=columns[1:-1], spare=["C", "seed", "fraction", *SHARED_METRICS[::-1]])


def show_result(result: "RunResult") -> None:
    """Print everything about a result that a person would want to read."""
    spec = result.spec
    line(f"{spec.task_slug} · {spec.protocol_slug} · {spec.label}")
    line(f"digest {result.digest}")
    if result.subset:
        line(f"fitted on {result.subset.count:,} of {result.counts['train']:,} training samples")
    if spec.marks:
        line(f"not official: {', '.join(spec.marks)}")
    main = MAIN_METRIC[spec.task.kind]
    names = sorted(result.metrics["test"], key=lambda name: (name != main, name))
    rows = [(name, percent(result.metrics["test"][name]), percent(result.metrics["val"].get(name))) for name in names]
    table("metrics in percent, 95 % intervals", ["metric", "test", "val"], rows, right=["test", "val"])
    columns = ["class", "samples", "precision", "recall", "F1", "AP"]
    classes = [
        [c.name, c.support, _share(c.precision), _share(c.recall), _share(c.f1), _share(c.average_precision)]
        for c in result.classes
    ]
    if spec.task.kind == "segmentation":
        columns = [*columns, "IoU"]
        columns[1] = "pixels"
        classes = [[*row, _share(c.iou)] for row, c in zip(classes, result.classes, strict=True)]
    table("test by class, in percent", columns, classes, right=columns[1:])
    if history := result.selection.history:
        chosen = result.selection
        line(f"chosen on val by {chosen.metric}: rate {chosen.rate:g}, epoch {chosen.epoch}")
        for rate in dict.fromkeys(epoch.rate for epoch in history):
            line(f"  val over epochs at {rate:g}: {_sparkline([one.val for one in history if one.rate == rate])}")
    if found := result.reference:
        metric = result.selection.metric
        line(f"as the published code would report {metric} on test, of the same training:")
        line(f"  mean over batches of {found.batch}: {_share(found.batch_averaged)}")
        line(f"  at the epoch that is best on test, {found.best_test_epoch}: {_share(found.best_test)}")
        line(f"  both: {_share(found.best_test_batch_averaged)}")
    if path := result.selection.path:
        start = "; the head it started from" if history else ""
        line(f"chosen on val by {result.selection.metric}: C = {result.selection.C:.3g}{start}")
        line(f"  val over C from {path[0].C:.0e} to {path[-1].C:.0e}: {_sparkline([point.val for point in path])}")
    show_mapping(spec.inputs)
    for warning in result.warnings:
        line(f"warning: {warning}")
    made = result.provenance
    line(f"made {made.started} from commit {made.commit or '–'}{' (changed)' if made.dirty else ''} on {made.device}")
    line(f"  runner {', '.join(made.runners)}; " + ", ".join(f"{k} {v}" for k, v in made.versions.items()))
    line("  seconds: " + ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in made.seconds.items()))


def show_mapping(inputs: InputMapping) -> None:
    """Print how the task's bands become the backbone's input."""
    size = inputs.image_size
    title = "input, bands as stored" if size == "native" else f"input {size} × {size}, {inputs.resize}"
    columns = ["channel", "band", "from", "value"]
    rows = [(number, c.band, c.source or "–", _formula(c)) for number, c in enumerate(inputs.channels)]
    table(title, columns, rows, right=["channel"])


def _formula(channel: Channel) -> str:
    """How a stored value becomes the input, such as `clip(x · 0.000364, 0, 1) · 2 - 1`."""
    if not channel.source:
        return "0 (not in the task)"
    text = _affine("x", channel.gain, channel.offset)
    if channel.clip != (None, None):
        text = f"clip({text}, {channel.clip[0]:g}, {channel.clip[1]:g})"
    if channel.levels:
        text = f"floor({text} · {channel.levels}) / {channel.levels}"
    return _affine(text, channel.post_gain, channel.post_offset)


def _affine(text: str, gain: float, offset: float) -> str:
    scaled = text if gain == 1 else f"{text} · {gain:.4g}"
    return scaled if offset == 0 else f"{scaled} {'-' if offset < 0 else '+'} {abs(offset):.4g}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _sparkline(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    step = (high - low) / (len(SPARKS) - 1) or 1.0
    return "".join(SPARKS[round((value - low) / step)] for value in values)


def _stdout() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:  # a file or a pipe has no edge to fold at
        console.width = 200
    return console
