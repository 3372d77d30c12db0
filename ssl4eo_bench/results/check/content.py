"""What a single result must fulfil beyond being valid: official samples, counts that add up, metrics above chance."""

from collections.abc import Callable, Iterator

from ssl4eo_bench.errors import UnknownNameError
from ssl4eo_bench.results.files import RunResult
from ssl4eo_bench.spec import catalogue
from ssl4eo_bench.spec.tasks import SPLITS, Split, Task
from ssl4eo_bench.spec.weights import RandomWeights

RUN_AGAIN = "run it again, or remove it"

Fault = tuple[str, str]
"""What is wrong, and the cure."""


def known_task(result: RunResult) -> Task | None:
    """The task of a result; none for one that is not in the catalogue."""
    try:
        return catalogue.task(result.spec.task.name)
    except UnknownNameError:
        return None


def content_faults(result: RunResult) -> Iterator[Fault]:
    """All that is wrong with a valid result, whatever other results there are."""
    if task := known_task(result):
        yield from _task_faults(result, task)
    yield from _count_faults(result)
    yield from _chance_faults(result)


def _task_faults(result: RunResult, task: Task) -> Iterator[Fault]:
    """What is not as the catalogue has it; it knows the current version of a task alone."""
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
    if spec.partial or spec.limit:
        return
    official = task.sample.splits if spec.sample else task.splits
    for name in SPLITS:
        found, expected = spec.task.splits[name], official[name]
        if expected.count is not None and expected.count != found.count:
            yield f"has {found.count:,} {name} samples, but the official split has {expected.count:,}", RUN_AGAIN
        elif isinstance(expected, Split) and expected.digest != found.digest:
            yield f"has other {name} samples than the official split (their digests differ)", RUN_AGAIN
        elif not spec.sample and found != expected and found == task.sample.splits[name]:
            yield f"has the {name} samples of the embedded sample, but does not say so", RUN_AGAIN


def _count_faults(result: RunResult) -> Iterator[Fault]:
    """Where supports, confusions and accuracy do not give the same counts."""
    supports = [one.support for one in result.classes]
    samples, kind = result.counts["test"], result.spec.task.kind
    if kind == "multiclass" and sum(supports) != samples:
        yield f"has classes of {sum(supports):,} samples together, but {samples:,} test samples", RUN_AGAIN
    if kind == "multilabel" and max(supports, default=0) > samples:
        yield f"has a class of {max(supports):,} samples, but {samples:,} test samples", RUN_AGAIN
    if result.confusion is None:
        return
    square = all(len(row) == len(supports) for row in result.confusion)
    if not square or [sum(row) for row in result.confusion] != supports:
        yield "has a confusion matrix whose rows are not its classes' samples", RUN_AGAIN
        return
    accuracy = sum(row[number] for number, row in enumerate(result.confusion)) / max(sum(supports), 1)
    stated = result.metrics["test"].get("accuracy")
    if stated and abs(stated.value - accuracy) > 1e-9:
        yield f"has an accuracy of {stated.value:.6f}, but {accuracy:.6f} in its confusion matrix", RUN_AGAIN


def _chance_faults(result: RunResult) -> Iterator[Fault]:
    """Metrics that lie below what guessing gives, with all of their interval.

    Floors may: a network that learned nothing is there to show how little that gives.
    """
    weights = result.spec.checkpoint.weights
    if weights is None or isinstance(weights, RandomWeights):
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
    """What guessing gives on the test split, for those test metrics that have such a level.

    The share of the largest class for `accuracy`, one class of those that occur for `balanced_accuracy`, the share of
    positive sample–class pairs for `micro_map` and `macro_map`, and for `miou` the intersection over union of always
    naming the largest class, over the classes that occur. F1 has none: naming no label at all is a fair guess.
    """
    supports = [one.support for one in result.classes]
    total, largest, occurring = sum(supports), max(supports, default=0), sum(1 for one in supports if one)
    if not total:
        return {}
    pairs = len(supports) * (result.counts["test"] if result.spec.task.kind == "multilabel" else total)
    levels: dict[str, Callable[[], float]] = {
        "accuracy": lambda: largest / total,
        "balanced_accuracy": lambda: 1 / occurring,
        "micro_map": lambda: total / pairs,
        "macro_map": lambda: total / pairs,
        "miou": lambda: largest / total / occurring,
    }
    return {name: level() for name, level in levels.items() if name in result.metrics["test"]}
