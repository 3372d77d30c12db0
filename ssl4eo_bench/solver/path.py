"""Logistic regression over a path of penalties, from the strongest to the weakest.

Every head minimises `Σ loss + ‖W‖² / (2C)`; intercepts are not penalised. What makes the path fast:

- The features are rotated once into the eigenbasis of their Gram matrix, where the Hessian is nearly diagonal: every
  step of L-BFGS starts from its approximate inverse (`preconditioner`) instead of from a multiple of the identity.
- A head starts from the parabola through its last three predecessors on the path, continued to it, and with what
  L-BFGS has learnt on them, corrected for the new penalty.
- Logits are linear in the weights, so a step's line search needs one matrix product for all of its trials.

Features are float32, sums over samples that decide something are float64. Samples come in blocks, which thin matrix
products like: what belongs to samples has shape `[blocks, classes, rows]`, weights are `[classes, D + 1]`, intercept
last. Softmax couples the classes, it is one problem, and what is summed for it has shape `[1]`; with sigmoids every
class is a problem of its own, of shape `[classes]`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import log, prod
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ssl4eo_bench.solver import matmul
from ssl4eo_bench.solver.lbfgs import Memory
from ssl4eo_bench.solver.preconditioner import Preconditioner
from ssl4eo_bench.solver.standardisation import Standardisation

Family = Literal["softmax", "sigmoid"]

ROWS = 512  # of features in a block

MAX_ITERATIONS = 1000
MAX_TRIALS = 20  # of a line search
LONGEST = 10.0  # step, of a direction's length: near its end a slope is rounding, and rounding may point anywhere
STALL = 200  # iterations without a smaller gradient
DOUBT = 50  # such iterations after which what L-BFGS remembers is forgotten, and the preconditioner made anew
FAR = 0.1  # relative gradient of a start that is worse than the last head
NEGLIGIBLE = 1e-18  # probability: products of smaller ones are denormal numbers, which slow processors down
NEVER = -1e4  # the logit of a class that no sample has, for minus infinity


@dataclass(frozen=True)
class Head:
    """One solved logistic regression.

    Attributes:
        C: the penalty it was solved for.
        weights: `[C, D + 1]` for standardised features, intercept last.
        gradient: norm of the gradient where it stopped, relative to that at zero weights.
        iterations: of the solver.
        converged: whether that reached the tolerance.
        explained: by how much of the loss of the best constant prediction it lies below that, on the training samples.
    """

    C: float
    weights: Tensor
    gradient: float
    iterations: int
    converged: bool
    explained: float

    def logits(self, standardisation: Standardisation, features: np.ndarray) -> np.ndarray:
        """Logits `[N, C]` of features `[N, D]` of any split."""
        columns, intercept = self.weights[:, :-1].T, self.weights[:, -1]
        parts = [torch.addmm(intercept, rows, columns).cpu() for rows in standardisation.stream(features)]
        logits: np.ndarray = torch.cat(parts).numpy()
        return logits


def solve_path(
    standardisation: Standardisation,
    features: np.ndarray,
    targets: np.ndarray,
    family: Family,
    penalties: Sequence[float],
    *,
    classes: int,
    tolerance: float,
) -> Iterator[Head]:
    """Solve for ascending values of C, yielding each head as soon as it is done.

    Args:
        standardisation: by the training features.
        features: the training features, `[N, D]` float32 or float16.
        targets: class numbers `[N]` for softmax, indicators `[N, C]` for sigmoid.
        family: which logistic regression.
        penalties: values of C, ascending.
        classes: number of classes.
        tolerance: relative gradient norm at which a head has converged.
    """
    present = np.arange(classes)
    if family == "softmax":  # the loss falls for ever with the intercept of an absent class
        present, targets = np.unique(targets, return_inverse=True)
    spectrum, axes = _eigenbasis(standardisation, features)
    problem = _Problem(_rotated(standardisation, features, axes), spectrum, targets, family, len(present))
    problems, length = problem.flat(problem.zero).shape
    memory = Memory(problems, length, axes.device)
    solved: list[Head] = []  # the last three
    for C in penalties:
        if solved:
            memory.add_curvature((1 / C - 1 / solved[-1].C) * problem.flat(problem.penalised)[0])
        starts = [_continued(solved, C), solved[-1].weights] if solved else [problem.constant()]
        head = _minimise(problem, memory, C, starts, tolerance)
        solved = [*solved[-2:], head]
        weights = axes.new_zeros(classes, len(axes) + 1)
        weights[:, -1] = NEVER
        weights[present] = torch.cat([head.weights[:, :-1] @ axes.T, head.weights[:, -1:]], dim=1)
        yield replace(head, weights=weights)


@dataclass(frozen=True)
class _Point:
    """Weights, and what was computed at them; the gradient with that of the penalty."""

    weights: Tensor
    logits: Tensor
    gradient: Tensor


class _Problem:
    """The unpenalised loss as a function of weights, and its derivatives."""

    def __init__(self, blocks: Tensor, spectrum: Tensor, targets: np.ndarray, family: Family, classes: int) -> None:
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
        self.preconditioner = Preconditioner(blocks, spectrum, self.penalised, softmax=self._softmax)
        start = self.point(self.zero, self.logits(self.zero), 0.0).gradient
        self._initial = self.dot(start, start).sqrt().clamp_min(1e-12)  # all samples of one class: none

    def constant(self) -> Tensor:
        """Weights of the best constant prediction, as far as one sample can tell it from a certain one."""
        shares = self.targets.sum((0, 2)).clamp(0.5, self._count - 0.5) / self._count
        weights = torch.zeros_like(self.zero)
        weights[:, -1] = shares.log() - shares.log().mean() if self._softmax else shares.logit()
        return weights

    def point(self, weights: Tensor, logits: Tensor, penalty: float, probabilities: Tensor | None = None) -> _Point:
        """What there is at weights and their logits, for `penalty` = 1 / C; `probabilities` are overwritten."""
        residuals = (self.probabilities(logits) if probabilities is None else probabilities).sub_(self.targets)
        loss = torch.cat([matmul.sums(residuals, self._blocks), residuals.sum((0, 2))[:, None]], dim=1)
        return _Point(weights, logits, loss + penalty * self.penalised * weights)

    def logits(self, weights: Tensor) -> Tensor:
        """Logits."""
        return matmul.logits(weights, self._blocks)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities; zero where a row is no sample, and where they are negligible."""
        found = torch.softmax(logits, dim=1) if self._softmax else torch.sigmoid(logits)
        return functional.threshold(found.mul_(self._real), NEGLIGIBLE, 0.0, inplace=True)

    def flat(self, weights: Tensor) -> Tensor:
        """Weights with a row for each problem, `[problems, length]`."""
        return weights.reshape(1, -1) if self._softmax else weights

    def centred(self, direction: Tensor) -> Tensor:
        """A direction without what softmax does not see: a constant added to all classes uses up the logits' digits."""
        return direction - direction.mean(0) if self._softmax else direction

    def each(self, value: Tensor) -> Tensor:
        """A value of each problem, to multiply weights or logits with."""
        return value.float()[:, None]

    def dot(self, first: Tensor, second: Tensor) -> Tensor:
        """The inner product of weights, of each problem, in float64."""
        return (self.flat(first) * self.flat(second)).sum(dim=1, dtype=torch.float64)

    def over_samples(self, values: Tensor) -> Tensor:
        """The sum over samples, of each problem, in float64 but for the rows of a block, or all would be copied."""
        of_blocks = values.sum(-1)
        return of_blocks.sum(dtype=torch.float64)[None] if self._softmax else of_blocks.sum(0, dtype=torch.float64)

    def relative(self, gradient: Tensor) -> Tensor:
        """The norm of a gradient, relative to that at zero weights, of each problem."""
        return self.dot(gradient, gradient).sqrt() / self._initial

    def explained(self, logits: Tensor) -> float:
        """By how much of the loss of the best constant prediction the loss of these logits lies below it.

        McFadden's R², over all classes together.
        """
        chosen = self.over_samples(logits * self.targets).sum()
        normaliser = torch.logsumexp(logits, dim=1, keepdim=True) if self._softmax else functional.softplus(logits)
        loss = self.over_samples(normaliser * self._real).sum() - chosen
        shares = self.targets.sum((0, 2), dtype=torch.float64) / self._count
        constant = -self._count * torch.special.xlogy(shares, shares).sum()
        if not self._softmax:
            constant -= self._count * torch.special.xlogy(1 - shares, 1 - shares).sum()
        return float(1 - loss / constant) if constant > 0 else 1.0

    def curvature(self, probabilities: Tensor, direction: Tensor) -> Tensor:
        """The second derivative of each problem's loss along a direction of the logits."""
        if self._softmax:
            weighted = probabilities * direction
            mean = weighted.sum(1)
            return self.over_samples(weighted.mul_(direction).sum(1) - mean.square())
        return self.over_samples((1 - probabilities).mul_(probabilities).mul_(direction).mul_(direction))


def _continued(solved: Sequence[Head], C: float) -> Tensor:
    """The polynomial in log C through the weights of solved heads, continued to C."""
    nodes = [log(C / head.C) for head in solved]
    factors = [prod(other / (other - node) for other in nodes if other != node) for node in nodes]
    return torch.stack([factor * head.weights for factor, head in zip(factors, solved, strict=True)]).sum(0)


def _minimise(problem: _Problem, memory: Memory, C: float, starts: Sequence[Tensor], tolerance: float) -> Head:
    """Preconditioned L-BFGS from the first start that is not far off, or from the last one."""
    for weights in starts:
        # Logits are not continued from those of other heads like weights: their rounding would add up along the path.
        point = problem.point(weights, problem.logits(weights), 1 / C)
        if float(problem.relative(point.gradient).max()) < FAR:
            break
    best, smallest, since = weights, float("inf"), 0
    for iteration in range(MAX_ITERATIONS + 1):
        norm = float(problem.relative(point.gradient).max())
        since += 1
        if norm < smallest:
            best, smallest, since = point.weights, norm, 0
        # In float32 a gradient has a floor: a head that finds no smaller one for long is as good as it gets.
        if smallest <= tolerance or since == STALL or iteration == MAX_ITERATIONS:
            break
        doubtful = since % DOUBT == DOUBT - 1
        if doubtful:
            memory.forget(torch.ones_like(problem.relative(point.gradient), dtype=torch.bool))
        if doubtful or iteration == 0:
            solve = problem.preconditioner.at(problem.probabilities(point.logits), 1 / C)
        direction = problem.centred(memory.direction(point.gradient, solve))
        slope = problem.dot(point.gradient, direction)
        spoilt = ~(slope < 0)  # by rounding: uphill, or no number
        if bool(spoilt.any()):
            memory.forget(spoilt)
            direction = problem.centred(memory.direction(point.gradient, solve))
            slope = problem.dot(point.gradient, direction)
        step, logits, probabilities = _line_search(problem, point, direction, slope, 1 / C)
        weights, gradient = point.weights + step, point.gradient
        del point  # what it has of every sample, before there is more of that
        point = problem.point(weights, logits, 1 / C, probabilities)
        memory.add(problem.flat(step), problem.flat(point.gradient - gradient))
    return Head(
        C, best, smallest, iteration, converged=smallest <= tolerance, explained=problem.explained(point.logits)
    )


def _line_search(
    problem: _Problem, point: _Point, direction: Tensor, slope: Tensor, penalty: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The step along `direction` whose slope has fallen to a fifth, with the logits and probabilities after it.

    Newton's method on the slope, kept inside the interval known to hold its root.
    """
    along = problem.logits(direction)
    pull, stiffness = (
        penalty * problem.dot(vector * problem.penalised, direction) for vector in (point.weights, direction)
    )
    length = torch.ones_like(slope)
    low, high = torch.zeros_like(slope), torch.full_like(slope, float("inf"))
    for trial in range(MAX_TRIALS):
        moved = torch.addcmul(point.logits, problem.each(length), along)
        probabilities = problem.probabilities(moved)
        now = problem.over_samples((probabilities - problem.targets).mul_(along)) + pull + length * stiffness
        enough = (now.abs() <= 0.2 * slope.abs()) | ((now < 0) & (length == LONGEST))
        if bool(enough.all()) or trial == MAX_TRIALS - 1:
            break
        low, high = torch.where(now < 0, length, low), torch.where(now < 0, high, length)
        newton = length - now / (problem.curvature(probabilities, along) + stiffness)
        halved = torch.where(high.isinf(), 2 * length, (low + high) / 2)
        tried = torch.where((newton > low) & (newton < high), newton, halved)
        length = torch.where(enough, length, tried.clamp_max(LONGEST))
    return problem.each(length) * direction, moved, probabilities


def _eigenbasis(standardisation: Standardisation, features: np.ndarray) -> tuple[Tensor, Tensor]:
    """The eigenvalues of the features' Gram matrix, ascending, with their number for the intercept, and its axes.

    The axes, `[D, K]`, leave out what no feature has a part in: constant features, and more axes than samples.
    """
    count, width = features.shape
    gram = torch.zeros(width, width, dtype=torch.float64, device=standardisation.mean.device)
    for rows in standardisation.stream(features):
        gram += (rows.T @ rows).double()
    varying = torch.nonzero(gram.diagonal() > 0.5 * count).flatten()  # standardised, they have a square norm of `count`
    eigenvalues, vectors = torch.linalg.eigh(gram[varying][:, varying])
    axes = gram.new_zeros(width, len(varying)).index_copy_(0, varying, vectors)[:, -count:]
    return torch.cat([eigenvalues[-count:].clamp_min(0), eigenvalues.new_tensor([count])]).float(), axes.float()


def _rotated(standardisation: Standardisation, features: np.ndarray, axes: Tensor) -> Tensor:
    """The features in blocks `[B, ROWS, K]`, rotated to the K axes; rows of zeros fill the last block."""
    count = len(features)
    blocks = torch.zeros(-(-count // ROWS), ROWS, axes.shape[1], device=axes.device)
    for block, rows in zip(blocks, standardisation.stream(features, ROWS), strict=True):
        torch.mm(rows, axes, out=block[: len(rows)])
    return blocks
