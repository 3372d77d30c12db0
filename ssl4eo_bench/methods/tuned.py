"""What fine-tuning gives: a network that scores samples itself, and how it came about."""

from dataclasses import dataclass

import numpy as np

from ssl4eo_bench.config.task import Kind
from ssl4eo_bench.methods.linear import LinearProbe, to_probabilities
from ssl4eo_bench.metrics.evaluation import Thresholds
from ssl4eo_bench.training.loop import Epoch, best_of


@dataclass(frozen=True)
class Tuned:
    """The probe of a tuned network: its features are the network's logits.

    Attributes:
        kind: of the task.
        start: the linear probe it started from; none behind a recipe.
        history: every epoch of every rate.
        thresholds: for multilabel, chosen on `val`.
    """

    kind: Kind
    start: LinearProbe | None
    history: tuple[Epoch, ...]
    thresholds: Thresholds | None = None

    @property
    def chosen(self) -> Epoch:
        """The epoch with the best `val`, the first of them on ties."""
        return best_of(self.history)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Where the choice lies on an edge of what was tried, and what is to be known of the linear probe before."""
        found = self.start.warnings if self.start else ()
        rates = sorted({epoch.rate for epoch in self.history})
        if len(rates) > 1 and self.chosen.rate in (rates[0], rates[-1]):
            return (*found, f"the best learning rate on val, {self.chosen.rate:g}, lies on the edge of the grid")
        return found

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Class probabilities `[N, C]` float64 of logits `[N, C]`."""
        return to_probabilities(features, self.kind)
