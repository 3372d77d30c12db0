"""Features in half the bytes, where that does no harm."""

import numpy as np

LARGEST_ERROR = 2.0**-10
"""Of rounding, relative to the standard deviation of a feature: what a probe sees, for it standardises."""


def halved(features: np.ndarray) -> np.ndarray:
    """Features `[…, D]` float32 as float16, or as they are if that would spoil one of them.

    Half precision has eleven binary digits and ends at 65,504: a feature that varies little around a large value, or is
    large or minute, would lose what distinguishes samples.
    """
    rows = features.reshape(-1, features.shape[-1])
    with np.errstate(over="ignore"):
        rounded = rows.astype(np.float16)
    error = np.sqrt(np.square(rounded - rows).mean(axis=0))  # infinite where a value was too large
    harmless = bool((error <= LARGEST_ERROR * rows.std(axis=0)).all())
    return rounded.reshape(features.shape) if harmless else features
