"""Who stands where: every checkpoint on every task, by protocol. Leaderboards are drawn from this."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import pandas as pd

from ssl4eo_bench.errors import ResultError
from ssl4eo_bench.results.files import MetricValue, RunResult
from ssl4eo_bench.results.generated import require_one_split
from ssl4eo_bench.results.published import PublishedNumber, differences
from ssl4eo_bench.spec import catalogue
from ssl4eo_bench.spec.runs import TaskRecord
from ssl4eo_bench.spec.tasks import LESS_IS_BETTER, MAIN_METRIC, SHARED_METRICS


@dataclass(frozen=True)
class Entry:
    """One checkpoint on one task, by one protocol.

    Attributes:
        task: and its version.
        metrics: means over seeds by name, the leading one first. The bounds of an interval are the means of the
            seeds' bounds; docs/results.md says what such an interval covers.
        seeds: how many there are.
        over_floor: the leading metric minus that of the best floor; none for floors, and where no floor was run.
        published: the highest published number that compares with the leading metric.
    """

    task: TaskRecord
    metrics: dict[str, MetricValue]
    seeds: int
    over_floor: float | None = None
    published: PublishedNumber | None = None

    @property
    def metric(self) -> str:
        """The name of the leading metric."""
        return next(iter(self.metrics))

    @property
    def lead(self) -> float:
        """The value of the leading metric."""
        return self.metrics[self.metric].value

    @property
    def over_published(self) -> float | None:
        """The leading metric minus the published number."""
        return None if self.published is None else self.lead - self.published.value


@dataclass(frozen=True)
class Row:
    """One checkpoint in one protocol, with its entries by task.

    Attributes:
        protocol: and its version.
        checkpoint: its name.
        is_floor: whether nothing was learnt in it.
        entries: by task and version.
        mean: of the leading metrics over the tasks that count; none unless every one of them is there.
        mean_rank: over the same tasks, among the checkpoints that have all of them.
        rank: in its protocol, by the mean, or by the only task; the same number on ties, none without that value.
    """

    protocol: str
    checkpoint: str
    is_floor: bool
    entries: dict[str, Entry]
    mean: float | None = None
    mean_rank: float | None = None
    rank: int | None = None

    @property
    def seeds(self) -> tuple[int, int]:
        """Fewest and most seeds of a task."""
        counts = [entry.seeds for entry in self.entries.values()]
        return min(counts), max(counts)


@dataclass(frozen=True)
class Apart:
    """A published number that compares with nothing on the board, and how it differs from the nearest entry there.

    Attributes:
        checkpoint: that the number is of.
        task: of the nearest entry, and its version.
        number: from the literature.
        differences: between the two; see `published.differences`.
    """

    checkpoint: str
    task: str
    number: PublishedNumber
    differences: tuple[str, ...]


@dataclass(frozen=True)
class Standings:
    """A leaderboard.

    Attributes:
        tasks: by name and version, headline tasks first.
        metrics: what is shown of each task, the leading one first.
        counted: tasks that the mean is over.
        rows: by protocol, best first.
        apart: published numbers of these checkpoints that compare with nothing here.
    """

    tasks: dict[str, TaskRecord]
    metrics: dict[str, tuple[str, ...]]
    counted: tuple[str, ...]
    rows: tuple[Row, ...]
    apart: tuple[Apart, ...]

    @property
    def protocols(self) -> dict[str, list[Row]]:
        """The rows of each protocol."""
        names = dict.fromkeys(row.protocol for row in self.rows)
        return {name: [row for row in self.rows if row.protocol == name] for name in names}

    def frame(self) -> pd.DataFrame:
        """One record for each row, as in `leaderboard.csv`: fractions, and nothing where there is nothing."""
        columns = dict.fromkeys(("rank", *(f"{task}.seeds" for task in self.tasks)), "Int64")
        return pd.DataFrame([self._record(row) for row in self.rows]).astype(columns)

    def _record(self, row: Row) -> dict[str, object]:
        record: dict[str, object] = {
            "rank": row.rank,
            "protocol": row.protocol,
            "checkpoint": row.checkpoint,
            "seeds": row.seeds[0],
            "mean": row.mean,
            "mean_rank": row.mean_rank,
        }
        for task, (lead, *others) in self.metrics.items():
            entry = row.entries.get(task)
            main = entry.metrics[lead] if entry else None
            record |= {
                f"{task}.{lead}": main and main.value,
                f"{task}.{lead}_low": main and main.low,
                f"{task}.{lead}_high": main and main.high,
                **{f"{task}.{name}": entry and entry.metrics[name].value for name in others},
                f"{task}.seeds": entry and entry.seeds,
                f"{task}.over_floor": entry and entry.over_floor,
            }
            if self.has_published(task):
                number = entry.published if entry else None
                record |= {
                    f"{task}.published": number and number.value,
                    f"{task}.over_published": entry and entry.over_published,
                }
        return record

    def has_published(self, task: str) -> bool:
        """Whether a published number compares with an entry of a task."""
        return any(row.entries[task].published for row in self.rows if task in row.entries)


def standings(
    results: Sequence[RunResult],
    published: Sequence[PublishedNumber] = (),
    *,
    metrics: Sequence[str] = (),
    counted: Sequence[str] | None = None,
) -> Standings:
    """The standings that results make.

    Args:
        results: at least one, each on all training samples.
        published: numbers of the literature to stand beside.
        metrics: to show instead of the main metric and those that all tasks share; the first of them leads: ranks,
            means and gaps are of it, and tasks without it are left out.
        counted: tasks, with version, that the mean is over (default: the headline tasks).

    Raises:
        ResultError: if no task has one of the metrics, nothing is ranked by the first, or results of one task are of
            different splits.
    """
    require_one_split(results)
    shown = _shown(results, metrics)
    headline = _headline()
    counts = headline if counted is None else tuple(counted)
    tasks = {result.spec.task_slug: result.spec.task for result in results}
    order = sorted(shown, key=lambda task: (task not in headline, task))
    rows = [_beside(row, published) for row in _over_floors(_rows(results, shown))]
    ranked = _ranked(rows, order, counts)
    return Standings(
        tasks={task: tasks[task] for task in order},
        metrics={task: shown[task] for task in order},
        counted=counts,
        rows=ranked,
        apart=_apart(ranked, published),
    )


def _headline() -> tuple[str, ...]:
    return tuple(f"{task.name}-v{task.version}" for task in catalogue.tasks().values() if task.headline)


def _shown(results: Sequence[RunResult], wanted: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The metrics to show of each task that has the first of those wanted."""
    there: dict[str, set[str]] = {}
    shown = {}
    for result in results:
        there.setdefault(result.spec.task_slug, set(result.metrics["test"])).intersection_update(result.metrics["test"])
    if wanted and wanted[0] in LESS_IS_BETTER:
        raise ResultError(f"less of {wanted[0]!r} is better, and nothing is ranked by it; name another metric first.")
    for metric in wanted:
        if not any(metric in names for names in there.values()):
            known = ", ".join(sorted(set().union(*there.values())))
            raise ResultError(f"no task of these results has the metric {metric!r}; there are {known}.")
    for result in results:
        task, kind = result.spec.task_slug, result.spec.task.kind
        names = dict.fromkeys(wanted or (MAIN_METRIC[kind], *SHARED_METRICS))
        if next(iter(names)) in there[task]:
            shown[task] = tuple(name for name in names if name in there[task])
    return shown


def _rows(results: Sequence[RunResult], shown: dict[str, tuple[str, ...]]) -> list[Row]:
    """Rows with means over seeds, and nothing else yet."""
    runs: dict[tuple[str, str], dict[str, list[RunResult]]] = {}
    for result in results:
        spec = result.spec
        if spec.task_slug in shown:
            by_task = runs.setdefault((spec.protocol_slug, spec.checkpoint.name), {})
            by_task.setdefault(spec.task_slug, []).append(result)
    return [
        Row(
            protocol=protocol,
            checkpoint=checkpoint,
            is_floor=next(iter(by_task.values()))[0].spec.checkpoint.is_floor,
            entries={task: _entry(seeds, shown[task]) for task, seeds in by_task.items()},
        )
        for (protocol, checkpoint), by_task in runs.items()
    ]


def _entry(runs: Sequence[RunResult], metrics: Sequence[str]) -> Entry:
    means = {name: _mean([run.metrics["test"][name] for run in runs]) for name in metrics}
    return Entry(task=runs[0].spec.task, metrics=means, seeds=len(runs))


def _mean(values: Sequence[MetricValue]) -> MetricValue:
    value = fmean(metric.value for metric in values)
    bounds = [(metric.low, metric.high) for metric in values if metric.low is not None and metric.high is not None]
    if len(bounds) < len(values):
        return MetricValue(value=value)
    return MetricValue(value=value, low=fmean(low for low, _ in bounds), high=fmean(high for _, high in bounds))


def _over_floors(rows: Sequence[Row]) -> list[Row]:
    floors: dict[tuple[str, str], float] = {}
    for row in rows:
        if row.is_floor:
            for task, entry in row.entries.items():
                floors[row.protocol, task] = max(entry.lead, floors.get((row.protocol, task), 0.0))
    return [
        row
        if row.is_floor
        else replace(row, entries={task: _over(e, floors.get((row.protocol, task))) for task, e in row.entries.items()})
        for row in rows
    ]


def _over(entry: Entry, floor: float | None) -> Entry:
    return entry if floor is None else replace(entry, over_floor=entry.lead - floor)


def _beside(row: Row, published: Sequence[PublishedNumber]) -> Row:
    own = [number for number in published if number.checkpoint == row.checkpoint]
    entries = {}
    for task, entry in row.entries.items():
        fitting = [number for number in own if not _differences(number, row, entry)]
        entries[task] = replace(entry, published=max(fitting, key=lambda number: number.value, default=None))
    return replace(row, entries=entries)


def _differences(number: PublishedNumber, row: Row, entry: Entry) -> tuple[str, ...]:
    protocol, _, _ = row.protocol.rpartition("-v")
    return differences(number, task=entry.task.name, protocol=protocol, metric=entry.metric)


def _apart(rows: Sequence[Row], published: Sequence[PublishedNumber]) -> tuple[Apart, ...]:
    """The published numbers of these checkpoints on these data sets that compare with no entry."""
    found = []
    for number in published:
        near = [
            Apart(row.checkpoint, task, number, _differences(number, row, entry))
            for row in rows
            for task, entry in row.entries.items()
            if row.checkpoint == number.checkpoint and _dataset(entry.task.name) == _dataset(number.task)
        ]
        if near and (nearest := min(near, key=lambda apart: len(apart.differences))).differences:
            found.append(nearest)
    return tuple(found)


def _dataset(task: str) -> str:
    """What variants of a task have in common."""
    return task.partition("-")[0]


def _ranked(rows: Sequence[Row], tasks: Sequence[str], counted: Sequence[str]) -> tuple[Row, ...]:
    """Rows in their order, with means and ranks."""
    scored = []
    for protocol in sorted({row.protocol for row in rows}):
        members = _with_means([row for row in rows if row.protocol == protocol], counted)
        scores = {row.checkpoint: _score(row, tasks) for row in members}
        known = [score for score in scores.values() if score is not None]
        for row in members:
            score = scores[row.checkpoint]
            rank = None if score is None else 1 + sum(other > score for other in known)
            scored.append(replace(row, rank=rank))
    return tuple(sorted(scored, key=lambda row: _order(row, tasks)))


def _with_means(rows: Sequence[Row], counted: Sequence[str]) -> list[Row]:
    complete = [row for row in rows if counted and all(task in row.entries for task in counted)]
    return [
        replace(
            row,
            mean=fmean(row.entries[task].lead for task in counted),
            mean_rank=fmean(_place(row, complete, task) for task in counted),
        )
        if row in complete
        else row
        for row in rows
    ]


def _place(row: Row, rows: Sequence[Row], task: str) -> float:
    """Its rank among rows on a task; those that tie share the mean of their ranks."""
    own, values = row.entries[task].lead, [other.entries[task].lead for other in rows]
    return sum(value > own for value in values) + (1 + sum(value == own for value in values)) / 2


def _score(row: Row, tasks: Sequence[str]) -> float | None:
    return row.entries[tasks[0]].lead if len(tasks) == 1 else row.mean


def _order(row: Row, tasks: Sequence[str]) -> tuple[object, ...]:
    leads = tuple(-row.entries[task].lead if task in row.entries else 1.0 for task in tasks)
    return row.protocol, row.rank is None, row.rank or 0, leads, row.checkpoint
