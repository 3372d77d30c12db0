"""scikit-learn is the definition: on the rounded scores to the last digit, on the scores themselves nearly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from ssl4eo_bench.metrics import bootstrap
from ssl4eo_bench.metrics.bootstrap import Bootstrap
from ssl4eo_bench.metrics.counts import Counts
from ssl4eo_bench.metrics.segmentation import SegmentationTally, levels

EXACT = 1e-9
Problem = tuple[np.ndarray, np.ndarray]


@st.composite
def problems(draw: st.DrawFn, *, every_class: bool = True) -> Problem:
    """Scores `[N, C, 5, 4]`, some of them tied, and labels `[N, 5, 4]`, some of them ignored."""
    classes, tiles = draw(st.integers(2, 5)), draw(st.integers(2, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = rng.normal(size=(tiles, classes, 5, 4)) * draw(st.sampled_from([0.3, 2.0, 8.0]))
    if draw(st.booleans()):
        logits = np.round(logits)
    scores = against_rest(logits)
    labels = rng.integers(0, classes if every_class else classes - 1, (tiles, 5, 4)).astype(np.uint8)
    labels.reshape(-1)[:classes] = np.arange(classes) if every_class else 0
    labels.reshape(-1)[-5:] = 255
    return scores, labels


def against_rest(logits: np.ndarray) -> np.ndarray:
    """The logit of each class against all others, from softmax logits `[N, C, …]`, the slow way."""
    classes = range(logits.shape[1])
    rest = [np.logaddexp.reduce(np.delete(logits, number, axis=1), axis=1) for number in classes]
    return np.stack([logits[:, number] - rest[number] for number in classes], axis=1)


def names(scores: np.ndarray) -> tuple[str, ...]:
    return tuple(str(number) for number in range(scores.shape[1]))


def tally_of(scores: np.ndarray, labels: np.ndarray, *, at_once: int = 100) -> SegmentationTally:
    tally = SegmentationTally(scores.shape[1])
    for start in range(0, len(labels), at_once):
        tally.add(scores[start : start + at_once], labels[start : start + at_once])
    return tally


def flat(scores: np.ndarray, labels: np.ndarray) -> Problem:
    """The labelled pixels: scores `[M, C]` and labels `[M]`."""
    there = labels.ravel() != 255
    return np.moveaxis(scores, 1, -1).reshape(-1, scores.shape[1])[there], labels.ravel()[there]


def probabilities(scores: np.ndarray) -> np.ndarray:
    found: np.ndarray = 1 / (1 + np.exp(-scores))
    return found


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
        "micro_map": sk.average_precision_score(indicators, levels(pixels), average="micro"),
        "macro_map": sk.average_precision_score(indicators, levels(pixels), average="macro"),
        "micro_f1": sk.f1_score(truth, predicted, average="micro"),
        "macro_f1": sk.f1_score(truth, predicted, average="macro", labels=everything, zero_division=0),
        "accuracy": sk.accuracy_score(truth, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, predicted),
    }
    ece = found.pop("ece")
    assert found == pytest.approx(expected, abs=EXACT)
    assert ece == pytest.approx(_calibration_error(pixels, truth), abs=1e-5)


def _calibration_error(pixels: np.ndarray, truth: np.ndarray) -> float:
    """Of confidences that are rounded as the tally rounds them."""
    steps = 2**18 - 1
    confidence = np.rint(probabilities(pixels.max(1)) * steps) / steps
    gaps = (pixels.argmax(1) == truth) - confidence
    bins = np.maximum(np.ceil(confidence * 15) - 1, 0).astype(int)
    return float(np.abs(np.bincount(bins, weights=gaps)).sum() / len(truth))


def _exact(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Micro and macro average precision of the scores themselves."""
    pixels, truth = flat(scores, labels)
    indicators = np.eye(pixels.shape[1])[truth]
    micro, macro = (sk.average_precision_score(indicators, pixels, average=how) for how in ("micro", "macro"))
    return float(micro), float(macro)


@pytest.mark.parametrize("spread", [0.1, 1, 3, 10, 30, 100, 300])
def test_levels_do_not_move_average_precision_whatever_the_confidence(spread: float) -> None:
    """Levels of probability moved it by 0.02 to 0.11 where logits have a spread of 100 to 300."""
    rng = np.random.default_rng(0)
    shares = np.array([0.4, 0.02, 0.15, 0.01, 0.2, 0.1, 0.005, 0.115])
    labels = rng.choice(8, p=shares, size=(20, 1024))
    logits = rng.normal(size=(20, 8, 1024)) + 1.5 * (labels[:, None] == np.arange(8)[:, None])
    scores = against_rest(spread * logits).astype(np.float32)
    found = tally_of(scores, labels).evaluate(names(scores)).metrics
    assert (found["micro_map"].value, found["macro_map"].value) == pytest.approx(_exact(scores, labels), abs=2e-4)


def test_a_rare_class_that_is_ranked_rightly_is_seen_to_be() -> None:
    """Its probabilities are all below 2^-19: in even levels of probability, they are one."""
    rng = np.random.default_rng(0)
    labels = np.zeros((4, 4096), dtype=int)
    labels[:, :4] = 1
    rare = rng.uniform(1e-9, 1e-6, (4, 4096))
    rare[:, :4] = 1.8e-6
    score = np.log(rare) - np.log1p(-rare)
    found = tally_of(np.stack([-score, score], axis=1), labels).evaluate(("common", "rare"))
    assert found.classes[1].average_precision == 1.0


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
    ap = sk.average_precision_score(np.eye(len(everything))[truth], levels(pixels), average=None)
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
    scores[:, -1] = -1000.0
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
    first = np.log([[0.9, 0.6, 0.3, 0.8]]) - np.log([[0.1, 0.4, 0.7, 0.2]])
    scores = np.array([[first, -first]])
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
    scores, labels = against_rest(rng.normal(size=(3, 3, 4))), rng.integers(0, 3, (3, 4))
    labels[1] = 255
    alone, mixed = (tally_of(scores[rows], labels[rows]).evaluate(("a", "b", "c")) for rows in ([0, 2], [0, 1, 2]))
    assert alone == mixed


def test_intervals_are_those_of_resampled_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, (7, 40))
    logits = rng.normal(size=(7, 3, 40)) + 1.5 * (labels[:, None] == np.arange(3)[:, None])
    scores = against_rest(logits)
    monkeypatch.setattr(bootstrap, "RESAMPLES", 40)
    result = tally_of(scores, labels).evaluate(("a", "b", "c"), bootstrap=Bootstrap(7, np.arange(7)))
    found = {name: metric for name, metric in result.metrics.items() if name != "ece"}
    draws = [row for block in bootstrap.resamples(7, 40, 7) for row in block.astype(int)]
    again = [np.repeat(np.arange(7), row) for row in draws]
    slow = [tally_of(scores[rows], labels[rows]).evaluate(("a", "b", "c")).metrics for rows in again]
    for name, metric in found.items():
        expected = np.percentile([one[name].value for one in slow], (2.5, 97.5))
        tolerance = 4e-3 if name.endswith("map") else EXACT  # from coarse levels
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
        tally_of(np.repeat(scores.astype(float), times, 2), np.repeat(labels, times, 1)).evaluate(
            ("a", "b"), bootstrap=Bootstrap(0, np.arange(30))
        )
        for times in (1, 50)
    )
    assert one.metrics["miou"] == many.metrics["miou"]


def test_mean_iou_of_nothing_is_zero() -> None:
    assert Counts.of_confusion(np.zeros((3, 3))).miou() == 0.0


def test_what_are_no_scores_is_refused() -> None:
    tally = SegmentationTally(2)
    with pytest.raises(ValueError, match=r"must be of shape \(1, 2, 4\); found \(1, 3, 4\)"):
        tally.add(np.zeros((1, 3, 4)), np.zeros((1, 4), dtype=np.uint8))
    with pytest.raises(ValueError, match="scores must be numbers"):
        tally.add(np.full((1, 2, 4), np.nan), np.zeros((1, 4), dtype=np.uint8))
