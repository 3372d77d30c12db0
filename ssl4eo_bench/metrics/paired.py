"""Is one model better than another on the same samples? Differences of replicates, McNemar's test, Holm's correction.

Two results of one task version have the same resamples, so the spread of the differences of their replicates is the
standard error of a paired bootstrap (Davison and Hinkley, Bootstrap Methods and Their Application, 1997, section 3.8
for clusters). Interval and p value are those of Student's t: its degrees of freedom say how little a few clusters, or a
few seeds, tell. A share of resamples could not: of 1,000 it tells nothing below 0.002, and a board of ten checkpoints
has 45 comparisons to correct for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

ROUNDING = 1e-7
"""A standard error below this is that of replicates' rounding, or of a single unit: it tells nothing."""


class Variance(NamedTuple):
    """One independent part of the variance of a difference, and from how many degrees of freedom it is estimated."""

    value: np.ndarray | float
    freedom: np.ndarray | float


@dataclass(frozen=True)
class Difference:
    """How far one metric lies above another, with its 95 % interval.

    `p` is that of the hypothesis that there is no difference, two-sided.
    """

    value: float
    low: float
    high: float
    p: float


def difference(value: float, parts: Sequence[Variance]) -> Difference:
    """A difference, judged by the independent variances that add up to its own; p is 1 where these are rounding."""
    error, freedom = _error(np.float64(value), parts)
    reach = float(stdtrit(freedom, 0.975) * error)
    return Difference(value, value - reach, value + reach, float(p_values(np.float64(value), parts)))


def p_values(values: np.ndarray | np.float64, parts: Sequence[Variance]) -> np.ndarray:
    """The p value, two-sided, of each difference in an array, by variances of its shape."""
    return p_of_t(*t_values(values, parts))


def t_values(values: np.ndarray | np.float64, parts: Sequence[Variance]) -> tuple[np.ndarray, np.ndarray]:
    """Each difference without its sign, in standard errors, and its degrees of freedom; 0 where these are rounding."""
    error, freedom = _error(values, parts)
    return np.divide(np.abs(values), error, out=np.zeros(np.shape(error)), where=error > ROUNDING), freedom


def p_of_t(t: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """The p value, two-sided, of each of Student's t."""
    p: np.ndarray = np.minimum(2 * stdtr(freedom, -t), 1.0)
    return p


def t_of_p(p: float, freedom: float = 1e9) -> float:
    """Student's t of a p value, two-sided; by default nearly that of the normal distribution."""
    return -float(stdtrit(freedom, p / 2))


def _error(values: np.ndarray | np.float64, parts: Sequence[Variance]) -> tuple[np.ndarray, np.ndarray]:
    """The standard error of differences, and its degrees of freedom.

    Those of a sum of variances are Welch's and Satterthwaite's (Biometrics Bulletin 2, 1946).
    """
    total = sum((np.asarray(part.value) for part in parts), np.zeros(np.shape(values)))
    squares = sum((np.asarray(part.value) ** 2 / part.freedom for part in parts), np.zeros(np.shape(values)))
    freedom = np.divide(total**2, squares, out=np.ones(np.shape(values)), where=squares > 0)
    return np.sqrt(total), freedom


def of_samples(replicates: np.ndarray, units: int) -> Variance:
    """The variance that the choice of the test samples gives, from the replicates `[B]` of a difference.

    `units` is how many are drawn in a resample: samples, or clusters of them.
    """
    return Variance(float(np.var(replicates, ddof=1)), max(units - 1, 1))


def of_seeds(values: Sequence[float]) -> Variance:
    """The variance of the mean of values that differ by their seeds; there must be two at least."""
    return Variance(float(np.var(values, ddof=1)) / len(values), len(values) - 1)


def mcnemar(only_a: int, only_b: int) -> float:
    """McNemar's exact p value, two-sided, for independent samples (McNemar, Psychometrika 12, 1947).

    `only_a` and `only_b` count the samples on which only A, or only B, is right. Where only one of two models is right,
    a fair coin decides which of them: twice the smaller tail of a binomial distribution, at most 1, in whole numbers.
    """
    tosses = only_a + only_b
    ways = tail = 1
    for heads in range(min(only_a, only_b)):
        ways = ways * (tosses - heads) // (heads + 1)
        tail += ways
    return min(1.0, 2 * tail / (1 << tosses))


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """P values corrected for being several (Holm, Scandinavian Journal of Statistics 6, 1979).

    The chance that any true hypothesis is rejected stays below the level, whatever depends on what.
    """
    values = np.asarray(p, dtype=float)
    order = np.argsort(values, kind="stable")
    corrected = np.empty(len(values))
    corrected[order] = np.maximum.accumulate(np.minimum(values[order] * np.arange(len(values), 0, -1), 1.0))
    return corrected


def rejected(p: np.ndarray, level: float, tests: int) -> np.ndarray:
    """Whether each p value corrected by Holm is at most a level of significance.

    `tests` is how many p values there are: these, and others that are larger.
    """
    ordered = np.sort(p)
    failed = ordered * np.arange(tests, tests - len(p), -1) > level
    return p < (ordered[failed.argmax()] if failed.any() else np.inf)  # of equal ones, all are, or none
