"""The metrics of a split from all of its scores at once, and their bootstrap intervals.

scikit-learn is the definition of every metric it has; the tests compare to 1e-9. All values are fractions in [0, 1].
Each metric is a function of how often every sample counts: once each for the value, and as drawn for a resample.

The resamples are the same for all results that have the same `Bootstrap`: two results are paired by construction, and
the spread of the differences of their replicates is what a paired bootstrap gives.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np

from ssl4eo_bench.config.records import RESAMPLES, ClassResult, MetricValue
from ssl4eo_bench.metrics.ranking import Ranking

CALIBRATION_BINS = 15
Advance = Callable[[int], None]
"""Is told how many resamples were just done."""

Metric = Callable[[np.ndarray], np.ndarray]
"""A metric `[B]` of samples that count as often as weights `[B, N]` say."""


@dataclass(frozen=True)
class Bootstrap:
    """What is drawn with replacement: whole clusters of samples that depend on each other, or single samples.

    Attributes:
        seed: of the draws.
        units: number `[N]` of the unit that each sample belongs to, from 0 on without gaps.
    """

    seed: int
    units: np.ndarray

    def weights(self) -> Iterator[np.ndarray]:
        """How often each sample counts, `[B, N]`, in blocks of `RESAMPLES` resamples together."""
        for drawn in resamples(int(self.units.max()) + 1, RESAMPLES, self.seed):
            yield drawn[:, self.units]


@dataclass(frozen=True)
class Thresholds:
    """The scores from which on labels are predicted, chosen on `val`, for each metric its own.

    Attributes:
        each: `[C]`, one for each class, which gives its best F1: for macro-F1.
        common: one for all classes, which gives the best micro-F1.
    """

    each: np.ndarray
    common: float


@dataclass(frozen=True)
class Evaluation:
    """Everything measured on one split.

    Attributes:
        metrics: by name.
        classes: in label order.
        confusion: `[C, C]` counts, rows are true classes; none for multilabel.
        replicates: of each metric with an interval, its values `[RESAMPLES]`; nothing without a bootstrap.
    """

    metrics: dict[str, MetricValue]
    classes: tuple[ClassResult, ...]
    confusion: tuple[tuple[int, ...], ...] | None = None
    replicates: dict[str, np.ndarray] = field(default_factory=dict)


def evaluate_multiclass(
    scores: np.ndarray,
    labels: np.ndarray,
    names: tuple[str, ...],
    *,
    bootstrap: Bootstrap | None = None,
    advance: Advance = lambda _: None,
) -> Evaluation:
    """Evaluate class probabilities.

    `micro_map` takes all sample–class pairs together, one class against the rest; `ece` is the expected calibration
    error of the top class over 15 equal bins of confidence (Guo et al., ICML 2017). It has no interval: a sum of
    absolute gaps grows with the noise of resampling.

    Args:
        scores: probabilities `[N, C]`.
        labels: class numbers `[N]`.
        names: of the classes.
        bootstrap: what is drawn for intervals; none leaves them away.
        advance: is told of the bootstrap's progress.
    """
    _require(scores, (len(labels), len(names)))
    measure = _multiclass(scores, labels)
    confusion = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(confusion, (labels, scores.argmax(axis=1)), 1)
    replicates = replicated(measure, bootstrap, advance)
    return Evaluation(
        metrics=estimates(measure(np.ones((1, len(labels)))), replicates) | {"ece": MetricValue(value=measure.ece())},
        classes=measure.class_values(names),
        confusion=tuple(map(tuple, confusion.tolist())),
        replicates=replicates,
    )


def evaluate_multilabel(
    scores: np.ndarray,
    labels: np.ndarray,
    names: tuple[str, ...],
    thresholds: Thresholds,
    *,
    bootstrap: Bootstrap | None = None,
    advance: Advance = lambda _: None,
) -> Evaluation:
    """Evaluate label probabilities.

    F1 is measured at 0.5; `macro_f1_tuned` at the threshold of each class, and `micro_f1_tuned` at the common one.
    `ece` is over all sample–class pairs, and has no interval.

    Args:
        scores: probabilities `[N, C]`.
        labels: indicators `[N, C]` in {0, 1}.
        names: of the classes.
        thresholds: chosen on `val` by `tune_thresholds`.
        bootstrap: what is drawn for intervals; none leaves them away.
        advance: is told of the bootstrap's progress.
    """
    _require(scores, (len(labels), len(names)))
    measure = _multilabel(scores, labels, thresholds)
    replicates = replicated(measure, bootstrap, advance)
    return Evaluation(
        metrics=estimates(measure(np.ones((1, len(labels)))), replicates) | {"ece": MetricValue(value=measure.ece())},
        classes=measure.class_values(names),
        replicates=replicates,
    )


def multiclass_metrics(scores: np.ndarray, labels: np.ndarray) -> dict[str, Metric]:
    """Each metric of class probabilities `[N, C]` and class numbers `[N]` on its own, by name; all but `ece`."""
    return _multiclass(scores, labels).alone()


def multilabel_metrics(scores: np.ndarray, labels: np.ndarray, thresholds: Thresholds) -> dict[str, Metric]:
    """Each metric of label probabilities `[N, C]` and indicators `[N, C]` on its own, by name; all but `ece`."""
    return _multilabel(scores, labels, thresholds).alone()


def tune_thresholds(scores: np.ndarray, labels: np.ndarray) -> Thresholds:
    """The thresholds with the best F1 of each class, and with the best micro-F1 of all; 0.5 where nothing is positive.

    Both are for scores `[N, C]` and indicators `[N, C]`. Thresholds that are best for each class are not best for
    micro-F1: a class that cannot be told gets one near zero, and is predicted for every sample.
    """
    each = [_best_threshold(scores[:, number], labels[:, number]) for number in range(scores.shape[1])]
    return Thresholds(np.array(each), _best_threshold(scores.ravel(), labels.ravel()))


def _best_threshold(scores: np.ndarray, truth: np.ndarray) -> float:
    """The score from which on a positive prediction gives the best F1, of scores and truth `[N]`."""
    if not truth.any():
        return 0.5
    order = np.argsort(-scores, kind="stable")
    ranked, found = scores[order], np.cumsum(truth[order], dtype=np.int64)
    f1 = 2 * found / (np.arange(1, len(found) + 1) + found[-1])
    f1[:-1][np.diff(ranked) == 0] = -1.0  # a threshold cannot part equal scores
    return float(ranked[f1.argmax()])


def _multiclass(scores: np.ndarray, labels: np.ndarray) -> "_Measure":
    rows, chosen = np.arange(len(labels)), scores.argmax(axis=1)
    truth, predicted = np.zeros(scores.shape, dtype=bool), np.zeros(scores.shape, dtype=bool)
    truth[rows, labels] = True
    predicted[rows, chosen] = True
    calibration = _calibration(scores.max(axis=1)[:, None], (chosen == labels)[:, None])
    of_counts = dict.fromkeys(("micro_f1", "macro_f1", "accuracy", "balanced_accuracy"), predicted)
    return _Measure(scores, truth, of_counts, calibration)


def _multilabel(scores: np.ndarray, labels: np.ndarray, thresholds: Thresholds) -> "_Measure":
    truth, predicted = labels.astype(bool), scores >= 0.5
    of_counts = {
        "micro_f1": predicted,
        "macro_f1": predicted,
        "micro_f1_tuned": scores >= thresholds.common,
        "macro_f1_tuned": scores >= thresholds.each,
    }
    return _Measure(scores, truth, of_counts, _calibration(scores, truth))


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


_OF_COUNTS = {
    "micro_f1": _Counts.micro_f1,
    "macro_f1": _Counts.macro_f1,
    "micro_f1_tuned": _Counts.micro_f1,
    "macro_f1_tuned": _Counts.macro_f1,
    "accuracy": _Counts.accuracy,
    "balanced_accuracy": _Counts.balanced_accuracy,
}


class _Measure:
    """The metrics as functions of sample weights `[B, N]`.

    Args:
        scores: `[N, C]`.
        truth: `[N, C]`.
        predicted: what is predicted `[N, C]`, for each metric of `_OF_COUNTS` that is measured.
        calibration: as `_calibration` gives it.
    """

    def __init__(
        self, scores: np.ndarray, truth: np.ndarray, predicted: dict[str, np.ndarray], calibration: np.ndarray
    ) -> None:
        self._scores = scores
        self._truth = truth.astype(float)
        different = {id(array): array.astype(float) for array in predicted.values()}  # most metrics share theirs
        self._predicted = {name: different[id(array)] for name, array in predicted.items()}
        self._calibration = calibration

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Every metric `[B]`, but `ece`."""
        values = {"micro_map": self._micro_map(weights), "macro_map": self._macro_map(weights)}
        counts = {id(predicted): self._counts(predicted, weights) for predicted in self._predicted.values()}
        return values | {name: _OF_COUNTS[name](counts[id(of)]) for name, of in self._predicted.items()}

    def ece(self) -> float:
        """The expected calibration error."""
        return float(np.abs(self._calibration.sum(axis=0)).sum() / len(self._calibration))

    def alone(self) -> dict[str, Metric]:
        """Each metric on its own, but `ece`."""
        of_counts = {name: partial(self._one_of_counts, name) for name in self._predicted}
        return {"micro_map": self._micro_map, "macro_map": self._macro_map, **of_counts}

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

    def _counts(self, predicted: np.ndarray, weights: np.ndarray) -> _Counts:
        return _Counts(weights @ self._truth, weights @ predicted, weights @ (self._truth * predicted))

    def _one_of_counts(self, name: str, weights: np.ndarray) -> np.ndarray:
        return _OF_COUNTS[name](self._counts(self._predicted[name], weights))

    def class_values(self, names: tuple[str, ...]) -> tuple[ClassResult, ...]:
        """The metrics of each class; a multilabel class is predicted from 0.5 on."""
        ones = np.ones((1, len(self._truth)))
        predicted = self._predicted["macro_f1"]
        actual, guesses = self._truth.sum(0), predicted.sum(0)
        hits = (self._truth * predicted).sum(0)
        precisions = [ranking.average_precision(ones)[0] for ranking in self._each]
        each = zip(names, hits, actual, guesses, precisions, strict=True)
        return tuple(class_values(name, *of) for name, *of in each)


def class_values(name: str, hits: float, actual: float, guesses: float, average_precision: float) -> ClassResult:
    """The metrics of a class with `actual` samples, predicted for `guesses`, rightly for `hits` of them."""
    return ClassResult(
        name=name,
        support=int(actual),
        precision=float(hits / guesses) if guesses else 0.0,
        recall=float(hits / actual) if actual else None,
        f1=float(2 * hits / (guesses + actual)) if guesses + actual else 0.0,
        average_precision=float(average_precision) if actual else None,
    )


def replicated(
    measure: Callable[[np.ndarray], dict[str, np.ndarray]], bootstrap: Bootstrap | None, advance: Advance
) -> dict[str, np.ndarray]:
    """The values `[RESAMPLES]` of each metric in the resamples; nothing without a bootstrap.

    Args:
        measure: the metrics `[B]` as functions of how often each sample counts `[B, N]`.
        bootstrap: what is drawn.
        advance: is told of its progress.
    """
    blocks = []
    for weights in bootstrap.weights() if bootstrap else ():
        blocks.append(measure(weights))
        advance(len(weights))
    return {name: np.concatenate([block[name] for block in blocks]) for name in (blocks[0] if blocks else ())}


def estimates(point: dict[str, np.ndarray], replicates: dict[str, np.ndarray]) -> dict[str, MetricValue]:
    """Metrics `[1]` with the intervals that replicates give them.

    Resampling can move a metric to one side, for duplicates are easy to rank: an interval is drawn out as far as its
    own value then.
    """
    found = {}
    for name, (value,) in point.items():
        if name in replicates:
            low, high = interval(replicates[name])
            found[name] = MetricValue(value=float(value), low=min(low, float(value)), high=max(high, float(value)))
        else:
            found[name] = MetricValue(value=float(value))
    return found


def interval(replicates: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of replicates `[B]`."""
    low, high = np.percentile(replicates, (2.5, 97.5))
    return float(low), float(high)


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
