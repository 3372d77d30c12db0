"""What fine-tuning gives: a network that scores samples itself, and how it came about."""

from dataclasses import dataclass

import numpy as np

from ssl4eo_bench.protocols.finetune import Epoch, best_of
from ssl4eo_bench.protocols.linear import LinearProbe, to_probabilities
from ssl4eo_bench.spec.tasks import Kind


@dataclass(frozen=True)
class Tuned:
    """The probe of a tuned network: its features are the network's logits.

    Attributes:
        kind: of the task.
        start: the linear probe it started from.
        history: every epoch of every rate.
        thresholds: for multilabel, the score for each class that gives the best F1 on `val`.
    """

    kind: Kind
    start: LinearProbe
    history: tuple[Epoch, ...]
    thresholds: np.ndarray | None = None

    @property
    def chosen(self) -> Epoch:
        """The epoch with the best `val`, the first of them on ties."""
        return best_of(self.history)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Where the choice lies on an edge of what was tried."""
        rates = sorted({epoch.rate for epoch in self.history})
        if len(rates) > 1 and self.chosen.rate in (rates[0], rates[-1]):
            return (f"the best learning rate on val, {self.chosen.rate:g}, lies on the edge of the grid",)
        return ()

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Class probabilities `[N, C]` float64 of logits `[N, C]`."""
        return to_probabilities(features, self.kind)
