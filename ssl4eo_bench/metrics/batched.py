"""The mean of a metric over batches, as training scripts print it: order and size of the batches change it."""

from collections.abc import Callable

import numpy as np

SEED = 42
"""That of the released scripts."""


def batch_averaged(
    metric: Callable[[np.ndarray, np.ndarray], float],
    scores: np.ndarray,
    targets: np.ndarray,
    batch: int,
    *,
    drop_last: bool = False,
    weighted: bool = False,
) -> float:
    """Return the mean of a metric over consecutive batches of scores `[N, C]` and targets.

    `drop_last` leaves out the last batch if it is smaller, unless it is the only one. `weighted` weighs each batch by
    its samples; otherwise a small one counts like any other.
    """
    count = len(scores)
    if drop_last and count > batch:
        count -= count % batch
    parts = [slice(start, min(start + batch, count)) for start in range(0, count, batch)]
    weights = [part.stop - part.start for part in parts] if weighted else None
    return float(np.average([metric(scores[part], targets[part]) for part in parts], weights=weights))


def shuffled(count: int) -> np.ndarray:
    """Return the row numbers in a random order that is the same every time."""
    return np.random.default_rng(SEED).permutation(count)
