"""Levels and powers are counted on made-up data; the rest is worked by hand or the slow way."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp, ttest_ind

from ssl4eo_bench.metrics.bootstrap import Bootstrap
from ssl4eo_bench.metrics.paired import Variance, difference, holm, mcnemar, of_samples, of_seeds, p_values

Made = tuple[np.ndarray, np.ndarray, np.ndarray]


def replicates(right: np.ndarray, clusters: np.ndarray, seed: int) -> np.ndarray:
    """The accuracy in resamples of a model that is right `[N]` or wrong."""
    blocks = Bootstrap(seed, clusters).weights()
    return np.concatenate([weights @ right.astype(float) / weights.sum(1) for weights in blocks])


def compared(a: np.ndarray, b: np.ndarray, clusters: np.ndarray, seed: int) -> float:
    drawn = replicates(a, clusters, seed) - replicates(b, clusters, seed)
    return difference(a.mean() - b.mean(), [of_samples(drawn, int(clusters.max()) + 1)]).p


def rejected(right: Callable[[np.random.Generator], Made], *, repetitions: int = 100) -> float:
    """The share of comparisons of made-up A and B, right or wrong on samples of clusters, with p of at most 0.05."""
    rng = np.random.default_rng(0)
    return float(np.mean([compared(*right(rng), seed) <= 0.05 for seed in range(repetitions)]))


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl4eo_bench.metrics.bootstrap.RESAMPLES", 300)


def independent(rng: np.random.Generator, better: float) -> Made:
    """Two models that are right on much the same of 200 samples."""
    hard = rng.random(200)
    a, b = (hard + 0.3 * rng.random(200) < level for level in (0.9 + better, 0.9))
    return a, b, np.arange(200)


def test_without_a_difference_one_in_twenty_is_found() -> None:
    assert rejected(lambda rng: independent(rng, 0.0), repetitions=200) <= 0.09  # 0.05 + 2.6 standard deviations


def test_a_clear_difference_is_found() -> None:
    assert rejected(lambda rng: independent(rng, 0.15)) > 0.95


def clustered(rng: np.random.Generator, places: int = 60) -> Made:
    """Two models of the same quality, each good in some of these places and bad in others."""
    clusters = np.repeat(np.arange(places), 10)
    level = [np.clip(0.7 + 0.2 * rng.normal(size=places), 0, 1)[clusters] for _ in range(2)]
    a, b = (rng.random(10 * places) < of for of in level)
    return a, b, clusters


def test_samples_of_one_place_are_no_independent_evidence() -> None:
    assert rejected(clustered) <= 0.1
    assert rejected(lambda rng: (*clustered(rng)[:2], np.arange(600))) > 0.15


def test_few_places_are_allowed_for() -> None:
    """Of five clusters, a normal distribution would find evidence three times as often as it says."""
    assert rejected(lambda rng: clustered(rng, places=5), repetitions=300) <= 0.1


def test_degrees_of_freedom_are_those_of_students_t() -> None:
    """Seeds alone: the test is that of paired, or of Welch's, samples."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.5, 0.1, 5), rng.normal(0.4, 0.3, 4)
    paired = difference(float(a.mean()), [of_seeds(a.tolist())])
    assert paired.p == pytest.approx(ttest_1samp(a, 0.0).pvalue)
    assert (paired.low, paired.high) == pytest.approx(tuple(ttest_1samp(a, 0.0).confidence_interval()))
    welch = difference(float(a.mean() - b.mean()), [of_seeds(a.tolist()), of_seeds(b.tolist())])
    assert welch.p == pytest.approx(ttest_ind(a, b, equal_var=False).pvalue)


def test_the_spread_over_seeds_adds_to_that_of_the_samples() -> None:
    samples, seeds = Variance(0.01**2, 999), Variance(0.02**2, 2)
    alone, both = difference(0.03, [samples]), difference(0.03, [samples, seeds])
    assert alone.p < 0.05 < both.p
    assert both.high - both.low > 2 * (alone.high - alone.low)


def test_small_p_values_are_told_apart() -> None:
    """A share of 1,000 resamples could not be below 0.002, and a board of ten checkpoints has 45 comparisons."""
    found = difference(0.1, [Variance(0.01**2, 5000)])
    assert found.p < 1e-9
    assert holm([found.p] * 45).max() < 0.05


def test_equal_models_differ_nowhere() -> None:
    found = difference(0.0, [of_samples(np.zeros(100), 50)])
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)
    assert difference(0.1, [of_samples(np.full(100, 0.1), 1)]).p == 1  # one unit tells nothing


def test_many_differences_are_judged_as_one_is() -> None:
    rng = np.random.default_rng(0)
    values, variances, freedoms = rng.normal(0, 0.01, 8), rng.uniform(0, 1e-4, (2, 8)), rng.integers(1, 50, (2, 8))
    variances[:, 3] = 0
    parts = [Variance(v, f) for v, f in zip(variances, freedoms, strict=True)]
    one_by_one = [
        difference(values[n], [Variance(v[n], f[n]) for v, f in zip(variances, freedoms, strict=True)]).p
        for n in range(8)
    ]
    assert p_values(values, parts) == pytest.approx(one_by_one)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (5, 5), (0, 6), (1, 9), (30, 50), (700, 650), (12_000, 12_300)])
def test_mcnemar_is_a_binomial_test(only_a: int, only_b: int) -> None:
    expected = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert mcnemar(only_a, only_b) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(only_a, only_b) == mcnemar(only_b, only_a)


def test_mcnemar_by_hand() -> None:
    assert mcnemar(1, 9) == 2 * (1 + 10) / 1024


def test_holm_by_hand() -> None:
    # 4 · 0.01; 3 · 0.015 = 0.045; 2 · 0.02 = 0.04 is less than the one before; 1 · 0.4
    assert holm([0.02, 0.4, 0.01, 0.015]).tolist() == pytest.approx([0.045, 0.4, 0.04, 0.045])
    assert holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    assert holm([0.03]).tolist() == [0.03]
    assert holm([]).tolist() == []
