"""Levels and powers are counted on made-up data; the rest is worked by hand or the slow way."""

from collections.abc import Callable
from dataclasses import astuple

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score

from ssl4eo_bench.metrics.evaluation import Metric, multiclass_metrics, multilabel_metrics, resamples
from ssl4eo_bench.metrics.paired import holm, mcnemar, paired_bootstrap


def share(right: np.ndarray) -> Metric:
    """Accuracy of a model that is right `[N]` or wrong."""
    return lambda weights: weights @ right.astype(float) / weights.sum(1)


def p_values(right: Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray, np.ndarray]]) -> np.ndarray:
    """Of 200 comparisons of made-up A and B, right or wrong on samples of clusters."""
    rng = np.random.default_rng(0)
    found = []
    for repetition in range(200):
        a, b, clusters = right(rng)
        found.append(paired_bootstrap([share(a)], [share(b)], clusters, count=199, seed=repetition).p)
    return np.array(found)


def independent(rng: np.random.Generator, better: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two models that are right on much the same of 200 samples."""
    hard = rng.random(200)
    a, b = (hard + 0.3 * rng.random(200) < level for level in (0.9 + better, 0.9))
    return a, b, np.arange(200)


def test_without_a_difference_one_in_twenty_is_found() -> None:
    rejected = (p_values(lambda rng: independent(rng, 0.0)) <= 0.05).mean()
    assert 0.01 <= rejected <= 0.09  # 0.05 ± 2.6 standard deviations


def test_a_clear_difference_is_found() -> None:
    assert (p_values(lambda rng: independent(rng, 0.15)) <= 0.05).mean() > 0.95


def clustered(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two models of the same quality, each good in some of 60 places and bad in others."""
    clusters = np.repeat(np.arange(60), 10)
    a, b = (rng.random(600) < np.clip(0.7 + 0.2 * rng.normal(size=60), 0, 1)[clusters] for _ in range(2))
    return a, b, clusters


def test_samples_of_one_place_are_no_independent_evidence() -> None:
    assert (p_values(clustered) <= 0.05).mean() <= 0.1
    assert (p_values(lambda rng: (*clustered(rng)[:2], np.arange(600))) <= 0.05).mean() > 0.15


def test_intervals_of_clusters_are_wider() -> None:
    a, b, clusters = clustered(np.random.default_rng(0))
    single, whole = (
        paired_bootstrap([share(a)], [share(b)], units, count=500, seed=0) for units in (np.arange(600), clusters)
    )
    assert single.value == whole.value == a.mean() - b.mean()
    assert whole.high - whole.low > 1.3 * (single.high - single.low)


def test_paired_intervals_are_narrower_than_those_of_either() -> None:
    b = np.arange(200) < 140
    a = np.arange(200) < 150  # right wherever B is
    paired = paired_bootstrap([share(a)], [share(b)], np.arange(200), count=500, seed=0)
    alone = np.concatenate([share(a)(weights) for weights in resamples(200, 500, 0)])
    assert paired.low > 0
    assert paired.high - paired.low < 0.6 * np.ptp(np.percentile(alone, (2.5, 97.5)))


@pytest.mark.parametrize("clusters", [np.arange(40), np.arange(40) % 7])
def test_it_is_what_resampling_and_resorting_gives(clusters: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((40, 3)) < 0.3).astype(np.uint8)
    scores = [rng.integers(0, 6, (40, 3)) / 6 + 0.2 * labels for _ in range(2)]
    a, b = (multilabel_metrics(of, labels, np.full(3, 0.5))["micro_map"] for of in scores)
    found = paired_bootstrap([a], [b], clusters, count=50, seed=3)
    differences = []
    for block in resamples(clusters.max() + 1, 50, 3):
        for row in block.astype(int):
            drawn = np.repeat(np.arange(40), row[clusters])
            ap = [average_precision_score(labels[drawn].ravel(), of[drawn].ravel()) for of in scores]
            differences.append(ap[0] - ap[1])
    assert len(differences) == 50
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(differences, (2.5, 97.5))), abs=1e-9)
    not_better = sum(d <= 0 for d in differences) if found.value > 0 else sum(d >= 0 for d in differences)
    assert found.p == pytest.approx(min(1.0, 2 * (1 + not_better) / 51))
    assert found.a == pytest.approx(average_precision_score(labels.ravel(), scores[0].ravel()), abs=1e-9)


def test_seeds_are_averaged_in_each_resample() -> None:
    rng = np.random.default_rng(0)
    rights = [rng.random(100) < 0.6 for _ in range(4)]
    units = np.arange(100)
    one = [share(right) for right in rights]
    found = paired_bootstrap(one[:2], one[2:], units, count=60, seed=0)
    mean = [share((rights[k] + rights[k + 1].astype(float)) / 2) for k in (0, 2)]  # accuracy is linear
    expected = paired_bootstrap(mean[:1], mean[1:], units, count=60, seed=0)
    assert astuple(found) == pytest.approx(astuple(expected), abs=1e-12)


def test_p_is_of_the_difference_that_was_measured() -> None:
    """Where all resamples turn it round, there is no evidence, of nothing."""
    odd: Metric = lambda weights: np.where((weights == 1).all(1), 1.0, -1.0)  # noqa: E731
    found = paired_bootstrap([odd], [lambda weights: np.zeros(len(weights))], np.arange(50), count=99, seed=0)
    assert (found.value, found.low, found.high, found.p) == (1, -1, -1, 1)


def test_equal_models_differ_nowhere() -> None:
    scores = np.random.default_rng(0).random((50, 4))
    metric = multiclass_metrics(scores, scores.argmax(1) // 2)["macro_map"]
    found = paired_bootstrap([metric], [metric], np.arange(50), count=40, seed=0)
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (5, 5), (0, 6), (1, 9), (30, 50), (700, 650), (12_000, 12_300)])
def test_mcnemar_is_a_binomial_test(only_a: int, only_b: int) -> None:
    expected = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert mcnemar(only_a, only_b) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(only_a, only_b) == mcnemar(only_b, only_a)


def test_mcnemar_by_hand() -> None:
    assert mcnemar(1, 9) == 2 * (1 + 10) / 1024


def test_holm_by_hand() -> None:
    # 4 · 0.01; 3 · 0.015 = 0.045; 2 · 0.02 = 0.04 is less than the one before; 1 · 0.4
    assert holm([0.02, 0.4, 0.01, 0.015]) == pytest.approx([0.045, 0.4, 0.04, 0.045])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []
