"""The mean over batches of a metric, as training scripts print it: order and size of the batches move it."""

from collections.abc import Callable

import numpy as np


def batch_averaged(
    metric: Callable[[np.ndarray, np.ndarray], float], scores: np.ndarray, targets: np.ndarray, batch: int
) -> float:
    """The mean of a metric over consecutive batches of samples; the last one, however small, counts like any other.

    Args:
        metric: of scores and targets.
        scores: `[N, C]`.
        targets: `[N]` or `[N, C]`.
        batch: samples in one.
    """
    starts = range(0, len(scores), batch)
    return float(np.mean([metric(scores[start : start + batch], targets[start : start + batch]) for start in starts]))
