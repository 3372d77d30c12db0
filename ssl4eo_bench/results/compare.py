"""Is A really better than B? Paired tests on the test samples that both were scored on.

Result files keep the main metric in resamples that all results of a task's version share, so two of them are compared
from their files alone. Other metrics, and McNemar's test, need the scores that runs leave in the cache.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ssl4eo_bench import progress
from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.records import FEW_UNITS, RESAMPLES
from ssl4eo_bench.config.task import is_own_data, metric_label
from ssl4eo_bench.errors import ResultError
from ssl4eo_bench.metrics.bootstrap import Bootstrap, Metric
from ssl4eo_bench.metrics.paired import Difference, difference, holm, mcnemar, of_samples, of_seeds
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
NO_SCORES = (
    "no test of McNemar's, which needs the scores that runs leave in the cache, and these are not there: `run` with "
    "--force makes them again"
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
    """A against B on one task and setting: the metric of each, mean over seeds, and A minus B with its 95 % interval.

    Attributes:
        setting: protocol, fraction and marks of the runs.
        seeds: of A and B, pair by pair.
        samples: size of the test split.
        units: number of samples or clusters that are drawn with replacement.
        units_are: what these are, in the plural.
        p: two-sided, of the hypothesis that there is no difference.
        p_holm: the same, corrected for all comparisons that were made together.
        confounded: whether A and B were trained once each, on different samples or from different random numbers: their
            difference may be that of the training.
        mcnemar: for each pair of runs, where accuracy is compared and the scores are there.
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


def compare(pairs: Sequence[Pairs], results: Path, cache_dir: Path) -> list[Comparison]:
    """The comparison of each setting that `find_pairs` found, with p values corrected for their number.

    Raises:
        ResultError: if scores are needed and absent, cannot be read or do not belong together.
    """
    by_scores = [one for one in pairs if not _is_in_files(one)]
    require_scores([run for one in by_scores for pair in one.runs for run in pair], results, cache_dir)
    compared = []
    for one in pairs:
        measured = _from_scores(one, results, cache_dir) if one in by_scores else _from_files(one)
        compared.append(_compare(one, measured, *_mcnemar(one, results, cache_dir)))
    corrected = holm([one.p for one in compared]).tolist()
    return [replace(one, p_holm=p) for one, p in zip(compared, corrected, strict=True)]


def _is_in_files(pairs: Pairs) -> bool:
    """Whether the result files hold all that the comparison needs."""
    return all(run.resampled and pairs.metric == run.main_metric for pair in pairs.runs for run in pair)


def _from_files(pairs: Pairs) -> _Measured:
    found = [[run.resampled for run in pair if run.resampled] for pair in pairs.runs]
    (units, units_are), *others = {(one.units, one.units_are) for pair in found for one in pair}
    if others:
        a, b = pairs.runs[0]
        raise ResultError(f"{a.spec.path} and {b.spec.path} were resampled differently; run one of them again.")
    return _Measured(_in_results(pairs), np.array([[one.values for one in pair] for pair in found]), units, units_are)


def _from_scores(pairs: Pairs, results: Path, cache_dir: Path) -> _Measured:
    scores = _common_scores(pairs, results, cache_dir)
    spec, ids = pairs.runs[0][0].spec, scores[0][0].ids.tolist()
    if is_own_data(spec.task.name):  # no clusters are known of them
        units, units_are = np.arange(len(ids)), "samples"
    else:
        units, units_are = catalogue.task(spec.task.name).units(ids)
    bootstrap, ones = Bootstrap(spec.bootstrap_seed, units), np.ones((1, len(ids)))
    what = f"{pairs.task} · {pairs.setting}"
    with progress.stage(what, total=2 * len(pairs.runs) * RESAMPLES, unit="resamples") as advance:

        def replicates(metric: Metric) -> np.ndarray:
            blocks = []
            for weights in bootstrap.weights():
                blocks.append(metric(weights))
                advance(len(weights))
            return np.concatenate(blocks)

        drawn = np.array([[replicates(found.metrics[pairs.metric]) for found in pair] for pair in scores])
    values = np.array([[float(found.metrics[pairs.metric](ones)[0]) for found in pair] for pair in scores])
    return _Measured(values, drawn, int(units.max()) + 1, units_are)


def _in_results(pairs: Pairs) -> np.ndarray:
    """The metric in the result files `[S, 2]`."""
    return np.array([[run.metrics["test"][pairs.metric].value for run in pair] for pair in pairs.runs])


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
        notes=(_units_note(measured), *of_training, *pairs.notes, *_moved_notes(pairs, measured), *notes),
    )


def _difference(pairs: Pairs, measured: _Measured) -> tuple[Difference, bool, tuple[str, ...]]:
    """The difference, whether it is confounded with the training, and notes on the training."""
    differences = measured.values[:, 0] - measured.values[:, 1]
    parts = [of_samples((measured.replicates[:, 0] - measured.replicates[:, 1]).mean(axis=0), measured.units)]
    confounded, notes = False, tuple[str, ...]()
    if len(differences) > 1:  # of several seeds, of which one run at least depends on its seed
        parts.append(of_seeds(differences.tolist()))
        notes = (f"the spread of the difference over {len(differences)} seeds is counted",)
    elif any(run.spec.seed_matters for run in pairs.runs[0]):
        one, other = (run.spec for run in pairs.runs[0])
        confounded = one.seed != other.seed and one.seed_matters and other.seed_matters
        notes = (CONFOUNDED if confounded else OF_ONE_SEED,)
    return difference(float(differences.mean()), parts), confounded, notes


def _units_note(measured: _Measured) -> str:
    if measured.units_are == "samples":
        return "samples are drawn one by one, since their ids name no groups of neighbours: intervals may be too narrow"
    few = "; that is few, and little can be told" if measured.units < FEW_UNITS else ""
    return f"drawn are {measured.units:,} {measured.units_are}{few}"


def _moved_notes(pairs: Pairs, measured: _Measured) -> list[str]:
    """Where the scores in the cache are not those that a result file was made from."""
    both = zip("AB", measured.values.mean(axis=0), _in_results(pairs).mean(axis=0), strict=True)
    return [
        f"the scores of {name} give {metric_label(pairs.metric)} {100 * value:.2f}, its results {100 * mean:.2f}: "
        "the cache holds those of another machine or run"
        for name, value, mean in both
        if abs(value - mean) > SAME
    ]


def _common_scores(pairs: Pairs, results: Path, cache_dir: Path) -> list[list[StoredScores]]:
    """The scores of all runs; a ResultError if they are of other samples or labels than those of the first run."""
    scores = [[read_scores(run, results, cache_dir) for run in pair] for pair in pairs.runs]
    first = scores[0][0]
    for runs, of_runs in zip(pairs.runs, scores, strict=True):
        for run, found in zip(runs, of_runs, strict=True):
            if not (np.array_equal(found.ids, first.ids) and np.array_equal(found.targets, first.targets)):
                raise ResultError(
                    f"{run.spec.path} was scored on other labels than {pairs.runs[0][0].spec.path}; run both again on "
                    "the same data with --force."
                )
    return scores


def _mcnemar(pairs: Pairs, results: Path, cache_dir: Path) -> tuple[tuple[Discordance, ...], tuple[str, ...]]:
    """McNemar's test of each pair of runs, and a note where the scores for it are absent.

    There is none for label maps, since pixels are not independent.
    """
    if pairs.metric != "accuracy" or pairs.runs[0][0].spec.task.kind != "multiclass":
        return (), ()
    try:
        require_scores([run for pair in pairs.runs for run in pair], results, cache_dir)
    except ResultError:
        return (), (NO_SCORES,)
    try:
        scores = _common_scores(pairs, results, cache_dir)
    except ResultError as error:
        return (), (f"no test of McNemar's: {str(error).rstrip('.')}",)
    found = []
    for a, b in scores:
        assert a.correct is not None  # as for every multiclass task
        assert b.correct is not None
        only_a, only_b = int((a.correct & ~b.correct).sum()), int((b.correct & ~a.correct).sum())
        found.append(Discordance(only_a, only_b, mcnemar(only_a, only_b)))
    return tuple(found), ()
