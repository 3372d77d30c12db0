"""scikit-learn is the definition; the rest is worked by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as sk

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.metrics import bootstrap
from ssl4eo_bench.metrics.bootstrap import Bootstrap
from ssl4eo_bench.metrics.calibration import error_of_bins, reliability, wilson
from ssl4eo_bench.metrics.classification import (
    Thresholds,
    evaluate,
    single_metrics,
    tune_thresholds,
)
from ssl4eo_bench.metrics.ranking import Ranking

EXACT = 1e-9


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores with ties in [0, 1], indicators and class numbers in which every class occurs."""
    classes, samples = draw(st.integers(2, 6)), draw(st.integers(12, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    steps = draw(st.sampled_from([2, 5, 1000]))
    scores = rng.integers(0, steps + 1, (samples, classes)) / steps
    labels = rng.permutation(np.arange(samples) % classes)
    indicators = (rng.random((samples, classes)) < draw(st.sampled_from([0.1, 0.5]))).astype(np.uint8)
    indicators[np.arange(classes), np.arange(classes)] = 1
    return scores, indicators, labels


def halves(scores: np.ndarray) -> Thresholds:
    return Thresholds(np.full(scores.shape[1], 0.5), 0.5)


def single(samples: int, seed: int) -> Bootstrap:
    """Single samples are drawn."""
    return Bootstrap(seed, np.arange(samples))


def names(scores: np.ndarray) -> tuple[str, ...]:
    return tuple(str(number) for number in range(scores.shape[1]))


@given(problems())
def test_multiclass_equals_scikit_learn(problem: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    scores, _, labels = problem
    scores = scores + 1e-9 * np.arange(scores.shape[1])  # scikit-learn is given the classes, we the scores: no ties
    found = {name: metric.value for name, metric in evaluate(scores, labels, names(scores)).metrics.items()}
    predicted, truth = scores.argmax(1), np.eye(scores.shape[1])[labels]
    everything = list(range(scores.shape[1]))
    expected = {
        "micro_map": sk.average_precision_score(truth, scores, average="micro"),
        "macro_map": sk.average_precision_score(truth, scores, average="macro"),
        "accuracy": sk.accuracy_score(labels, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, predicted),
        "micro_f1": sk.f1_score(labels, predicted, average="micro", labels=everything, zero_division=0),
        "macro_f1": sk.f1_score(labels, predicted, average="macro", labels=everything, zero_division=0),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=EXACT)
    assert set(found) == {*expected, "ece"}


@given(problems())
def test_multilabel_equals_scikit_learn(problem: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    scores, truth, _ = problem
    thresholds = Thresholds(np.linspace(0.2, 0.8, scores.shape[1]), 0.3)
    result = evaluate(scores, truth, names(scores), thresholds)
    found = {name: metric.value for name, metric in result.metrics.items()}
    expected = {
        "micro_map": sk.average_precision_score(truth, scores, average="micro"),
        "macro_map": sk.average_precision_score(truth, scores, average="macro"),
    }
    for name, predicted in (
        ("micro_f1", scores >= 0.5),
        ("macro_f1", scores >= 0.5),
        ("micro_f1_tuned", scores >= 0.3),
        ("macro_f1_tuned", scores >= thresholds.each),
    ):
        expected[name] = sk.f1_score(truth, predicted, average=name[:5], zero_division=0)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=EXACT)
    assert set(found) == {*expected, "ece"}


@given(problems())
def test_class_values_equal_scikit_learn(problem: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    scores, truth, _ = problem
    result = evaluate(scores, truth, names(scores), halves(scores))
    precision, recall, f1, support = sk.precision_recall_fscore_support(truth, scores >= 0.5, zero_division=0)
    ap = sk.average_precision_score(truth, scores, average=None)
    for number, values in enumerate(result.classes):
        assert values.support == support[number]
        assert (values.precision, values.recall, values.f1, values.average_precision) == pytest.approx(
            (precision[number], recall[number], f1[number], ap[number]), abs=EXACT
        )


@given(problems(), st.randoms(use_true_random=False))
def test_the_order_of_samples_does_not_matter(
    problem: tuple[np.ndarray, np.ndarray, np.ndarray], random: np.random.Generator
) -> None:
    scores, truth, labels = problem
    order = list(range(len(labels)))
    random.shuffle(order)
    straight, shuffled = (evaluate(scores[o], labels[o], names(scores)) for o in (slice(None), order))
    assert shuffled.confusion == straight.confusion
    for name, metric in straight.metrics.items():
        assert shuffled.metrics[name].value == pytest.approx(metric.value, abs=1e-12), name
    half = halves(scores)
    straight, shuffled = (evaluate(scores[o], truth[o], names(scores), half) for o in (slice(None), order))
    for name, metric in straight.metrics.items():
        assert shuffled.metrics[name].value == pytest.approx(metric.value, abs=1e-12), name


def test_averaging_over_batches_would_give_another_number() -> None:
    """The fault of the field: a mean of per-batch micro-mAP moves with batch size; ours sees the split once."""
    rng = np.random.default_rng(0)
    truth = (rng.random((512, 19)) < 0.15).astype(np.uint8)
    scores = 1 / (1 + np.exp(-(rng.normal(size=truth.shape) + 1.5 * truth)))
    whole = evaluate(scores, truth, names(scores), halves(scores)).metrics["micro_map"].value
    by_batch = {
        size: np.mean(
            [
                sk.average_precision_score(truth[at : at + size], scores[at : at + size], average="micro")
                for at in range(0, 512, size)
            ]
        )
        for size in (16, 64)
    }
    assert whole == pytest.approx(sk.average_precision_score(truth, scores, average="micro"), abs=EXACT)
    assert by_batch[16] - whole > 0.002
    assert by_batch[16] != pytest.approx(by_batch[64], abs=1e-4)


def test_a_case_worked_by_hand() -> None:
    scores = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.8, 0.2]])
    result = evaluate(scores, np.array([0, 1, 1, 0]), ("a", "b"))
    values = {name: metric.value for name, metric in result.metrics.items()}
    assert result.confusion == ((2, 0), (1, 1))
    assert values["accuracy"] == 0.75
    assert values["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    # pairs by score: .9+ .8+ .7+ .6- .4+ .3- .2- .1-
    assert values["micro_map"] == pytest.approx((1 + 1 + 1 + 4 / 5) / 4)
    # bins of 1/15: .6 wrong, .7, .8 and .9 right, each alone in its bin
    assert values["ece"] == pytest.approx((0.6 + 0.3 + 0.2 + 0.1) / 4)


def test_calibrated_scores_have_no_calibration_error() -> None:
    scores = np.tile([[0.75, 0.25]], (8, 1))
    labels = np.array([0, 0, 0, 1] * 2)
    assert evaluate(scores, labels, ("a", "b")).metrics["ece"].value == pytest.approx(0.0)


def test_a_class_without_samples_counts_as_zero_and_shows_no_recall() -> None:
    scores = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]])
    result = evaluate(scores, np.array([0, 1]), ("a", "b", "c"))
    assert result.metrics["macro_f1"].value == pytest.approx(2 / 3)
    assert (result.classes[2].support, result.classes[2].recall, result.classes[2].average_precision) == (0, None, None)


@pytest.mark.parametrize("ties", [False, True])
def test_weighted_average_precision_is_that_of_repeated_samples(*, ties: bool) -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, (30, 3)) / 4 if ties else rng.random((30, 3))
    labels = (rng.random((30, 3)) < 0.4).astype(int)
    counts = rng.integers(0, 4, (5, 30))
    found = Ranking(scores, labels).average_precision(counts.astype(float))
    for row, value in zip(counts, found, strict=True):
        again = np.repeat(np.arange(30), row)
        assert value == pytest.approx(
            sk.average_precision_score(labels[again], scores[again], average="micro"), abs=EXACT
        )


@settings(max_examples=20)
@given(problems())
def test_bootstrap_intervals_are_those_of_resampled_and_resorted_data(
    problem: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    scores, truth, _ = problem
    half = halves(scores)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "RESAMPLES", 40)
        result = evaluate(scores, truth, names(scores), half, bootstrap=single(len(scores), 7))
        found = result.metrics
        draws = [row for block in bootstrap.resamples(len(scores), 40, 7) for row in block.astype(int)]
    assert len(draws) == 40
    assert all(row.sum() == len(scores) for row in draws)
    resampled = [np.repeat(np.arange(len(scores)), row) for row in draws]
    slow = [evaluate(scores[rows], truth[rows], names(scores), half).metrics for rows in resampled]
    assert (found["ece"].low, found["ece"].high) == (None, None)
    for name, metric in found.items():
        if name == "ece":
            continue
        values = [one[name].value for one in slow]
        assert result.replicates[name] == pytest.approx(values, abs=EXACT), name
        low, high = np.percentile(values, (2.5, 97.5))
        expected = min(low, metric.value), max(high, metric.value)
        assert (metric.low, metric.high) == pytest.approx(expected, abs=EXACT), name


def test_whole_clusters_are_drawn() -> None:
    """Samples of one cluster count together, and two results of the same units have the same resamples."""
    rng = np.random.default_rng(0)
    units = rng.permutation(np.arange(60) % 6)
    for weights in Bootstrap(3, units).weights():
        for unit in range(6):
            assert (weights[:, units == unit] == weights[:, units == unit][:, :1]).all()
    labels = rng.integers(0, 2, 60)
    scores = np.eye(2)[np.where(units < 3, labels, 1 - labels)]  # right in half of the places
    places, samples = (
        evaluate(scores, labels, ("a", "b"), bootstrap=Bootstrap(3, of)).metrics["accuracy"]
        for of in (units, np.arange(60))
    )
    assert None not in (places.low, places.high, samples.low, samples.high)
    assert places.high - places.low > 2 * (samples.high - samples.low)  # type: ignore[operator]


def test_two_results_of_one_bootstrap_are_paired() -> None:
    """The difference of their replicates is the replicate of their difference."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    right = rng.random(200) < 0.8
    worse = right & (np.arange(200) % 20 > 0)
    runs = [np.eye(2)[np.where(of, labels, 1 - labels)] for of in (right, worse)]
    a, b = (evaluate(scores, labels, ("a", "b"), bootstrap=single(200, 5)).replicates["accuracy"] for scores in runs)
    gain = (right.astype(float) - worse)[None]
    expected = np.concatenate([(weights * gain).mean(axis=1) for weights in single(200, 5).weights()])
    assert a - b == pytest.approx(expected, abs=EXACT)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for repetition in range(60):
        labels = rng.integers(0, 2, 300)
        right = rng.random(300) < 0.8
        scores = np.eye(2)[np.where(right, labels, 1 - labels)]
        accuracy = evaluate(scores, labels, ("a", "b"), bootstrap=single(300, repetition)).metrics["accuracy"]
        assert accuracy.low is not None
        assert accuracy.high is not None
        covered += accuracy.low <= 0.8 <= accuracy.high
    assert covered >= 51  # 57 expected


def test_the_seed_decides_the_interval_and_not_the_value() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.random((50, 3)), rng.integers(0, 3, 50)
    first, same, other = (
        evaluate(scores, labels, ("a", "b", "c"), bootstrap=single(50, seed)).metrics["macro_map"] for seed in (1, 1, 2)
    )
    assert first == same
    assert first.value == other.value
    assert first.low != other.low


@given(problems())
def test_tuned_thresholds_give_the_best_f1_of_all_thresholds(
    problem: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    scores, truth, _ = problem
    thresholds = tune_thresholds(scores, truth)
    for number in range(scores.shape[1]):
        tuned = sk.f1_score(truth[:, number], scores[:, number] >= thresholds.each[number])
        every = [sk.f1_score(truth[:, number], scores[:, number] >= t) for t in np.unique(scores[:, number])]
        assert tuned == pytest.approx(max(every), abs=EXACT)
    common = sk.f1_score(truth, scores >= thresholds.common, average="micro")
    every = [sk.f1_score(truth, scores >= t, average="micro") for t in np.unique(scores)]
    assert common == pytest.approx(max(every), abs=EXACT)


def test_a_hopeless_class_does_not_spoil_the_tuned_micro_f1() -> None:
    """Its own best threshold predicts it everywhere; the micro-F1 at such thresholds fell from 0.80 to 0.65."""
    rng = np.random.default_rng(0)
    truth = (rng.random((4000, 4)) < [0.5, 0.4, 0.3, 0.01]).astype(np.uint8)
    scores = np.clip(0.5 * rng.random(truth.shape) + 0.4 * truth, 0, 1)
    scores[:, 3] = 0.05 * rng.random(4000)  # tells nothing
    thresholds = tune_thresholds(scores, truth)
    assert (scores[:, 3] >= thresholds.each[3]).mean() > 0.3
    found = evaluate(scores, truth, names(scores), thresholds).metrics
    assert found["micro_f1_tuned"].value >= found["micro_f1"].value
    spoilt = sk.f1_score(truth, scores >= thresholds.each, average="micro")
    assert found["micro_f1_tuned"].value > spoilt + 0.1


def test_the_calibration_error_of_calibrated_scores_has_no_interval_that_leaves_it_out() -> None:
    rng = np.random.default_rng(0)
    scores = rng.dirichlet(np.full(10, 0.15), 500)
    labels = (scores.cumsum(1) > rng.random((500, 1))).argmax(1)
    found = evaluate(scores, labels, names(scores), bootstrap=single(500, 0)).metrics
    assert (found["ece"].low, found["ece"].high) == (None, None)
    for name, metric in found.items():
        assert name == "ece" or metric.low <= metric.value <= metric.high, name  # type: ignore[operator]


def test_scores_of_the_wrong_shape_or_with_nan_are_refused() -> None:
    with pytest.raises(ValueError, match="must be finite and of shape"):
        evaluate(np.zeros((3, 2)), np.zeros(4, dtype=int), ("a", "b"))
    with pytest.raises(ValueError, match="must be finite"):
        evaluate(np.full((1, 2), np.nan), np.zeros(1, dtype=int), ("a", "b"))


@given(problems())
def test_the_bins_of_the_reliability_diagram_give_the_calibration_error(
    problem: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    scores, indicators, labels = problem
    half = halves(scores)
    for targets, evaluated in (
        (labels, evaluate(scores, labels, names(scores))),
        (indicators, evaluate(scores, indicators, names(scores), half)),
    ):
        found = reliability(scores, targets)
        assert error_of_bins(found) == pytest.approx(evaluated.metrics["ece"].value, abs=EXACT)
        assert sum(one.count for one in found) == targets.size


def test_intervals_of_shares_are_those_of_scipy() -> None:
    correct, count = np.array([0, 1, 7, 20]), np.array([3, 1, 10, 20])
    expected = [binomtest(k, n).proportion_ci(method="wilson") for k, n in zip(correct, count, strict=True)]
    assert np.transpose(wilson(correct, count)) == pytest.approx(np.array(expected), abs=EXACT)


def test_intervals_of_single_patches_are_far_too_narrow_on_bigearthnet(
    real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real labels and tiles of version 2's test split, and scores that are simulated: each tile has its own bias."""
    file = real_data / "bigearthnet" / "metadata.parquet"
    if not file.is_file():
        pytest.skip(f"no {file}")
    table = pd.read_parquet(file, columns=["patch_id", "labels", "split"])
    table = table[table["split"] == "test"]
    task = catalogue.task("bigearthnet-v2")
    numbers = {name: number for number, name in enumerate(task.classes)}
    labels = np.zeros((len(table), 19), dtype=np.uint8)
    for row, of_patch in enumerate(table["labels"]):
        labels[row, [numbers[name] for name in of_patch]] = 1
    units, units_are = task.units(table["patch_id"].tolist())
    assert (int(units.max()) + 1, units_are) == (46, "Sentinel-2 tiles")
    rng = np.random.default_rng(0)
    share = labels.mean(0)
    logits = np.log(share / (1 - share)) + 2.6 * (labels - share) + rng.normal(0, 1.3, labels.shape)
    logits += rng.normal(0, 0.5, (46, 19))[units]
    metric = single_metrics(1 / (1 + np.exp(-logits)), labels, halves(labels))["micro_f1"]
    monkeypatch.setattr(bootstrap, "RESAMPLES", 60)
    single_patches, tiles = (
        np.std(np.concatenate([metric(weights) for weights in Bootstrap(0, of).weights()]))
        for of in (np.arange(len(labels)), units)
    )
    assert tiles > 5 * single_patches
