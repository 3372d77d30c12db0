"""Logistic regression over a path of penalties, from the strongest to the weakest.

Every head minimises `Σ loss + ‖W‖² / (2C)`; intercepts are not penalised. What makes the path fast:

- The features are rotated once into the eigenbasis of their Gram matrix, where the Hessian is nearly diagonal: every
  step of L-BFGS starts from its approximate inverse (`preconditioner`) instead of a multiple of the identity.
- A head starts from the parabola through the last three heads of the path, continued to its penalty, and from the
  L-BFGS history of these heads, corrected for the new penalty.
- Logits are linear in the weights, so all trials of a line search need one matrix product.

Features are float32; sums over samples that decide something are float64. Samples come in blocks, which thin matrix
products prefer: values of samples have shape `[blocks, classes, rows]`, weights `[classes, D + 1]` with the intercept
last. `losses` says what a problem is: all classes together for softmax, each class for sigmoids.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import log, prod

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ssl4eo_bench.solver import matmul
from ssl4eo_bench.solver.lbfgs import History
from ssl4eo_bench.solver.losses import Loss, Softmax
from ssl4eo_bench.solver.preconditioner import Preconditioner
from ssl4eo_bench.solver.standardisation import Standardisation

ROWS = 512  # of features in a block

MAX_ITERATIONS = 1000
MAX_TRIALS = 20  # of a line search
LONGEST = 10.0  # step, relative to its direction: near its end a slope is rounding, and rounding may point anywhere
STALL = 200  # iterations without a smaller gradient
RESET = 50  # such iterations after which the L-BFGS history is cleared and the preconditioner computed again
FAR = 0.1  # relative gradient of a start that is worse than the last head
NEGLIGIBLE = 1e-18  # probability: products of smaller ones are denormal numbers, which slow processors down
ABSENT = -1e4  # the logit of a class without samples, instead of minus infinity


@dataclass(frozen=True)
class Head:
    """One solved logistic regression.

    Attributes:
        C: the penalty it was solved for.
        weights: `[C, D + 1]` for standardised features, intercept last.
        gradient: norm of the gradient where the solver stopped, relative to that at zero weights.
        converged: whether the gradient reached the tolerance.
        explained: McFadden's R² on the training samples: 1 - loss / loss of the best constant prediction.
    """

    standardisation: Standardisation
    C: float
    weights: Tensor
    gradient: float
    iterations: int
    converged: bool
    explained: float

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Return logits `[N, C]` of features `[N, D]` of any split."""
        columns, intercept = self.weights[:, :-1].T, self.weights[:, -1]
        parts = [torch.addmm(intercept, rows, columns).cpu() for rows in self.standardisation.stream(features)]
        return torch.cat(parts).numpy()

    def unstandardised(self) -> tuple[Tensor, Tensor]:
        """Return weights `[C, D]` and intercepts `[C]` for features that are not standardised."""
        weights = self.weights[:, :-1] / self.standardisation.scale
        return weights, self.weights[:, -1] - weights @ self.standardisation.mean


@dataclass(frozen=True)
class Data:
    """What heads are fitted on: features `[N, D]` (float32 or float16), targets as the loss wants them."""

    features: np.ndarray
    targets: np.ndarray
    classes: int


def solve_path(loss: Loss, data: Data, penalties: Sequence[float], *, tolerance: float, device: str) -> Iterator[Head]:
    """Solve for ascending values of C and yield each head when it is done.

    A head has converged when the norm of its gradient, relative to that at zero weights, is at most `tolerance`.
    """
    standardisation = Standardisation.of(data.features, torch.device(device))
    present, targets = np.arange(data.classes), data.targets
    if isinstance(loss, Softmax):  # the loss would fall without end with the intercept of an absent class
        present, targets = np.unique(targets, return_inverse=True)
    spectrum, axes = _eigenbasis(standardisation, data.features)
    blocks = _rotated(standardisation, data.features, axes)
    problem = _Problem(loss, blocks, spectrum, loss.indicators(targets, len(present)))
    problems, length = loss.by_problem(problem.zero).shape
    history = History(problems, length, axes.device)
    solved: list[Head] = []  # the last three
    for C in penalties:
        if solved:
            history.add_curvature((1 / C - 1 / solved[-1].C) * loss.by_problem(problem.penalised)[0])
        starts = [_extrapolated(solved, C), solved[-1].weights] if solved else [problem.constant()]
        head = _minimise(problem, history, starts, Head(standardisation, C, starts[-1], 0.0, 0, False, 0.0), tolerance)
        solved = [*solved[-2:], head]
        weights = axes.new_zeros(data.classes, len(axes) + 1)
        weights[:, -1] = ABSENT
        weights[present] = torch.cat([head.weights[:, :-1] @ axes.T, head.weights[:, -1:]], dim=1)
        yield replace(head, weights=weights)


@dataclass(frozen=True)
class _Point:
    """Weights, their logits, and the gradient there with that of the penalty."""

    weights: Tensor
    logits: Tensor
    gradient: Tensor


class _Problem:
    """The unpenalised loss as a function of weights, and its derivatives."""

    def __init__(self, loss: Loss, blocks: Tensor, spectrum: Tensor, indicators: np.ndarray) -> None:
        self.loss = loss
        self._blocks = blocks
        number, rows, width = blocks.shape
        self._count, classes = indicators.shape
        given = torch.from_numpy(indicators).float().to(blocks.device)
        filled = functional.pad(given, (0, 0, 0, number * rows - self._count))
        self.targets = filled.view(number, rows, classes).mT.contiguous()
        # A row that only fills the last block has no probability of any class, and adds nothing to any sum.
        self._real = (torch.arange(number * rows, device=blocks.device) < self._count).float().view(number, 1, rows)
        self.zero = blocks.new_zeros(classes, width + 1)
        self.penalised = torch.ones_like(self.zero)
        self.penalised[:, -1] = 0.0
        self.preconditioner = Preconditioner(loss, blocks, spectrum, self.penalised)
        start = self.point(self.zero, self.logits(self.zero), 0.0).gradient
        self._initial = self.dot(start, start).sqrt().clamp_min(1e-12)  # zero if all samples are of one class

    def constant(self) -> Tensor:
        """Return weights of the best constant prediction, kept off certainty by half a sample."""
        shares = self.targets.sum((0, 2)).clamp(0.5, self._count - 0.5) / self._count
        weights = torch.zeros_like(self.zero)
        weights[:, -1] = self.loss.constant(shares)
        return weights

    def point(self, weights: Tensor, logits: Tensor, penalty: float, probabilities: Tensor | None = None) -> _Point:
        """Return the point of weights and their logits for `penalty` = 1 / C; `probabilities` are overwritten."""
        residuals = (self.probabilities(logits) if probabilities is None else probabilities).sub_(self.targets)
        gradient = torch.cat([matmul.sums(residuals, self._blocks), residuals.sum((0, 2))[:, None]], dim=1)
        return _Point(weights, logits, gradient + penalty * self.penalised * weights)

    def logits(self, weights: Tensor) -> Tensor:
        """Return the logits of weights."""
        return matmul.logits(weights, self._blocks)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return probabilities; zero where a row is no sample, and where they are negligible."""
        found = self.loss.probabilities(logits).mul_(self._real)
        return functional.threshold(found, NEGLIGIBLE, 0.0, inplace=True)

    def dot(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the inner product of weights for each problem, in float64."""
        return (self.loss.by_problem(first) * self.loss.by_problem(second)).sum(dim=1, dtype=torch.float64)

    def relative(self, gradient: Tensor) -> Tensor:
        """Return the norm of a gradient relative to that at zero weights, for each problem."""
        return self.dot(gradient, gradient).sqrt() / self._initial

    def explained(self, logits: Tensor) -> float:
        """Return McFadden's R² of logits over all classes together; 1 where a constant predicts everything."""
        chosen = self.loss.total(logits * self.targets).sum()
        loss = self.loss.total(self.loss.normaliser(logits) * self._real).sum() - chosen
        shares = self.targets.sum((0, 2), dtype=torch.float64) / self._count
        constant = self._count * self.loss.constant_loss(shares)
        return float(1 - loss / constant) if constant > 0 else 1.0


def _extrapolated(solved: Sequence[Head], C: float) -> Tensor:
    """Return the polynomial in log C through the weights of solved heads, at C."""
    nodes = [log(C / head.C) for head in solved]
    factors = [prod(other / (other - node) for other in nodes if other != node) for node in nodes]
    return torch.stack([factor * head.weights for factor, head in zip(factors, solved, strict=True)]).sum(0)


def _minimise(problem: _Problem, history: History, starts: Sequence[Tensor], head: Head, tolerance: float) -> Head:
    """Solve for the penalty of `head` by preconditioned L-BFGS, from the first start that is not far off."""
    loss, penalty = problem.loss, 1 / head.C
    for weights in starts:
        # Logits are computed from the weights, not continued like them: their rounding would add up along the path.
        point = problem.point(weights, problem.logits(weights), penalty)
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
        reset = since % RESET == RESET - 1
        if reset:
            history.clear(torch.ones_like(problem.relative(point.gradient), dtype=torch.bool))
        if reset or iteration == 0:
            solve = problem.preconditioner.at(problem.probabilities(point.logits), penalty)
        direction = loss.centred(history.direction(point.gradient, solve))
        slope = problem.dot(point.gradient, direction)
        spoilt = ~(slope < 0)  # by rounding: uphill, or no number
        if bool(spoilt.any()):
            history.clear(spoilt)
            direction = loss.centred(history.direction(point.gradient, solve))
            slope = problem.dot(point.gradient, direction)
        step, logits, probabilities = _line_search(problem, point, direction, slope, penalty)
        weights, gradient = point.weights + step, point.gradient
        del point  # free its logits before the next point has some
        point = problem.point(weights, logits, penalty, probabilities)
        history.add(loss.by_problem(step), loss.by_problem(point.gradient - gradient))
    return replace(
        head,
        weights=best,
        gradient=smallest,
        iterations=iteration,
        converged=smallest <= tolerance,
        explained=problem.explained(point.logits),
    )


def _line_search(
    problem: _Problem, point: _Point, direction: Tensor, slope: Tensor, penalty: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the step along `direction` where the slope has fallen to a fifth, with logits and probabilities there.

    Newton's method on the slope, kept inside the interval known to hold its root.
    """
    loss, along = problem.loss, problem.logits(direction)
    pull, stiffness = (
        penalty * problem.dot(vector * problem.penalised, direction) for vector in (point.weights, direction)
    )
    length = torch.ones_like(slope)
    low, high = torch.zeros_like(slope), torch.full_like(slope, float("inf"))
    for trial in range(MAX_TRIALS):
        moved = torch.addcmul(point.logits, length.float()[:, None], along)
        probabilities = problem.probabilities(moved)
        now = loss.total((probabilities - problem.targets).mul_(along)) + pull + length * stiffness
        enough = (now.abs() <= 0.2 * slope.abs()) | ((now < 0) & (length == LONGEST))
        if bool(enough.all()) or trial == MAX_TRIALS - 1:
            break
        low, high = torch.where(now < 0, length, low), torch.where(now < 0, high, length)
        newton = length - now / (loss.curvature(probabilities, along) + stiffness)
        halved = torch.where(high.isinf(), 2 * length, (low + high) / 2)
        tried = torch.where((newton > low) & (newton < high), newton, halved)
        length = torch.where(enough, length, tried.clamp_max(LONGEST))
    return length.float()[:, None] * direction, moved, probabilities


def _eigenbasis(standardisation: Standardisation, features: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return the eigenvalues of the Gram matrix, ascending, then the number of samples; and its axes `[D, K]`.

    Constant features have no part in any axis, and there are no more axes than samples.
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
    """Return the features in blocks `[B, ROWS, K]`, rotated to the K axes; rows of zeros fill the last block."""
    count = len(features)
    blocks = torch.zeros(-(-count // ROWS), ROWS, axes.shape[1], device=axes.device)
    for block, rows in zip(blocks, standardisation.stream(features, ROWS), strict=True):
        torch.mm(rows, axes, out=block[: len(rows)])
    return blocks
