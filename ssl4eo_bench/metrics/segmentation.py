"""The metrics of label maps, tallied tile by tile: no split of pixels is ever in memory.

A score is the logit of a class against all others, `log p / (1 - p)`, and the predicted class is the one with the
highest. For average precision, scores are rounded to 2^18 levels: even steps of `asinh(score)`, which are 6e-5 of a
score near zero and 6e-5 of its size far from it, up to a score of 2^12. Levels of probability would put all pixels that
a confident network is sure of into one. On the rounded scores, scikit-learn is the definition; on the scores themselves
average precision differs by less than 2e-4 in the tests, for logits with a spread of 0.1 to 300.

Everything is computed from counts of pixels in whole numbers, so neither the order of the tiles nor how many came at
once can change a bit. All values are fractions in [0, 1].

Intervals are a bootstrap over tiles: the pixels of one tile are no independent samples. Confusions are kept for each
tile, so their intervals are exact. Average precision would need a histogram of 2^18 levels for each tile; its intervals
come from 2^10 levels, moved by the difference that the coarser levels make to the value itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from ssl4eo_bench.config.records import ClassResult, MetricValue
from ssl4eo_bench.metrics.evaluation import (
    CALIBRATION_BINS,
    Advance,
    Bootstrap,
    Evaluation,
    Metric,
    class_values,
    estimates,
    ratio,
    replicated,
)

LEVELS = 2**18
COARSE_LEVELS = 2**10
"""Of the histograms that are kept for each tile: 986 tiles of eight classes take 65 MB."""

LARGEST_SCORE = 2.0**12
"""From which on scores are not told apart; a softmax of float32 logits rarely gets there."""

_TOP = LEVELS - 1
"""The largest level, and the whole number that stands for a confidence of 1."""


class SegmentationTally:
    """What has been counted so far.

    Attributes:
        confusions: `[N, C, C]` int64 for the tiles, rows are true classes.
    """

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._histogram = np.zeros((classes, 2, LEVELS), dtype=np.int64)
        self._calibration = np.zeros(CALIBRATION_BINS, dtype=np.int64)
        self._tiles: list[_Tile] = []

    def add(self, scores: np.ndarray, labels: np.ndarray) -> None:
        """Count tiles.

        Args:
            scores: logits of each class against all others `[N, C, …]`, for the pixels of N tiles.
            labels: class numbers `[N, …]`; pixels with a number that is no class are left out.
        """
        expected = (len(labels), self._classes, *labels.shape[1:])
        if scores.shape != expected:
            raise ValueError(f"scores must be of shape {expected}; found {scores.shape}")
        for of_tile, truth in zip(scores, labels, strict=True):
            flat = truth.ravel()
            labelled = flat < self._classes
            self._add_tile(of_tile.reshape(self._classes, -1)[:, labelled], flat[labelled].astype(np.int64))

    def _add_tile(self, scores: np.ndarray, truth: np.ndarray) -> None:
        """Count the labelled pixels of one tile: `scores` `[C, M]` and `truth` `[M]`."""
        coarse = np.empty((self._classes, 2, COARSE_LEVELS), dtype=np.uint32)
        for number, of_class in enumerate(levels(scores)):
            places = of_class + LEVELS * (truth == number)
            counts = np.bincount(places, minlength=2 * LEVELS).reshape(2, LEVELS)
            self._histogram[number] += counts
            coarse[number] = counts.reshape(2, COARSE_LEVELS, -1).sum(-1)
        predicted = scores.argmax(axis=0)
        self._calibration += _calibration(scores.max(axis=0), predicted == truth)
        self._tiles.append(_Tile(confusion_matrix(truth, predicted, self._classes), coarse))

    @property
    def confusions(self) -> np.ndarray:
        """Of each tile, in the order they were added."""
        return np.stack([tile.confusion for tile in self._tiles])

    def evaluate(
        self, names: tuple[str, ...], *, bootstrap: Bootstrap | None = None, advance: Advance = lambda _: None
    ) -> Evaluation:
        """The metrics of all that was counted.

        Args:
            names: of the classes.
            bootstrap: of the tiles, in the order they were added; none leaves intervals away.
            advance: is told of the bootstrap's progress.
        """
        measure = _Measure(self._tiles)
        replicates = replicated(measure, bootstrap, advance)
        metrics = estimates(measure(np.ones((1, len(self._tiles)))), replicates)
        precisions = _average_precision(self._histogram)
        exact = {"micro_map": _average_precision(self._histogram.sum(axis=0)), "macro_map": precisions.mean()}
        confusion = self.confusions.sum(axis=0)
        ece = ratio(np.abs(self._calibration).sum(), confusion.sum() * _TOP)
        return Evaluation(
            metrics=metrics
            | {name: _moved(metrics[name], float(value)) for name, value in exact.items()}
            | {"ece": MetricValue(value=float(ece))},
            classes=_class_values(confusion, precisions, names),
            confusion=tuple(map(tuple, confusion.tolist())),
            replicates=replicates,
        )


def levels(scores: np.ndarray) -> np.ndarray:
    """The levels of scores, 0 to 2^18 - 1.

    Raises:
        ValueError: if a score is no number.
    """
    if np.isnan(scores).any():
        raise ValueError("scores must be numbers")
    bounded = np.clip(scores.astype(np.float64), -LARGEST_SCORE, LARGEST_SCORE)
    found: np.ndarray = np.rint((np.arcsinh(bounded) / np.arcsinh(LARGEST_SCORE) + 1) * (_TOP / 2)).astype(np.int64)
    return found


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts `[C, C]` of class numbers, rows are true classes."""
    counts: np.ndarray = np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)
    return counts


def mean_iou(confusions: np.ndarray) -> np.ndarray:
    """Mean intersection over union `[…]` of confusions `[…, C, C]`.

    Classes that are neither in the labels nor predicted are left out of the mean.
    """
    hits, union = _hits_and_union(confusions)
    return ratio(ratio(hits, union).sum(-1), (union > 0).sum(-1))


def accuracy(confusions: np.ndarray) -> np.ndarray:
    """Share `[…]` of pixels that are predicted rightly, which is the micro-F1 too."""
    return ratio(_hits_and_union(confusions)[0].sum(-1), confusions.sum((-1, -2)))


def balanced_accuracy(confusions: np.ndarray) -> np.ndarray:
    """Mean recall `[…]` over the classes that occur."""
    actual = confusions.sum(-1)
    return ratio(ratio(_hits_and_union(confusions)[0], actual).sum(-1), (actual > 0).sum(-1))


def macro_f1(confusions: np.ndarray) -> np.ndarray:
    """Mean F1 `[…]` over all classes."""
    hits, _ = _hits_and_union(confusions)
    means: np.ndarray = ratio(2 * hits, confusions.sum(-1) + confusions.sum(-2)).mean(-1)
    return means


OF_CONFUSIONS = {
    "miou": mean_iou,
    "micro_f1": accuracy,
    "macro_f1": macro_f1,
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
}
"""The metrics `[…]` that follow from confusions `[…, C, C]`, by name."""


def confusion_metrics(confusions: np.ndarray) -> dict[str, Metric]:
    """Each metric that the confusions `[N, C, C]` of tiles decide, as a function of how often each tile counts."""
    counts = confusions.astype(float)
    return {name: partial(_weighted, of, counts) for name, of in OF_CONFUSIONS.items()}


def _weighted(of: Callable[[np.ndarray], np.ndarray], confusions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return of(np.tensordot(weights, confusions, axes=1))


def _hits_and_union(confusions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    hits = np.diagonal(confusions, axis1=-2, axis2=-1)
    return hits, confusions.sum(-1) + confusions.sum(-2) - hits


@dataclass(frozen=True)
class _Tile:
    """Counts of one tile: confusion `[C, C]`, coarse histograms `[C, 2, 2^10]`."""

    confusion: np.ndarray
    histogram: np.ndarray


class _Measure:
    """The metrics as functions of how often each tile counts `[B, N]`."""

    def __init__(self, tiles: list[_Tile]) -> None:
        self._confusions = np.stack([tile.confusion for tile in tiles]).astype(float)
        self._histograms = np.stack([tile.histogram for tile in tiles]).astype(float)

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Every metric `[B]`."""
        confusions = np.tensordot(weights, self._confusions, axes=1)
        histograms = np.tensordot(weights, self._histograms, axes=1)
        of_confusions = {name: of(confusions) for name, of in OF_CONFUSIONS.items()}
        return {
            "miou": of_confusions.pop("miou"),
            "micro_map": _average_precision(histograms.sum(1)),
            "macro_map": _average_precision(histograms).mean(-1),
            **of_confusions,
        }


def _average_precision(histograms: np.ndarray) -> np.ndarray:
    """Average precision `[…]` from counts `[…, 2, L]` of negatives and positives by level; 0 without positives.

    All pixels of one level are one step of the curve, as pairs of one score are for scikit-learn.
    """
    descending = histograms[..., ::-1]
    positives = descending[..., 1, :]
    found = positives.cumsum(-1)
    precision = ratio(found, found + descending[..., 0, :].cumsum(-1))
    return ratio((positives * precision).sum(-1), found[..., -1])


def _calibration(scores: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """What a tile adds to the gap of each confidence bin `[15]`, in whole numbers, by the scores of its top classes."""
    confidence = np.rint(_TOP / (1 + np.exp(-scores.astype(np.float64)))).astype(np.int64)
    bins = np.clip(-(-confidence * CALIBRATION_BINS // _TOP) - 1, 0, CALIBRATION_BINS - 1)
    gaps = np.zeros(CALIBRATION_BINS, dtype=np.int64)
    np.add.at(gaps, bins, correct * _TOP - confidence)
    return gaps


def _class_values(confusion: np.ndarray, precisions: np.ndarray, names: tuple[str, ...]) -> tuple[ClassResult, ...]:
    hits, union = _hits_and_union(confusion)
    actual, guesses = confusion.sum(1), confusion.sum(0)
    each = zip(names, hits, actual, guesses, precisions, union, strict=True)
    return tuple(
        class_values(name, *of).model_copy(update={"iou": float(of[0] / covered) if covered else None})
        for name, *of, covered in each
    )


def _moved(coarse: MetricValue, value: float) -> MetricValue:
    """The estimate of coarse levels at the value of fine ones."""
    if coarse.low is None or coarse.high is None:
        return MetricValue(value=value)
    shift = value - coarse.value
    return MetricValue(value=value, low=max(coarse.low + shift, 0.0), high=min(coarse.high + shift, 1.0))
