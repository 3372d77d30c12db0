"""The expected calibration error over 15 equal bins of confidence (Guo et al., ICML 2017), and its diagram.

It has no bootstrap interval: a sum of absolute gaps grows with the noise of resampling.
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri

from ssl4eo_bench.config.records import ReliabilityBin

BINS = 15


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Return the gap between confidence and correctness, both `[…]`, as a mean over predictions."""
    gaps = np.zeros(BINS)
    np.add.at(gaps, bins_of(confidence), correct - confidence)
    return float(np.abs(gaps).sum() / confidence.size)


def reliability(scores: np.ndarray, labels: np.ndarray) -> tuple[ReliabilityBin, ...]:
    """Return the bins of the reliability diagram of probabilities `[N, C]` that have predictions.

    Labels are class numbers `[N]`, for the top class; or indicators `[N, C]`, for all pairs.
    """
    if labels.ndim == 1:
        confidence, correct = scores.max(axis=1), scores.argmax(axis=1) == labels
    else:
        confidence, correct = scores.ravel(), labels.ravel().astype(bool)
    bins = bins_of(confidence)
    counts, sums = np.bincount(bins, minlength=BINS), np.bincount(bins, weights=confidence, minlength=BINS)
    hits = np.bincount(bins, weights=correct, minlength=BINS)
    return tuple(
        ReliabilityBin(
            bin=int(b), count=int(counts[b]), correct=int(hits[b]), confidence=min(float(sums[b] / counts[b]), 1.0)
        )
        for b in np.flatnonzero(counts)
    )


def error_of_bins(bins: Sequence[ReliabilityBin]) -> float:
    """Return the expected calibration error that the bins of a reliability diagram give."""
    gaps = sum(abs(one.correct - one.confidence * one.count) for one in bins)
    return gaps / max(sum(one.count for one in bins), 1)


def wilson(correct: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds of the 95 % intervals of shares `correct / count` (Wilson, JASA 22, 1927).

    The predictions that are counted are taken as independent.
    """
    z = ndtri(0.975)
    share, weight = correct / count, z**2 / count
    middle = (share + weight / 2) / (1 + weight)
    reach = np.sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight)
    return middle - reach, middle + reach


def bins_of(confidence: np.ndarray) -> np.ndarray:
    """Return the bin of each confidence: bin b holds those above b / 15, up to (b + 1) / 15."""
    bins: np.ndarray = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    return bins
