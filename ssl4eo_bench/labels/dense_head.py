"""Label maps from a linear head: the head on the feature grid, its logits resized to the size of the labels.

That is the head on resized features: both steps are linear, and the weights of bilinear resizing sum to one. Only, it
needs neither the memory nor the time of features at every pixel.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ssl4eo_bench.methods.linear import LinearProbe


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

    def scores(self, grid: np.ndarray, side: int) -> np.ndarray:
        """Logits of each class against all others, `[N, C, side, side]`, of features `[N, D, g, g]`."""
        with torch.inference_mode():
            return label_scores(self.logits(torch.from_numpy(grid).to(self.mean.device)), side)


def label_scores(logits: Tensor, side: int) -> np.ndarray:
    """Logits of each class against all others, `[N, C, side, side]`, of softmax logits `[N, C, g, g]`."""
    resized = functional.interpolate(logits, size=(side, side), mode="bilinear", align_corners=False)
    return one_against_rest(resized).cpu().numpy()


def one_against_rest(logits: Tensor) -> Tensor:
    """`log p / (1 - p)` of each class's probability p, from softmax logits `[N, C, …]`.

    From p itself it could not be told where p is rounded to one.
    """
    everything = logits.logsumexp(dim=1, keepdim=True)
    top = logits.argmax(dim=1, keepdim=True)
    rest = everything + torch.log1p(-torch.softmax(logits, dim=1).clamp_max(0.5))  # p of all but the top is below that
    behind = logits.scatter(1, top, float("-inf")).logsumexp(dim=1, keepdim=True)
    return logits - rest.scatter(1, top, behind)
