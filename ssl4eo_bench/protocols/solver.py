"""Logistic regression over a path of penalties, from the strongest to the weakest.

Every head minimises `Σ loss + ‖W‖² / (2C)`; intercepts are not penalised. What makes the path fast:

- In the eigenbasis of the features' Gram matrix the Hessian of the loss is close to `S ⊗ Λ`, with the eigenvalues Λ
  and the mean over samples of the curvature between classes S (`diag(p) - p pᵀ` for softmax, `p (1 - p)` for
  sigmoids). With the penalty added it stays diagonal up to a rotation of the classes, so inverting it costs next to
  nothing, and every step of L-BFGS starts from it instead of from a multiple of the identity. Böhning's bound (Ann.
  Inst. Stat. Math. 44, 1992) has the largest possible S in its place, which is far too large once a head is confident.
- A head starts from the parabola through its three predecessors on the path, continued to it, and with what L-BFGS
  has learnt on them, corrected for the new penalty.
- Logits are linear in the weights: a start needs no matrix product, and a step's line search one for all of its trials.

Features are float32, sums over samples that decide something are float64. Samples come in blocks, which thin matrix
products like: what belongs to samples has shape `[blocks, classes, rows]`, weights are `[classes, D + 1]`, intercept
last. Softmax couples the classes, it is one problem, and what is summed for it has shape `[1]`; with sigmoids every
class is a problem of its own, of shape `[classes]`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import log, prod
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ssl4eo_bench.protocols.memory import Memory
from ssl4eo_bench.protocols.standardisation import Standardisation

Family = Literal["softmax", "sigmoid"]

MAX_ITERATIONS = 1000
MAX_TRIALS = 20  # of a line search
STALL = 200  # iterations without a smaller gradient


@dataclass(frozen=True)
class Head:
    """One solved logistic regression.

    Attributes:
        C: the penalty it was solved for.
        weights: `[C, D + 1]` for standardised features, intercept last.
        gradient: norm of the gradient where it stopped, relative to that at zero weights.
        iterations: of the solver.
        converged: whether that reached the tolerance.
    """

    C: float
    weights: Tensor
    gradient: float
    iterations: int
    converged: bool

    def logits(self, standardisation: Standardisation, features: np.ndarray) -> np.ndarray:
        """Logits `[N, C]` of features `[N, D]` of any split."""
        columns, intercept = self.weights[:, :-1].T, self.weights[:, -1]
        parts = [torch.addmm(intercept, rows, columns).cpu() for rows in standardisation.stream(features)]
        logits: np.ndarray = torch.cat(parts).numpy()
        return logits


def solve_path(
    blocks: Tensor,
    targets: np.ndarray,
    family: Family,
    penalties: Sequence[float],
    *,
    classes: int,
    tolerance: float,
) -> Iterator[Head]:
    """Solve for ascending values of C, yielding each head as soon as it is done.

    Args:
        blocks: standardised training features `[B, R, D]`, as `Standardisation.blocks` gives them.
        targets: class numbers `[N]` for softmax, indicators `[N, C]` for sigmoid.
        family: which logistic regression.
        penalties: values of C, ascending.
        classes: number of classes.
        tolerance: relative gradient norm at which a head has converged.
    """
    problem = _Problem(blocks, targets, family, classes)
    problems, length = problem.flat(problem.zero).shape
    memory = Memory(problems, length, blocks.device)
    solved: list[tuple[float, Tensor, Tensor]] = []  # log C, weights and logits of the last three
    for number, C in enumerate(penalties):
        weights, logits = _continued(solved, log(C)) if solved else (problem.zero, problem.logits(problem.zero))
        if solved:
            memory.add_curvature((1 / C - 1 / penalties[number - 1]) * problem.flat(problem.penalised)[0])
        head, logits = _minimise(problem, memory, C, weights, logits, tolerance)
        solved = [*solved[-2:], (log(C), head.weights, logits)]
        yield head


class _Problem:
    """The unpenalised loss as a function of weights, and its derivatives."""

    def __init__(self, blocks: Tensor, targets: np.ndarray, family: Family, classes: int) -> None:
        self._blocks = blocks
        self._softmax = family == "softmax"
        number, rows, width = blocks.shape
        indicators = torch.from_numpy(np.eye(classes, dtype=np.float32)[targets] if self._softmax else targets)
        filled = functional.pad(indicators.float().to(blocks.device), (0, 0, 0, number * rows - len(targets)))
        self.targets = filled.view(number, rows, classes).mT.contiguous()
        # A row that only fills the last block has no probability of any class, and adds nothing to any sum.
        self._real = (torch.arange(number * rows, device=blocks.device) < len(targets)).float().view(number, 1, rows)
        self.zero = blocks.new_zeros(classes, width + 1)
        self.penalised = torch.ones_like(self.zero)
        self.penalised[:, -1] = 0.0
        self._count = len(targets)
        self._spectrum, self._axes = _eigenbasis(blocks, self._count)
        start = self.gradient(self.probabilities(self.logits(self.zero)) - self.targets)
        self._initial = self.dot(start, start).sqrt()

    def logits(self, weights: Tensor) -> Tensor:
        """Logits."""
        return (weights[:, :-1] @ self._blocks.mT).add_(weights[:, -1:])

    def gradient(self, residuals: Tensor) -> Tensor:
        """The gradient for residuals `p - y`."""
        return torch.cat([(residuals @ self._blocks).sum(0), residuals.sum((0, 2))[:, None]], dim=1)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities; zero where a row is no sample."""
        return (torch.softmax(logits, dim=1) if self._softmax else torch.sigmoid(logits)).mul_(self._real)

    def flat(self, weights: Tensor) -> Tensor:
        """Weights with a row for each problem, `[problems, length]`."""
        return weights.reshape(1, -1) if self._softmax else weights

    def each(self, value: Tensor) -> Tensor:
        """A value of each problem, to multiply weights or logits with."""
        return value.float()[:, None]

    def dot(self, first: Tensor, second: Tensor) -> Tensor:
        """The inner product of weights, of each problem, in float64."""
        return (self.flat(first) * self.flat(second)).sum(dim=1, dtype=torch.float64)

    def over_samples(self, values: Tensor) -> Tensor:
        """The sum over samples, of each problem, in float64."""
        return values.sum(dtype=torch.float64)[None] if self._softmax else values.sum((0, 2), dtype=torch.float64)

    def relative(self, gradient: Tensor) -> float:
        """The norm of a gradient, relative to that at zero weights; of sigmoids, of the class where it is largest."""
        return float((self.dot(gradient, gradient).sqrt() / self._initial).max())

    def curvature(self, probabilities: Tensor, direction: Tensor) -> Tensor:
        """The second derivative of each problem's loss along a direction of the logits."""
        weighted = probabilities * direction
        if self._softmax:
            return self.over_samples((weighted * direction).sum(1) - weighted.sum(1).square())
        return self.over_samples(weighted * (1 - probabilities) * direction)

    def preconditioner(self, probabilities: Tensor, penalty: float) -> Callable[[Tensor], Tensor]:
        """Multiplies weights with the approximate inverse Hessian at these probabilities, for `penalty` = 1 / C."""
        if self._softmax:
            between = torch.diag(probabilities.sum((0, 2))) - (probabilities @ probabilities.mT).sum(0)
            values, axes = torch.linalg.eigh(between.double() / self._count)
            # Adding one constant to all classes changes nothing: that direction has no curvature to divide by.
            values = values.clamp_min(1e-4 * values.max())
        else:
            values = (probabilities * (1 - probabilities)).sum((0, 2), dtype=torch.float64) / self._count
            values, axes = values.clamp_min(1e-12), torch.eye(len(values), device=values.device)
        rotation = axes.float()
        diagonal = values.float()[:, None] * self._spectrum + penalty * self.penalised

        def solve(weights: Tensor) -> Tensor:
            rotated = rotation.T @ torch.cat([weights[:, :-1] @ self._axes, weights[:, -1:]], dim=1)
            solved = rotation @ (rotated / diagonal)
            return torch.cat([solved[:, :-1] @ self._axes.T, solved[:, -1:]], dim=1)

        return solve


def _minimise(
    problem: _Problem, memory: Memory, C: float, weights: Tensor, logits: Tensor, tolerance: float
) -> tuple[Head, Tensor]:
    """Preconditioned L-BFGS from weights and their logits; the head and its logits."""
    penalty = 1 / C
    probabilities = problem.probabilities(logits)
    gradient = problem.gradient(probabilities - problem.targets) + penalty * problem.penalised * weights
    best, smallest, best_logits, since = weights, float("inf"), logits, 0
    for iteration in range(MAX_ITERATIONS + 1):
        norm = problem.relative(gradient)
        since += 1
        if norm < smallest:
            best, smallest, best_logits, since = weights, norm, logits, 0
        # In float32 a gradient has a floor: a head that finds no smaller one for long is as good as it gets.
        if smallest <= tolerance or since == STALL or iteration == MAX_ITERATIONS:
            break
        solve = problem.preconditioner(probabilities, penalty)
        direction = memory.direction(gradient, solve)
        slope = problem.dot(gradient, direction)
        if bool((slope >= 0).any()):  # rounding has spoilt the memory
            memory.forget(slope >= 0)
            direction = memory.direction(gradient, solve)
            slope = problem.dot(gradient, direction)
        step, logits, probabilities = _line_search(problem, weights, logits, direction, slope, penalty)
        weights = weights + step
        changed = problem.gradient(probabilities - problem.targets) + penalty * problem.penalised * weights
        memory.add(problem.flat(step), problem.flat(changed - gradient))
        gradient = changed
    return Head(C, best, smallest, iteration, converged=smallest <= tolerance), best_logits


def _line_search(
    problem: _Problem, weights: Tensor, logits: Tensor, direction: Tensor, slope: Tensor, penalty: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The step along `direction` whose slope has fallen to a fifth, with the logits and probabilities after it.

    Newton's method on the slope, kept inside the interval known to hold its root.
    """
    along = problem.logits(direction)
    pull, stiffness = (penalty * problem.dot(vector * problem.penalised, direction) for vector in (weights, direction))
    length = torch.ones_like(slope)
    low, high = torch.zeros_like(slope), torch.full_like(slope, float("inf"))
    for trial in range(MAX_TRIALS):
        moved = logits + problem.each(length) * along
        probabilities = problem.probabilities(moved)
        now = problem.over_samples((probabilities - problem.targets) * along) + pull + length * stiffness
        enough = now.abs() <= 0.2 * slope.abs()
        if bool(enough.all()) or trial == MAX_TRIALS - 1:
            break
        low, high = torch.where(now < 0, length, low), torch.where(now < 0, high, length)
        newton = length - now / (problem.curvature(probabilities, along) + stiffness)
        halved = torch.where(high.isinf(), 2 * length, (low + high) / 2)
        length = torch.where(enough, length, torch.where((newton > low) & (newton < high), newton, halved))
    return problem.each(length) * direction, moved, probabilities


def _continued(solved: Sequence[tuple[float, Tensor, Tensor]], place: float) -> tuple[Tensor, Tensor]:
    """The polynomial through the weights of solved heads, at `place` = log C, and its logits."""
    nodes = [node for node, _, _ in solved]
    factors = [prod((place - other) / (node - other) for other in nodes if other != node) for node in nodes]
    weights = torch.stack([factor * known for factor, (_, known, _) in zip(factors, solved, strict=True)])
    logits = torch.stack([factor * known for factor, (_, _, known) in zip(factors, solved, strict=True)])
    return weights.sum(0), logits.sum(0)


def _eigenbasis(blocks: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The eigenvalues of the features' Gram matrix, with `count` for the intercept, and its eigenvectors."""
    width = blocks.shape[2]
    gram = torch.zeros(width, width, dtype=torch.float64, device=blocks.device)
    for start in range(0, len(blocks), 4):
        rows = blocks[start : start + 4].reshape(-1, width)
        gram += (rows.T @ rows).double()
    eigenvalues, vectors = torch.linalg.eigh(gram)
    return torch.cat([eigenvalues.clamp_min(0).float(), blocks.new_tensor([float(count)])]), vectors.float()
