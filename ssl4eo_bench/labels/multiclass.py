"""One class for each image."""

import numpy as np
from torch import Tensor
from torch.nn import functional

from ssl4eo_bench.labels.image_labels import ImageLabels
from ssl4eo_bench.metrics.counts import Counts, confusion_matrix
from ssl4eo_bench.solver.losses import Softmax


class Multiclass(ImageLabels):
    """Classes that exclude each other; targets are class numbers `[N]`."""

    loss = Softmax()

    def main_metric(self, logits: np.ndarray, targets: np.ndarray) -> float:
        """Return the accuracy of the class with the highest logit."""
        return float(Counts.of_confusion(confusion_matrix(targets, logits.argmax(axis=1), logits.shape[1])).accuracy())

    def standard_error(self, logits: np.ndarray, targets: np.ndarray) -> float:
        """Return the binomial standard error of the accuracy."""
        accuracy = self.main_metric(logits, targets)
        return float(np.sqrt(accuracy * (1 - accuracy) / len(targets)))

    def training_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the sum of cross-entropies over samples."""
        return functional.cross_entropy(logits, targets.long(), reduction="sum")
