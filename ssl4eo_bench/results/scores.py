"""The scores of every test sample, as runs leave them in the cache."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import expit, logit

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.canonical import ids_digest
from ssl4eo_bench.config.weights import FileWeights
from ssl4eo_bench.errors import ResultError
from ssl4eo_bench.files.npz_files import read_arrays, write_arrays
from ssl4eo_bench.files.places import scores_file
from ssl4eo_bench.metrics.bootstrap import Metric
from ssl4eo_bench.metrics.classification import Thresholds, single_metrics
from ssl4eo_bench.metrics.segmentation import confusion_metrics
from ssl4eo_bench.results.files import RunResult

EXACT = 1e-12
"""Largest error of kept probabilities."""

OTHER_MACHINE = 0.02
"""How far the metric of scores from another machine or run may differ from that of the result."""


@dataclass(frozen=True)
class StoredScores:
    """The scores of a run on the N samples of the test split.

    Attributes:
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
        ResultError: if they cannot be read, or are not those of the result.
    """
    try:
        return stored_scores(kept_arrays(result, cache_dir), result)
    except ValueError as error:
        raise ResultError(
            f"scores {scores_file(cache_dir, result.digest)} {error}; make them again with "
            f"{_run_again(result, results, cache_dir)}."
        ) from error


def store_arrays(file: Path, ids: Sequence[str], arrays: Mapping[str, np.ndarray]) -> None:
    """Keep what a run knows of each test sample, in a quarter of the bytes where its scores come from float32 logits.

    Raises:
        WriteError: if the disk is full or the folder cannot be written.
    """
    kept = {name: _narrow(array) for name, array in arrays.items()} | {"ids": np.array([id_.encode() for id_ in ids])}
    if "scores" in arrays:
        with np.errstate(divide="ignore"):
            log_odds = logit(arrays["scores"]).astype(np.float32)
        # Unlike probabilities in float32, log-odds tell those near 1 apart. Shares of votes are on thresholds: exact.
        if np.abs(expit(log_odds.astype(np.float64)) - arrays["scores"]).max(initial=0) <= EXACT:
            del kept["scores"]
            kept["log_odds"] = log_odds
    write_arrays(file, kept)


def _narrow(array: np.ndarray) -> np.ndarray:
    """Counts and class numbers in the smallest type that holds them; everything else as it is."""
    counts = array.dtype.kind in "iu" and array.size > 0 and int(array.min()) >= 0
    return array.astype(np.min_scalar_type(array.max())) if counts else array


def _widen(arrays: dict[str, np.ndarray]) -> None:
    """Turn stored arrays into those that a run knew; files of earlier versions hold these."""
    if "log_odds" in arrays:
        arrays["scores"] = expit(arrays.pop("log_odds").astype(np.float64))
    if "ids" in arrays and arrays["ids"].dtype.kind == "S":
        arrays["ids"] = np.char.decode(arrays["ids"], "utf-8")
    for name in {"targets", "confusions"} & set(arrays):
        if arrays[name].dtype.kind == "u":
            arrays[name] = arrays[name].astype(np.int64)


def kept_arrays(result: RunResult, cache_dir: Path) -> dict[str, np.ndarray]:
    """The arrays that the run of a result kept of its test samples.

    Raises:
        ValueError: if the file is absent or damaged, or holds something else; saying what of it.
    """
    arrays = read_arrays(scores_file(cache_dir, result.digest))
    if arrays is None:
        raise ValueError("cannot be read")
    _widen(arrays)
    test, classes, kind = result.spec.task.splits["test"], len(result.classes), result.spec.task.kind
    shapes: dict[str, tuple[int, ...]] = {"confusions": (test.count, classes, classes)}
    if kind != "segmentation":
        targets = (test.count,) if kind == "multiclass" else (test.count, classes)
        shapes = {"scores": (test.count, classes), "targets": targets}
    if not {"ids", *shapes} <= set(arrays):
        raise ValueError("cannot be read")
    if ids_digest([str(id_) for id_ in arrays["ids"].tolist()]) != test.digest:
        raise ValueError(f"are not of the test samples of {result.spec.path}")
    for name, shape in shapes.items():
        if arrays[name].shape != shape or arrays[name].dtype.kind not in "fiub" or not np.isfinite(arrays[name]).all():
            raise ValueError(f"are not of the test samples of {result.spec.path}")
    return arrays


def stored_scores(arrays: dict[str, np.ndarray], result: RunResult) -> StoredScores:
    """The scores in arrays of `kept_arrays`.

    Raises:
        ValueError: if they give another main metric than the result.
    """
    found = _of_arrays(arrays, result)
    main, expected = result.main_metric, result.main_value.value
    value = float(found.metrics[main](np.ones((1, len(found.ids))))[0])
    if not abs(value - expected) <= OTHER_MACHINE:
        raise ValueError(f"give {main} {100 * value:.2f}, and the result {100 * expected:.2f}")
    return found


def _of_arrays(arrays: dict[str, np.ndarray], result: RunResult) -> StoredScores:
    ids = arrays["ids"]
    if result.spec.task.kind == "segmentation":
        return StoredScores(ids, arrays["confusions"].sum(-1), confusion_metrics(arrays["confusions"]))
    scores, targets = arrays["scores"], arrays["targets"]
    if result.spec.task.kind == "multiclass":
        return StoredScores(ids, targets, single_metrics(scores, targets), scores.argmax(axis=1) == targets)
    chosen = result.selection
    common = 0.5 if chosen.threshold is None else chosen.threshold
    metrics = single_metrics(scores, targets, Thresholds(np.array(chosen.thresholds), common))
    if chosen.threshold is None:  # of a protocol version without a threshold for micro-F1
        del metrics["micro_f1_tuned"]
    return StoredScores(ids, targets, metrics)


def _run_again(result: RunResult, results: Path, cache_dir: Path) -> str:
    """The command that repeats a run, as far as its result tells."""
    spec = result.spec
    name, *changes = spec.checkpoint.name.split("@")
    size, precision = next(filter(str.isdigit, changes), None), spec.checkpoint.precision
    options = {
        "task": spec.task.name,
        "protocol": spec.protocol.name,
        "checkpoint": name,
        "image-size": size,
        "precision": precision if precision in changes else None,
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
        "fill-bands": not spec.inputs.is_mostly_there,
        "force": True,
    }
    words = [word for option, value in options.items() if value is not None for word in (f"--{option}", str(value))]
    words += [f"--{flag}" for flag, is_set in flags.items() if is_set]
    shipped = name.startswith("timm:") or name in catalogue.load_catalogue().checkpoints
    own = isinstance(spec.checkpoint.weights, FileWeights) or not shipped
    as_before = (() if spec.sample else ("--data-dir",)) + (("--weights or --checkpoints",) if own else ())
    also = f" (and {' and '.join(as_before)} as before)" if as_before else ""
    return f"`{shlex.join(['ssl4eo-bench', 'run', *words])}`{also}"
