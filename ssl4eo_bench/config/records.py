"""What is measured, as records that go from where they are measured into result files without a change."""

import base64
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from ssl4eo_bench.config.canonical import Frozen

RESAMPLES = 1000
"""The number of resamples of every bootstrap."""

FEW_UNITS = 20
"""Units below which a bootstrap says little about how a number would change with other test samples."""

UnitValue = Annotated[float, Field(ge=0, le=1)]
"""A metric: all of them lie between 0 and 1."""

Count = Annotated[int, Field(ge=0)]


def _unpacked(replicates: str) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # of numbers that are none, which are refused
        return np.frombuffer(base64.b64decode(replicates, validate=True), dtype="<f4").astype(np.float64)


def _readable(replicates: str) -> str:
    values = _unpacked(replicates)
    if len(values) != RESAMPLES:
        raise ValueError(f"there are {len(values):,} replicates instead of {RESAMPLES:,}")
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("replicates are not fractions between 0 and 1")
    return replicates


def _of_triples(places: str) -> str:
    if len(base64.b64decode(places, validate=True)) % 3:
        raise ValueError("places are not three bytes each")
    return places


class MetricValue(Frozen):
    """A metric as a fraction, with its 95 % bootstrap interval on the test split."""

    value: UnitValue
    low: UnitValue | None = None
    high: UnitValue | None = None

    @model_validator(mode="after")
    def _has_both_bounds(self) -> "MetricValue":
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval has one bound only")
        return self

    @property
    def percent(self) -> str:
        """In percent, with its interval if it has one."""
        value = f"{100 * self.value:.2f}"
        if self.low is None or self.high is None:
            return value
        return f"{value} ({100 * self.low:.2f}–{100 * self.high:.2f})"


class ClassResult(Frozen):
    """The metrics of one class; what cannot be measured without samples is absent."""

    name: str
    support: Count
    precision: UnitValue
    recall: UnitValue | None = None
    f1: UnitValue
    average_precision: UnitValue | None = None
    iou: UnitValue | None = None


class PathPoint(Frozen):
    """One penalty of the path: C, main metric and mean loss on `val`, the solver's relative gradient and iterations."""

    C: float
    val: UnitValue
    loss: float | None = None
    gradient: float
    iterations: Count


class Epoch(Frozen):
    """One epoch of fine-tuning: learning rate, number from 1, mean training loss, and the main metric on `val`."""

    rate: float
    epoch: int
    loss: float
    val: UnitValue


class Selection(Frozen):
    """What was chosen on `val`, by which metric, and from what: penalties of a path, or epochs of every learning rate.

    `knn` chooses thresholds at most. `finetune` chooses rate and epoch; C and path are those of the linear probe that
    it started from.

    Attributes:
        error: the standard error of the best metric of the path, within which the lower loss decided.
        thresholds: for multilabel, of each class.
        threshold: for multilabel, of all classes together.
    """

    metric: str
    C: float | None = None
    path: tuple[PathPoint, ...] = ()
    error: float | None = None
    rate: float | None = None
    epoch: int | None = None
    history: tuple[Epoch, ...] | None = None
    thresholds: tuple[float, ...] | None = None
    threshold: float | None = None

    @model_validator(mode="after")
    def _has_chosen(self) -> "Selection":
        if self.path and self.C is None:
            raise ValueError("nothing was chosen from the path")
        if self.history and (self.rate is None or self.epoch is None):
            raise ValueError("nothing was chosen from the history")
        return self


class Resampled(Frozen):
    """The main metric on test in the resamples that every result of a version of a task has in common.

    Attributes:
        units: how many are drawn with replacement, as wholes.
        units_are: what they are, in the plural: samples, or clusters of them.
        replicates: the values, little-endian float32 in base64.
    """

    units: int
    units_are: str
    replicates: Annotated[str, AfterValidator(_readable)]

    @classmethod
    def of(cls, replicates: np.ndarray, units: int, units_are: str) -> "Resampled":
        """The record of these values `[B]`."""
        packed = base64.b64encode(replicates.astype("<f4").tobytes()).decode()
        return cls(units=units, units_are=units_are, replicates=packed)

    @property
    def values(self) -> np.ndarray:
        """The main metric `[B]` float64 in each resample."""
        return _unpacked(self.replicates)

    @property
    def few(self) -> bool:
        """Whether the units are so few that intervals may be too narrow, though they allow for it."""
        return self.units < FEW_UNITS


class Cost(Frozen):
    """What a backbone costs.

    Attributes:
        parameters: of the network without its classifier.
        flops: floating-point operations of one image from its scaled pixels to the feature, two for each multiply-add:
            those of convolutions, matrix products and attention; none where they cannot be counted.
        width: numbers of a feature: of an image, or of a place on label maps.
    """

    parameters: Count
    flops: Count | None = None
    width: Count


class NotFinite(Frozen):
    """How many stored values of a split are NaN or infinite, and were zero after scaling; of how many samples.

    `names` are the first of these samples.
    """

    values: Count
    samples: Count
    names: tuple[str, ...]


class ReliabilityBin(Frozen):
    """The predictions in a bin of confidence, from 0 on: how many, how many right, their mean confidence."""

    bin: Count
    count: Count
    correct: Count
    confidence: UnitValue


class FigureData(Frozen):
    """What the figures of a result need beyond the result itself; it is kept beside it.

    Attributes:
        reliability: the bins of a reliability diagram: of the top class, or of all pairs of sample and class.
        places: of evenly spaced test samples on the first two principal components of their features: x, y and number
            of the class as bytes, in base64. 0 to 255 is from the lowest to the highest; the class is 255 for samples
            with several labels or none.
    """

    reliability: tuple[ReliabilityBin, ...] = ()
    places: Annotated[str, AfterValidator(_of_triples)] = ""

    @property
    def points(self) -> np.ndarray:
        """Places and class numbers `[K, 3]` of the samples."""
        return np.frombuffer(base64.b64decode(self.places), np.uint8).reshape(-1, 3).astype(int)


class ReferenceResult(Frozen):
    """What the published code would have reported of the same training, by the main metric on test.

    Attributes:
        batch: samples that it computes one metric of.
        batch_averaged: the mean over batches, at the epoch that is best on val.
        best_test_epoch: the epoch that is best on test itself, and
        best_test: its metric.
        best_test_batch_averaged: the best mean over batches of any epoch.
    """

    batch: int
    batch_averaged: UnitValue
    best_test_epoch: int
    best_test: UnitValue
    best_test_batch_averaged: UnitValue
