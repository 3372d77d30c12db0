"""Rank ranges: a checkpoint is above another only where a paired test says so.

The tests are those of `compare`, corrected over all pairs that are ranked together. Where they tell nothing, ranks are
shared: `1–3` and `1–3`, not a false order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssl4eo_bench.metrics.paired import Variance, holm, p_values
from ssl4eo_bench.results.compare import LEVEL

Ranks = tuple[int, int]
"""The best and the worst place that cannot be ruled out."""


@dataclass(frozen=True)
class Score:
    """What one checkpoint reached on the tasks it is ranked by.

    Attributes:
        value: mean over the tasks.
        replicates: of each task `[B]`, in the resamples that all checkpoints have in common; none where a result has
            none.
        units: that are drawn, of each task.
        spread: the variance of `value` over seeds, where there are several.
        alone: of each task the seed, where it is a single one and another could give another value.
    """

    value: float
    replicates: tuple[np.ndarray | None, ...]
    units: tuple[int, ...]
    spread: Variance | None = None
    alone: tuple[int | None, ...] = ()


def rank_ranges(scores: Sequence[Score]) -> list[Ranks]:
    """The ranks of scores on the same tasks."""
    count = len(scores)
    above = np.zeros((count, count), dtype=bool)
    paired = np.array([[_are_paired(one, other) for other in scores] for one in scores])
    first, second = np.nonzero(np.triu(paired, k=1))
    if len(first):
        values = np.array([score.value for score in scores])
        differences = values[first] - values[second]
        p = holm(p_values(differences, [part.at(first, second) for part in _parts(scores)]))
        better = p <= LEVEL
        above[first, second] = better & (differences > 0)
        above[second, first] = better & (differences < 0)
    return [(1 + int(above[:, one].sum()), count - int(above[one].sum())) for one in range(count)]


def _are_paired(one: Score, other: Score) -> bool:
    """Whether a test can tell two scores apart.

    It cannot without replicates, nor with those of other resamples, since other units were drawn; nor where both were
    trained once, with different seeds: their difference may be that of the seeds.
    """
    resampled = all(found is not None for score in (one, other) for found in score.replicates)
    confounded = any(a is not None and b is not None and a != b for a, b in zip(one.alone, other.alone, strict=True))
    return resampled and one.units == other.units and not confounded


@dataclass(frozen=True)
class _Part:
    """One part of the variance of all differences `[K, K]`, and its degrees of freedom."""

    values: np.ndarray
    freedom: np.ndarray

    def at(self, first: np.ndarray, second: np.ndarray) -> Variance:
        """The part of these pairs."""
        return Variance(self.values[first, second], self.freedom[first, second])


def _parts(scores: Sequence[Score]) -> list[_Part]:
    """The independent parts: by the test samples of each task, and by the seeds of either score."""
    count, tasks = len(scores), len(scores[0].units)
    parts = []
    for task in range(tasks):
        length = max(len(score.replicates[task]) for score in scores if score.replicates[task] is not None)  # type: ignore[arg-type]
        missing = np.zeros(length)  # of scores that are in no pair
        rows = np.stack([missing if (of := score.replicates[task]) is None else of for score in scores])
        covariance = np.atleast_2d(np.cov(rows)) / tasks**2
        own = np.diag(covariance)
        between = np.maximum(own[:, None] + own[None] - 2 * covariance, 0.0)
        freedoms = np.array([max(score.units[task] - 1, 1) for score in scores])  # the same for both of a tested pair
        parts.append(_Part(between, np.tile(freedoms, (count, 1))))
    variances = np.array([0.0 if score.spread is None else score.spread.value for score in scores])
    freedoms = np.array([1.0 if score.spread is None else score.spread.freedom for score in scores])
    square = np.ones((count, count))
    parts.append(_Part(variances[:, None] * square, freedoms[:, None] * square))
    parts.append(_Part(variances[None] * square, freedoms[None] * square))
    return parts
