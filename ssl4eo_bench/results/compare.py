"""Is A really better than B? Paired tests on the test samples that both were scored on.

Results hold the main metric in resamples that are the same for all of a task's version, so two of them are compared
from their files alone. Other metrics, and McNemar's test, need the scores that runs leave in the cache.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ssl4eo_bench import progress
from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.records import FEW_UNITS, RESAMPLES
from ssl4eo_bench.errors import ResultError
from ssl4eo_bench.metrics.bootstrap import Bootstrap, Metric
from ssl4eo_bench.metrics.paired import Difference, Variance, difference, holm, mcnemar, of_samples, of_seeds
from ssl4eo_bench.results.files import RunResult
from ssl4eo_bench.results.pairs import Pairs
from ssl4eo_bench.results.scores import StoredScores, read_scores, require_scores

LEVEL = 0.05
"""Corrected p values up to this are evidence."""

SAME = 1e-6
"""How far the metric of stored scores may lie from that in the result file."""

CONFOUNDED = (
    "A and B were trained once each, on different samples or from different random numbers: their difference may be "
    "that of the training; run both with several seeds"
)
OF_ONE_SEED = "of one seed: how far another moves the difference is not counted; run both with several seeds"

Verdict = Literal["A is better", "B is better", "no evidence of a difference"]


@dataclass(frozen=True)
class Discordance:
    """Samples on which only one of two runs is right, and McNemar's exact p value."""

    only_a: int
    only_b: int
    p: float


@dataclass(frozen=True)
class Comparison:
    """A against B on one task and setting.

    Attributes:
        task: name and version.
        setting: protocol, and what else tells it from others on the task.
        seeds: of the runs of A and B, pair by pair.
        metric: that is compared.
        samples: of the test split.
        units: how many are drawn with replacement, as wholes.
        units_are: what they are: samples, or clusters of them.
        a: the metric of A, mean over seeds.
        b: the metric of B.
        difference: A minus B.
        low: lower end of its 95 % interval.
        high: upper end.
        p: two-sided, of the hypothesis that there is no difference.
        p_holm: the same, corrected for all comparisons that were made together.
        confounded: whether A and B were trained once each, on different samples or from different random numbers, so
            that nothing tells their difference from that.
        mcnemar: for each pair of runs, where accuracy is compared and the scores are there.
        notes: what a reader should know.
    """

    task: str
    setting: str
    seeds: tuple[tuple[int, int], ...]
    metric: str
    samples: int
    units: int
    units_are: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    confounded: bool
    mcnemar: tuple[Discordance, ...]
    notes: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        """What the corrected p value says."""
        if self.confounded or self.p_holm > LEVEL:
            return "no evidence of a difference"
        return "A is better" if self.difference > 0 else "B is better"


@dataclass(frozen=True)
class _Measured:
    """The metric of the runs of A and B, pair by pair `[S, 2]`, and in the resamples `[S, 2, B]`; what was drawn."""

    values: np.ndarray
    replicates: np.ndarray
    units: int
    units_are: str
    notes: tuple[str, ...] = ()


def compare(pairs: Sequence[Pairs], results: Path, cache_dir: Path) -> list[Comparison]:
    """Compare, and correct the p values for the number of comparisons.

    Args:
        pairs: of runs, as `find_pairs` gives them.
        results: directory that they are from.
        cache_dir: that holds their scores, as far as these are needed.

    Raises:
        ResultError: if scores are needed and absent, cannot be read or do not belong together.
    """
    by_scores = [members for members in pairs if not _is_in_files(members)]
    require_scores([run for members in by_scores for pair in members.runs for run in pair], results, cache_dir)
    compared = []
    for members in pairs:
        if members in by_scores:
            what = f"{members.task} · {members.setting}"
            with progress.stage(what, total=2 * len(members.runs) * RESAMPLES, unit="resamples") as advance:
                measured = _from_scores(members, results, cache_dir, advance)
        else:
            measured = _from_files(members)
        compared.append(_compare(members, measured, *_mcnemar(members, results, cache_dir)))
    corrected = holm([one.p for one in compared]).tolist()
    return [replace(one, p_holm=p) for one, p in zip(compared, corrected, strict=True)]


def _is_in_files(pairs: Pairs) -> bool:
    """Whether the result files hold all that the comparison needs."""
    return all(run.resampled and pairs.metric == run.main_metric for pair in pairs.runs for run in pair)


def _from_files(pairs: Pairs) -> _Measured:
    first = pairs.runs[0][0].resampled
    assert first is not None  # as all of them
    found = [[run.resampled for run in pair if run.resampled] for pair in pairs.runs]
    if {(one.units, one.units_are, len(one.values)) for pair in found for one in pair} != {
        (first.units, first.units_are, len(first.values))
    }:
        a, b = pairs.runs[0]
        raise ResultError(f"{a.spec.path} and {b.spec.path} were resampled differently; run one of them again.")
    return _Measured(
        np.array([[run.metrics["test"][pairs.metric].value for run in pair] for pair in pairs.runs]),
        np.array([[one.values for one in pair] for pair in found]),
        first.units,
        first.units_are,
    )


def _from_scores(pairs: Pairs, results: Path, cache_dir: Path, advance: Callable[[int], None]) -> _Measured:
    scores = [[read_scores(run, results, cache_dir) for run in pair] for pair in pairs.runs]
    ids = _common_ids(pairs, scores)
    spec = pairs.runs[0][0].spec
    units, units_are = catalogue.task(spec.task.name).units(ids)
    bootstrap = Bootstrap(spec.bootstrap_seed, units)

    def replicates(metric: Metric) -> np.ndarray:
        blocks = []
        for weights in bootstrap.weights():
            blocks.append(metric(weights))
            advance(len(weights))
        return np.concatenate(blocks)

    ones = np.ones((1, len(ids)))
    values = np.array([[float(found.metrics[pairs.metric](ones)[0]) for found in pair] for pair in scores])
    return _Measured(
        values,
        np.array([[replicates(found.metrics[pairs.metric]) for found in pair] for pair in scores]),
        int(units.max()) + 1,
        units_are,
        _moved(pairs, *map(float, values.mean(axis=0))),
    )


def _compare(
    pairs: Pairs, measured: _Measured, mcnemar_tests: tuple[Discordance, ...], notes: tuple[str, ...]
) -> Comparison:
    a, b = (float(mean) for mean in measured.values.mean(axis=0))
    found, confounded, of_training = _difference(pairs, measured)
    return Comparison(
        task=pairs.task,
        setting=pairs.setting,
        seeds=tuple((one.spec.seed, other.spec.seed) for one, other in pairs.runs),
        metric=pairs.metric,
        samples=pairs.runs[0][0].counts["test"],
        units=measured.units,
        units_are=measured.units_are,
        a=a,
        b=b,
        difference=found.value,
        low=found.low,
        high=found.high,
        p=found.p,
        p_holm=found.p,
        confounded=confounded,
        mcnemar=mcnemar_tests,
        notes=(_of_units(measured), *of_training, *pairs.notes, *measured.notes, *notes),
    )


def _difference(pairs: Pairs, measured: _Measured) -> tuple[Difference, bool, tuple[str, ...]]:
    """The difference, whether it is confounded with the training, and what to say of the training."""
    differences = measured.values[:, 0] - measured.values[:, 1]
    spread = of_samples((measured.replicates[:, 0] - measured.replicates[:, 1]).mean(axis=0), measured.units)
    parts: list[Variance] = [spread]
    confounded, notes = False, tuple[str, ...]()
    if any(run.spec.seed_matters for pair in pairs.runs for run in pair):
        if len(differences) > 1:
            parts.append(of_seeds(differences.tolist()))
            notes = (f"the spread of the difference over {len(differences)} seeds is counted",)
        else:
            ((one, other),) = pairs.runs
            confounded = one.spec.seed != other.spec.seed and one.spec.seed_matters and other.spec.seed_matters
            notes = (CONFOUNDED if confounded else OF_ONE_SEED,)
    return difference(float(differences.mean()), parts), confounded, notes


def _of_units(measured: _Measured) -> str:
    if measured.units_are == "samples":
        return "samples are drawn one by one, since their ids name no groups of neighbours: intervals may be too narrow"
    few = "; that is few, and little can be told" if measured.units < FEW_UNITS else ""
    return f"drawn are {measured.units:,} {measured.units_are}{few}"


def _common_ids(pairs: Pairs, scores: Sequence[Sequence[StoredScores]]) -> list[str]:
    first = scores[0][0]
    for members, of_members in zip(pairs.runs, scores, strict=True):
        for run, found in zip(members, of_members, strict=True):
            if not (np.array_equal(found.ids, first.ids) and np.array_equal(found.targets, first.targets)):
                raise ResultError(
                    f"{run.spec.path} was scored on other labels than {pairs.runs[0][0].spec.path}; run both again on "
                    "the same data with --force."
                )
    ids: list[str] = first.ids.tolist()
    return ids


def _mcnemar(pairs: Pairs, results: Path, cache_dir: Path) -> tuple[tuple[Discordance, ...], tuple[str, ...]]:
    """McNemar's test of each pair of runs, where the scores are there; and what to say where they are not.

    None for label maps, whose pixels are not independent.
    """
    if pairs.metric != "accuracy" or pairs.runs[0][0].spec.task.kind != "multiclass":
        return (), ()
    try:
        require_scores([run for pair in pairs.runs for run in pair], results, cache_dir)
        scores = [[read_scores(run, results, cache_dir) for run in pair] for pair in pairs.runs]
        _common_ids(pairs, scores)
    except ResultError as error:
        return (), (f"no test of McNemar's: {str(error).rstrip('.')}",)
    found = []
    for a, b in scores:
        assert a.correct is not None  # as for every multiclass task
        assert b.correct is not None
        only_a, only_b = int((a.correct & ~b.correct).sum()), int((b.correct & ~a.correct).sum())
        found.append(Discordance(only_a, only_b, mcnemar(only_a, only_b)))
    return tuple(found), ()


def _moved(pairs: Pairs, a: float, b: float) -> tuple[str, ...]:
    """Says where the scores in the cache are not those that a result file was made from."""

    def of(runs: Sequence[RunResult]) -> float:
        return float(np.mean([run.metrics["test"][pairs.metric].value for run in runs]))

    both = (("A", a, of([a for a, _ in pairs.runs])), ("B", b, of([b for _, b in pairs.runs])))
    return tuple(
        f"the scores of {name} give {pairs.metric} {100 * value:.2f}, its results {100 * mean:.2f}: the cache holds "
        "those of another machine or run"
        for name, value, mean in both
        if abs(value - mean) > SAME
    )
