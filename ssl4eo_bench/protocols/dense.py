"""Label maps from a linear head: the head on the feature grid, its logits resized to the size of the labels.

That is the head on resized features: both steps are linear, and the weights of bilinear resizing sum to one. Only, it
needs neither the memory nor the time of features at every pixel.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ssl4eo_bench.protocols.linear import LinearProbe


@dataclass(frozen=True)
class DenseHead:
    """A head in the space of the features: standardisation is folded into it.

    Attributes:
        mean: `[D]`, of the training features.
        weights: `[C, D]`.
        intercept: `[C]`.
    """

    mean: Tensor
    weights: Tensor
    intercept: Tensor

    @classmethod
    def of(cls, probe: LinearProbe) -> "DenseHead":
        """The chosen head of a probe."""
        standardisation, weights = probe.standardisation, probe.head.weights
        return cls(standardisation.mean, weights[:, :-1] / standardisation.scale, weights[:, -1])

    def logits(self, grid: Tensor) -> Tensor:
        """Logits `[N, C, g, g]` of features `[N, D, g, g]`."""
        # The mean goes first: a feature far from zero would leave float32 few digits for what varies.
        centred = grid - self.mean[:, None, None]
        return torch.einsum("cd,ndhw->nchw", self.weights, centred) + self.intercept[:, None, None]

    def probabilities(self, grid: np.ndarray, side: int) -> np.ndarray:
        """Class probabilities `[N, C, side, side]` of features `[N, D, g, g]`."""
        with torch.inference_mode():
            return label_probabilities(self.logits(torch.from_numpy(grid).to(self.mean.device)), side)


def label_probabilities(logits: Tensor, side: int) -> np.ndarray:
    """Class probabilities `[N, C, side, side]` of logits `[N, C, g, g]`."""
    resized = functional.interpolate(logits, size=(side, side), mode="bilinear", align_corners=False)
    probabilities: np.ndarray = torch.softmax(resized, dim=1).cpu().numpy()
    return probabilities
