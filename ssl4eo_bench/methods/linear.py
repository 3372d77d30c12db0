"""Linear probing: fit on train, choose the penalty on val, score any split with the chosen head."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from ssl4eo_bench import progress
from ssl4eo_bench.config.protocols import Linear
from ssl4eo_bench.config.task import MAIN_METRIC, Kind
from ssl4eo_bench.metrics.evaluation import Thresholds, tune_thresholds
from ssl4eo_bench.metrics.ranking import Ranking
from ssl4eo_bench.metrics.segmentation import confusion_matrix, mean_iou
from ssl4eo_bench.solver.path import Head, solve_path
from ssl4eo_bench.solver.standardisation import Standardisation

FIT_VERSION = 5
"""Bumped when the code of the solver or of the choice of C changes what it computes."""
LEARNT = 0.1
"""Share of the loss that a head must explain to be chosen, and before a lack of improvement can stop the path: what val
does under penalties too strong for anything to be learnt is chance."""
DRAWS = 100
"""Resamples of a confusion matrix that the standard error of mIoU is estimated from."""
SMALL = 1 << 21
"""Values in a design matrix up to which one thread is faster: more would mostly wait for each other."""


@dataclass(frozen=True)
class PathPoint:
    """One value of C: the main metric and the mean loss on `val`, and how the solver got there."""

    C: float
    val: float
    loss: float
    gradient: float
    iterations: int


@dataclass(frozen=True)
class LinearProbe:
    """The chosen head and how it was chosen.

    Attributes:
        kind: of the task.
        standardisation: by the training features.
        head: the chosen one.
        path: every value of C that was solved, ascending.
        error: of the best main metric on `val`, within which the lower loss decided.
        thresholds: for multilabel, chosen on `val`.
        warnings: what a reader of the result should know.
    """

    kind: Kind
    standardisation: Standardisation
    head: Head
    path: tuple[PathPoint, ...]
    error: float
    thresholds: Thresholds | None
    warnings: tuple[str, ...]

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Class probabilities `[N, C]` float64 of features `[N, D]`."""
        return to_probabilities(self.head.logits(self.standardisation, features), self.kind)


def fit_linear(
    protocol: Linear,
    kind: Kind,
    classes: int,
    train: tuple[np.ndarray, np.ndarray],
    val: tuple[np.ndarray, np.ndarray],
    *,
    device: str,
    full_path: bool = False,
) -> LinearProbe:
    """Fit the probe.

    Args:
        protocol: its settings.
        kind: multilabel fits independent sigmoids; multiclass, and segmentation with a pixel a row, a softmax.
        classes: number of classes, also those without training samples.
        train: features `[N, D]`, float32 or float16, and targets, `[N]` or `[N, C]`.
        val: the same of the validation split, on which C is chosen.
        device: where to solve.
        full_path: solve the points behind the stop, too. They cannot be chosen, so no number depends on it.
    """
    with _threads_for(train[0]):
        standardisation = Standardisation.of(train[0], torch.device(device))
        metric = main_metric(kind, val[1])
        grid = protocol.grid()
        points: list[PathPoint] = []
        candidates: list[tuple[Head, PathPoint]] = []
        unconverged = since_best = 0
        best = -1.0
        with progress.stage(f"linear probe, up to {len(grid)} penalties", total=len(grid), unit="heads") as advance:
            for head in solve_path(
                standardisation,
                train[0],
                train[1],
                "sigmoid" if kind == "multilabel" else "softmax",
                grid,
                classes=classes,
                tolerance=protocol.tolerance,
            ):
                logits = head.logits(standardisation, val[0])
                value = metric(logits)
                points.append(PathPoint(head.C, value, mean_loss(kind, logits, val[1]), head.gradient, head.iterations))
                unconverged += not head.converged
                if since_best < protocol.patience:
                    candidates.append((head, points[-1]))
                if head.explained >= LEARNT:
                    since_best = 0 if value > best and since_best < protocol.patience else since_best + 1
                    best = max(best, value)
                advance(1)
                if since_best >= protocol.patience and not full_path:
                    break
            advance(len(grid) - len(points))
        learnt = [candidate for candidate in candidates if candidate[0].explained >= LEARNT] or candidates
        top, highest = max(learnt, key=lambda candidate: candidate[1].val)
        error = standard_error(kind, top.logits(standardisation, val[0]), val[1])
        near = [candidate for candidate in learnt if candidate[1].val >= highest.val - error]
        head, _ = min(near, key=lambda candidate: candidate[1].loss)
        tuned = None
        if kind == "multilabel":
            tuned = tune_thresholds(to_probabilities(head.logits(standardisation, val[0]), kind), val[1])
        return LinearProbe(
            kind=kind,
            standardisation=standardisation,
            head=head,
            path=tuple(points),
            error=error,
            thresholds=tuned,
            warnings=_warnings(head, grid, unconverged),
        )


@contextmanager
def _threads_for(features: np.ndarray) -> Iterator[None]:
    usual = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if features.size <= SMALL else usual)
        yield
    finally:
        torch.set_num_threads(usual)


def main_metric(kind: Kind, targets: np.ndarray) -> Callable[[np.ndarray], float]:
    """The task's main metric as a function of logits."""
    if MAIN_METRIC[kind] == "miou":
        return lambda logits: float(mean_iou(confusion_matrix(targets, logits.argmax(axis=1), logits.shape[1])))
    if MAIN_METRIC[kind] == "accuracy":
        return lambda logits: float((logits.argmax(axis=1) == targets).mean())
    ones = np.ones((1, len(targets)))
    return lambda logits: float(Ranking(to_probabilities(logits, kind), targets).average_precision(ones)[0])


def mean_loss(kind: Kind, logits: np.ndarray, targets: np.ndarray) -> float:
    """The mean cross-entropy of logits `[N, C]`: over samples, or over sample–class pairs for multilabel."""
    exact = torch.from_numpy(logits).double()
    if kind == "multilabel":
        loss = functional.binary_cross_entropy_with_logits(exact, torch.from_numpy(targets).double())
    else:
        loss = functional.cross_entropy(exact, torch.from_numpy(targets).long())
    return float(loss)


def standard_error(kind: Kind, logits: np.ndarray, targets: np.ndarray) -> float:
    """The standard error of a main metric that has plateaus, of logits `[N, C]`; zero for one that has none.

    Accuracy and mIoU see only which class is first. Average precision moves with every score, and its best point is
    better than a near one with a lower loss. Samples, or pixels, are taken as independent.
    """
    if MAIN_METRIC[kind] == "micro_map":
        return 0.0
    if MAIN_METRIC[kind] == "accuracy":
        accuracy = float((logits.argmax(axis=1) == targets).mean())
        return float(np.sqrt(accuracy * (1 - accuracy) / len(targets)))
    classes = logits.shape[1]
    counts = confusion_matrix(targets, logits.argmax(axis=1), classes)
    drawn = np.random.default_rng(0).multinomial(counts.sum(), counts.ravel() / counts.sum(), size=DRAWS)
    return float(np.std(mean_iou(drawn.reshape(DRAWS, classes, classes)), ddof=1))


def to_probabilities(logits: np.ndarray, kind: Kind) -> np.ndarray:
    """Class probabilities float64 of logits, both `[N, C]`."""
    exact = torch.from_numpy(logits).double()
    activated = torch.sigmoid(exact) if kind == "multilabel" else torch.softmax(exact, dim=1)
    probabilities: np.ndarray = activated.numpy()
    return probabilities


def _warnings(chosen: Head, grid: tuple[float, ...], unconverged: int) -> tuple[str, ...]:
    warnings = []
    if chosen.explained < LEARNT:
        warnings.append(
            f"no penalty lets the linear head explain a tenth of the training loss (C {chosen.C:g} explains "
            f"{chosen.explained:.1%}): next to nothing was learnt from these features"
        )
    if chosen.C in (grid[0], grid[-1]):
        warnings.append(f"the chosen C, {chosen.C:g}, lies on the edge of the grid")
    if unconverged:
        warnings.append(f"{unconverged} of the penalties stopped before their gradient was small enough")
    return tuple(warnings)
