"""The scores of every test sample, as runs leave them in the cache."""

import shlex
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssl4eo_bench.errors import ResultError
from ssl4eo_bench.metrics.evaluation import Metric, multiclass_metrics, multilabel_metrics
from ssl4eo_bench.metrics.segmentation import confusion_metrics
from ssl4eo_bench.results.files import RunResult
from ssl4eo_bench.spec.canonical import ids_digest
from ssl4eo_bench.spec.weights import FileWeights
from ssl4eo_bench.storage import scores_file


@dataclass(frozen=True)
class StoredScores:
    """What a run found on each sample of the test split.

    Attributes:
        ids: of the samples, `[N]`.
        targets: labels `[N]` or `[N, C]`; for segmentation, pixels of each class `[N, C]`.
        metrics: by name, as functions of how often each sample counts.
        correct: whether the class with the highest score is the right one, `[N]`; for multiclass only.
    """

    ids: np.ndarray
    targets: np.ndarray
    metrics: dict[str, Metric]
    correct: np.ndarray | None = None


def require_scores(wanted: Sequence[RunResult], results: Path, cache_dir: Path) -> None:
    """Refuse results without scores.

    Raises:
        ResultError: with the command that makes the first of them again.
    """
    absent = [result for result in wanted if not scores_file(cache_dir, result.digest).is_file()]
    if absent:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise ResultError(
            f"the scores of {absent[0].spec.path}{more} are not in the cache {cache_dir}; "
            f"make them again with {_run_again(absent[0], results, cache_dir)}."
        )


def read_scores(result: RunResult, results: Path, cache_dir: Path) -> StoredScores:
    """The stored scores of a result.

    Raises:
        ResultError: if they cannot be read, or are not of the result's test samples.
    """
    file, cure = scores_file(cache_dir, result.digest), _run_again(result, results, cache_dir)
    kind, test = result.spec.task.kind, result.spec.task.splits["test"]
    needed = ("ids", "confusions") if kind == "segmentation" else ("ids", "scores", "targets")
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
            ids, *arrays = (stored[name] for name in needed)
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ResultError(f"scores {file} cannot be read; make them again with {cure}.") from error
    if ids_digest(ids.tolist()) != test.digest or any(len(array) != test.count for array in arrays):
        raise ResultError(
            f"scores {file} are not of the test samples of {result.spec.path}; make them again with {cure}."
        )
    if kind == "segmentation":
        return StoredScores(ids, arrays[0].sum(-1), confusion_metrics(arrays[0]))
    scores, targets = arrays
    if kind == "multiclass":
        return StoredScores(ids, targets, multiclass_metrics(scores, targets), scores.argmax(axis=1) == targets)
    return StoredScores(ids, targets, multilabel_metrics(scores, targets, np.array(result.selection.thresholds)))


def _run_again(result: RunResult, results: Path, cache_dir: Path) -> str:
    """The command that does a run once more, as far as its result tells."""
    spec = result.spec
    name, _, size = spec.checkpoint.name.partition("@")
    options = {
        "task": spec.task.name,
        "protocol": spec.protocol.name,
        "checkpoint": name,
        "image-size": size or None,
        "seed": spec.seed,
        "fraction": spec.fraction,
        "limit": spec.limit,
        "results": results,
        "cache-dir": cache_dir,
    }
    flags = {
        "resize-pos-embed": size and spec.checkpoint.resize_pos_embed,
        "sample": spec.sample,
        "partial": spec.partial,
        "force": True,
    }
    words = [word for option, value in options.items() if value is not None for word in (f"--{option}", str(value))]
    words += [f"--{flag}" for flag, is_set in flags.items() if is_set]
    as_before = (() if spec.sample else ("--data-dir",)) + (
        ("--weights or --checkpoints",) if isinstance(spec.checkpoint.weights, FileWeights) else ()
    )
    also = f" (and {' and '.join(as_before)} as before)" if as_before else ""
    return f"`{shlex.join(['ssl4eo-bench', 'run', *words])}`{also}"
