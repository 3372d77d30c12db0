"""What every way to probe frozen features gives."""

from typing import Protocol

import numpy as np

from ssl4eo_bench.metrics.evaluation import Thresholds


class Probe(Protocol):
    """Scores features of any split."""

    @property
    def thresholds(self) -> Thresholds | None:
        """The scores from which on labels are predicted, for multilabel; chosen on `val`."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the result should know."""
        ...

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Class probabilities `[N, C]` float64 of features `[N, D]`."""
        ...
