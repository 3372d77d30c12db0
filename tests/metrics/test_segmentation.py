"""scikit-learn on the rounded scores is the definition; the rest is worked by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from ssl4eo_bench.metrics import evaluation
from ssl4eo_bench.metrics.evaluation import evaluate_multiclass
from ssl4eo_bench.metrics.segmentation import LEVELS, SegmentationTally, mean_iou, rounded

EXACT = 1e-9
Problem = tuple[np.ndarray, np.ndarray]


@st.composite
def problems(draw: st.DrawFn, *, every_class: bool = True) -> Problem:
    """Probabilities `[N, C, 5, 4]`, some of them tied, and labels `[N, 5, 4]`, some of them ignored."""
    classes, tiles = draw(st.integers(2, 5)), draw(st.integers(2, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = rng.normal(size=(tiles, classes, 5, 4)) * draw(st.sampled_from([0.3, 2.0, 8.0]))
    if draw(st.booleans()):
        logits = np.round(logits)
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = rng.integers(0, classes if every_class else classes - 1, (tiles, 5, 4)).astype(np.uint8)
    labels.reshape(-1)[:classes] = np.arange(classes) if every_class else 0
    labels.reshape(-1)[-5:] = 255
    return scores, labels


def names(scores: np.ndarray) -> tuple[str, ...]:
    return tuple(str(number) for number in range(scores.shape[1]))


def tally_of(scores: np.ndarray, labels: np.ndarray, *, at_once: int = 100) -> SegmentationTally:
    tally = SegmentationTally(scores.shape[1])
    for start in range(0, len(labels), at_once):
        tally.add(scores[start : start + at_once], labels[start : start + at_once])
    return tally


def flat(scores: np.ndarray, labels: np.ndarray) -> Problem:
    """The labelled pixels: rounded scores `[M, C]` and labels `[M]`."""
    there = labels.ravel() != 255
    pixels = np.moveaxis(scores, 1, -1).reshape(-1, scores.shape[1])[there]
    return rounded(pixels) / (LEVELS - 1), labels.ravel()[there]


@settings(max_examples=20)  # an example takes as long as a histogram of 2^18 levels
@given(problems())
def test_metrics_equal_scikit_learn_on_the_rounded_scores(problem: Problem) -> None:
    scores, labels = problem
    found = {name: metric.value for name, metric in tally_of(scores, labels).evaluate(names(scores)).metrics.items()}
    pixels, truth = flat(scores, labels)
    predicted, indicators = pixels.argmax(1), np.eye(scores.shape[1])[truth]
    everything = list(range(scores.shape[1]))
    expected = {
        "miou": sk.jaccard_score(truth, predicted, average="macro"),
        "micro_map": sk.average_precision_score(indicators, pixels, average="micro"),
        "macro_map": sk.average_precision_score(indicators, pixels, average="macro"),
        "micro_f1": sk.f1_score(truth, predicted, average="micro"),
        "macro_f1": sk.f1_score(truth, predicted, average="macro", labels=everything, zero_division=0),
        "accuracy": sk.accuracy_score(truth, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, predicted),
        "ece": evaluate_multiclass(pixels, truth, names(scores)).metrics["ece"].value,
    }
    assert found == pytest.approx(expected, abs=EXACT)


@settings(max_examples=20)  # an example takes as long as a histogram of 2^18 levels
@given(problems())
def test_class_values_equal_scikit_learn(problem: Problem) -> None:
    scores, labels = problem
    result = tally_of(scores, labels).evaluate(names(scores))
    pixels, truth = flat(scores, labels)
    predicted, everything = pixels.argmax(1), list(range(scores.shape[1]))
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        truth, predicted, labels=everything, zero_division=0
    )
    iou = sk.jaccard_score(truth, predicted, average=None, labels=everything)
    ap = sk.average_precision_score(np.eye(len(everything))[truth], pixels, average=None)
    assert result.confusion == tuple(map(tuple, sk.confusion_matrix(truth, predicted, labels=everything).tolist()))
    for number, values in enumerate(result.classes):
        assert values.support == support[number]
        found = (values.precision, values.recall, values.f1, values.iou, values.average_precision)
        expected = (precision[number], recall[number], f1[number], iou[number], ap[number])
        assert found == pytest.approx(expected, abs=EXACT)


@settings(max_examples=20)  # an example takes as long as a histogram of 2^18 levels
@given(problems(every_class=False))
def test_a_class_without_pixels_is_left_out_of_miou_and_counts_as_zero_elsewhere(problem: Problem) -> None:
    scores, labels = problem
    scores = scores.copy()
    scores[:, -1] = 0.0
    result = tally_of(scores, labels).evaluate(names(scores))
    pixels, truth = flat(scores, labels)
    predicted = pixels.argmax(1)
    last = result.classes[-1]
    assert (last.support, last.iou, last.recall, last.average_precision) == (0, None, None, None)
    assert result.metrics["miou"].value == pytest.approx(sk.jaccard_score(truth, predicted, average="macro"), abs=EXACT)
    everything = list(range(scores.shape[1]))
    expected = sk.f1_score(truth, predicted, average="macro", labels=everything, zero_division=0)
    assert result.metrics["macro_f1"].value == pytest.approx(expected, abs=EXACT)


@settings(max_examples=20)  # an example takes as long as a histogram of 2^18 levels
@given(problems(), st.randoms(use_true_random=False))
def test_neither_order_nor_batches_change_a_bit(problem: Problem, random: np.random.Generator) -> None:
    scores, labels = problem
    order = list(range(len(labels)))
    random.shuffle(order)
    whole = tally_of(scores, labels).evaluate(names(scores))
    assert tally_of(scores, labels, at_once=1).evaluate(names(scores)) == whole
    assert tally_of(scores[order], labels[order], at_once=2).evaluate(names(scores)) == whole


def test_a_case_worked_by_hand() -> None:
    first = [[0.9, 0.6, 0.3, 0.8]]
    scores = np.array([[first, [[1 - p for p in first[0]]]]])
    result = tally_of(scores, np.array([[[0, 1, 1, 255]]], dtype=np.uint8)).evaluate(("a", "b"))
    values = {name: metric.value for name, metric in result.metrics.items()}
    assert result.confusion == ((1, 0), (1, 1))
    assert values["miou"] == pytest.approx((1 / 2 + 1 / 2) / 2)
    # pairs by score: .9+ .7+ .6- .4+ .3- .1-
    assert values["micro_map"] == pytest.approx((1 + 1 + 3 / 4) / 3, abs=1e-12)
    assert values["ece"] == pytest.approx((0.1 + 0.3 + 0.6) / 3, abs=1e-5)


def test_confusions_are_kept_for_each_tile() -> None:
    scores = np.zeros((2, 2, 1, 3))
    scores[0, 0] = scores[1, 1] = 1.0
    tally = tally_of(scores, np.array([[[0, 1, 255]], [[1, 1, 0]]], dtype=np.uint8))
    np.testing.assert_array_equal(tally.confusions, [[[1, 0], [1, 0]], [[0, 1], [0, 2]]])


def test_a_tile_without_labelled_pixels_counts_nothing() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.dirichlet(np.ones(3), (3, 4)).transpose(0, 2, 1), rng.integers(0, 3, (3, 4))
    labels[1] = 255
    alone, mixed = (tally_of(scores[rows], labels[rows]).evaluate(("a", "b", "c")) for rows in ([0, 2], [0, 1, 2]))
    assert alone == mixed


def test_intervals_are_those_of_resampled_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, (7, 40))
    logits = rng.normal(size=(7, 3, 40)) + 1.5 * (labels[:, None] == np.arange(3)[:, None])
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    monkeypatch.setattr(evaluation, "RESAMPLES", 40)
    found = tally_of(scores, labels).evaluate(("a", "b", "c"), seed=7).metrics
    draws = [row for block in evaluation.resamples(7, 40, 7) for row in block.astype(int)]
    again = [np.repeat(np.arange(7), row) for row in draws]
    slow = [tally_of(scores[rows], labels[rows]).evaluate(("a", "b", "c")).metrics for rows in again]
    for name, metric in found.items():
        expected = np.percentile([one[name].value for one in slow], (2.5, 97.5))
        tolerance = 2e-3 if name.endswith("map") else EXACT  # from coarse levels
        assert (metric.low, metric.high) == pytest.approx(tuple(expected), abs=tolerance), name
        assert metric.low is not None
        assert metric.high is not None
        assert metric.low < metric.value < metric.high


def test_pixels_of_one_tile_are_no_independent_samples() -> None:
    """Copies of a pixel add no information: the interval stays that of the tiles."""
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, (30, 1))
    scores = np.where(rng.random((30, 1, 1)) < 0.7, labels[:, None] == [[0], [1]], labels[:, None] != [[0], [1]])
    one, many = (
        tally_of(np.repeat(scores.astype(float), times, 2), np.repeat(labels, times, 1)).evaluate(("a", "b"), seed=0)
        for times in (1, 50)
    )
    assert one.metrics["miou"] == many.metrics["miou"]


def test_mean_iou_of_nothing_is_zero() -> None:
    assert mean_iou(np.zeros((3, 3))) == 0.0


def test_what_are_no_probabilities_is_refused() -> None:
    tally = SegmentationTally(2)
    with pytest.raises(ValueError, match=r"must be of shape \(1, 2, 4\); found \(1, 3, 4\)"):
        tally.add(np.zeros((1, 3, 4)), np.zeros((1, 4), dtype=np.uint8))
    for wrong in (np.nan, -0.1, 1.1):
        with pytest.raises(ValueError, match="finite and in"):
            tally.add(np.full((1, 2, 4), wrong), np.zeros((1, 4), dtype=np.uint8))
