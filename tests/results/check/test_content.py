"""Chance, and counts that add up."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.records import ClassResult, MetricValue, Resampled
from ssl4eo_bench.metrics.bootstrap import interval
from ssl4eo_bench.results.check.content import chance, content_faults
from ssl4eo_bench.results.files import RunResult, parse_result, read_result
from tests.results.forging import sealed
from tests.results.test_schema import FROZEN, OLD

Make = Callable[..., RunResult]

KINDS = {
    "multiclass": "runs/eurosat-rgb-v1/finetune-v1/timm-test_resnet.random/seed0-sample.json",
    "multilabel": "runs/bigearthnet-v1/linear-v1/bandstats/seed0-sample.json",
    "segmentation": "runs/dfc2020-v1/linear-v1/timm-test_resnet.random/seed0-sample.json",
}


def forged(place: str, change: Callable[[dict[str, Any]], object]) -> RunResult:
    content = json.loads((FROZEN / place).read_text(encoding="utf-8"))
    change(content)
    stored = sealed(content)
    return parse_result(stored, Path(place))


def whats(result: RunResult) -> list[str]:
    return [what for what, _ in content_faults(result)]


@pytest.mark.parametrize("file", OLD, ids=lambda file: file.relative_to(FROZEN / "runs").as_posix())
def test_nothing_is_wrong_with_what_runs_give(file: Path) -> None:
    assert whats(read_result(file)) == []


def test_chance_is_what_guessing_gives(make_result: Make) -> None:
    supports = [5, 3, 2, *[0] * 7]
    result = make_result()
    classes = tuple(
        ClassResult(name=one.name, support=support, precision=0.0, f1=0.0)
        for one, support in zip(result.classes, supports, strict=True)
    )
    names = ("accuracy", "balanced_accuracy", "micro_map", "macro_map", "miou", "macro_f1", "ece")
    metrics = result.metrics | {"test": dict.fromkeys(names, result.metrics["test"]["accuracy"])}
    result = result.model_copy(update={"classes": classes, "metrics": metrics})
    assert chance(result) == {
        "accuracy": 5 / 10,  # always the largest class
        "balanced_accuracy": 1 / 3,
        "micro_map": 1 / 10,  # one of ten classes is right for each sample
        "macro_map": 1 / 10,
        "miou": 5 / 10 / 3,
    }
    assert chance(result.model_copy(update={"classes": ()})) == {}


def test_chance_of_several_labels_is_their_share(make_result: Make) -> None:
    result = read_result(FROZEN / KINDS["multilabel"])
    pairs = result.counts["test"] * len(result.classes)
    share = sum(one.support for one in result.classes) / pairs
    assert chance(result) == {"micro_map": share, "macro_map": share}


@pytest.mark.parametrize(("high", "below"), [(0.02, True), (0.9, False)])
@pytest.mark.parametrize("kind", KINDS)
def test_below_chance_is_where_the_whole_interval_is(kind: str, high: float, below: bool) -> None:
    floor = read_result(FROZEN / KINDS[kind])
    low = floor.metrics["test"] | {"micro_map": MetricValue(value=0.01, low=0.005, high=high)}
    result = floor.model_copy(update={"metrics": {"test": low}})
    assert not whats(result)  # it has learned nothing, and may show so
    trained = catalogue.load_catalogue().checkpoint("tf_efficientnet_lite0.in1k")
    spec = result.spec.model_copy(update={"checkpoint": trained})
    found = whats(result.model_copy(update={"spec": spec}))
    assert [what.partition(", which is ")[2].partition(" (")[0] for what in found] == ["below chance"] * below


def perfect(raw: dict[str, Any], name: str) -> None:
    raw["metrics"]["test"][name] = {"value": 1.0, "low": 1.0, "high": 1.0}


FAULTS: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "has classes of 241 samples together, but 240 test samples": (
        "multiclass",
        lambda raw: raw["classes"][0].update(support=25),
    ),
    "has a class of 10,000 samples, but": ("multilabel", lambda raw: raw["classes"][0].update(support=10_000)),
    "has a confusion matrix whose rows are not its classes' samples": (
        "segmentation",
        lambda raw: raw["confusion"][0].__setitem__(0, raw["confusion"][0][0] + 1),
    ),
    "has a test accuracy of 0.123000, but": (
        "multiclass",
        lambda raw: raw["metrics"]["test"]["accuracy"].update(value=0.123, low=0.1),
    ),
    "has a test balanced_accuracy of 1.000000, but": ("multiclass", lambda raw: perfect(raw, "balanced_accuracy")),
    "has a test micro_f1 of 1.000000, but": ("multiclass", lambda raw: perfect(raw, "micro_f1")),
    "has a test macro_f1 of 1.000000, but": ("segmentation", lambda raw: perfect(raw, "macro_f1")),
    "has a test miou of 1.000000, but": ("segmentation", lambda raw: perfect(raw, "miou")),
    "has a test macro_map of 1.000000, but": ("multilabel", lambda raw: perfect(raw, "macro_map")),
    "has another recall of class": ("multiclass", lambda raw: raw["classes"][0].update(recall=0.987)),
    "has another precision of class": ("segmentation", lambda raw: raw["classes"][0].update(precision=0.987)),
    "has another iou of class": ("segmentation", lambda raw: raw["classes"][0].update(iou=0.987)),
    "has a recall of class": ("multilabel", lambda raw: raw["classes"][0].update(recall=0.98765)),
    "has an F1 of class": ("multilabel", lambda raw: raw["classes"][0].update(f1=0.987)),
    "has a micro_f1 of 1.000000, but": ("multilabel", lambda raw: perfect(raw, "micro_f1")),
    "has a test macro_f1 of 1.000000, but ": ("multilabel", lambda raw: perfect(raw, "macro_f1")),
    "has a test micro_map of 0.900000 outside of its own interval": (
        "multiclass",
        lambda raw: raw["metrics"]["test"]["micro_map"].update(value=0.9, low=0.95, high=0.94),
    ),
    "has other labels than task": ("multiclass", lambda raw: raw["classes"][0].update(name="Sea")),
}


@pytest.mark.parametrize("what", FAULTS)
def test_counts_that_do_not_add_up_are_found(what: str) -> None:
    kind, change = FAULTS[what]
    assert [found for found in whats(forged(KINDS[kind], change)) if found.startswith(what)]


def test_a_confusion_matrix_of_another_shape_is_found() -> None:
    result = forged(KINDS["multiclass"], lambda raw: raw["confusion"][0].append(0))
    assert whats(result) == ["has a confusion matrix whose rows are not its classes' samples"]


def test_the_sample_is_known_where_nobody_listed_the_split(make_result: Make) -> None:
    """Such a split may be any, but not that of the embedded sample."""
    sample = make_result("so2sat-random", sample=True)
    silent = sample.model_copy(update={"spec": sample.spec.model_copy(update={"sample": False})})
    told = [
        f"has the {split} samples of the embedded sample, but does not say so" for split in ("train", "val", "test")
    ]
    assert [what for what in whats(silent) if "embedded" in what] == told
    assert not [what for what in whats(sample) if "embedded" in what]


def test_the_interval_is_that_of_the_replicates(make_result: Make) -> None:
    drawn = np.random.default_rng(0).normal(0.5, 0.01, 1000)
    resampled = Resampled.of(drawn, 5400, "samples")
    low, high = interval(resampled.values)
    result = make_result().model_copy(update={"resampled": resampled})

    def told(**changes: float) -> list[str]:
        main = MetricValue(value=0.5, low=low, high=high).model_copy(update=changes)
        metrics = result.metrics | {"test": result.metrics["test"] | {"accuracy": main}}
        return [what for what in whats(result.model_copy(update={"metrics": metrics})) if "interval" in what]

    assert told() == []
    assert told(low=low - 1e-4) == ["has an interval of accuracy that is not that of its replicates"]
    assert told(value=low - 0.01, low=low - 0.01) == []  # it is drawn out to its value
    result = result.model_copy(update={"resampled": Resampled.of(drawn, 5401, "samples")})
    assert "draws 5,401 units of 5,400 test samples" in whats(result)
