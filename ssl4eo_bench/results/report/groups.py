"""The results that a report is about, by task and protocol, and what they were made with."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.canonical import digest
from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.records import Cost
from ssl4eo_bench.config.task import metric_label
from ssl4eo_bench.results.figure_style import SeriesStyle
from ssl4eo_bench.results.files import RunResult

BEST = 6
"""Checkpoints of a task and protocol that figures show, beside the floors."""

FLOORS = 3


@dataclass(frozen=True)
class ShownCheckpoint:
    """A checkpoint in the figures, with its style, the same in all of them.

    `run` stands for it: of those on the most training samples, the run of the lowest seed.
    """

    name: str
    style: SeriesStyle
    run: RunResult


@dataclass(frozen=True, eq=False)
class RunGroup:
    """The runs of a task and protocol (with versions), by checkpoint, fraction and seed.

    The title of the task is empty if it is not in the catalogue any more. The checkpoints `shown` in figures are best
    first, floors last.
    """

    task: str
    protocol: str
    title: str
    frame: pd.DataFrame
    shown: tuple[ShownCheckpoint, ...]

    @property
    def name(self) -> str:
        """Task and protocol as in file names."""
        return f"{self.task}.{self.protocol}"

    @property
    def runs(self) -> list[RunResult]:
        """The results by checkpoint, fraction and seed."""
        return list(self.frame["result"])

    @property
    def metric(self) -> str:
        """The main metric of the task, as people write it."""
        return metric_label(self.runs[0].main_metric)

    @property
    def kind(self) -> str:
        """The kind of labels of the task."""
        return self.runs[0].spec.task.kind

    @property
    def best(self) -> list[ShownCheckpoint]:
        """Those with figures of their own: the best three, and the best floor."""
        floors = [one for one in self.shown if one.style.floor]
        return [*[one for one in self.shown if not one.style.floor][:3], *floors[:1]]


def groups_of(frame: pd.DataFrame) -> list[RunGroup]:
    """Runs by task and protocol. A checkpoint has one style in all of them."""
    titles = {name: task.title for name, task in catalogue.tasks().items()}
    numbers: dict[str, int] = {}
    groups = []
    for (task, protocol), unsorted in frame.groupby(["task", "protocol"]):
        runs = unsorted.sort_values(["checkpoint", "fraction", "seed"])
        shown = [
            ShownCheckpoint(
                run.spec.checkpoint.name,
                SeriesStyle(numbers.setdefault(run.spec.checkpoint.name, len(numbers)), run.spec.checkpoint.is_floor),
                run,
            )
            for run in _best(runs)
        ]
        title = titles.get(shown[0].run.spec.task.name, "")
        groups.append(RunGroup(str(task), str(protocol), title, runs, tuple(shown)))
    return groups


def _best(runs: pd.DataFrame) -> list[RunResult]:
    """One run of each of the best checkpoints, by the main metric on the most training samples, and of the floors."""
    checkpoints = runs.groupby("checkpoint")
    most = runs[runs["fraction"] == checkpoints["fraction"].transform("max")].groupby("checkpoint")
    ranked = most.agg(
        score=(runs["main_metric"].iloc[0], "mean"), is_floor=("is_floor", "first"), result=("result", "first")
    ).sort_values("score", ascending=False, kind="stable")
    best, floors = ranked[~ranked["is_floor"]], ranked[ranked["is_floor"]]
    return [*best["result"][:BEST], *floors["result"][:FLOORS]]


def environments_of(results: Sequence[RunResult]) -> list[list[RunResult]]:
    """Runs that were made with the same code, versions, device and threads; in the order of their first runs."""
    fields = {"versions", "commit", "dirty", "device", "runners", "threads"}
    found: dict[str, list[RunResult]] = {}
    for result in sorted(results, key=lambda result: (result.provenance.started, result.digest)):
        found.setdefault(digest(result.provenance.model_dump(include=fields)), []).append(result)
    return list(found.values())


@dataclass(frozen=True)
class RunCheckpoint:
    """A checkpoint as it was run.

    Attributes:
        weights: the sha256 sums of its parameters: several where these differ by run.
        costs: of its backbone: several where tasks differ in bands, or in what a feature is of.
    """

    entry: Checkpoint
    weights: list[str]
    costs: list[Cost]


def checkpoints_of(results: Sequence[RunResult]) -> list[RunCheckpoint]:
    """The distinct checkpoints by name."""
    found: dict[tuple[str, str], list[RunResult]] = {}
    for result in results:
        checkpoint = result.spec.checkpoint
        found.setdefault((checkpoint.name, checkpoint.model_dump_json()), []).append(result)
    return [
        RunCheckpoint(
            entry=runs[0].spec.checkpoint,
            weights=sorted({sha for run in runs for sha in run.provenance.weights_sha256}),
            costs=list(dict.fromkeys(run.provenance.cost for run in runs if run.provenance.cost)),
        )
        for _, runs in sorted(found.items())
    ]


def warnings_of(results: Sequence[RunResult]) -> dict[str, list[str]]:
    """The runs that have each warning: by task, protocol and checkpoint, with their number."""
    found: dict[str, Counter[str]] = {}
    for result in results:
        name = f"{result.spec.task_slug} · {result.spec.protocol_slug} · {result.spec.checkpoint.name}"
        for text in result.warnings:
            found.setdefault(text, Counter())[name] += 1
    return {
        text: [f"{name}, {runs} runs" if runs > 1 else name for name, runs in sorted(counts.items())]
        for text, counts in sorted(found.items())
    }


def left_out(results: Iterable[RunResult], *, sample: bool) -> list[str]:
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
