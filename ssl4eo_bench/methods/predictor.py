"""What a method leaves of a problem."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ssl4eo_bench.config.records import ReferenceResult, Selection
from ssl4eo_bench.extraction.store import Origin
from ssl4eo_bench.labels.base import Scorer


@dataclass(frozen=True)
class Predictor:
    """A fitted method.

    Attributes:
        choice: what was chosen on `val`, but for thresholds.
        warnings: what a reader of the result should know.
        train_ids: of the training samples that were used.
        origins: of the features of `train` and `val`.
        reference: returns what the published code would have reported; only recipes have it. Opens the test labels.
    """

    scorer: Scorer
    choice: Selection
    warnings: tuple[str, ...]
    train_ids: Sequence[str]
    origins: tuple[Origin, ...]
    reference: Callable[[], ReferenceResult | None] = lambda: None

    @property
    def selection(self) -> Selection:
        """What was chosen on `val`."""
        thresholds = self.scorer.thresholds
        if thresholds is None:
            return self.choice
        update = {"thresholds": tuple(thresholds.each.tolist()), "threshold": thresholds.common}
        return self.choice.model_copy(update=update)
