"""Rules for a single valid result: official samples, numbers that agree with each other, metrics above chance."""

from collections.abc import Iterator, Mapping

import numpy as np

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.protocols import PROTOCOLS, current_settings, is_for
from ssl4eo_bench.config.run_spec import RunSpec
from ssl4eo_bench.config.task import SPLITS, Split, Task
from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.metrics.bootstrap import interval
from ssl4eo_bench.metrics.counts import COUNT_METRICS, Counts
from ssl4eo_bench.results.files import RunResult

RUN_AGAIN = "run it again, or remove it"

EXACT = 1e-9
"""How far a metric may differ from the value that the counts in the same file give."""

OF_FLOAT32 = 1e-6
"""How far an interval may differ from that of its replicates, which are stored in float32."""

Fault = tuple[str, str]
"""What is wrong, and the cure."""


def known_task(result: RunResult) -> Task | None:
    """The task of a result; none for one that is not in the catalogue."""
    try:
        return catalogue.task(result.spec.task.name)
    except SpecError:  # not there, or in a module that cannot be used
        return None


def content_faults(result: RunResult) -> Iterator[Fault]:
    """All faults of a valid result that can be found without other results."""
    if task := known_task(result):
        yield from _task_faults(result, task)
    yield from _protocol_faults(result.spec)
    yield from _count_faults(result)
    yield from _choice_faults(result)
    yield from _interval_faults(result)
    yield from _chance_faults(result)


def _task_faults(result: RunResult, task: Task) -> Iterator[Fault]:
    """Differences from the task in the catalogue, which knows only the current version of a task."""
    spec = result.spec
    if spec.task.version > task.version:
        yield (
            f"is of version {spec.task.version} of its task, which is at version {task.version}",
            "upgrade ssl4eo-bench",
        )
    if spec.task.version != task.version:
        return
    if spec.task.kind != task.kind or tuple(one.name for one in result.classes) != task.classes:
        yield f"has other labels than task {task.name!r}", RUN_AGAIN
    if spec.partial or spec.limit or (spec.sample and task.sample and spec.sample_version != task.sample.version):
        return
    official = task.sample.splits if spec.sample and task.sample else task.splits
    for name in SPLITS:
        found, expected = spec.task.splits[name], official[name]
        if expected.count is not None and expected.count != found.count:
            yield f"has {found.count:,} {name} samples, but the official split has {expected.count:,}", RUN_AGAIN
        elif isinstance(expected, Split) and expected.digest != found.digest:
            yield f"has other {name} samples than the official split (their digests differ)", RUN_AGAIN
        elif not spec.sample and task.sample and found == task.sample.splits[name] != expected:
            yield f"has the {name} samples of the embedded sample, but does not say so", RUN_AGAIN


def _protocol_faults(spec: RunSpec) -> Iterator[Fault]:
    """Settings that differ from those of the protocol's current version; others and recipes are not known here."""
    name, kind, current = spec.protocol.name, spec.task.kind, PROTOCOLS.get(spec.protocol.name)
    if current is None or current.version != spec.protocol.version:
        return
    if not is_for(name, kind) or spec.protocol != current_settings(name, kind, sample=spec.sample):
        yield f"has other settings than version {current.version} of protocol {name!r} on {kind} tasks", RUN_AGAIN


def _count_faults(result: RunResult) -> Iterator[Fault]:
    """Counts of samples, classes and the confusion matrix that contradict each other."""
    for split, found in result.not_finite.items():
        if not 0 < found.samples <= min(found.values, result.counts[split]):
            what = f"{found.values:,} values that are no numbers in {found.samples:,} samples"
            yield f"has {what} of {result.counts[split]:,} on {split}", RUN_AGAIN
    supports = [one.support for one in result.classes]
    samples, kind = result.counts["test"], result.spec.task.kind
    if kind == "multiclass" and sum(supports) != samples:
        yield f"has classes of {sum(supports):,} samples together, but {samples:,} test samples", RUN_AGAIN
    if kind == "multilabel" and max(supports, default=0) > samples:
        yield f"has a class of {max(supports):,} samples, but {samples:,} test samples", RUN_AGAIN
    precisions = [one.average_precision or 0.0 for one in result.classes]
    yield from _metric_faults(result, {"macro_map": sum(precisions) / max(len(precisions), 1)}, "by its classes")
    if kind == "multilabel":
        yield from _label_faults(result)
    if result.confusion is None:
        if kind != "multilabel":  # without it, no metric could be checked
            yield f"has no confusion matrix, and every {kind} result has one", RUN_AGAIN
        return
    square = all(len(row) == len(supports) for row in result.confusion)
    if not square or [sum(row) for row in result.confusion] != supports:
        yield "has a confusion matrix whose rows are not its classes' samples", RUN_AGAIN
        return
    yield from _confusion_faults(result, np.array(result.confusion))


def _confusion_faults(result: RunResult, confusion: np.ndarray) -> Iterator[Fault]:
    """Metrics and values of classes that differ from those of the confusion matrix."""
    counts = Counts.of_confusion(confusion)
    metrics = {name: float(of(counts)) for name, of in COUNT_METRICS.items()}
    yield from _metric_faults(result, metrics, "in its confusion matrix")
    hits, actual, guesses = counts.hits, counts.actual, counts.predicted
    for one, hit, support, guessed in zip(result.classes, hits, actual, guesses, strict=True):
        expected = {
            "precision": hit / guessed if guessed else 0.0,
            "recall": hit / support if support else None,
            "f1": 2 * hit / (guessed + support) if guessed + support else 0.0,
        }
        if result.spec.task.kind == "segmentation":
            union = guessed + support - hit
            expected["iou"] = hit / union if union else None
        for name, value in expected.items():
            if not _agree(getattr(one, name), value):
                yield f"has another {name} of class {one.name!r} than its confusion matrix gives", RUN_AGAIN


def _label_faults(result: RunResult) -> Iterator[Fault]:
    """F1 scores of a multilabel result that differ from what precision and recall of the classes give.

    Recall and support give the hits of a class; hits and precision give the predictions. Of a class without hits the
    predictions are not known, so micro-F1 has only an upper bound.
    """
    hits, guesses = [], []
    for one in result.classes:
        of_class = round((one.recall or 0.0) * one.support)
        if not _agree(one.recall or 0.0, of_class / max(one.support, 1)):
            yield f"has a recall of class {one.name!r} that no count of its {one.support:,} samples gives", RUN_AGAIN
        guessed = round(of_class / one.precision) if of_class and one.precision else 0
        hits.append(of_class)
        guesses.append(guessed)
        f1 = 2 * of_class / (guessed + one.support) if guessed + one.support else 0.0
        if not _agree(one.f1, f1) or (of_class and not _agree(one.precision, of_class / max(guessed, 1))):
            yield f"has an F1 of class {one.name!r} that its precision and recall do not give", RUN_AGAIN
    yield from _metric_faults(result, {"macro_f1": sum(one.f1 for one in result.classes) / len(hits)}, "by its classes")
    most = 2 * sum(hits) / max(sum(guesses) + sum(one.support for one in result.classes), 1)
    known = all(count or not one.support for count, one in zip(hits, result.classes, strict=True))
    stated = result.metrics["test"].get("micro_f1")
    if stated and (stated.value > most + EXACT or (known and not _agree(stated.value, most))):
        yield f"has a micro_f1 of {stated.value:.6f}, but its classes give {most:.6f}", RUN_AGAIN


def _metric_faults(result: RunResult, expected: Mapping[str, float], source: str) -> Iterator[Fault]:
    """Test metrics that differ from those that another part of the result gives."""
    for name, value in expected.items():
        stated = result.metrics["test"].get(name)
        if stated and not _agree(stated.value, value):
            yield f"has a test {name} of {stated.value:.6f}, but {value:.6f} {source}", RUN_AGAIN


def _agree(stated: float | None, expected: float | None) -> bool:
    if stated is None or expected is None:
        return stated is expected
    return abs(stated - expected) <= EXACT


def _choice_faults(result: RunResult) -> Iterator[Fault]:
    """Choices that are not among the candidates."""
    chosen = result.selection
    if chosen.C is not None and chosen.C not in [point.C for point in chosen.path]:
        yield f"has chosen C {chosen.C:g}, which is not on its path", RUN_AGAIN
    tried = [(one.rate, one.epoch) for one in chosen.history or ()]
    if chosen.history and (chosen.rate, chosen.epoch) not in tried:
        yield f"has chosen rate {chosen.rate} and epoch {chosen.epoch}, which are not in its history", RUN_AGAIN


def _interval_faults(result: RunResult) -> Iterator[Fault]:
    """Intervals that do not hold their value, or differ from those of the replicates."""
    for split, metrics in result.metrics.items():
        for name, metric in metrics.items():
            if metric.low is None or metric.high is None:
                continue
            if not metric.low <= metric.value <= metric.high:
                yield f"has a {split} {name} of {metric.value:.6f} outside of its own interval", RUN_AGAIN
    if result.resampled is None:
        return
    if not 0 < result.resampled.units <= result.counts["test"]:
        yield f"draws {result.resampled.units:,} units of {result.counts['test']:,} test samples", RUN_AGAIN
    main = result.metrics["test"][result.main_metric]
    low, high = interval(result.resampled.values)
    expected = min(low, main.value), max(high, main.value)
    found = main.low, main.high
    if None in found or max(abs(a - b) for a, b in zip(found, expected, strict=True) if a is not None) > OF_FLOAT32:
        yield f"has an interval of {result.main_metric} that is not that of its replicates", RUN_AGAIN


def _chance_faults(result: RunResult) -> Iterator[Fault]:
    """Metrics that lie below the chance level with their whole interval; only floors may."""
    if result.spec.checkpoint.is_floor:
        return
    for name, level in chance(result).items():
        value = result.metrics["test"][name]
        best = value.value if value.high is None else max(value.value, value.high)
        if best < level:
            yield (
                f"has a test {name} of {value.value:.4f}, at most {best:.4f}, which is below chance ({level:.4f})",
                f"find out why, and {RUN_AGAIN}",
            )


def chance(result: RunResult) -> dict[str, float]:
    """The chance level of those test metrics that have one.

    The share of the largest class for `accuracy`, one class of those that occur for `balanced_accuracy`, the share of
    positive sample–class pairs for `micro_map` and `macro_map`, and for `miou` the intersection over union of always
    naming the largest class, over the classes that occur. F1 has none: naming no label at all is a fair guess.
    """
    supports = [one.support for one in result.classes]
    total, largest, occurring = sum(supports), max(supports, default=0), sum(1 for one in supports if one)
    if not total:
        return {}
    pairs = len(supports) * (result.counts["test"] if result.spec.task.kind == "multilabel" else total)
    levels = {
        "accuracy": largest / total,
        "balanced_accuracy": 1 / occurring,
        "micro_map": total / pairs,
        "macro_map": total / pairs,
        "miou": largest / total / occurring,
    }
    return {name: level for name, level in levels.items() if name in result.metrics["test"]}
