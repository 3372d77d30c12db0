"""Standardisation of features by mean and standard deviation of the training split."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

ROWS = 1024
"""Rows of features handled at once: they stay in the processor's cache, and copies of them are small."""


@dataclass(frozen=True)
class Standardisation:
    """The mean and the standard deviation of training features.

    Attributes:
        mean: `[D]` float32.
        scale: `[D]` float32, 1 where a feature is constant.
    """

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, features: np.ndarray, device: torch.device) -> "Standardisation":
        """Return the standardisation by training features `[N, D]`, with sums in float64."""
        blocks = [slice(start, start + ROWS) for start in range(0, len(features), ROWS)]
        mean = sum(features[rows].sum(axis=0, dtype=np.float64) for rows in blocks) / len(features)
        variance = sum(np.square(features[rows] - mean).sum(axis=0) for rows in blocks) / len(features)
        scale = np.sqrt(variance)
        scale[scale <= 1e-7 * np.abs(mean)] = 1.0  # constant, but for rounding
        return cls(*(torch.from_numpy(array).float().to(device) for array in (mean, scale)))

    def stream(self, features: np.ndarray, rows: int = ROWS) -> Iterator[Tensor]:
        """Yield features `[N, D]` of any float type as standardised float32 `[≤ rows, D]` on the device, in order."""
        for start in range(0, len(features), rows):
            some = torch.from_numpy(features[start : start + rows]).to(self.mean.device)
            yield (some - self.mean).div_(self.scale).float()
