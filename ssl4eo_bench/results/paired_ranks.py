"""Rank ranges: a checkpoint is above another only where a paired test says so.

The tests are those of `compare`, corrected over all pairs that are ranked together. Checkpoints that no test tells
apart share their ranks: `1–3` and `1–3`, not a false order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

import numpy as np

from ssl4eo_bench.metrics.paired import Variance, holm, of_seeds, p_of_t, rejected, t_of_p, t_values
from ssl4eo_bench.results.compare import LEVEL
from ssl4eo_bench.results.files import RunResult

Ranks = tuple[int, int]
"""The best and the worst place that cannot be ruled out."""

ROWS = 128
"""Scores that are tested against all others at a time: with 10,000 of them, each array takes 10 MB."""


@dataclass(frozen=True)
class Score:
    """What one checkpoint reached on the tasks it is ranked by: the mean, and by task what tests need.

    Attributes:
        replicates: `[B]`, in the resamples that all checkpoints have in common; none where a result has none.
        units: number of samples or clusters that are drawn.
        spread: the variance of `value` over seeds, where there are several.
        single_seed: the seed, where there is one only and another could give another value.
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
    """The ranks of scores on the same tasks, in the order of the scores.

    Each is tested against each other, so time grows with the square of their number, by some 0.1 µs a pair.
    """
    above, below = np.zeros((2, len(scores)), dtype=int)
    if places := _tested(scores):
        above[places], below[places] = _above_and_below(_Board.of([scores[place] for place in places]))
    return list(zip((1 + above).tolist(), (len(scores) - below).tolist(), strict=True))


def corrected_p(scores: Sequence[Score]) -> np.ndarray:
    """The p values `[K, K]` of tests between at most `ROWS` scores, corrected by Holm; NaN where there is no test."""
    found = np.full((len(scores), len(scores)), np.nan)
    if len(places := _tested(scores)) > 1:
        _, pairs = _Board.of([scores[place] for place in places]).tests(0, 0.0)
        one, other = np.array(places)[[pairs.better, pairs.worse]]
        found[one, other] = found[other, one] = holm(p_of_t(pairs.t, pairs.freedom))
    return found


def _tested(scores: Sequence[Score]) -> list[int]:
    """The places of the scores that have replicates of all tasks."""
    return [place for place, score in enumerate(scores) if all(one is not None for one in score.replicates)]


class _Pairs(NamedTuple):
    """Pairs of scores: the places of the better and of the worse one `[P]`, their t, and its degrees of freedom."""

    better: np.ndarray
    worse: np.ndarray
    t: np.ndarray
    freedom: np.ndarray

    def where(self, chosen: np.ndarray) -> "_Pairs":
        """Some of the pairs."""
        return _Pairs(*(of_pairs[chosen] for of_pairs in self))


@dataclass(frozen=True, eq=False)
class _Board:
    """Scores with replicates as arrays: of K scores on T tasks, in B resamples.

    Attributes:
        values: `[K]`.
        deviations: of the replicates from their mean, by task `[K, B]`, scaled so that their products are covariances.
        variances: by task `[K]`.
        units: `[K, T]`.
        spread: variances over seeds `[K]`, 0 for a single one.
        spread_freedom: their degrees of freedom `[K]`.
        seeds: `[K, T]`; -1 where there are several, or none that matters.
    """

    values: np.ndarray
    deviations: list[np.ndarray]
    variances: list[np.ndarray]
    units: np.ndarray
    spread: np.ndarray
    spread_freedom: np.ndarray
    seeds: np.ndarray

    @classmethod
    def of(cls, scores: Sequence[Score]) -> "_Board":
        """The arrays of scores that all have replicates."""
        tasks = len(scores[0].units)
        replicates = [np.array([score.replicates[task] for score in scores], dtype=float) for task in range(tasks)]
        scale = tasks * np.sqrt(replicates[0].shape[1] - 1)
        deviations = [(of_task - of_task.mean(axis=1, keepdims=True)) / scale for of_task in replicates]
        spreads = [score.spread or Variance(0.0, 1.0) for score in scores]
        return cls(
            values=np.array([score.value for score in scores]),
            deviations=deviations,
            variances=[np.einsum("kb,kb->k", of_task, of_task) for of_task in deviations],
            units=np.array([score.units for score in scores]),
            spread=np.array([spread.value for spread in spreads], dtype=float),
            spread_freedom=np.array([spread.freedom for spread in spreads], dtype=float),
            seeds=np.array([[-1 if seed is None else seed for seed in score.single_seed] for score in scores]),
        )

    @property
    def lowest_freedom(self) -> float:
        """The lowest degrees of freedom of any variance; those of a sum are no lower."""
        return float(
            min(np.maximum(self.units - 1, 1).min(), self.spread_freedom.min(where=self.spread > 0, initial=np.inf))
        )

    def tests(self, start: int, lowest_t: float) -> tuple[int, _Pairs]:
        """The tests of `ROWS` scores against all that follow: their number, and those of a t that is not below this."""
        rows, others = slice(start, start + ROWS), slice(start, None)
        paired = np.triu(self._are_paired(rows, others), k=1)
        differences = self.values[rows, None] - self.values[None, others]
        t, freedom = t_values(differences, self._variances(rows, others))
        first, second = np.nonzero(paired & (t >= lowest_t))
        is_better = differences[first, second] > 0
        better, worse = np.where(is_better, (first, second), (second, first)) + start
        return int(np.count_nonzero(paired)), _Pairs(better, worse, t[first, second], freedom[first, second])

    def _are_paired(self, rows: slice, others: slice) -> np.ndarray:
        """Whether a test can tell two scores apart.

        It cannot where they have replicates of other units, nor where both checkpoints were trained once with
        different seeds: their difference may be that of the seeds.
        """
        paired = np.ones(1, dtype=bool)
        for units, seeds in zip(self.units.T, self.seeds.T, strict=True):
            one, other = seeds[rows, None], seeds[None, others]
            paired = paired & (units[rows, None] == units[None, others]) & ((one == other) | (one < 0) | (other < 0))
        return paired

    def _variances(self, rows: slice, others: slice) -> list[Variance]:
        """The independent variances of differences: by the test samples of each task, and by the seeds of either."""
        parts = []
        for deviations, variance, units in zip(self.deviations, self.variances, self.units.T, strict=True):
            covariance = deviations[rows] @ deviations[others].T
            between = np.maximum(variance[rows, None] + variance[None, others] - 2 * covariance, 0.0)
            parts.append(Variance(between, np.maximum(units - 1, 1)[None, others]))
        if self.spread.any():
            parts.append(Variance(self.spread[rows, None], self.spread_freedom[rows, None]))
            parts.append(Variance(self.spread[None, others], self.spread_freedom[None, others]))
        return parts


def _above_and_below(board: _Board) -> tuple[np.ndarray, np.ndarray]:
    """How many scores are better and worse than each `[K]`, by tests with Holm's correction over all pairs.

    Holm multiplies a p value by the number of those that are not smaller. That is no more than all pairs, and no less
    than the pairs that are known to be not significant: so most pairs are decided by their t, and need no place in the
    order of p values.
    """
    count = len(board.values)
    certain_t = t_of_p(LEVEL / count**2, board.lowest_freedom)
    decided, undecided, pairs, not_significant = np.zeros((2, count), dtype=int), [], 0, 0
    for start in range(0, count, ROWS):
        lowest_t = t_of_p(1.01 * LEVEL / (1 + not_significant))  # 1.01: of few degrees of freedom t would be larger
        tests, found = board.tests(start, lowest_t)
        pairs += tests
        not_significant += tests - len(found.t)
        is_certain = found.t > certain_t
        decided += _counts(found.where(is_certain), count)
        undecided.append(found.where(~is_certain))
    left = _Pairs(*map(np.concatenate, zip(*undecided, strict=True)))
    is_better = rejected(p_of_t(left.t, left.freedom), LEVEL, pairs - decided[0].sum())
    above, below = decided + _counts(left.where(is_better), count)
    return above, below


def _counts(pairs: _Pairs, count: int) -> np.ndarray:
    """How often each score is the worse and the better one of a pair `[2, K]`."""
    return np.stack([np.bincount(places, minlength=count) for places in (pairs.worse, pairs.better)])
