"""Which results of A and of B compare: those on the same test samples."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from ssl4eo_bench.config.task import MAIN_METRIC
from ssl4eo_bench.errors import ResultError, UnknownNameError, shortlist
from ssl4eo_bench.results.files import RunResult, find_result, read_results
from ssl4eo_bench.results.selection import is_of

BIASED = frozenset({"ece"})
"""A sum of absolute gaps, which grow with the noise of resampling: its intervals would not be of it."""

NOT_OF_CONFUSIONS = frozenset({"micro_map", "macro_map"})
"""Of label maps, only confusions are kept."""


@dataclass(frozen=True)
class Choice:
    """Which comparisons are wanted; what is empty chooses all.

    Attributes:
        tasks: names, with or without version.
        protocols: names, with or without version.
        fractions: of the training samples; 1 is all of them.
        metric: name; none for the main metric of each task.
    """

    tasks: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    fractions: tuple[float, ...] = ()
    metric: str | None = None

    def holds(self, run: RunResult) -> bool:
        """Whether a result is wanted."""
        return is_of(run, tasks=self.tasks, protocols=self.protocols, fractions=self.fractions)


@dataclass(frozen=True)
class Pairs:
    """Runs of A and B on one task: of two checkpoints, a pair for each seed that both have.

    Attributes:
        runs: of A and of B.
        metric: to be compared.
        notes: what a reader should know.
    """

    runs: tuple[tuple[RunResult, RunResult], ...]
    metric: str
    notes: tuple[str, ...] = ()

    @property
    def task(self) -> str:
        """Name and version."""
        return self.runs[0][0].spec.task_slug

    @property
    def setting(self) -> str:
        """The protocol, and what else tells these runs from others on the task."""
        return " / ".join(dict.fromkeys(map(_setting, self.runs[0])))


def find_pairs(results: Path, a: str, b: str, choice: Choice) -> list[Pairs]:
    """The runs that compare, by task and setting.

    Two checkpoints are compared in every setting that both were run in; in those marked as sample, partial or limited
    only where there are no others. Two single results may differ in protocol, seed and fraction.

    Args:
        results: directory.
        a: a checkpoint, or a single result as `find_result` takes it.
        b: another one.
        choice: which of them are wanted.

    Raises:
        ResultError: if A or B is not there, they are the same, or nothing of theirs compares.
        UnknownNameError: if there is no such metric.
    """
    if a == b:
        raise ResultError(f"A and B are both {a}; name two checkpoints, or two single results.")
    found = read_results(results)
    named = {run.spec.checkpoint.name for run in found}
    if {a, b} <= named:
        pairs = _of_checkpoints(a, b, [run for run in found if choice.holds(run)], choice)
    else:
        pairs = [_of_single(_single(results, a, named), _single(results, b, named), choice)]
    for members in pairs:
        for pair in members.runs:
            _require_same_samples(*pair)
    return _with_metric(pairs)


def _of_checkpoints(a: str, b: str, found: Sequence[RunResult], choice: Choice) -> list[Pairs]:
    """A pair of runs for each seed, in every setting that both have."""
    of_a, of_b = (_by_setting(run for run in found if run.spec.checkpoint.name == name) for name in (a, b))
    pairs = [
        _pairs(runs, choice, _alone(of_a[where], of_b[where]))
        for where in of_a.keys() & of_b.keys()
        if (runs := _matched(of_a[where], of_b[where]))
    ]
    if not pairs:
        raise ResultError(
            f"nothing of {a} and {b} compares: A has {_listed(of_a)}, B has {_listed(of_b)}; run both on the same task "
            "and version with the same protocol, seed and fraction."
        )
    pairs.sort(key=lambda members: [pair[0].spec.path for pair in members.runs])
    return [members for members in pairs if not members.runs[0][0].spec.marks] or pairs


def _matched(of_a: dict[int, RunResult], of_b: dict[int, RunResult]) -> tuple[tuple[RunResult, RunResult], ...]:
    """Pairs of one seed each; a run that no seed can change pairs with every seed of the other."""
    fixed_a, fixed_b = _fixed(of_a), _fixed(of_b)
    if fixed_a and fixed_b:
        return ((fixed_a, fixed_b),)
    seeds = of_b.keys() if fixed_a else of_a.keys() if fixed_b else of_a.keys() & of_b.keys()
    return tuple((fixed_a or of_a[seed], fixed_b or of_b[seed]) for seed in sorted(seeds))


def _fixed(by_seed: dict[int, RunResult]) -> RunResult | None:
    """The run of the first seed, if no seed can give another number."""
    first = by_seed[min(by_seed)]
    return None if first.spec.seed_matters else first


def _of_single(a: RunResult, b: RunResult, choice: Choice) -> Pairs:
    if a.digest == b.digest:
        raise ResultError(f"A and B are both {a.spec.path}; name two results.")
    if not (choice.holds(a) and choice.holds(b)):
        raise ResultError("the two results are not of the task, protocol or fraction that was asked for.")
    return _pairs(((a, b),), choice)


def _single(results: Path, name: str, checkpoints: set[str]) -> RunResult:
    if name in checkpoints:
        raise ResultError(f"{name} is a checkpoint and the other is none; name two checkpoints, or two single results.")
    try:
        return find_result(results, name)
    except ResultError:
        if close := get_close_matches(name, checkpoints, n=1):
            raise ResultError(f"no checkpoint in {results} is called {name!r}; did you mean {close[0]!r}?") from None
        raise


def _pairs(runs: tuple[tuple[RunResult, RunResult], ...], choice: Choice, notes: tuple[str, ...] = ()) -> Pairs:
    return Pairs(runs, choice.metric or MAIN_METRIC[runs[0][0].spec.task.kind], notes)


def _setting(run: RunResult) -> str:
    spec = run.spec
    fraction = () if spec.fraction is None else (f"{spec.fraction:g} of train",)
    return ", ".join((spec.protocol_slug, *fraction, *spec.marks))


def _by_setting(runs: Iterable[RunResult]) -> dict[str, dict[int, RunResult]]:
    """Runs by task and setting, and by seed."""
    found: dict[str, dict[int, RunResult]] = {}
    for run in runs:
        found.setdefault(f"{run.spec.task_slug} {_setting(run)}", {})[run.spec.seed] = run
    return found


def _alone(of_a: dict[int, RunResult], of_b: dict[int, RunResult]) -> tuple[str, ...]:
    """Says which seeds only one of them has, where they matter."""
    if _fixed(of_a) or _fixed(of_b):
        return ()
    return tuple(
        f"only {name} has seed {shortlist(map(str, seeds))}, which is left out"
        for name, seeds in (("A", sorted(of_a.keys() - of_b.keys())), ("B", sorted(of_b.keys() - of_a.keys())))
        if seeds
    )


def _listed(settings: dict[str, dict[int, RunResult]]) -> str:
    found = [f"{where} (seed {shortlist(map(str, sorted(runs)))})" for where, runs in sorted(settings.items())]
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
    """Those that have the metric: a metric that was asked for need not be of every task."""
    known = [_known(members.runs[0][0]) for members in pairs]
    if not any(members.metric in names for members, names in zip(pairs, known, strict=True)):
        measured = any(members.metric in members.runs[0][0].metrics["test"] for members in pairs)
        hint = "; docs/results.md says why it is not compared" if measured else ""
        raise UnknownNameError("metric", pairs[0].metric, set().union(*known), hint=hint)
    return [members for members, names in zip(pairs, known, strict=True) if members.metric in names]


def _known(run: RunResult) -> frozenset[str]:
    names = frozenset(run.metrics["test"]) - BIASED
    return names - NOT_OF_CONFUSIONS if run.spec.task.kind == "segmentation" else names
