"""Who stands where: every checkpoint on every task, by protocol. Leaderboards are drawn from this."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

import numpy as np
import pandas as pd

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.protocols import is_for
from ssl4eo_bench.config.records import MetricValue
from ssl4eo_bench.config.run_spec import TaskRecord
from ssl4eo_bench.config.task import LESS_IS_BETTER, MAIN_METRIC, SHARED_METRICS
from ssl4eo_bench.errors import ResultError
from ssl4eo_bench.metrics.paired import Variance, of_seeds
from ssl4eo_bench.results.files import RunResult
from ssl4eo_bench.results.generated import distinct, require_one_split
from ssl4eo_bench.results.published import PublishedNumber, differences
from ssl4eo_bench.results.ranks import Ranks, Score, rank_ranges


@dataclass(frozen=True)
class Floor:
    """The best checkpoint of a task and protocol in which nothing was learnt.

    Attributes:
        checkpoint: its name.
        value: its leading metric, mean over seeds.
        seeds: how many there are; none where no seed matters.
        deviation: the standard deviation over seeds; none for a single one.
    """

    checkpoint: str
    value: float
    seeds: int | None
    deviation: float | None


@dataclass(frozen=True, eq=False)
class Entry:
    """One checkpoint on one task, by one protocol.

    Attributes:
        task: and its version.
        metrics: means over seeds by name, the leading one first. The bounds of an interval are the means of the
            seeds' bounds; docs/results.md says what such an interval covers.
        seeds: how many runs there are that differ by their seed.
        seed_matters: whether they can differ.
        deviation: the standard deviation of the leading metric over seeds; none for a single one.
        score: of the leading metric, for ranks.
        filled: input bands that the task lacks, and that were zero.
        ranks: on the task, in its protocol; none where the leading metric is not the main one.
        floor: the best floor; none for floors, and where no floor was run.
        published: the highest published number that compares with the leading metric.
    """

    task: TaskRecord
    metrics: dict[str, MetricValue]
    seeds: int
    seed_matters: bool
    deviation: float | None
    score: Score
    filled: tuple[str, ...]
    ranks: Ranks | None = None
    floor: Floor | None = None
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
    def over_floor(self) -> float | None:
        """The leading metric minus that of the best floor."""
        return None if self.floor is None else self.lead - self.floor.value

    @property
    def over_published(self) -> float | None:
        """The leading metric minus the published number."""
        return None if self.published is None else self.lead - self.published.value


@dataclass(frozen=True, eq=False)
class Row:
    """One checkpoint in one protocol, with its entries by task.

    Attributes:
        protocol: and its version.
        checkpoint: its name.
        is_floor: whether nothing was learnt in it.
        entries: by task and version.
        mean: of the leading metrics over the tasks that count; none unless every one of them is there.
        ranks: in its protocol, by the mean, or by the only task; none without that value.
    """

    protocol: str
    checkpoint: str
    is_floor: bool
    entries: dict[str, Entry]
    mean: float | None = None
    ranks: Ranks | None = None

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
        counted: tasks that the mean is over, by protocol.
        untested: runs that take part in no paired test, since their files are of a version without replicates.
        rows: by protocol, best first.
        apart: published numbers of these checkpoints that compare with nothing here.
    """

    tasks: dict[str, TaskRecord]
    metrics: dict[str, tuple[str, ...]]
    counted: dict[str, tuple[str, ...]]
    untested: int
    rows: tuple[Row, ...]
    apart: tuple[Apart, ...]

    @property
    def protocols(self) -> dict[str, list[Row]]:
        """The rows of each protocol."""
        names = dict.fromkeys(row.protocol for row in self.rows)
        return {name: [row for row in self.rows if row.protocol == name] for name in names}

    def frame(self) -> pd.DataFrame:
        """One record for each row, as in `leaderboard.csv`: fractions, and nothing where there is nothing."""
        whole = (f"{task}.{column}" for task in self.tasks for column in ("rank_first", "rank_last", "seeds", "filled"))
        columns = dict.fromkeys(("rank_first", "rank_last", *whole), "Int64")
        return pd.DataFrame([self._record(row) for row in self.rows]).astype(columns)

    def _record(self, row: Row) -> dict[str, object]:
        record: dict[str, object] = {
            "rank_first": row.ranks and row.ranks[0],
            "rank_last": row.ranks and row.ranks[1],
            "protocol": row.protocol,
            "checkpoint": row.checkpoint,
            "seeds": row.seeds[0],
            "mean": row.mean,
        }
        for task, (lead, *others) in self.metrics.items():
            entry = row.entries.get(task)
            main = entry.metrics[lead] if entry else None
            record |= {
                f"{task}.{lead}": main and main.value,
                f"{task}.{lead}_low": main and main.low,
                f"{task}.{lead}_high": main and main.high,
                f"{task}.{lead}_std": entry and entry.deviation,
                **{f"{task}.{name}": entry and entry.metrics[name].value for name in others},
                f"{task}.rank_first": entry and entry.ranks and entry.ranks[0],
                f"{task}.rank_last": entry and entry.ranks and entry.ranks[1],
                f"{task}.seeds": entry and entry.seeds,
                f"{task}.filled": entry and len(entry.filled),
                f"{task}.over_floor": entry and entry.over_floor,
                f"{task}.floor": entry and entry.floor and entry.floor.checkpoint,
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
    headline = {f"{task.name}-v{task.version}": task.kind for task in catalogue.tasks().values() if task.headline}
    tasks = {result.spec.task_slug: result.spec.task for result in results}
    kinds = headline if counted is None else {task: tasks[task].kind for task in counted}
    order = sorted(shown, key=lambda task: (task not in headline, task))
    rows = [_beside(row, published) for row in _over_floors(_rows(results, shown))]
    counts = {
        row.protocol: tuple(task for task, kind in kinds.items() if is_for(row.protocol.rpartition("-v")[0], kind))
        for row in rows
    }
    ranked = _ranked(rows, order, counts)
    return Standings(
        tasks={task: tasks[task] for task in order},
        metrics={task: shown[task] for task in order},
        counted=counts,
        untested=sum(result.resampled is None for result in results),
        rows=ranked,
        apart=_apart(ranked, published),
    )


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
    different = distinct(runs)
    means = {name: _mean([run.metrics["test"][name] for run in different]) for name in metrics}
    values = [run.metrics["test"][metrics[0]].value for run in different]
    return Entry(
        task=runs[0].spec.task,
        metrics=means,
        seeds=len(different),
        seed_matters=runs[0].spec.seed_matters,
        deviation=stdev(values) if len(values) > 1 else None,
        score=_score(different, metrics[0]),
        filled=runs[0].spec.inputs.filled,
    )


def _score(runs: Sequence[RunResult], metric: str) -> Score:
    """What a leading metric is ranked by: replicates are kept of the main metric alone."""
    values = [run.metrics["test"][metric].value for run in runs]
    kept = [run.resampled for run in runs if run.resampled]
    tested = len(kept) == len(runs) and metric == runs[0].main_metric
    return Score(
        value=fmean(values),
        replicates=(np.mean([one.values for one in kept], axis=0) if tested else None,),
        units=(kept[0].units if tested else 1,),
        spread=of_seeds(values) if len(values) > 1 else None,
        alone=(runs[0].spec.seed if len(runs) == 1 and runs[0].spec.seed_matters else None,),
    )


def _mean(values: Sequence[MetricValue]) -> MetricValue:
    value = fmean(metric.value for metric in values)
    bounds = [(metric.low, metric.high) for metric in values if metric.low is not None and metric.high is not None]
    if len(bounds) < len(values):
        return MetricValue(value=value)
    return MetricValue(value=value, low=fmean(low for low, _ in bounds), high=fmean(high for _, high in bounds))


def _over_floors(rows: Sequence[Row]) -> list[Row]:
    floors: dict[tuple[str, str], Floor] = {}
    for row in rows:
        for task, entry in row.entries.items() if row.is_floor else ():
            seeds = entry.seeds if entry.seed_matters else None
            floor = Floor(row.checkpoint, entry.lead, seeds, entry.deviation)
            best = floors.setdefault((row.protocol, task), floor)
            if floor.value > best.value:
                floors[row.protocol, task] = floor
    return [
        row
        if row.is_floor
        else replace(
            row,
            entries={task: replace(e, floor=floors.get((row.protocol, task))) for task, e in row.entries.items()},
        )
        for row in rows
    ]


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


def _ranked(rows: Sequence[Row], tasks: Sequence[str], counted: Mapping[str, Sequence[str]]) -> tuple[Row, ...]:
    """Rows in their order, with means and ranks."""
    ranked = []
    for protocol in sorted({row.protocol for row in rows}):
        members = [row for row in rows if row.protocol == protocol]
        for task in tasks:
            members = _ranked_on(task, members)
        members = _ranked_over(counted[protocol], members)
        if len(tasks) == 1:
            members = [replace(row, ranks=row.entries[tasks[0]].ranks) for row in members]
        ranked += members
    return tuple(sorted(ranked, key=lambda row: _order(row, tasks)))


def _ranked_on(task: str, rows: Sequence[Row]) -> list[Row]:
    """Rows with ranks on a task."""
    entries = {row: row.entries[task] for row in rows if task in row.entries}
    if not any(_is_ranked(entry) for entry in entries.values()):
        return list(rows)
    ranks = dict(zip(entries, rank_ranges([entry.score for entry in entries.values()]), strict=True))
    return [
        replace(row, entries=row.entries | {task: replace(entries[row], ranks=ranks[row])}) if row in entries else row
        for row in rows
    ]


def _is_ranked(entry: Entry) -> bool:
    """Whether the leading metric is the one that results keep replicates of."""
    return entry.metric == MAIN_METRIC[entry.task.kind]


def _ranked_over(tasks: Sequence[str], rows: Sequence[Row]) -> list[Row]:
    """Rows with means, and ranks by them, over tasks; rows that lack one of these have neither."""
    complete = [row for row in rows if tasks and all(task in row.entries for task in tasks)]
    scores = [_joined([row.entries[task].score for task in tasks]) for row in complete]
    ranks = dict(zip(complete, rank_ranges(scores) if scores else (), strict=True))
    ranked = all(_is_ranked(row.entries[task]) for row in complete for task in tasks)
    return [
        replace(row, mean=score.value, ranks=ranks[row] if ranked else None)
        for row, score in zip(complete, scores, strict=True)
    ] + [row for row in rows if row not in ranks]


def _joined(scores: Sequence[Score]) -> Score:
    """The mean of scores on several tasks."""
    spreads = [score.spread for score in scores if score.spread]
    variance = sum(float(spread.value) for spread in spreads) / len(scores) ** 2
    freedom = min((float(spread.freedom) for spread in spreads), default=1.0)
    return Score(
        value=fmean(score.value for score in scores),
        replicates=tuple(one for score in scores for one in score.replicates),
        units=tuple(one for score in scores for one in score.units),
        spread=Variance(variance, freedom) if spreads else None,
        alone=tuple(one for score in scores for one in score.alone),
    )


def _order(row: Row, tasks: Sequence[str]) -> tuple[object, ...]:
    leads = tuple(-row.entries[task].lead if task in row.entries else 1.0 for task in tasks)
    return row.protocol, row.mean is None, -(row.mean or 0.0), leads, row.checkpoint
