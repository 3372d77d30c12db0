"""Linear probing: fit on train, choose the penalty on val, score any split with the chosen head."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from ssl4eo_bench import progress
from ssl4eo_bench.config.protocols import Linear
from ssl4eo_bench.config.records import PathPoint, Selection
from ssl4eo_bench.extraction.problem import Problem
from ssl4eo_bench.files.places import is_read_only
from ssl4eo_bench.labels import labels_of
from ssl4eo_bench.labels.base import Labels, Rows
from ssl4eo_bench.methods import probe_cache
from ssl4eo_bench.methods.predictor import Predictor
from ssl4eo_bench.solver.path import Data, Head, solve_path

FIT_VERSION = 5
"""Raised when the code of the solver or of the choice of C changes what it computes."""
LEARNT = 0.1
"""Share of the loss that a head must explain to be chosen, and before a lack of improvement can stop the path: under
penalties so strong that nothing is learnt, val changes by chance."""
SMALL = 1 << 21
"""Values in a design matrix up to which one thread is faster: more would mostly wait for each other."""


@dataclass(frozen=True)
class LinearProbe:
    """The chosen head and how it was chosen.

    Attributes:
        path: every value of C that was solved, ascending.
        error: standard error of the best main metric on `val`, within which the lower loss decided.
        warnings: what a reader of the result should know.
    """

    head: Head
    path: tuple[PathPoint, ...]
    error: float
    warnings: tuple[str, ...]

    def selection(self, metric: str) -> Selection:
        """Return the record of the choice by a metric."""
        return Selection(metric=metric, C=self.head.C, path=self.path, error=self.error)


def fit_linear(problem: Problem, protocol: Linear) -> Predictor:
    """Fit the linear probe of a problem."""
    labels = labels_of(problem.job.task.kind)
    train, val = labels.rows(problem, "train"), labels.rows(problem, "val")
    probe = probed(problem, protocol, train, val)
    choice = probe.selection(problem.job.task.main_metric)
    scorer = labels.head_scorer(problem, probe.head, val)
    return Predictor(scorer, choice, probe.warnings, train.ids, (train.origin, val.origin))


def probed(problem: Problem, protocol: Linear, train: Rows, val: Rows) -> LinearProbe:
    """Return the linear probe on rows, from the cache if it was fitted before on the same rows."""
    kind, classes, context = problem.job.task.kind, len(problem.job.task.classes), problem.context
    given = {"protocol": protocol.model_dump(), "kind": kind, "classes": classes, "full_path": context.full_path}
    arrays = (train.features, train.targets, val.features, val.targets)
    file = probe_cache.place(context.cache_dir, given | {"fit": FIT_VERSION, "device": context.device}, arrays)
    if found := probe_cache.read(file, context.device):
        progress.note("linear probe: fitted before on the same features, read from the cache")
        return LinearProbe(**found)
    data = Data(train.features, train.targets, classes)
    fitted = fit_probe(
        protocol, labels_of(kind), data, (val.features, val.targets), device=context.device, full_path=context.full_path
    )
    if not is_read_only(context.cache_dir):
        probe_cache.write(file, **vars(fitted))
    return fitted


def fit_probe(
    protocol: Linear,
    labels: Labels,
    train: Data,
    val: tuple[np.ndarray, np.ndarray],
    *,
    device: str,
    full_path: bool = False,
) -> LinearProbe:
    """Return the probe with the best penalty, which is chosen on features and targets of `val`.

    The points behind the stop are solved with `full_path` alone. They cannot be chosen, so no number depends on it.
    """
    grid, points, candidates = protocol.grid(), list[PathPoint](), list[tuple[Head, PathPoint]]()
    unconverged = since_best = 0
    best = -1.0
    with (
        _threads_for(train.features),
        progress.stage(f"linear probe, up to {len(grid)} penalties", total=len(grid), unit="heads") as advance,
    ):
        for head in solve_path(labels.loss, train, grid, tolerance=protocol.tolerance, device=device):
            points.append(_point(labels, head, *val))
            unconverged += not head.converged
            if since_best < protocol.patience:
                candidates.append((head, points[-1]))
            if head.explained >= LEARNT:
                improved = points[-1].val > best and since_best < protocol.patience
                since_best = 0 if improved else since_best + 1
                best = max(best, points[-1].val)
            advance(1)
            if since_best >= protocol.patience and not full_path:
                break
        advance(len(grid) - len(points))
        chosen, error = _chosen(labels, candidates, *val)
    return LinearProbe(chosen, tuple(points), error, _warnings(chosen, grid, unconverged))


def _point(labels: Labels, head: Head, features: np.ndarray, targets: np.ndarray) -> PathPoint:
    logits = head.logits(features)
    return PathPoint(
        C=head.C,
        val=labels.main_metric(logits, targets),
        loss=labels.mean_loss(logits, targets),
        gradient=head.gradient,
        iterations=head.iterations,
    )


def _chosen(
    labels: Labels, candidates: list[tuple[Head, PathPoint]], features: np.ndarray, targets: np.ndarray
) -> tuple[Head, float]:
    """Return the head with the lowest loss within one standard error of the best metric, and that error.

    Heads that explain nothing are chosen only where no head explains anything.
    """
    learnt = [candidate for candidate in candidates if candidate[0].explained >= LEARNT] or candidates
    top, highest = max(learnt, key=lambda candidate: candidate[1].val)
    error = labels.standard_error(top.logits(features), targets)
    near = [candidate for candidate in learnt if candidate[1].val >= highest.val - error]
    return min(near, key=lambda candidate: candidate[1].loss or 0.0)[0], error


@contextmanager
def _threads_for(features: np.ndarray) -> Iterator[None]:
    usual = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if features.size <= SMALL else usual)
        yield
    finally:
        torch.set_num_threads(usual)


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
