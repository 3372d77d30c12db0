"""Rank ranges: a checkpoint is above another only where a paired test says so.

The tests are those of `compare`, corrected over all pairs that are ranked together. Checkpoints that no test tells
apart share their ranks: `1–3` and `1–3`, not a false order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from ssl4eo_bench.metrics.paired import Variance, holm, of_seeds, p_values
from ssl4eo_bench.results.compare import LEVEL
from ssl4eo_bench.results.files import RunResult

Ranks = tuple[int, int]
"""The best and the worst place that cannot be ruled out."""


@dataclass(frozen=True)
class Score:
    """What one checkpoint reached on the tasks it is ranked by.

    Attributes:
        value: mean over the tasks.
        replicates: of each task `[B]`, in the resamples that all checkpoints have in common; none where a result has
            none.
        units: number of samples or clusters that are drawn, of each task.
        spread: the variance of `value` over seeds, where there are several.
        single_seed: of each task the seed, where there is one only and another could give another value.
    """

    value: float
    replicates: tuple[np.ndarray | None, ...]
    units: tuple[int, ...]
    spread: Variance | None = None
    single_seed: tuple[int | None, ...] = ()


def score_of(runs: Sequence[RunResult], metric: str) -> Score:
    """The score of runs that differ by their seeds. It has replicates only of the main metric, where all runs do."""
    values = [run.metrics["test"][metric].value for run in runs]
    kept = [run.resampled for run in runs if run.resampled]
    tested = len(kept) == len(runs) and metric == runs[0].main_metric
    return Score(
        value=fmean(values),
        replicates=(np.mean([one.values for one in kept], axis=0) if tested else None,),
        units=(kept[0].units if tested else 1,),
        spread=of_seeds(values) if len(values) > 1 else None,
        single_seed=(runs[0].spec.seed if len(runs) == 1 and runs[0].spec.seed_matters else None,),
    )


def mean_score(scores: Sequence[Score]) -> Score:
    """The mean of scores on several tasks."""
    spreads = [score.spread for score in scores if score.spread]
    variance = sum(float(spread.value) for spread in spreads) / len(scores) ** 2
    freedom = min((float(spread.freedom) for spread in spreads), default=1.0)
    return Score(
        value=fmean(score.value for score in scores),
        replicates=tuple(one for score in scores for one in score.replicates),
        units=tuple(one for score in scores for one in score.units),
        spread=Variance(variance, freedom) if spreads else None,
        single_seed=tuple(one for score in scores for one in score.single_seed),
    )


def rank_ranges(scores: Sequence[Score]) -> list[Ranks]:
    """The ranks of scores on the same tasks, in the order of the scores."""
    if not scores:
        return []
    count = len(scores)
    above = np.zeros((count, count), dtype=bool)
    paired = np.array([[_are_paired(one, other) for other in scores] for one in scores])
    first, second = np.nonzero(np.triu(paired, k=1))
    if len(first):
        values = np.array([score.value for score in scores])
        differences = values[first] - values[second]
        parts = [Variance(value[first, second], freedom[first, second]) for value, freedom in _variances(scores)]
        p = holm(p_values(differences, parts))
        better = p <= LEVEL
        above[first, second] = better & (differences > 0)
        above[second, first] = better & (differences < 0)
    return [(1 + int(above[:, one].sum()), count - int(above[one].sum())) for one in range(count)]


def _are_paired(one: Score, other: Score) -> bool:
    """Whether a test can tell two scores apart.

    It cannot where a score has no replicates or has those of other units, nor where both checkpoints were trained once
    with different seeds: their difference may be that of the seeds.
    """
    resampled = all(found is not None for score in (one, other) for found in score.replicates)
    seeds = zip(one.single_seed, other.single_seed, strict=True)
    confounded = any(a is not None and b is not None and a != b for a, b in seeds)
    return resampled and one.units == other.units and not confounded


def _variances(scores: Sequence[Score]) -> list[tuple[np.ndarray, np.ndarray]]:
    """The independent variances of all differences `[K, K]`, each with its degrees of freedom `[K, K]`.

    They are those by the test samples of each task, and those by the seeds of either score.
    """
    count, tasks = len(scores), len(scores[0].units)
    parts = []
    for task in range(tasks):
        known = [replicates for score in scores if (replicates := score.replicates[task]) is not None]
        missing = np.zeros(max(map(len, known)))  # of scores that are in no pair
        rows = np.stack([missing if (of := score.replicates[task]) is None else of for score in scores])
        covariance = np.atleast_2d(np.cov(rows)) / tasks**2
        variance = np.diag(covariance)
        between = np.maximum(variance[:, None] + variance[None] - 2 * covariance, 0.0)
        freedom = np.array([max(score.units[task] - 1, 1) for score in scores])  # the same for both of a tested pair
        parts.append((between, np.tile(freedom, (count, 1))))
    variance = np.array([0.0 if score.spread is None else score.spread.value for score in scores])
    freedom = np.array([1.0 if score.spread is None else score.spread.freedom for score in scores])
    by_row = np.tile(variance[:, None], count), np.tile(freedom[:, None], count)
    return [*parts, by_row, (by_row[0].T, by_row[1].T)]
