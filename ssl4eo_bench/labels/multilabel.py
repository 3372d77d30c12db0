"""Any number of classes for each image."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ssl4eo_bench.labels.image_labels import ImageLabels
from ssl4eo_bench.metrics.classification import Thresholds, tune_thresholds
from ssl4eo_bench.metrics.ranking import Ranking
from ssl4eo_bench.solver.losses import Sigmoid


class Multilabel(ImageLabels):
    """Classes that do not exclude each other; targets are indicators `[N, C]`."""

    loss = Sigmoid()

    def main_metric(self, logits: np.ndarray, targets: np.ndarray) -> float:
        """Return the micro-averaged average precision."""
        ones = np.ones((1, len(targets)))
        return float(Ranking(self.probabilities(logits), targets).average_precision(ones)[0])

    def mean_loss(self, logits: np.ndarray, targets: np.ndarray) -> float:
        """Return the mean binary cross-entropy over sample–class pairs."""
        exact = torch.from_numpy(logits).double()
        return float(functional.binary_cross_entropy_with_logits(exact, torch.from_numpy(targets).double()))

    def training_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the sum of binary cross-entropies over sample–class pairs."""
        return functional.binary_cross_entropy_with_logits(logits, targets.float(), reduction="sum")

    def thresholds(self, scores: np.ndarray, targets: np.ndarray) -> Thresholds | None:
        """Return the thresholds with the best F1 of each class, and with the best micro-F1."""
        return tune_thresholds(scores, targets)
