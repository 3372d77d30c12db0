"""The mean over batches, which published numbers are, beside the metric of the whole split."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from ssl4eo_bench.metrics.batched import batch_averaged
from ssl4eo_bench.metrics.ranking import Ranking


@pytest.fixture
def split() -> tuple[np.ndarray, np.ndarray]:
    """Scores of 19 rare labels, some of which say something."""
    rng = np.random.default_rng(0)
    labels = (rng.random((900, 19)) < rng.uniform(0.01, 0.4, 19)).astype(np.uint8)
    return rng.random(labels.shape) + 0.5 * labels, labels


def micro(scores: np.ndarray, labels: np.ndarray) -> float:
    return float(Ranking(scores, labels).average_precision(np.ones((1, len(scores))))[0])


def test_it_moves_with_size_and_order_of_batches_and_the_metric_of_the_split_does_not(
    split: tuple[np.ndarray, np.ndarray],
) -> None:
    scores, labels = split
    whole = micro(scores, labels)
    by_size = [batch_averaged(micro, scores, labels, size) for size in (8, 64, 256, 900)]
    assert by_size[-1] == pytest.approx(whole, abs=1e-12)
    assert len({round(value, 4) for value in by_size}) == 4
    orders = [np.random.default_rng(seed).permutation(len(scores)) for seed in range(4)]
    by_order = [batch_averaged(micro, scores[order], labels[order], 64) for order in orders]
    assert max(by_order) - min(by_order) > 1e-4
    assert all(micro(scores[order], labels[order]) == pytest.approx(whole, abs=1e-12) for order in orders)


def test_it_is_the_mean_of_what_scikit_learn_gives_each_batch(split: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = split[0][:200], split[1][:200]
    parts = [slice(0, 64), slice(64, 128), slice(128, 192), slice(192, 200)]  # the last, small one counts as much
    expected = np.mean([average_precision_score(labels[part].ravel(), scores[part].ravel()) for part in parts])
    assert batch_averaged(micro, scores, labels, 64) == pytest.approx(expected, abs=1e-9)
