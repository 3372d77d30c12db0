"""What every way to probe frozen features gives."""

from typing import Protocol

import numpy as np


class Probe(Protocol):
    """Scores features of any split."""

    @property
    def thresholds(self) -> np.ndarray | None:
        """For multilabel, the score for each class that gives the best F1 on `val`."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the result should know."""
        ...

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Class probabilities `[N, C]` float64 of features `[N, D]`."""
        ...
