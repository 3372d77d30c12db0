"""The golden run: a real network's features of a fixed sample give the numbers they always gave."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.records import MetricValue
from ssl4eo_bench.config.task import SPLITS
from ssl4eo_bench.config.weights import PackagedWeights
from tests.golden.make import CHECKPOINT, FIXTURE, METRICS, PROTOCOLS, TASK, extract, measure, read

SHARE = 0.1
"""Of the width of a metric's own interval, how far it may move: two of the 240 test samples, where another 240 samples
would move it by ten times as much."""

WITHOUT = 0.1
"""Stands for the width where a metric has no interval."""

DISTANCE = 0.01
"""Of the features' standard deviation, how far they may move (root mean square). Half precision and another runner
move them by less than 0.001 of it."""


def golden() -> dict[str, dict[str, MetricValue]]:
    stored = json.loads(METRICS.read_text(encoding="utf-8"))
    return {name: {key: MetricValue(**value) for key, value in metrics.items()} for name, metrics in stored.items()}


def moved(found: dict[str, MetricValue], expected: dict[str, MetricValue]) -> list[str]:
    """The metrics that moved too far, or that are in one of the two alone."""
    names = sorted({*found, *expected})
    return [name for name in names if not _agree(found.get(name), expected.get(name))]


def _agree(found: MetricValue | None, expected: MetricValue | None) -> bool:
    if found is None or expected is None:
        return False
    width = WITHOUT if expected.low is None or expected.high is None else expected.high - expected.low
    return abs(found.value - expected.value) <= SHARE * width


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_features_give_the_metrics_they_always_gave(protocol: str) -> None:
    assert moved(measure(protocol, read()), golden()[protocol]) == []


def test_three_more_wrong_samples_would_be_seen() -> None:
    expected = golden()["knn"]
    accuracy = expected["accuracy"]
    other = expected | {"accuracy": accuracy.model_copy(update={"value": accuracy.value - 3 / 240})}
    assert moved(other, expected) == ["accuracy"]
    assert moved({**other, "mood": accuracy}, other) == ["mood"]
    assert all(0 < value.value < 1 for metrics in golden().values() for value in metrics.values())  # room to move


def test_the_fixture_is_of_the_whole_sample() -> None:
    arrays, splits = read(), catalogue.task(TASK).embedded().splits
    for split in SPLITS:
        assert arrays[split].shape == (splits[split].count, 1280)
        assert arrays[f"{split}_targets"].shape == (splits[split].count,)
    assert FIXTURE.stat().st_size < 800_000


def test_the_network_sees_in_the_sample_what_it_always_saw(tmp_path: Path) -> None:
    weights = catalogue.load_catalogue().checkpoint(CHECKPOINT).weights
    assert isinstance(weights, PackagedWeights)
    if find_spec(weights.package) is None:
        pytest.skip("the pretrained weights are not here; install the extra `sample`")
    expected, found = read(), extract("val", folder=tmp_path)
    features = expected["val"].astype(float)
    assert np.sqrt(np.square(found["val"] - features).mean()) <= DISTANCE * features.std()
    assert np.array_equal(found["val_targets"], expected["val_targets"])
