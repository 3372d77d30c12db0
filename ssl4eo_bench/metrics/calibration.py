"""The expected calibration error over 15 equal bins of confidence (Guo et al., ICML 2017), and its diagram.

It has no bootstrap interval: a sum of absolute gaps grows with the noise of resampling.
"""

from dataclasses import dataclass

import numpy as np

BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Confidence and correctness in the bins that have predictions; each `[≤ 15]`.

    Attributes:
        confidence: mean of the bin.
        correct: share of correct predictions.
        share: of all predictions.
    """

    confidence: np.ndarray
    correct: np.ndarray
    share: np.ndarray


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Return the gap between confidence and correctness, both `[…]`, as a mean over predictions."""
    gaps = np.zeros(BINS)
    np.add.at(gaps, bins_of(confidence), correct - confidence)
    return float(np.abs(gaps).sum() / confidence.size)


def reliability(scores: np.ndarray, labels: np.ndarray) -> Reliability:
    """Return the reliability diagram; the weighted gaps of its bins add up to the expected calibration error.

    Args:
        scores: probabilities `[N, C]`.
        labels: class numbers `[N]`, for the top class; or indicators `[N, C]`, for all pairs.
    """
    if labels.ndim == 1:
        confidence, correct = scores.max(axis=1), scores.argmax(axis=1) == labels
    else:
        confidence, correct = scores.ravel(), labels.ravel().astype(bool)
    bins = bins_of(confidence)
    counts = np.bincount(bins, minlength=BINS)
    filled = counts > 0

    def mean(values: np.ndarray) -> np.ndarray:
        sums = np.bincount(bins, weights=values, minlength=BINS)
        return np.asarray(sums[filled] / counts[filled])

    return Reliability(mean(confidence), mean(correct), counts[filled] / len(bins))


def bins_of(confidence: np.ndarray) -> np.ndarray:
    """Return the bin of each confidence: bin b holds those above b / 15, up to (b + 1) / 15."""
    bins: np.ndarray = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    return bins
