"""The metrics of a split whose samples have labels as wholes, from all scores at once.

scikit-learn is the definition of every metric that it has; the tests compare to 1e-9. All values are fractions in
[0, 1].
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np

from ssl4eo_bench.config.records import ClassResult, MetricValue
from ssl4eo_bench.metrics.bootstrap import Bootstrap, Metric, estimates, replicated
from ssl4eo_bench.metrics.calibration import expected_calibration_error
from ssl4eo_bench.metrics.counts import COUNT_METRICS, Counts, confusion_matrix
from ssl4eo_bench.metrics.ranking import Ranking


@dataclass(frozen=True)
class Thresholds:
    """The scores from which on labels are predicted, chosen on `val`, for each metric its own.

    Attributes:
        each: `[C]`, one for each class, with its best F1: for macro-F1.
        common: one for all classes, with the best micro-F1.
    """

    each: np.ndarray
    common: float


@dataclass(frozen=True)
class Evaluation:
    """Everything measured on one split.

    Attributes:
        classes: in label order.
        confusion: `[C, C]` counts, rows are true classes; none for multilabel.
        replicates: values `[RESAMPLES]` of each metric with an interval; empty without a bootstrap.
    """

    metrics: dict[str, MetricValue]
    classes: tuple[ClassResult, ...]
    confusion: tuple[tuple[int, ...], ...] | None = None
    replicates: dict[str, np.ndarray] = field(default_factory=dict)


def evaluate(
    scores: np.ndarray,
    labels: np.ndarray,
    names: tuple[str, ...],
    thresholds: Thresholds | None = None,
    *,
    bootstrap: Bootstrap | None = None,
) -> Evaluation:
    """Return the evaluation of probabilities `[N, C]`.

    Without thresholds labels are class numbers `[N]`, and the class with the highest probability is predicted. With
    those that `tune_thresholds` chose on `val`, labels are indicators `[N, C]`; then F1 is measured at 0.5,
    `macro_f1_tuned` at the threshold of each class, and `micro_f1_tuned` at the common one.

    `micro_map` takes all sample–class pairs together, one class against the rest. `ece` is the expected calibration
    error of the top class, or of all pairs. Without a bootstrap there are no intervals.
    """
    _require(scores, (len(labels), len(names)))
    measure, confusion = _measure(scores, labels, thresholds), None
    if thresholds is None:
        top = scores.argmax(axis=1)
        ece = expected_calibration_error(scores.max(axis=1), top == labels)
        confusion = tuple(map(tuple, confusion_matrix(labels, top, len(names)).tolist()))
    else:
        ece = expected_calibration_error(scores, labels.astype(bool))
    return replace(measure.evaluate(names, ece, bootstrap), confusion=confusion)


def single_metrics(scores: np.ndarray, labels: np.ndarray, thresholds: Thresholds | None = None) -> dict[str, Metric]:
    """Return each metric by name as a function of its own, but `ece`; arguments as of `evaluate`."""
    return _measure(scores, labels, thresholds).single_metrics()


def tune_thresholds(scores: np.ndarray, labels: np.ndarray) -> Thresholds:
    """Return the thresholds with the best F1 of each class and the best micro-F1 for scores and indicators `[N, C]`.

    They are 0.5 where nothing is positive. Thresholds that are best for each class are not best for micro-F1: a class
    that cannot be recognised gets one near zero, and is predicted for every sample.
    """
    each = [_best_threshold(scores[:, number], labels[:, number]) for number in range(scores.shape[1])]
    return Thresholds(np.array(each), _best_threshold(scores.ravel(), labels.ravel()))


def _best_threshold(scores: np.ndarray, truth: np.ndarray) -> float:
    """Return the score from which on a positive prediction gives the best F1, for scores and truth `[N]`."""
    if not truth.any():
        return 0.5
    order = np.argsort(-scores, kind="stable")
    ranked, found = scores[order], np.cumsum(truth[order], dtype=np.int64)
    f1 = 2 * found / (np.arange(1, len(found) + 1) + found[-1])
    f1[:-1][np.diff(ranked) == 0] = -1.0  # a threshold cannot separate equal scores
    return float(ranked[f1.argmax()])


def _measure(scores: np.ndarray, labels: np.ndarray, thresholds: Thresholds | None) -> "_Measure":
    if thresholds is None:
        one = np.eye(scores.shape[1], dtype=bool)
        predicted = one[scores.argmax(axis=1)]
        names = ("micro_f1", "macro_f1", "accuracy", "balanced_accuracy")
        return _Measure(scores, one[labels], {name: (predicted, COUNT_METRICS[name]) for name in names})
    predicted = scores >= 0.5
    return _Measure(
        scores,
        labels.astype(bool),
        {
            "micro_f1": (predicted, Counts.micro_f1),
            "macro_f1": (predicted, Counts.macro_f1),
            "micro_f1_tuned": (scores >= thresholds.common, Counts.micro_f1),
            "macro_f1_tuned": (scores >= thresholds.each, Counts.macro_f1),
        },
    )


class _Measure:
    """The metrics of scores and truth, both `[N, C]`, as functions of sample weights `[B, N]`.

    `of_counts` has for each metric of counts the predictions `[N, C]` that it counts, and what it makes of the counts.
    """

    def __init__(
        self,
        scores: np.ndarray,
        truth: np.ndarray,
        of_counts: dict[str, tuple[np.ndarray, Callable[[Counts], np.ndarray]]],
    ) -> None:
        self._scores = scores
        self._truth = truth.astype(float)
        as_floats = {id(array): array.astype(float) for array, _ in of_counts.values()}  # most metrics share theirs
        self._of_counts = {name: (as_floats[id(array)], metric) for name, (array, metric) in of_counts.items()}

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return every metric `[B]`, but `ece`."""
        values = {"micro_map": self._micro_map(weights), "macro_map": self._macro_map(weights)}
        counts = {id(predicted): self._counts(predicted, weights) for predicted, _ in self._of_counts.values()}
        return values | {name: metric(counts[id(array)]) for name, (array, metric) in self._of_counts.items()}

    def evaluate(self, names: tuple[str, ...], ece: float, bootstrap: Bootstrap | None) -> Evaluation:
        """Return the metrics and those of each class, which is predicted as for `macro_f1`."""
        replicates = replicated(self, bootstrap)
        ones = np.ones((1, len(self._truth)))
        counts = self._counts(self._of_counts["macro_f1"][0], ones)
        classes = Counts(counts.actual[0], counts.predicted[0], counts.hits[0])
        precision = np.array([ranking.average_precision(ones)[0] for ranking in self._each])
        return Evaluation(
            metrics=estimates(self(ones), replicates) | {"ece": MetricValue(value=ece)},
            classes=classes.classes(names, precision),
            replicates=replicates,
        )

    def single_metrics(self) -> dict[str, Metric]:
        """Return each metric as a function of its own."""
        of_counts = {name: partial(self._one_of_counts, name) for name in self._of_counts}
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

    def _counts(self, predicted: np.ndarray, weights: np.ndarray) -> Counts:
        return Counts(weights @ self._truth, weights @ predicted, weights @ (self._truth * predicted))

    def _one_of_counts(self, name: str, weights: np.ndarray) -> np.ndarray:
        predicted, metric = self._of_counts[name]
        return metric(self._counts(predicted, weights))


def _require(scores: np.ndarray, shape: tuple[int, int]) -> None:
    if scores.shape != shape or not np.isfinite(scores).all():
        raise ValueError(f"scores must be finite and of shape {shape}; found {scores.shape}")
