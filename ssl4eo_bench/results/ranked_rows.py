"""Making the leaderboard of runs: means over seeds, ranks, floors, and published numbers beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean, stdev

import pandas as pd

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.protocols import is_for
from ssl4eo_bench.config.records import MetricValue
from ssl4eo_bench.config.task import LESS_IS_BETTER, SHARED_METRICS, Kind
from ssl4eo_bench.errors import ResultError, guess
from ssl4eo_bench.results.files import RunResult
from ssl4eo_bench.results.frame import distinct, metric_names, require_one_split, unversioned
from ssl4eo_bench.results.leaderboard import Entry, Leaderboard, Row, UnmatchedNumber
from ssl4eo_bench.results.paired_ranks import Ranks, mean_score, rank_ranges, score_of
from ssl4eo_bench.results.published import PublishedNumber


def make_leaderboard(
    frame: pd.DataFrame,
    published: Sequence[PublishedNumber] = (),
    *,
    metrics: Sequence[str] = (),
    counted: Sequence[str] | None = None,
) -> Leaderboard:
    """The leaderboard of runs.

    Args:
        frame: of `frame_of`, at least one run, each on all training samples.
        published: numbers of the literature to stand beside.
        metrics: to show instead of the main metric and those that all tasks share; the first of them leads: ranks,
            means and gaps are of it, and tasks without it are left out.
        counted: tasks, with version, that the mean is over (default: the headline tasks).

    Raises:
        ResultError: if no task has one of the metrics, nothing is ranked by the first, or results of one task are of
            different splits.
    """
    require_one_split(frame["result"])
    shown = _shown_metrics(frame, metrics)
    headline = headline_tasks()
    order = sorted(shown, key=lambda task: (task not in headline, task))
    kinds = dict(zip(frame["task"], frame["kind"], strict=True))
    kinds = headline if counted is None else {task: kinds[task] for task in counted}
    counts: dict[str, tuple[str, ...]] = {}
    rows: list[Row] = []
    for name, runs in frame[frame["task"].isin(list(shown))].groupby("protocol", sort=False):
        protocol = str(name)
        counts[protocol] = tuple(task for task, kind in kinds.items() if is_for(unversioned(protocol), kind))
        rows += _rows(runs, shown, counts[protocol], published)
    rows.sort(key=lambda row: _sort_key(row, order))
    return Leaderboard(
        metrics={task: shown[task] for task in order},
        counted=counts,
        untested=sum(result.resampled is None for result in frame["result"]),
        rows=tuple(rows),
        unmatched=_unmatched(rows, published),
    )


def headline_tasks() -> dict[str, Kind]:
    """The kinds of labels of the tasks that means are over unless others are named, by task with its version."""
    return {f"{task.name}-v{task.version}": task.kind for task in catalogue.tasks().values() if task.headline}


def _shown_metrics(frame: pd.DataFrame, wanted: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The metrics to show of each task: those that all of its runs have, for tasks with the first of those wanted."""
    tasks = {str(task): runs for task, runs in frame.groupby("task", sort=False)}
    there = {task: {name for name in metric_names(runs) if runs[name].notna().all()} for task, runs in tasks.items()}
    if wanted and wanted[0] in LESS_IS_BETTER:
        raise ResultError(f"less of {wanted[0]!r} is better, and nothing is ranked by it; name another metric first.")
    for metric in wanted:
        if not any(metric in names for names in there.values()):
            known = sorted(set().union(*there.values()))
            cure = guess(metric, known) or f"; there are {', '.join(known)}."
            raise ResultError(f"no task of these results has the metric {metric!r}{cure}")
    shown = {}
    for task, runs in tasks.items():
        names = dict.fromkeys(wanted or (runs["main_metric"].iloc[0], *SHARED_METRICS))
        if next(iter(names)) in there[task]:
            shown[task] = tuple(name for name in names if name in there[task])
    return shown


def _rows(
    runs: pd.DataFrame,
    shown: Mapping[str, Sequence[str]],
    counted: Sequence[str],
    published: Sequence[PublishedNumber],
) -> list[Row]:
    """The rows of one protocol, with means over the counted tasks and ranks."""
    by_task = {str(task): _entries(of, shown[str(task)], published) for task, of in runs.groupby("task", sort=False)}
    rows = [
        Row(checkpoint=checkpoint, entries={task: of[name] for task, of in by_task.items() if name in of})
        for name, checkpoint in {run.spec.checkpoint.name: run.spec.checkpoint for run in runs["result"]}.items()
    ]
    complete = [row for row in rows if counted and row.entries.keys() >= set(counted)]
    scores = [mean_score([row.entries[task].score for task in counted]) for row in complete]
    ranks: Mapping[Row, Ranks | None] = {}
    if len(shown) == 1:
        ranks = {row: entry.ranks for row in rows for entry in row.entries.values()}
    elif all(row.entries[task].ranks for row in complete for task in counted):
        ranks = dict(zip(complete, rank_ranges(scores), strict=True))
    means = dict(zip(complete, (score.value for score in scores), strict=True))
    return [replace(row, mean=means.get(row), ranks=ranks.get(row)) for row in rows]


def _entries(runs: pd.DataFrame, metrics: Sequence[str], published: Sequence[PublishedNumber]) -> dict[str, Entry]:
    """The entries of one task and protocol, by checkpoint."""
    grouped: dict[str, list[RunResult]] = {}
    for result in distinct(runs)["result"]:
        grouped.setdefault(result.spec.checkpoint.name, []).append(result)
    entries = {name: _entry(results, metrics) for name, results in grouped.items()}
    ranks: list[Ranks | None] = [None] * len(entries)
    if metrics[0] == runs["main_metric"].iloc[0]:
        ranks = list(rank_ranges([entry.score for entry in entries.values()]))
    floors = [entry for entry in entries.values() if entry.spec.checkpoint.is_floor]
    best = max(floors, key=lambda entry: entry.lead.value, default=None)
    return {
        name: replace(
            entry,
            ranks=of_entry,
            floor=None if entry.spec.checkpoint.is_floor else best,
            published=_highest_matching(entry, published),
        )
        for (name, entry), of_entry in zip(entries.items(), ranks, strict=True)
    }


def _entry(runs: Sequence[RunResult], metrics: Sequence[str]) -> Entry:
    """Means over the runs of one checkpoint, which differ by their seeds."""
    values = [run.metrics["test"][metrics[0]].value for run in runs]
    return Entry(
        spec=runs[0].spec,
        metrics={name: _mean([run.metrics["test"][name] for run in runs]) for name in metrics},
        seeds=len(runs),
        deviation=stdev(values) if len(values) > 1 else None,
        cost=next((run.provenance.cost for run in runs if run.provenance.cost), None),
        images_per_second=max(runs, key=lambda run: run.provenance.features_computed).images_per_second,
        score=score_of(runs, metrics[0]),
    )


def _mean(found: Sequence[MetricValue]) -> MetricValue:
    """The mean of a metric and of the bounds of its intervals; without bounds if a run has none."""
    bounds = [(one.low, one.high) for one in found if one.low is not None and one.high is not None]
    low, high = map(fmean, zip(*bounds, strict=True)) if len(bounds) == len(found) else (None, None)
    return MetricValue(value=fmean(one.value for one in found), low=low, high=high)


def _highest_matching(entry: Entry, published: Sequence[PublishedNumber]) -> PublishedNumber | None:
    """The highest published number of a checkpoint that compares with its entry."""
    own = [number for number in published if number.checkpoint == entry.spec.checkpoint.name]
    matching = [number for number in own if not entry.differences_from(number)]
    return max(matching, key=lambda number: number.value, default=None)


def _unmatched(rows: Sequence[Row], published: Sequence[PublishedNumber]) -> tuple[UnmatchedNumber, ...]:
    """The published numbers of these checkpoints on these data sets that compare with no entry."""
    found = []
    entries: dict[str, list[Entry]] = {}
    for row in rows:
        entries.setdefault(row.name, []).extend(row.entries.values())
    for number in published:
        near = [
            UnmatchedNumber(number, entry.spec.task_slug, entry.differences_from(number))
            for entry in entries.get(number.checkpoint, ())
            if _dataset(entry.spec.task.name) == _dataset(number.task)
        ]
        if near and (nearest := min(near, key=lambda one: len(one.differences))).differences:
            found.append(nearest)
    return tuple(found)


def _sort_key(row: Row, tasks: Sequence[str]) -> tuple[object, ...]:
    """By protocol; within it those with a mean first, by the mean, then by the leading metrics, then by name."""
    leads = tuple(-row.entries[task].lead.value if task in row.entries else 1.0 for task in tasks)
    return row.protocol, row.mean is None, -(row.mean or 0.0), leads, row.name


def _dataset(task: str) -> str:
    """What variants of a task have in common: `eurosat` of `eurosat-rgb-v1`."""
    return task.partition("-")[0]
