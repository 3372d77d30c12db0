"""Metrics that follow from how often each class occurs, is predicted, and is predicted correctly.

scikit-learn is the definition of those that it has, with `zero_division=0`. All values are fractions in [0, 1].
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ssl4eo_bench.config.records import ClassResult


@dataclass(frozen=True)
class Counts:
    """Counts of samples, sample–class pairs or pixels, by class: `[…, C]` each.

    Attributes:
        actual: how often the class occurs.
        predicted: how often it is predicted.
        hits: how often it is predicted where it occurs.
    """

    actual: np.ndarray
    predicted: np.ndarray
    hits: np.ndarray

    @classmethod
    def of_confusion(cls, confusion: np.ndarray) -> "Counts":
        """Return the counts of confusion matrices `[…, C, C]`; rows are true classes."""
        return cls(confusion.sum(-1), confusion.sum(-2), np.diagonal(confusion, axis1=-2, axis2=-1))

    @property
    def union(self) -> np.ndarray:
        """How often the class occurs or is predicted."""
        union: np.ndarray = self.actual + self.predicted - self.hits
        return union

    def accuracy(self) -> np.ndarray:
        """Return the share `[…]` of correct predictions, for classes that exclude each other."""
        return ratio(self.hits.sum(-1), self.actual.sum(-1))

    def balanced_accuracy(self) -> np.ndarray:
        """Return the mean recall `[…]` of the classes that occur."""
        return ratio(ratio(self.hits, self.actual).sum(-1), (self.actual > 0).sum(-1))

    def micro_f1(self) -> np.ndarray:
        """Return the F1 `[…]` of all classes together."""
        return ratio(2 * self.hits.sum(-1), self.predicted.sum(-1) + self.actual.sum(-1))

    def macro_f1(self) -> np.ndarray:
        """Return the mean F1 `[…]` of all classes."""
        means: np.ndarray = ratio(2 * self.hits, self.predicted + self.actual).mean(-1)
        return means

    def miou(self) -> np.ndarray:
        """Return the mean intersection over union `[…]` of the classes that occur or are predicted."""
        return ratio(ratio(self.hits, self.union).sum(-1), (self.union > 0).sum(-1))

    def classes(self, names: tuple[str, ...], average_precision: np.ndarray) -> tuple[ClassResult, ...]:
        """Return the metrics of each class, with this average precision `[C]`, without intersection over union."""
        f1 = ratio(2 * self.hits, self.predicted + self.actual)
        precision, recall = ratio(self.hits, self.predicted), ratio(self.hits, self.actual)
        return tuple(
            ClassResult(
                name=name,
                support=int(self.actual[c]),
                precision=float(precision[c]),
                recall=float(recall[c]) if self.actual[c] else None,
                f1=float(f1[c]),
                average_precision=float(average_precision[c]) if self.actual[c] else None,
            )
            for c, name in enumerate(names)
        )


COUNT_METRICS: dict[str, Callable[[Counts], np.ndarray]] = {
    "miou": Counts.miou,
    "micro_f1": Counts.micro_f1,
    "macro_f1": Counts.macro_f1,
    "accuracy": Counts.accuracy,
    "balanced_accuracy": Counts.balanced_accuracy,
}
"""The metrics `[…]` of counts, by name."""


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return the counts `[C, C]` of pairs of class numbers; rows are true classes."""
    counts: np.ndarray = np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)
    return counts


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return `part / whole`, and 0 where there is nothing to divide by."""
    quotient: np.ndarray = np.divide(part, whole, out=np.zeros(np.shape(part)), where=whole > 0)
    return quotient
