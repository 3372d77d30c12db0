"""Which results of A and of B compare: those on the same test samples."""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from ssl4eo_bench.errors import ResultError, UnknownNameError, shortlist
from ssl4eo_bench.results.files import RunFilter, RunResult, find_result, read_results
from ssl4eo_bench.results.frame import distinct, frame_of, select

BIASED = frozenset({"ece"})
"""Metrics that resampling adds to, so that their bootstrap intervals are wrong."""

NOT_OF_CONFUSIONS = frozenset({"micro_map", "macro_map"})
"""Metrics of label maps that the kept confusions do not give."""


@dataclass(frozen=True)
class Pairs:
    """Runs of A and B on one task, and the metric to compare: of checkpoints, a pair for each seed that both have."""

    runs: tuple[tuple[RunResult, RunResult], ...]
    metric: str
    notes: tuple[str, ...] = ()

    @property
    def task(self) -> str:
        """The task with its version."""
        return self.runs[0][0].spec.task_slug

    @property
    def setting(self) -> str:
        """Protocol, fraction and marks of the runs."""
        return " / ".join(dict.fromkeys(map(_setting, self.runs[0])))


def find_pairs(results: Path, a: str, b: str, wanted: RunFilter, metric: str | None = None) -> list[Pairs]:
    """The runs that compare, by task and setting.

    Two checkpoints are compared in every setting that both were run in; in those marked as sample, partial or limited
    only where there are no others. Two single results, named as `find_result` takes them, may differ in protocol, seed
    and fraction. Without a metric, the main one of each task is compared.

    Raises:
        ResultError: if A or B is not there, they are the same, or nothing of theirs compares.
        UnknownNameError: if there is no such metric.
    """
    if a == b:
        raise ResultError(f"A and B are both {a}; name two checkpoints, or two single results.")
    frame = frame_of(read_results(results))
    named = set(frame["checkpoint"])
    if {a, b} <= named:
        pairs = _of_checkpoints(a, b, select(frame, wanted), metric)
    else:
        single = {name: _single(results, name, named) for name in sorted((a, b), key=named.__contains__)}
        pairs = [_of_single(single[a], single[b], wanted, metric)]
    for members in pairs:
        for pair in members.runs:
            _require_same_samples(*pair)
    return _with_metric(pairs)


def _of_checkpoints(a: str, b: str, frame: pd.DataFrame, metric: str | None) -> list[Pairs]:
    """A pair of runs for each seed, in every setting that both have."""
    of_a, of_b = (_by_setting(frame[frame["checkpoint"] == name]) for name in (a, b))
    found = [_of_setting(of_a[where], of_b[where], metric) for where in of_a.keys() & of_b.keys()]
    pairs = sorted(filter(None, found), key=lambda one: [pair[0].spec.path for pair in one.runs])
    if not pairs:
        raise ResultError(
            f"nothing of {a} and {b} compares: A has {_listed(of_a)}, B has {_listed(of_b)}; run both on the same task "
            "and version with the same protocol, seed and fraction, and alike with --sample, --partial and --limit."
        )
    return [one for one in pairs if not one.runs[0][0].spec.marks] or pairs


def _by_setting(runs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The runs of one checkpoint by task and setting."""
    settings = [f"{run.spec.task_slug} {_setting(run)}" for run in runs["result"]]
    return {str(setting): of for setting, of in runs.assign(setting=settings).groupby("setting")}


def _of_setting(a: pd.DataFrame, b: pd.DataFrame, metric: str | None) -> Pairs | None:
    """Pairs of one seed each; a run that no seed can change pairs with every seed of the other."""
    notes: list[str] = []
    if a["seed_matters"].all() and b["seed_matters"].all():
        matched = a.merge(b, on="seed")
        for name, these, others in (("A", a["seed"], b["seed"]), ("B", b["seed"], a["seed"])):
            if alone := sorted(set(these) - set(others)):
                notes.append(f"only {name} has seed {shortlist(map(str, alone))}, which is left out")
    else:
        matched = distinct(a).merge(distinct(b), how="cross")
    runs = zip(matched["result_x"], matched["result_y"], strict=True)
    ordered = tuple(sorted(runs, key=lambda pair: (pair[0].spec.seed, pair[1].spec.seed)))
    return Pairs(ordered, metric or a["main_metric"].iloc[0], tuple(notes)) if ordered else None


def _of_single(a: RunResult, b: RunResult, wanted: RunFilter, metric: str | None) -> Pairs:
    if a.digest == b.digest:
        raise ResultError(f"A and B are both {a.spec.path}; name two results.")
    if not (wanted.matches(a) and wanted.matches(b)):
        raise ResultError("the two results are not of the task, protocol or fraction that was asked for.")
    return Pairs(((a, b),), metric or a.main_metric)


def _single(results: Path, name: str, checkpoints: set[str]) -> RunResult:
    if name in checkpoints:
        raise ResultError(
            f"{name} is a checkpoint and the other is a result; name two checkpoints, or two single results."
        )
    try:
        return find_result(results, name)
    except ResultError:
        if close := get_close_matches(name, checkpoints, n=1):
            raise ResultError(f"no checkpoint in {results} is called {name!r}; did you mean {close[0]!r}?") from None
        raise


def _setting(run: RunResult) -> str:
    spec = run.spec
    fraction = () if spec.fraction is None else (f"{spec.fraction:g} of train",)
    return ", ".join((spec.protocol_slug, *fraction, *spec.marks))


def _listed(settings: dict[str, pd.DataFrame]) -> str:
    found = [f"{where} (seed {shortlist(map(str, sorted(of['seed'])))})" for where, of in settings.items()]
    return shortlist(found) or "no run of what was asked for"


def _require_same_samples(a: RunResult, b: RunResult) -> None:
    if a.spec.task_slug != b.spec.task_slug:
        raise ResultError(
            f"A is on {a.spec.task_slug} and B on {b.spec.task_slug}; only numbers on one version of one task compare."
        )
    if a.spec.task.splits != b.spec.task.splits:
        raise ResultError(
            f"{a.spec.path} and {b.spec.path} were run on different samples; run one of them again on the data of the "
            "other."
        )


def _with_metric(pairs: list[Pairs]) -> list[Pairs]:
    """The pairs that have their metric; a metric that was asked for need not exist on every task."""
    known = [_known(members.runs[0][0]) for members in pairs]
    if not any(members.metric in names for members, names in zip(pairs, known, strict=True)):
        measured = any(members.metric in members.runs[0][0].metrics["test"] for members in pairs)
        hint = "; docs/results.md says why it is not compared" if measured else ""
        raise UnknownNameError("metric", pairs[0].metric, set().union(*known), hint=hint)
    return [members for members, names in zip(pairs, known, strict=True) if members.metric in names]


def _known(run: RunResult) -> frozenset[str]:
    names = frozenset(run.metrics["test"]) - BIASED
    return names - NOT_OF_CONFUSIONS if run.spec.task.kind == "segmentation" else names
