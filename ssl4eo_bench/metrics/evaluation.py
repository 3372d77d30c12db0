"""The metrics of a split from all of its scores at once, and their bootstrap intervals.

scikit-learn is the definition of every metric it has; the tests compare to 1e-9. All values are fractions in [0, 1].
Each metric is a function of how often every sample counts: once each for the value, and as drawn for a resample.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from ssl4eo_bench.metrics.ranking import Ranking

RESAMPLES = 1000
CALIBRATION_BINS = 15
Advance = Callable[[int], None]
"""Is told how many resamples were just done."""

Metric = Callable[[np.ndarray], np.ndarray]
"""A metric `[B]` of samples that count as often as weights `[B, N]` say."""


@dataclass(frozen=True)
class Estimate:
    """A metric's value, with its 95 % percentile bootstrap interval if one was asked for."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ClassValues:
    """The metrics of one class; `average_precision` and `recall` are none for a class without samples.

    `iou` is there for segmentation, unless the class is neither in the labels nor predicted.
    """

    name: str
    support: int
    precision: float
    recall: float | None
    f1: float
    average_precision: float | None
    iou: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """Everything measured on one split.

    Attributes:
        metrics: by name.
        classes: in label order.
        confusion: `[C, C]` counts, rows are true classes; none for multilabel.
    """

    metrics: dict[str, Estimate]
    classes: list[ClassValues]
    confusion: tuple[tuple[int, ...], ...] | None = None


def evaluate_multiclass(
    scores: np.ndarray,
    labels: np.ndarray,
    names: tuple[str, ...],
    *,
    seed: int | None = None,
    advance: Advance = lambda _: None,
) -> Evaluation:
    """Evaluate class probabilities.

    `micro_map` takes all sample–class pairs together, one class against the rest; `ece` is the expected calibration
    error of the top class over 15 equal bins of confidence (Guo et al., ICML 2017).

    Args:
        scores: probabilities `[N, C]`.
        labels: class numbers `[N]`.
        names: of the classes.
        seed: of the bootstrap; none leaves intervals away.
        advance: is told of the bootstrap's progress.
    """
    _require(scores, (len(labels), len(names)))
    measure = _multiclass(scores, labels)
    confusion = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(confusion, (labels, scores.argmax(axis=1)), 1)
    return Evaluation(
        metrics=estimates(measure, len(labels), seed, advance),
        classes=measure.class_values(names),
        confusion=tuple(map(tuple, confusion.tolist())),
    )


def evaluate_multilabel(
    scores: np.ndarray,
    labels: np.ndarray,
    names: tuple[str, ...],
    thresholds: np.ndarray,
    *,
    seed: int | None = None,
    advance: Advance = lambda _: None,
) -> Evaluation:
    """Evaluate label probabilities.

    F1 is measured at 0.5, and as `*_f1_tuned` at `thresholds`; `ece` is over all sample–class pairs.

    Args:
        scores: probabilities `[N, C]`.
        labels: indicators `[N, C]` in {0, 1}.
        names: of the classes.
        thresholds: one for each class, chosen on `val` by `tune_thresholds`.
        seed: of the bootstrap; none leaves intervals away.
        advance: is told of the bootstrap's progress.
    """
    _require(scores, (len(labels), len(names)))
    measure = _multilabel(scores, labels, thresholds)
    return Evaluation(metrics=estimates(measure, len(labels), seed, advance), classes=measure.class_values(names))


def multiclass_metrics(scores: np.ndarray, labels: np.ndarray) -> dict[str, Metric]:
    """Each metric of class probabilities `[N, C]` and class numbers `[N]` on its own, by name; all but `ece`."""
    return _multiclass(scores, labels).alone()


def multilabel_metrics(scores: np.ndarray, labels: np.ndarray, thresholds: np.ndarray) -> dict[str, Metric]:
    """Each metric of label probabilities `[N, C]` and indicators `[N, C]` on its own, by name; all but `ece`."""
    return _multilabel(scores, labels, thresholds).alone()


def tune_thresholds(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """For each class the score `[C]` from which on predicting it gives the best F1; 0.5 for a class without samples."""
    thresholds = np.full(scores.shape[1], 0.5)
    for number in range(scores.shape[1]):
        order = np.argsort(-scores[:, number], kind="stable")
        ranked, truth = scores[order, number], labels[order, number]
        if not truth.any():
            continue
        f1 = 2 * np.cumsum(truth) / (np.arange(1, len(truth) + 1) + truth.sum())
        f1[:-1][np.diff(ranked) == 0] = -1.0  # a threshold cannot part equal scores
        thresholds[number] = ranked[f1.argmax()]
    return thresholds


def _multiclass(scores: np.ndarray, labels: np.ndarray) -> "_Measure":
    rows, chosen = np.arange(len(labels)), scores.argmax(axis=1)
    truth, predicted = np.zeros(scores.shape, dtype=bool), np.zeros(scores.shape, dtype=bool)
    truth[rows, labels] = True
    predicted[rows, chosen] = True
    calibration = _calibration(scores.max(axis=1)[:, None], (chosen == labels)[:, None])
    return _Measure(scores, truth, {"": predicted}, calibration, exclusive=True)


def _multilabel(scores: np.ndarray, labels: np.ndarray, thresholds: np.ndarray) -> "_Measure":
    truth = labels.astype(bool)
    predicted = {"": scores >= 0.5, "_tuned": scores >= thresholds}
    return _Measure(scores, truth, predicted, _calibration(scores, truth), exclusive=False)


@dataclass(frozen=True)
class _Counts:
    """How often each class occurs, is predicted, and is predicted rightly: `[B, C]` each."""

    actual: np.ndarray
    guesses: np.ndarray
    hits: np.ndarray

    def micro_f1(self) -> np.ndarray:
        return ratio(2 * self.hits.sum(1), self.guesses.sum(1) + self.actual.sum(1))

    def macro_f1(self) -> np.ndarray:
        means: np.ndarray = ratio(2 * self.hits, self.guesses + self.actual).mean(1)
        return means

    def accuracy(self) -> np.ndarray:
        """Of exclusive classes, which occur as often as there are samples."""
        return ratio(self.hits.sum(1), self.actual.sum(1))

    def balanced_accuracy(self) -> np.ndarray:
        return ratio(ratio(self.hits, self.actual).sum(1), (self.actual > 0).sum(1))


_OF_COUNTS = {"micro_f1": _Counts.micro_f1, "macro_f1": _Counts.macro_f1}
_OF_EXCLUSIVE_COUNTS = {"accuracy": _Counts.accuracy, "balanced_accuracy": _Counts.balanced_accuracy}


class _Measure:
    """The metrics as functions of sample weights `[B, N]`; exclusive classes have accuracies."""

    def __init__(
        self,
        scores: np.ndarray,
        truth: np.ndarray,
        predicted: dict[str, np.ndarray],
        calibration: np.ndarray,
        *,
        exclusive: bool,
    ) -> None:
        self._scores = scores
        self._truth = truth.astype(float)
        self._predicted = {suffix: array.astype(float) for suffix, array in predicted.items()}
        self._calibration = calibration
        self._of_counts = _OF_COUNTS | (_OF_EXCLUSIVE_COUNTS if exclusive else {})

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Every metric `[B]`."""
        values = {"micro_map": self._micro_map(weights), "macro_map": self._macro_map(weights)}
        for suffix in self._predicted:
            counts = self._counts(suffix, weights)
            values |= {f"{name}{suffix}": of(counts) for name, of in self._of_counts.items()}
        values["ece"] = np.abs(weights @ self._calibration).sum(1) / weights.sum(1)
        return values

    def alone(self) -> dict[str, Metric]:
        """Each metric on its own, but `ece`."""
        metrics: dict[str, Metric] = {"micro_map": self._micro_map, "macro_map": self._macro_map}
        for suffix in self._predicted:
            for name, of in self._of_counts.items():
                metrics[f"{name}{suffix}"] = partial(self._one_of_counts, of, suffix)
        return metrics

    @cached_property
    def _all(self) -> Ranking:
        return Ranking(self._scores, self._truth)

    @cached_property
    def _each(self) -> list[Ranking]:
        return [Ranking(self._scores[:, [c]], self._truth[:, [c]]) for c in range(self._scores.shape[1])]

    def _micro_map(self, weights: np.ndarray) -> np.ndarray:
        return self._all.average_precision(weights)

    def _macro_map(self, weights: np.ndarray) -> np.ndarray:
        means: np.ndarray = np.mean([ranking.average_precision(weights) for ranking in self._each], axis=0)
        return means

    def _counts(self, suffix: str, weights: np.ndarray) -> _Counts:
        predicted = self._predicted[suffix]
        return _Counts(weights @ self._truth, weights @ predicted, weights @ (self._truth * predicted))

    def _one_of_counts(self, of: Callable[[_Counts], np.ndarray], suffix: str, weights: np.ndarray) -> np.ndarray:
        return of(self._counts(suffix, weights))

    def class_values(self, names: tuple[str, ...]) -> list[ClassValues]:
        """The metrics of each class, at the first of the predictions."""
        ones = np.ones((1, len(self._truth)))
        predicted = self._predicted[""]
        actual, guesses = self._truth.sum(0), predicted.sum(0)
        hits = (self._truth * predicted).sum(0)
        precisions = [ranking.average_precision(ones)[0] for ranking in self._each]
        return [class_values(name, *of) for name, *of in zip(names, hits, actual, guesses, precisions, strict=True)]


def class_values(name: str, hits: float, actual: float, guesses: float, average_precision: float) -> ClassValues:
    """The metrics of a class with `actual` samples, predicted for `guesses`, rightly for `hits` of them."""
    return ClassValues(
        name=name,
        support=int(actual),
        precision=float(hits / guesses) if guesses else 0.0,
        recall=float(hits / actual) if actual else None,
        f1=float(2 * hits / (guesses + actual)) if guesses + actual else 0.0,
        average_precision=float(average_precision) if actual else None,
    )


def estimates(
    measure: Callable[[np.ndarray], dict[str, np.ndarray]], samples: int, seed: int | None, advance: Advance
) -> dict[str, Estimate]:
    """Metrics with bootstrap intervals.

    Args:
        measure: the metrics `[B]` as functions of how often each sample counts `[B, N]`.
        samples: how many there are.
        seed: of the bootstrap; none leaves intervals away.
        advance: is told of its progress.
    """
    point = {name: float(value[0]) for name, value in measure(np.ones((1, samples))).items()}
    if seed is None:
        return {name: Estimate(value) for name, value in point.items()}
    blocks = []
    for weights in resamples(samples, RESAMPLES, seed):
        blocks.append(measure(weights))
        advance(len(weights))
    drawn = {name: np.concatenate([block[name] for block in blocks]) for name in point}
    return {
        name: Estimate(value, *(float(bound) for bound in np.percentile(drawn[name], (2.5, 97.5))))
        for name, value in point.items()
    }


def resamples(units: int, count: int, seed: int, *, at_once: int = 20) -> Iterator[np.ndarray]:
    """How often each unit is drawn `[B, N]`, in blocks of `count` resamples together.

    Units (samples, tiles, or clusters of either) are drawn with replacement, as many as there are.
    """
    rng = np.random.default_rng(seed)
    for start in range(0, count, at_once):
        draws = rng.integers(units, size=(min(at_once, count - start), units))
        yield np.stack([np.bincount(row, minlength=units) for row in draws]).astype(float)


@dataclass(frozen=True)
class Reliability:
    """How confidence and being right go together, in the bins of `ece` that have predictions; each `[≤ 15]`.

    Attributes:
        confidence: mean of the bin.
        correct: share that was right.
        share: of all predictions.
    """

    confidence: np.ndarray
    correct: np.ndarray
    share: np.ndarray


def reliability(scores: np.ndarray, labels: np.ndarray) -> Reliability:
    """The reliability diagram whose weighted gaps add up to `ece`.

    Args:
        scores: `[N, C]`.
        labels: class numbers `[N]`, for the top class; or indicators `[N, C]`, for all pairs.
    """
    if labels.ndim == 1:
        confidence, correct = scores.max(axis=1), scores.argmax(axis=1) == labels
    else:
        confidence, correct = scores.ravel(), labels.ravel().astype(bool)
    bins = _bins(confidence)
    counts = np.bincount(bins, minlength=CALIBRATION_BINS)
    filled = counts > 0

    def mean(values: np.ndarray) -> np.ndarray:
        sums = np.bincount(bins, weights=values, minlength=CALIBRATION_BINS)
        return np.asarray(sums[filled] / counts[filled])

    return Reliability(mean(confidence), mean(correct), counts[filled] / len(bins))


def _bins(confidence: np.ndarray) -> np.ndarray:
    bins: np.ndarray = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    return bins


def _calibration(confidence: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """What each sample adds to the gap of each confidence bin `[N, 15]`; summed over samples and made absolute: ECE."""
    pairs = confidence.shape[1]
    bins = _bins(confidence)
    gaps = np.zeros((len(confidence), CALIBRATION_BINS))
    rows = np.broadcast_to(np.arange(len(confidence))[:, None], bins.shape)
    np.add.at(gaps, (rows, bins), (correct - confidence) / pairs)
    return gaps


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """`part / whole`, and 0 where there is nothing to divide (scikit-learn's `zero_division=0`)."""
    quotient: np.ndarray = np.divide(part, whole, out=np.zeros(np.shape(part)), where=whole > 0)
    return quotient


def _require(scores: np.ndarray, shape: tuple[int, int]) -> None:
    if scores.shape != shape or not np.isfinite(scores).all():
        raise ValueError(f"scores must be finite and of shape {shape}; found {scores.shape}")
