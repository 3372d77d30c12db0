from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from ssl4eo_bench.config.records import MetricValue, Resampled
from ssl4eo_bench.metrics.bootstrap import interval
from ssl4eo_bench.metrics.classification import evaluate
from ssl4eo_bench.results.check.baseline import baseline_of
from ssl4eo_bench.results.check.findings import Finding, Report
from ssl4eo_bench.results.check.gate import check
from ssl4eo_bench.results.figure_data import figure_data
from ssl4eo_bench.results.files import RunResult, write_result
from tests.conftest import Git
from tests.results.forging import regenerate

HERE = "runs/eurosat-v1/linear-v2"
RUN, BASELINE = f"{HERE}/tf_efficientnet_lite0.in1k/seed0.json", f"{HERE}/bandstats/seed0.json"
TABLE = "tables/eurosat-v1.linear-v2.csv"


def report_on(results: Path, against: str | None = None) -> Report:
    return check(results, baseline_of(results, against))


def only(report: Report) -> Finding:
    """The one finding of a report."""
    (finding,) = report.findings
    return finding


@pytest.fixture
def honest(make_result: Callable[..., RunResult]) -> Callable[..., RunResult]:
    """Makes a result that agrees with itself, of made-up scores on the official EuroSAT; keywords as of `make_result`.

    `skill` says how good the scores are, `of` numbers the noise in them. With `figures`, it has the data of its figures.
    """

    def make(
        checkpoint: str = "tf_efficientnet_lite0.in1k",
        *,
        skill: float = 2.0,
        of: int = 0,
        figures: bool = False,
        **marks: Any,
    ) -> RunResult:
        made = make_result("eurosat", checkpoint, **marks)
        samples, names = made.counts["test"], tuple(one.name for one in made.classes)
        labels = np.arange(samples) % len(names)
        logits = np.random.default_rng(of).normal(size=(samples, len(names)))
        logits[np.arange(samples), labels] += skill
        scores = softmax(logits, axis=1)
        found = evaluate(scores, labels, names)
        metrics = {name: MetricValue(value=one.value) for name, one in found.metrics.items()}
        micro_map = metrics["micro_map"].value
        metrics["micro_map"] = MetricValue(value=micro_map, low=micro_map - 0.01, high=micro_map + 0.01)
        drawn = metrics["accuracy"].value + 0.005 * np.random.default_rng(of).normal(size=1000)
        resampled = Resampled.of(drawn, samples, "samples")
        low, high = interval(resampled.values)
        metrics["accuracy"] = MetricValue(value=metrics["accuracy"].value, low=low, high=high)
        return made.model_copy(
            update={
                "metrics": {"val": {"accuracy": MetricValue(value=0.3)}, "test": metrics},
                "resampled": resampled,
                "classes": found.classes,
                "confusion": found.confusion,
                "figures": figure_data(
                    {"scores": scores, "targets": labels, "embedding": logits[:, :2]} if figures else {}
                ),
            }
        )

    return make


@pytest.fixture
def board(tmp_path: Path, git: Git, honest: Callable[..., RunResult]) -> Path:
    """A results directory of two honest results, committed, whose metrics may move by 0.0005."""
    results = tmp_path / "repository" / "results"
    for result in (honest(), honest("bandstats", skill=1.0)):
        write_result(results, result)
    (results / "tolerances.yaml").write_text("accuracy: 0.0005\n", encoding="utf-8")
    regenerate(results)
    git("init", "--quiet", "--initial-branch", "main")
    git("add", ".")
    git("commit", "--quiet", "--message", "results")
    return results
