"""Is one model better than another on the same samples? Paired bootstrap, McNemar's test, Holm's correction."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssl4eo_bench.metrics.evaluation import Advance, Metric, resamples

TIE = 1e-12
"""Differences below this are zero: what remains of equal means over seeds is rounding."""


@dataclass(frozen=True)
class Difference:
    """How far the metric of A lies above that of B.

    Attributes:
        a: the metric of A.
        b: the metric of B.
        low: lower end of the 95 % percentile interval of `a - b`.
        high: upper end.
        p: of the hypothesis that there is no difference, two-sided.
    """

    a: float
    b: float
    low: float
    high: float
    p: float

    @property
    def value(self) -> float:
        """A minus B."""
        return self.a - self.b


def paired_bootstrap(
    a: Sequence[Metric],
    b: Sequence[Metric],
    clusters: np.ndarray,
    *,
    count: int,
    seed: int,
    advance: Advance = lambda _: None,
) -> Difference:
    """Compare two models by resamples of the samples, the same resamples for both.

    Whole clusters are drawn with replacement, as many as there are (Davison and Hinkley, Bootstrap Methods and Their
    Application, 1997, section 3.8). The p value is twice the share of resamples in which the better model is not
    better, `2 (1 + k) / (1 + count)` and at most 1; it is small where the percentile interval leaves out zero (Efron
    and Tibshirani, An Introduction to the Bootstrap, 1993, section 15.4). With several metrics, their mean is compared
    in each resample.

    Args:
        a: metric of each run of A.
        b: metric of each run of B, in the same order.
        clusters: number `[N]` of the cluster of each sample, from 0 on without gaps.
        count: of resamples.
        seed: of what is drawn.
        advance: is told of the progress.
    """
    blocks = []
    for drawn in resamples(int(clusters.max()) + 1, count, seed):
        weights = drawn[:, clusters]
        blocks.append(_mean(a, weights) - _mean(b, weights))
        advance(len(weights))
    differences = np.concatenate(blocks)
    low, high = np.percentile(differences, (2.5, 97.5))
    ones = np.ones((1, len(clusters)))
    of_a, of_b = float(_mean(a, ones)[0]), float(_mean(b, ones)[0])
    not_better = int(np.count_nonzero(np.sign(of_a - of_b) * differences <= TIE))
    return Difference(of_a, of_b, float(low), float(high), p=min(1.0, 2 * (1 + not_better) / (1 + count)))


def _mean(metrics: Sequence[Metric], weights: np.ndarray) -> np.ndarray:
    means: np.ndarray = np.mean([metric(weights) for metric in metrics], axis=0)
    return means


def mcnemar(only_a: int, only_b: int) -> float:
    """McNemar's exact p value, two-sided, for independent samples (McNemar, Psychometrika 12, 1947).

    Where only one of two models is right, a fair coin decides which of them: twice the smaller tail of a binomial
    distribution, at most 1, in whole numbers.

    Args:
        only_a: samples on which only A is right.
        only_b: samples on which only B is right.
    """
    tosses = only_a + only_b
    ways = tail = 1
    for heads in range(min(only_a, only_b)):
        ways = ways * (tosses - heads) // (heads + 1)
        tail += ways
    return min(1.0, 2 * tail / (1 << tosses))


def holm(p: Sequence[float]) -> list[float]:
    """P values corrected for being several (Holm, Scandinavian Journal of Statistics 6, 1979).

    The chance that any true hypothesis is rejected stays below the level, whatever depends on what.
    """
    corrected, largest = [0.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        corrected[index] = largest
    return corrected
