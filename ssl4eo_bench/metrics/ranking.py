"""Average precision, from scores that are sorted once or from histograms of scores."""

import numpy as np

from ssl4eo_bench.metrics.counts import ratio


class Ranking:
    """Score–label pairs in descending order of score.

    A resample changes how often each pair counts, not the order, so resampling needs no sorting.
    """

    def __init__(self, scores: np.ndarray, labels: np.ndarray) -> None:
        """Sort the pairs of `scores` `[N, C]` and `labels` `[N, C]` in {0, 1}, all classes together."""
        samples, classes = scores.shape
        flat = scores.ravel()
        order = np.argsort(-flat, kind="stable")
        ranked = flat[order]
        # Pairs of one score are one step of the curve: each counts with the totals at the end of its group.
        last_of_group = np.append(np.flatnonzero(np.diff(ranked)), samples * classes - 1)
        self._sample = order // classes
        self._positive = np.flatnonzero(labels.ravel()[order])
        self._end = last_of_group[np.searchsorted(last_of_group, self._positive)]
        self._positive_end = np.searchsorted(self._positive, self._end, side="right") - 1

    def average_precision(self, weights: np.ndarray) -> np.ndarray:
        """Return the average precision `[B]` for weights `[B, N]`, whole numbers; 0 where no positive counts.

        `Σ (R_k - R_{k-1}) P_k` over the distinct scores, as scikit-learn's `average_precision_score` defines it.
        """
        if not self._positive.size:
            return np.zeros(len(weights))
        # Running sums of whole numbers take a fifth of the time that those of others do.
        counts = weights.astype(np.int64)
        pairs = np.empty(len(self._sample), np.int64)  # one for all: getting memory costs as much as summing
        return np.array([self._one(row, pairs) for row in counts])

    def _one(self, counts: np.ndarray, pairs: np.ndarray) -> float:
        """Return the average precision for one weight of each sample `[N]`; `pairs` `[N · C]` is overwritten."""
        np.take(counts, self._sample, out=pairs, mode="clip")  # the default mode copies
        positive = pairs[self._positive]
        found = np.cumsum(positive)
        if found[-1] == 0:
            return 0.0
        seen = np.cumsum(pairs, out=pairs)[self._end]
        precision = np.divide(found[self._positive_end], seen, out=np.zeros(len(found)), where=seen > 0)
        return float(positive @ precision / found[-1])


def histogram_average_precision(histograms: np.ndarray) -> np.ndarray:
    """Return average precision `[…]` from counts `[…, 2, L]` of negatives and positives by level; 0 without positives.

    All pairs of one level are one step of the curve, as pairs of one score are for scikit-learn.
    """
    descending = histograms[..., ::-1]
    positives = descending[..., 1, :]
    found = positives.cumsum(-1)
    precision = ratio(found, found + descending[..., 0, :].cumsum(-1))
    return ratio((positives * precision).sum(-1), found[..., -1])
