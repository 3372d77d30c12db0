"""One class for each image."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ssl4eo_bench.labels.image_labels import ImageLabels
from ssl4eo_bench.metrics.bootstrap import Bootstrap
from ssl4eo_bench.metrics.classification import Evaluation, Thresholds, evaluate_multiclass
from ssl4eo_bench.metrics.counts import Counts, confusion_matrix
from ssl4eo_bench.solver.losses import Softmax


class Multiclass(ImageLabels):
    """Classes that exclude each other; targets are class numbers `[N]`."""

    loss = Softmax()

    def main_metric(self, logits: np.ndarray, targets: np.ndarray) -> float:
        """Return the accuracy of the class with the highest logit."""
        return float(Counts.of_confusion(confusion_matrix(targets, logits.argmax(axis=1), logits.shape[1])).accuracy())

    def mean_loss(self, logits: np.ndarray, targets: np.ndarray) -> float:
        """Return the mean cross-entropy over samples."""
        return float(functional.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(targets).long()))

    def standard_error(self, logits: np.ndarray, targets: np.ndarray) -> float:
        """Return the binomial standard error of the accuracy."""
        accuracy = self.main_metric(logits, targets)
        return float(np.sqrt(accuracy * (1 - accuracy) / len(targets)))

    def training_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the sum of cross-entropies over samples."""
        return functional.cross_entropy(logits, targets.long(), reduction="sum")

    def evaluate(
        self,
        scores: np.ndarray,
        targets: np.ndarray,
        names: tuple[str, ...],
        thresholds: Thresholds | None,
        bootstrap: Bootstrap | None = None,
    ) -> Evaluation:
        """Return the metrics of probabilities `[N, C]`; the class with the highest one is predicted."""
        del thresholds
        return evaluate_multiclass(scores, targets, names, bootstrap=bootstrap)
