"""Results as a model index: the `model-index` of a model card on Hugging Face.

Its shape is that of https://github.com/huggingface/hub-docs/blob/main/modelcard.md. Nothing is marked as verified: that
is for Hugging Face to say.
"""

import re
from collections.abc import Sequence
from statistics import fmean
from typing import Any, Final

import pandas as pd
import yaml

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.task import Kind
from ssl4eo_bench.errors import ResultError
from ssl4eo_bench.results.files import RunResult
from ssl4eo_bench.results.frame import frame_of, metric_names, require_one_split
from ssl4eo_bench.results.published import ADDRESS

TASKS: Final[dict[Kind, tuple[str, str]]] = {
    "multiclass": ("image-classification", "Image Classification"),
    "multilabel": ("image-classification", "Multi-Label Image Classification"),
    "segmentation": ("image-segmentation", "Semantic Segmentation"),
}

METRICS: Final[dict[str, tuple[str, str, dict[str, str]]]] = {
    "accuracy": ("accuracy", "Accuracy", {}),
    "balanced_accuracy": ("balanced_accuracy", "Balanced accuracy", {}),
    "miou": ("mean_iou", "mIoU", {}),
    "micro_map": ("average_precision", "Micro-mAP", {"average": "micro"}),
    "macro_map": ("average_precision", "Macro-mAP", {"average": "macro"}),
    "micro_f1": ("f1", "Micro-F1", {"average": "micro"}),
    "macro_f1": ("f1", "Macro-F1", {"average": "macro"}),
}
"""Type, name and arguments of the metrics that Hugging Face knows; the others are left out."""


def model_index(results: Sequence[RunResult], url: str | None = None) -> str:
    """The model index of one checkpoint, in YAML: test metrics as fractions, means over seeds.

    `url` is where the results are published.

    Raises:
        ResultError: if they are of several checkpoints, of several splits of a task, or not official, or `url` is none.
    """
    if url and not re.search(ADDRESS, url):
        raise ResultError(f"--url {url!r} is no address like https://host/page, which a reader could open.")
    _check(results)
    groups = frame_of(results).groupby(["task", "protocol", "fraction"], sort=False)
    entries = [_entry(runs) | ({"source": {"name": "ssl4eo-bench", "url": url}} if url else {}) for _, runs in groups]
    index = {"model-index": [{"name": results[0].spec.checkpoint.name, "results": entries}]}
    return yaml.safe_dump(index, sort_keys=False, allow_unicode=True, width=120)


def _check(results: Sequence[RunResult]) -> None:
    for result in results:
        if not result.enters_tables:
            why = ", ".join(result.spec.marks) or "run from code with changes that are not committed"
            raise ResultError(f"{result.spec.path} is not official ({why}); export runs on whole official splits only.")
    names = sorted({result.spec.checkpoint.name for result in results})
    if len(names) > 1:
        raise ResultError(f"a model index is of one checkpoint; these runs are of {', '.join(names)}.")
    require_one_split(results)


def _entry(runs: pd.DataFrame) -> dict[str, Any]:
    """Runs of one task, protocol and fraction, which differ by their seeds."""
    results: list[RunResult] = list(runs["result"])
    spec = results[0].spec
    type_, name = TASKS[spec.task.kind]
    known = catalogue.tasks()
    title = known[spec.task.name].title if spec.task.name in known else spec.task_slug
    return {
        "task": {"type": type_, "name": name},
        "dataset": {
            "type": spec.task.name,
            "name": title,
            "config": spec.task_slug,
            "split": "test",
            "revision": spec.task.splits["test"].digest,
        },
        "metrics": [_metric(metric, results) for metric in metric_names(runs) if metric in METRICS],
    }


def _metric(metric: str, runs: Sequence[RunResult]) -> dict[str, Any]:
    type_, name, arguments = METRICS[metric]
    value = fmean(run.metrics["test"][metric].value for run in runs)
    described = {"type": type_, "value": value, "name": f"{name}, {_how(runs)}"}
    return described | ({"args": dict(arguments)} if arguments else {})  # a copy: YAML would write a reference


def _how(runs: Sequence[RunResult]) -> str:
    """Protocol, fraction and seeds, which keep metrics of one name and type apart."""
    spec = runs[0].spec
    fraction = "" if spec.fraction is None else f", {100 * spec.fraction:g} % of the training samples"
    seeds = f", mean of {len(runs)} seeds" if len(runs) > 1 else ""
    return f"{spec.protocol_slug}{fraction}{seeds}"
