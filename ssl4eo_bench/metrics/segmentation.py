"""The metrics of label maps, counted tile by tile: no split of pixels is ever in memory.

A score is the logit of a class against all others, `log p / (1 - p)`; the predicted class has the highest score. For
average precision, scores are rounded to 2^18 levels: equal steps of `asinh(score)`, which are 6e-5 of a score near zero
and 6e-5 of its size far from it, up to a score of 2^12. Levels of probability would put all pixels into one level that
a confident network is sure of. On the rounded scores, scikit-learn is the definition; on the scores themselves average
precision differs by less than 2e-4 in the tests, for logits with a standard deviation of 0.1 to 300.

Everything is computed from counts of pixels in whole numbers, so neither the order of the tiles nor the size of batches
can change a bit. All values are fractions in [0, 1].

Intervals are a bootstrap over tiles: the pixels of one tile are no independent samples. Confusions are kept for each
tile, so their intervals are exact. Average precision would need a histogram of 2^18 levels for each tile; its intervals
come from 2^10 levels, and are moved by the difference between the values of fine and coarse levels.
"""

from functools import partial

import numpy as np

from ssl4eo_bench.config.records import MetricValue
from ssl4eo_bench.metrics.bootstrap import Bootstrap, Metric, estimates, replicated
from ssl4eo_bench.metrics.calibration import BINS
from ssl4eo_bench.metrics.classification import Evaluation
from ssl4eo_bench.metrics.counts import COUNT_METRICS, Counts, confusion_matrix, ratio
from ssl4eo_bench.metrics.ranking import histogram_average_precision

LEVELS = 2**18
COARSE_LEVELS = 2**10
"""Of the histograms that are kept for each tile: 986 tiles of eight classes take 65 MB."""

LARGEST_SCORE = 2.0**12
"""Larger scores are not distinguished; a softmax of float32 logits rarely has them."""

_TOP = LEVELS - 1
"""The largest level, and the whole number that stands for a confidence of 1."""


class SegmentationTally:
    """Counts of pixels, tile by tile."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._histogram = np.zeros((classes, 2, LEVELS), dtype=np.int64)
        self._calibration = np.zeros(BINS, dtype=np.int64)
        self._confusions: list[np.ndarray] = []
        self._coarse: list[np.ndarray] = []

    def add(self, scores: np.ndarray, labels: np.ndarray) -> None:
        """Count the pixels of N tiles: logits of each class against all others `[N, C, …]`, and class numbers `[N, …]`.

        Pixels with a number that is no class are left out.
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
        self._confusions.append(confusion_matrix(truth, predicted, self._classes))
        self._coarse.append(coarse)

    @property
    def confusions(self) -> np.ndarray:
        """Confusion matrices `[N, C, C]` int64 of the tiles, in the order they were added; rows are true classes."""
        return np.stack(self._confusions)

    def evaluate(self, names: tuple[str, ...], *, bootstrap: Bootstrap | None = None) -> Evaluation:
        """Return the metrics of all tiles; units of a bootstrap are in the order in which tiles were added."""
        measure = partial(_measure, self.confusions.astype(float), np.stack(self._coarse).astype(float))
        replicates = replicated(measure, bootstrap)
        metrics = estimates(measure(np.ones((1, len(self._confusions)))), replicates)
        precisions = histogram_average_precision(self._histogram)
        exact = {"micro_map": histogram_average_precision(self._histogram.sum(axis=0)), "macro_map": precisions.mean()}
        confusion = self.confusions.sum(axis=0)
        counts = Counts.of_confusion(confusion)
        iou = ratio(counts.hits, counts.union)
        ece = ratio(np.abs(self._calibration).sum(), confusion.sum() * _TOP)
        return Evaluation(
            metrics=metrics
            | {name: _moved(metrics[name], float(value)) for name, value in exact.items()}
            | {"ece": MetricValue(value=float(ece))},
            classes=tuple(
                one.model_copy(update={"iou": float(iou[c]) if counts.union[c] else None})
                for c, one in enumerate(counts.classes(names, precisions))
            ),
            confusion=tuple(map(tuple, confusion.tolist())),
            replicates=replicates,
        )


def levels(scores: np.ndarray) -> np.ndarray:
    """Return the levels of scores, 0 to 2^18 - 1.

    Raises:
        ValueError: if a score is NaN.
    """
    if np.isnan(scores).any():
        raise ValueError("scores must be numbers")
    bounded = np.clip(scores.astype(np.float64), -LARGEST_SCORE, LARGEST_SCORE)
    found: np.ndarray = np.rint((np.arcsinh(bounded) / np.arcsinh(LARGEST_SCORE) + 1) * (_TOP / 2)).astype(np.int64)
    return found


def confusion_metrics(confusions: np.ndarray) -> dict[str, Metric]:
    """Return each metric that the confusions `[N, C, C]` of tiles decide, as a function of weights `[B, N]`."""
    counts = confusions.astype(float)
    return {name: partial(_of_confusions, counts, name) for name in COUNT_METRICS}


def _of_confusions(confusions: np.ndarray, name: str, weights: np.ndarray) -> np.ndarray:
    return COUNT_METRICS[name](Counts.of_confusion(np.tensordot(weights, confusions, axes=1)))


def _measure(confusions: np.ndarray, histograms: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return every metric `[B]` of tiles that count as often as weights `[B, N]` say; `miou` comes first."""
    counts = Counts.of_confusion(np.tensordot(weights, confusions, axes=1))
    weighted = np.tensordot(weights, histograms, axes=1)
    ranked = {
        "micro_map": histogram_average_precision(weighted.sum(1)),
        "macro_map": histogram_average_precision(weighted).mean(-1),
    }
    of_counts = {name: metric(counts) for name, metric in COUNT_METRICS.items()}
    return {"miou": of_counts.pop("miou"), **ranked, **of_counts}


def _calibration(scores: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Return what a tile adds to the gap of each confidence bin `[15]`, in whole numbers.

    Scores are those of the top class of each pixel; `correct` says whether that class is right.
    """
    confidence = np.rint(_TOP / (1 + np.exp(-scores.astype(np.float64)))).astype(np.int64)
    bins = np.clip(-(-confidence * BINS // _TOP) - 1, 0, BINS - 1)
    gaps = np.zeros(BINS, dtype=np.int64)
    np.add.at(gaps, bins, correct * _TOP - confidence)
    return gaps


def _moved(coarse: MetricValue, value: float) -> MetricValue:
    """Return the value of fine levels with the interval of coarse ones, moved by the difference."""
    if coarse.low is None or coarse.high is None:
        return MetricValue(value=value)
    shift = value - coarse.value
    return MetricValue(value=value, low=max(coarse.low + shift, 0.0), high=min(coarse.high + shift, 1.0))
