"""The leaderboard: every checkpoint on every task, by protocol, with ranks, floors and published numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.records import Cost, MetricValue
from ssl4eo_bench.config.run_spec import RunSpec
from ssl4eo_bench.config.task import metric_label
from ssl4eo_bench.results.paired_ranks import Ranks, Score
from ssl4eo_bench.results.published import PublishedNumber, differences

FIRST_COLUMNS = ("rank_first", "rank_last", "protocol", "checkpoint")
"""Of `leaderboard.csv`: generated files are recognised by them."""

STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
"""Between the ticks of an axis."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One checkpoint on one task, by one protocol.

    Attributes:
        spec: of its first run; the others differ by their seeds.
        metrics: means over seeds by name, the leading one first. The bounds of an interval are the means of the
            seeds' bounds; docs/results.md says what such an interval covers.
        seeds: number of runs.
        deviation: the standard deviation of the leading metric over seeds; none for a single one.
        images_per_second: that features were computed at, in the run that computed the most.
        score: the leading metric as ranks need it.
        ranks: on the task, in its protocol; none where the leading metric is not the main one.
        floor: the entry of the best floor; none for floors, and where no floor was run.
        published: the highest published number that compares with the leading metric.
    """

    spec: RunSpec
    metrics: dict[str, MetricValue]
    seeds: int
    deviation: float | None
    cost: Cost | None
    images_per_second: float | None
    score: Score = field(repr=False)
    ranks: Ranks | None = None
    floor: "Entry | None" = None
    published: PublishedNumber | None = None

    @property
    def lead(self) -> MetricValue:
        """The metric that the board is ranked by."""
        return next(iter(self.metrics.values()))

    @property
    def over_floor(self) -> float | None:
        """The leading metric minus that of the best floor."""
        return None if self.floor is None else self.lead.value - self.floor.lead.value

    @property
    def over_published(self) -> float | None:
        """The leading metric minus the published number."""
        return None if self.published is None else self.lead.value - self.published.value

    def differences_from(self, number: PublishedNumber) -> tuple[str, ...]:
        """Why a published number does not compare with the leading metric; nothing if it does."""
        metric = next(iter(self.metrics))
        return differences(number, task=self.spec.task.name, protocol=self.spec.protocol.name, metric=metric)


@dataclass(frozen=True, eq=False)
class Row:
    """One checkpoint in one protocol, with its entries by task.

    Attributes:
        mean: of the leading metrics over the tasks that count; none unless every one of them is there.
        ranks: in its protocol, by the mean, or by the only task; none without that value.
    """

    checkpoint: Checkpoint
    entries: dict[str, Entry]
    mean: float | None = None
    ranks: Ranks | None = None

    @property
    def protocol(self) -> str:
        """The protocol with its version."""
        return next(iter(self.entries.values())).spec.protocol_slug

    @property
    def name(self) -> str:
        """The name of the checkpoint."""
        return self.checkpoint.name

    @property
    def cost(self) -> Cost | None:
        """The cost on the task where it is highest: tasks differ in bands, and in what a feature is of."""
        costs = [entry.cost for entry in self.entries.values() if entry.cost]
        return max(costs, key=lambda cost: (cost.flops or 0, cost.width), default=None)

    @property
    def images_per_second(self) -> float | None:
        """Images per second on the task where they are most."""
        rates = [entry.images_per_second for entry in self.entries.values() if entry.images_per_second]
        return max(rates, default=None)

    @property
    def seeds(self) -> tuple[int, int]:
        """Fewest and most seeds of a task."""
        counts = [entry.seeds for entry in self.entries.values()]
        return min(counts), max(counts)


@dataclass(frozen=True)
class Column:
    """A metric of a task, and an axis, from its first tick to its last, that holds values and bounds of all rows."""

    task: str
    metric: str
    leads: bool
    ticks: tuple[float, ...]

    @property
    def label(self) -> str:
        """The metric as people write it."""
        return metric_label(self.metric)

    def place(self, value: float) -> float:
        """Where a value lies on the axis, in percent."""
        return round(100 * (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0]), 2)


def ticks_around(low: float, high: float) -> tuple[float, ...]:
    """Round numbers, at most six, in even steps from below `low` to above `high`."""
    for step in STEPS:
        first, last = math.floor(round(low / step, 6)), math.ceil(round(high / step, 6))
        if last - first <= 5:
            break
    return tuple(round(number * step, 4) for number in range(first, max(last, first + 1) + 1))


@dataclass(frozen=True)
class UnmatchedNumber:
    """A published number that compares with nothing on the leaderboard.

    `task` is that of the entry of the same checkpoint that differs least; see `published.differences`.
    """

    number: PublishedNumber
    task: str
    differences: tuple[str, ...]

    @property
    def about(self) -> str:
        """Checkpoint and task, for people."""
        return f"{self.number.checkpoint} on {self.task}"


@dataclass(frozen=True)
class Leaderboard:
    """All rows, by protocol and best first, and what is shown of them.

    Attributes:
        metrics: by task and version, headline tasks first; the leading metric comes first.
        counted: tasks that the mean is over, by protocol.
        untested: number of runs that take part in no paired test, since files of schema 1 have no replicates.
    """

    metrics: dict[str, tuple[str, ...]]
    counted: dict[str, tuple[str, ...]]
    untested: int
    rows: tuple[Row, ...]
    unmatched: tuple[UnmatchedNumber, ...]

    @property
    def tasks(self) -> list[str]:
        """Tasks with their versions, headline tasks first."""
        return list(self.metrics)

    @property
    def protocols(self) -> dict[str, list[Row]]:
        """The rows of each protocol."""
        names = dict.fromkeys(row.protocol for row in self.rows)
        return {name: [row for row in self.rows if row.protocol == name] for name in names}

    @cached_property
    def entries(self) -> list[Entry]:
        """The entries of all rows."""
        return [entry for row in self.rows for entry in row.entries.values()]

    @property
    def has_mean(self) -> bool:
        """Whether a row has all tasks that count."""
        return any(row.mean is not None for row in self.rows)

    @cached_property
    def has_costs(self) -> bool:
        """Whether the cost of a backbone is known."""
        return any(row.cost for row in self.rows)

    @cached_property
    def _published(self) -> set[str]:
        """The tasks with published numbers that compare with an entry."""
        return {entry.spec.task_slug for entry in self.entries if entry.published}

    @property
    def columns(self) -> list[Column]:
        """All metrics of all tasks."""
        return [self._column(task, metric) for task, metrics in self.metrics.items() for metric in metrics]

    def _column(self, task: str, metric: str) -> Column:
        shown = [entry.metrics[metric] for entry in self.entries if entry.spec.task_slug == task]
        bounds = [bound for one in shown for bound in (one.value, one.low, one.high) if bound is not None]
        return Column(task, metric, metric == self.metrics[task][0], ticks_around(min(bounds), max(bounds)))

    def frame(self) -> pd.DataFrame:
        """One record for each row, as in `leaderboard.csv`: fractions, and nothing where there is nothing."""
        whole = (f"{task}.{column}" for task in self.tasks for column in ("rank_first", "rank_last", "seeds", "filled"))
        costs = ("parameters", "flops", "width") if self.has_costs else ()
        columns = dict.fromkeys(("rank_first", "rank_last", *costs, *whole), "Int64")
        return pd.DataFrame([self._record(row) for row in self.rows]).astype(columns)

    def _record(self, row: Row) -> dict[str, object]:
        first, last = row.ranks or (None, None)
        record: dict[str, object] = dict(zip(FIRST_COLUMNS, (first, last, row.protocol, row.name), strict=True))
        record |= {"seeds": row.seeds[0], "mean": row.mean}
        if self.has_costs:
            cost = row.cost.model_dump() if row.cost else dict.fromkeys(Cost.model_fields)
            record |= cost | {"images_per_second": row.images_per_second}
        for task, metrics in self.metrics.items():
            values = _entry_record(row.entries.get(task), metrics, with_published=task in self._published)
            record |= {f"{task}.{name}": value for name, value in values.items()}
        return record


def _entry_record(entry: Entry | None, metrics: Sequence[str], *, with_published: bool) -> dict[str, object]:
    """The cells of `leaderboard.csv` about one task; all of them are empty without an entry."""
    lead, *others = metrics
    main = entry.lead if entry else None
    record: dict[str, object] = {
        lead: main and main.value,
        f"{lead}_low": main and main.low,
        f"{lead}_high": main and main.high,
        f"{lead}_std": entry and entry.deviation,
        **{name: entry and entry.metrics[name].value for name in others},
        "rank_first": entry and entry.ranks and entry.ranks[0],
        "rank_last": entry and entry.ranks and entry.ranks[1],
        "seeds": entry and entry.seeds,
        "filled": entry and len(entry.spec.inputs.filled),
        "over_floor": entry and entry.over_floor,
        "floor": entry and entry.floor and entry.floor.spec.checkpoint.name,
    }
    if with_published:
        number = entry and entry.published
        record |= {"published": number and number.value, "over_published": entry and entry.over_published}
    return record
