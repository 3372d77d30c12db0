"""What the report shows, as plain data."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.records import MetricValue
from ssl4eo_bench.config.task import MAIN_METRIC
from ssl4eo_bench.errors import ResultError, UnknownNameError
from ssl4eo_bench.results.figures import Look
from ssl4eo_bench.results.files import Provenance, RunResult
from ssl4eo_bench.results.generated import entering, on_all_samples
from ssl4eo_bench.results.panels import Note, explanation, notes
from ssl4eo_bench.results.published import PublishedNumber
from ssl4eo_bench.results.selection import is_of
from ssl4eo_bench.results.standings import Entry, Row, standings

BEST = 6
"""Checkpoints of a task and protocol that figures show, beside the floors."""

FLOORS = 3


@dataclass(frozen=True)
class Column:
    """A metric of a task on the leaderboard."""

    task: str
    metric: str
    main: bool


@dataclass(frozen=True)
class Cell:
    """A metric, where value and interval lie between the column's extremes, in percent, and what it is compared with.

    Attributes:
        metric: the mean over seeds.
        at: place of the value.
        left: place of the lower bound.
        width: of the interval.
        entry: of the task, if this is its leading metric.
    """

    metric: MetricValue
    at: float
    left: float
    width: float
    entry: Entry | None


@dataclass(frozen=True)
class Line:
    """A row of the standings, its checkpoint, and a cell for each column."""

    row: Row
    checkpoint: Checkpoint
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class Board:
    """The leaderboard, what to know of it, and the published numbers that compare with nothing on it."""

    columns: tuple[Column, ...] = ()
    lines: tuple[Line, ...] = ()
    apart: tuple[Note, ...] = ()
    explanation: str = ""

    @property
    def tasks(self) -> int:
        """How many there are."""
        return len({column.task for column in self.columns})

    @property
    def has_rank(self) -> bool:
        """Whether anything is ranked: by the only task, or by a mean."""
        return any(line.row.ranks for line in self.lines)

    @property
    def has_mean(self) -> bool:
        """Whether there is a mean over the tasks that count."""
        return any(line.row.mean is not None for line in self.lines)


@dataclass(frozen=True)
class Shown:
    """A checkpoint in the figures: all of its runs, and the one that stands for them."""

    name: str
    look: Look
    run: RunResult
    runs: tuple[RunResult, ...]


@dataclass(frozen=True)
class Group:
    """The runs of a task and protocol.

    Attributes:
        task: with its version.
        protocol: with its version.
        title: of the task; empty if it is not in the catalogue any more.
        runs: by checkpoint, fraction and seed.
        shown: in figures, best first, floors last.
        checkpoints: how many there are.
    """

    task: str
    protocol: str
    title: str
    runs: tuple[RunResult, ...]
    shown: tuple[Shown, ...]
    checkpoints: int

    @property
    def name(self) -> str:
        """As in file names."""
        return f"{self.task}.{self.protocol}"

    @property
    def metric(self) -> str:
        """The main metric."""
        return main_metric(self.runs[0])

    @property
    def some(self) -> tuple[Shown, ...]:
        """Those with figures of their own: the best three, and the best floor."""
        floors = [one for one in self.shown if one.look.floor]
        return (*[one for one in self.shown if not one.look.floor][:3], *floors[:1])


def choose(
    results: Sequence[RunResult], tasks: Collection[str], protocols: Collection[str], *, sample: bool
) -> list[RunResult]:
    """The results that a report is about: official ones, or those on the sample.

    Args:
        results: all there are.
        tasks: names of those wanted; empty for all.
        protocols: the same.
        sample: of the embedded sample.

    Raises:
        UnknownNameError: for a task or protocol without results.
        ResultError: if none are left.
    """
    found = entering(results, sample=sample)
    _require_known("task", tasks, {name for r in found for name in (r.spec.task.name, r.spec.task_slug)})
    _require_known(
        "protocol", protocols, {name for r in found for name in (r.spec.protocol.name, r.spec.protocol_slug)}
    )
    chosen = [result for result in found if is_of(result, tasks=tasks, protocols=protocols)]
    if not chosen:
        what = "sample" if sample else "official"
        hint = "" if sample or not any(result.spec.sample for result in results) else "; --sample shows those there are"
        raise ResultError(f"there are no {what} results to report; make some with `ssl4eo-bench run`{hint}.")
    return chosen


def _require_known(kind: str, names: Iterable[str], known: set[str]) -> None:
    for name in names:
        if known and name not in known:
            raise UnknownNameError(f"results of {kind}", name, known)


def board_of(
    results: Sequence[RunResult], published: Sequence[PublishedNumber] = (), *, counted: Sequence[str] | None = None
) -> Board:
    """The leaderboard of results; runs on a fraction of the training samples do not stand there.

    Args:
        results: of any fraction.
        published: numbers of the literature to stand beside.
        counted: tasks, with version, that the mean is over (default: the headline tasks).
    """
    whole = on_all_samples(results)
    if not whole:
        return Board()
    board = standings(whole, published, counted=counted)
    checkpoints = {(r.spec.protocol_slug, r.spec.checkpoint.name): r.spec.checkpoint for r in whole}
    columns = [
        Column(task, metric, metric == metrics[0]) for task, metrics in board.metrics.items() for metric in metrics
    ]
    cells = zip(*(_cells(column, board.rows) for column in columns), strict=True)
    lines = [
        Line(row, checkpoints[row.protocol, row.checkpoint], of_row)
        for row, of_row in zip(board.rows, cells, strict=True)
    ]
    return Board(tuple(columns), tuple(lines), tuple(notes(board)), explanation(board))


def _cells(column: Column, rows: Sequence[Row]) -> list[Cell | None]:
    entries = [row.entries.get(column.task) for row in rows]
    bounds = [_bounds(entry.metrics[column.metric]) for entry in entries if entry]
    low = min(bound for bound, _ in bounds)
    span = max(bound for _, bound in bounds) - low or 1.0

    def place(value: float) -> float:
        return round(100 * (value - low) / span, 2)

    def cell(entry: Entry) -> Cell:
        metric = entry.metrics[column.metric]
        left, right = map(place, _bounds(metric))
        return Cell(metric, place(metric.value), left, right - left, entry if column.main else None)

    return [cell(entry) if entry else None for entry in entries]


def _bounds(metric: MetricValue) -> tuple[float, float]:
    """Of its interval; the value where it has none."""
    if metric.low is None or metric.high is None:
        return metric.value, metric.value
    return metric.low, metric.high


def groups_of(results: Sequence[RunResult]) -> list[Group]:
    """Results by task and protocol.

    A checkpoint has one look in all of them.
    """
    by_name: dict[tuple[str, str], list[RunResult]] = {}
    for result in results:
        by_name.setdefault((result.spec.task_slug, result.spec.protocol_slug), []).append(result)
    titles = {name: task.title for name, task in catalogue.tasks().items()}
    numbers: dict[str, int] = {}
    groups = []
    for (task, protocol), runs in sorted(by_name.items()):
        runs.sort(key=lambda run: (run.spec.checkpoint.name, fraction(run), run.spec.seed))
        checkpoints: dict[str, list[RunResult]] = {}
        for run in runs:
            checkpoints.setdefault(run.spec.checkpoint.name, []).append(run)
        shown = [
            Shown(name, Look(numbers.setdefault(name, len(numbers)), _is_floor(of)), _representative(of), tuple(of))
            for name, of in _best(checkpoints)
        ]
        title = titles.get(runs[0].spec.task.name, "")
        groups.append(Group(task, protocol, title, tuple(runs), tuple(shown), len(checkpoints)))
    return groups


def _best(checkpoints: dict[str, list[RunResult]]) -> list[tuple[str, list[RunResult]]]:
    ranked = sorted(checkpoints.items(), key=lambda item: (-_score(item[1]), item[0]))
    best = [item for item in ranked if not _is_floor(item[1])][:BEST]
    return best + [item for item in ranked if _is_floor(item[1])][:FLOORS]


def _score(runs: Sequence[RunResult]) -> float:
    most = max(map(fraction, runs))
    return fmean(main_value(run).value for run in runs if fraction(run) == most)


def _representative(runs: Sequence[RunResult]) -> RunResult:
    """The run on the most training samples with the first seed."""
    return min(runs, key=lambda run: (-fraction(run), run.spec.seed))


def _is_floor(runs: Sequence[RunResult]) -> bool:
    return runs[0].spec.checkpoint.is_floor


def main_metric(result: RunResult) -> str:
    """The metric that its task ranks by."""
    return MAIN_METRIC[result.spec.task.kind]


def main_value(result: RunResult) -> MetricValue:
    """Its main metric on the test split."""
    return result.metrics["test"][main_metric(result)]


def fraction(result: RunResult) -> float:
    """Of the training samples."""
    return 1.0 if result.spec.fraction is None else result.spec.fraction


@dataclass(frozen=True)
class Environment:
    """What several runs were made with."""

    versions: tuple[tuple[str, str], ...]
    commit: str | None
    dirty: bool
    device: str
    runners: tuple[str, ...]
    threads: int

    @classmethod
    def of(cls, made: Provenance) -> "Environment":
        """The environment of a run."""
        versions = tuple(sorted(made.versions.items()))
        return cls(versions, made.commit, made.dirty, made.device, made.runners, made.threads)


@dataclass(frozen=True)
class CheckpointRecord:
    """A checkpoint as it was run, with the sha256 of its parameters: several where they were drawn or trained on."""

    checkpoint: Checkpoint
    weights: tuple[str, ...]


def environments(results: Sequence[RunResult]) -> list[Environment]:
    """The distinct ones, in the order of their first runs."""
    ordered = sorted(results, key=lambda result: (result.provenance.started, result.digest))
    return list(dict.fromkeys(Environment.of(result.provenance) for result in ordered))


def checkpoint_records(results: Sequence[RunResult]) -> list[CheckpointRecord]:
    """The distinct checkpoints, by name."""
    found: dict[tuple[str, str], tuple[Checkpoint, set[str]]] = {}
    for result in results:
        checkpoint = result.spec.checkpoint
        _, weights = found.setdefault((checkpoint.name, checkpoint.model_dump_json()), (checkpoint, set()))
        weights.update(result.provenance.weights_sha256)
    return [CheckpointRecord(checkpoint, tuple(sorted(weights))) for _, (checkpoint, weights) in sorted(found.items())]


@dataclass(frozen=True)
class Warned:
    """A warning, and the runs that have it: by task, protocol and checkpoint."""

    text: str
    runs: tuple[str, ...]


def warnings_of(results: Sequence[RunResult]) -> list[Warned]:
    """The distinct warnings."""
    by_text: dict[str, Counter[str]] = {}
    for result in results:
        spec = result.spec
        for text in result.warnings:
            name = f"{spec.task_slug} · {spec.protocol_slug} · {spec.checkpoint.name}"
            by_text.setdefault(text, Counter())[name] += 1
    return [
        Warned(text, tuple(f"{name}, {runs} runs" if runs > 1 else name for name, runs in sorted(counts.items())))
        for text, counts in sorted(by_text.items())
    ]


def left_out(results: Sequence[RunResult], *, sample: bool) -> list[str]:
    """How many runs no report of this kind shows, by reason."""
    reasons: Counter[str] = Counter()
    for result in results:
        if result.spec.partial or result.spec.limit:
            reasons["on a part of the samples"] += 1
        elif result.spec.sample != sample:
            reasons["on the embedded sample" if result.spec.sample else "on real data"] += 1
        elif result.provenance.dirty and not sample:
            reasons["from a checkout with changes that were not committed"] += 1
    return [f"{count} run{'s' if count > 1 else ''} {reason}" for reason, count in sorted(reasons.items())]
