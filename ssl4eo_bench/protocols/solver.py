"""Logistic regression over a path of penalties, several penalties at once.

Every head minimises `Σ loss + ‖W‖² / (2C)`; intercepts are not penalised. What makes the path fast:

- The features are rotated once into the eigenbasis of their covariance. There, the Hessian of the loss is close to
  `S ⊗ Λ`, with the eigenvalues Λ and the mean over samples of the curvature between classes S (`diag(p) - p pᵀ` for
  softmax, `p (1 - p)` for sigmoids). With the penalty added it stays diagonal up to a rotation of the classes, so
  inverting it costs next to nothing, and every step of L-BFGS starts from it instead of from a multiple of the
  identity. Böhning's bound (Ann. Inst. Stat. Math. 44, 1992) has the largest possible S in its place, which is far
  too large once a head is confident.
- A head starts from the parabola through its three predecessors on the path, continued to it.
- Logits are linear in the weights, so a step's line search needs one matrix product for all of its trials, and the
  heads of a block share that product and the one of the gradient.

Features are float32, sums over samples that decide something are float64. Matrices are `[classes, heads, …]` with the
samples or dimensions last, where memory is contiguous.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log, prod
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Family = Literal["softmax", "sigmoid"]

BLOCK = 3  # heads solved together: more share a product, fewer start closer to their solution
MEMORY = 20
MAX_ITERATIONS = 1000
MAX_TRIALS = 20  # of a line search
STALL = 200  # iterations without a smaller gradient
ROWS = 2048  # rows of features handled at once: they stay in the processor's cache, and copies of them are small


@dataclass(frozen=True)
class Basis:
    """Standardisation by the training features and rotation into the eigenbasis of their covariance.

    Attributes:
        mean: `[D]`, of the training features.
        scale: `[D]`, their standard deviation, 1 where it vanishes.
        rotation: `[D, D]`, from standardised features to the eigenbasis.
        eigenvalues: `[D]`, of the standardised features' Gram matrix, descending.
    """

    mean: Tensor
    scale: Tensor
    rotation: Tensor
    eigenvalues: Tensor

    @classmethod
    def of(cls, features: np.ndarray, device: torch.device) -> "Basis":
        """The basis of training features `[N, D]`."""
        mean = sum(rows.sum(axis=0, dtype=np.float64) for rows in _blocks(features)) / len(features)
        variance = sum(np.square(rows - mean).sum(axis=0) for rows in _blocks(features)) / len(features)
        scale = np.sqrt(variance)
        scale[scale <= 1e-7 * np.abs(mean)] = 1.0  # constant, but for rounding
        shift, spread = (torch.from_numpy(array).float().to(device) for array in (mean, scale))
        gram = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=device)
        for rows in _blocks(features):
            standardised = (torch.from_numpy(rows).to(device) - shift) / spread
            gram += (standardised.T @ standardised).double()
        eigenvalues, vectors = torch.linalg.eigh(gram)
        return cls(shift, spread, vectors.flip(1).float().contiguous(), eigenvalues.flip(0).clamp_min(0).float())

    def transform(self, features: np.ndarray) -> Tensor:
        """Features `[N, D]` of any split, standardised and rotated like the training features."""
        device = self.rotation.device
        transformed = torch.empty(features.shape, device=device)
        for start, rows in zip(range(0, len(features), ROWS), _blocks(features), strict=True):
            standardised = (torch.from_numpy(rows).to(device) - self.mean) / self.scale
            torch.matmul(standardised, self.rotation, out=transformed[start : start + ROWS])
        return transformed


@dataclass(frozen=True)
class Head:
    """One solved logistic regression.

    Attributes:
        C: the penalty it was solved for.
        weights: `[C, D + 1]` in the eigenbasis, intercept last.
        gradient: norm of the gradient where it stopped, relative to that at zero weights.
        iterations: of the solver.
        converged: whether that reached the tolerance.
    """

    C: float
    weights: Tensor
    gradient: float
    iterations: int
    converged: bool

    def logits(self, transformed: Tensor) -> np.ndarray:
        """Logits `[N, C]` of features that `Basis.transform` made."""
        logits: np.ndarray = torch.addmm(self.weights[:, -1], transformed, self.weights[:, :-1].T).cpu().numpy()
        return logits


def solve_path(
    basis: Basis,
    features: Tensor,
    targets: np.ndarray,
    family: Family,
    penalties: Sequence[float],
    *,
    classes: int,
    tolerance: float,
) -> Iterator[Head]:
    """Solve for ascending values of C, yielding each head as soon as its block is done.

    Args:
        basis: of the training features.
        features: the training features as `basis` transforms them, `[N, D]`.
        targets: class numbers `[N]` for softmax, indicators `[N, C]` for sigmoid.
        family: which logistic regression.
        penalties: values of C, ascending.
        classes: number of classes.
        tolerance: relative gradient norm at which a head has converged.
    """
    problem = _Problem(basis, features, targets, family, classes)
    solved: list[tuple[float, Tensor]] = []  # the last three, at log C
    for first in range(0, len(penalties), BLOCK):
        block = penalties[first : first + BLOCK]
        start = torch.stack([_continued(solved, log(penalty), problem.zero) for penalty in block], dim=1)
        for penalty, (weights, gradient, iterations) in zip(
            block, _minimise(problem, block, start, tolerance), strict=True
        ):
            solved = [*solved[-2:], (log(penalty), weights)]
            yield Head(penalty, weights, gradient, iterations, converged=gradient <= tolerance)


class _Problem:
    """The unpenalised loss of heads `[classes, heads, D + 1]`, intercept last, and its derivatives.

    Softmax couples the classes of a head: it is one problem, and what is summed for it has shape `[1, heads]`. With
    sigmoids every class is a problem of its own, of shape `[classes, heads]`.
    """

    def __init__(self, basis: Basis, features: Tensor, targets: np.ndarray, family: Family, classes: int) -> None:
        self.features = features
        self.softmax = family == "softmax"
        count, width = features.shape
        indicators = torch.from_numpy(np.eye(classes, dtype=np.float32)[targets] if self.softmax else targets)
        self.targets = indicators.float().T.contiguous()[:, None].to(features.device)
        self.penalised = torch.ones(width + 1, device=features.device)
        self.penalised[-1] = 0.0
        self.spectrum = torch.cat([basis.eigenvalues, features.new_tensor([float(count)])])
        self.zero = features.new_zeros(classes, width + 1)
        start = self.gradient(self.probabilities(features.new_zeros(classes, 1, count)) - self.targets)
        self.initial = self.dot(start, start).sqrt()

    def logits(self, weights: Tensor) -> Tensor:
        """Logits `[classes, heads, N]`."""
        classes, heads, _ = weights.shape
        flat = weights.reshape(classes * heads, -1)
        columns = _columns(flat[:, :-1])
        product = torch.empty(len(self.features), columns.shape[1], device=columns.device)
        for start in range(0, len(product), ROWS):
            torch.mm(self.features[start : start + ROWS], columns, out=product[start : start + ROWS])
        return (product.T[: len(flat)] + flat[:, -1:]).contiguous().view(classes, heads, -1)

    def gradient(self, residuals: Tensor) -> Tensor:
        """The gradient `[classes, heads, D + 1]` for residuals `p - y` `[classes, heads, N]`."""
        classes, heads, count = residuals.shape
        flat = residuals.reshape(classes * heads, count)
        product = (self.features.T @ _columns(flat)).T[: len(flat)]
        return torch.cat([product, flat.sum(1, keepdim=True)], dim=1).view(classes, heads, -1)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities `[classes, heads, N]`."""
        return torch.softmax(logits, dim=0) if self.softmax else torch.sigmoid(logits)

    def dot(self, first: Tensor, second: Tensor) -> Tensor:
        """The inner product over the last axis, of each problem, in float64."""
        products = (first * second).sum(dim=-1, dtype=torch.float64)
        return products.sum(dim=0, keepdim=True) if self.softmax else products

    def curvature(self, probabilities: Tensor, direction: Tensor) -> Tensor:
        """The second derivative of each problem's loss along a direction of the logits."""
        weighted = probabilities * direction
        if self.softmax:
            spread = (weighted * direction).sum(dim=0) - weighted.sum(dim=0).square()
            return spread.sum(dim=-1, dtype=torch.float64)[None]
        return (weighted * (1 - probabilities) * direction).sum(dim=-1, dtype=torch.float64)

    def preconditioner(self, probabilities: Tensor, penalty: Tensor) -> "_Preconditioner":
        """The approximate inverse Hessian at these probabilities, for `penalty` = 1 / C `[1, heads, 1]`."""
        if self.softmax:
            by_head = probabilities.permute(1, 0, 2)
            curvature = torch.diag_embed(by_head.mean(-1)) - by_head @ by_head.mT / by_head.shape[-1]
            values, axes = torch.linalg.eigh(curvature.double())
            # Adding one constant to all classes changes nothing: that direction has no curvature to divide by.
            values = values.clamp_min(1e-4 * values.max()).T.float()
            return _Preconditioner(values[..., None] * self.spectrum + penalty * self.penalised, axes.float())
        values = (probabilities * (1 - probabilities)).mean(dim=-1).clamp_min(1e-12)
        return _Preconditioner(values[..., None] * self.spectrum + penalty * self.penalised, None)


@dataclass(frozen=True)
class _Preconditioner:
    """A Hessian that is `diagonal` `[classes, heads, D + 1]` once the classes are rotated by `axes`."""

    diagonal: Tensor
    axes: Tensor | None

    def solve(self, vector: Tensor) -> Tensor:
        if self.axes is None:
            return vector / self.diagonal
        return torch.einsum("hab,bhd->ahd", self.axes, torch.einsum("hab,ahd->bhd", self.axes, vector) / self.diagonal)


class _Memory:
    """The pairs of steps and gradient changes of L-BFGS (Nocedal & Wright, algorithm 7.4), for many problems."""

    def __init__(self, problem: _Problem) -> None:
        self._dot = problem.dot
        self._pairs: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, step: Tensor, change: Tensor) -> None:
        dot = self._dot
        product = dot(step, change)
        # Rounding can leave a pair without curvature; such a pair is kept with weight zero.
        sound = product > 1e-8 * (dot(step, step) * dot(change, change)).sqrt()
        inverse = torch.where(sound, 1 / product, 0.0)
        self._pairs = [*self._pairs[-(MEMORY - 1) :], (step, change, inverse)]

    def direction(self, gradient: Tensor, preconditioner: _Preconditioner) -> Tensor:
        dot, vector = self._dot, gradient.clone()
        factors = []
        for step, change, inverse in reversed(self._pairs):
            factor = (inverse * dot(step, vector)).float()[..., None]
            vector -= factor * change
            factors.append(factor)
        vector = preconditioner.solve(vector)
        if self._pairs:  # the last step's curvature gives the scale
            _, change, inverse = self._pairs[-1]
            scale = 1 / (inverse * dot(change, preconditioner.solve(change)))
            vector *= torch.where(inverse > 0, scale, 1.0).float()[..., None]
        for (step, change, inverse), factor in zip(self._pairs, reversed(factors), strict=True):
            vector += step * (factor - (inverse * dot(change, vector)).float()[..., None])
        return -vector

    def keep(self, heads: Tensor) -> None:
        self._pairs = [(step[:, heads], change[:, heads], inverse[:, heads]) for step, change, inverse in self._pairs]


def _minimise(
    problem: _Problem, block: Sequence[float], start: Tensor, tolerance: float
) -> list[tuple[Tensor, float, int]]:
    """Preconditioned L-BFGS from `start` `[classes, heads, D + 1]`; heads leave the block as they converge.

    Returns:
        For each head its weights, their relative gradient norm, and the iterations it took.
    """
    penalty = start.new_tensor([1 / C for C in block])[None, :, None]
    weights, logits = start, problem.logits(start)
    probabilities = problem.probabilities(logits)
    gradient = problem.gradient(probabilities - problem.targets) + penalty * problem.penalised * weights
    memory = _Memory(problem)
    active = list(range(len(block)))
    best = [(start[:, head], float("inf"), 0) for head in active]
    for iteration in range(MAX_ITERATIONS + 1):
        norms = (problem.dot(gradient, gradient).sqrt() / problem.initial).amax(dim=0).tolist()
        for place, head in enumerate(active):
            if norms[place] < best[head][1]:
                best[head] = (weights[:, place], norms[place], iteration)
        # In float32 a gradient has a floor: a head that finds no smaller one for long is as good as it gets.
        going = [p for p, head in enumerate(active) if norms[p] > tolerance and iteration - best[head][2] < STALL]
        if not going or iteration == MAX_ITERATIONS:
            break
        if len(going) < len(active):
            kept = torch.tensor(going, device=start.device)
            active = [active[place] for place in going]
            weights, logits, probabilities, gradient, penalty = (
                part[:, kept] for part in (weights, logits, probabilities, gradient, penalty)
            )
            memory.keep(kept)
        preconditioner = problem.preconditioner(probabilities, penalty)
        direction = memory.direction(gradient, preconditioner)
        slope = problem.dot(gradient, direction)
        if bool((slope >= 0).any()):  # rounding has spoilt the memory
            memory = _Memory(problem)
            direction = memory.direction(gradient, preconditioner)
            slope = problem.dot(gradient, direction)
        step, logits, probabilities = _line_search(problem, weights, logits, direction, slope, penalty)
        weights = weights + step
        changed = problem.gradient(probabilities - problem.targets) + penalty * problem.penalised * weights
        memory.add(step, changed - gradient)
        gradient = changed
    return best


def _line_search(
    problem: _Problem, weights: Tensor, logits: Tensor, direction: Tensor, slope: Tensor, penalty: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The step along `direction` whose slope has fallen to a fifth, with the logits and probabilities after it.

    Newton's method on the slope, kept inside the interval known to hold its root.
    """
    along = problem.logits(direction)
    pull, stiffness = (penalty[..., 0] * problem.dot(x * problem.penalised, direction) for x in (weights, direction))
    length = torch.ones_like(slope)
    low, high = torch.zeros_like(slope), torch.full_like(slope, float("inf"))
    for trial in range(MAX_TRIALS):
        moved = logits + length.float()[..., None] * along
        probabilities = problem.probabilities(moved)
        now = problem.dot(probabilities - problem.targets, along) + pull + length * stiffness
        enough = now.abs() <= 0.2 * slope.abs()
        if bool(enough.all()) or trial == MAX_TRIALS - 1:
            break
        low, high = torch.where(now < 0, length, low), torch.where(now < 0, high, length)
        newton = length - now / (problem.curvature(probabilities, along) + stiffness)
        halved = torch.where(high.isinf(), 2 * length, (low + high) / 2)
        length = torch.where(enough, length, torch.where((newton > low) & (newton < high), newton, halved))
    return length.float()[..., None] * direction, moved, probabilities


def _continued(solved: Sequence[tuple[float, Tensor]], place: float, zero: Tensor) -> Tensor:
    """The polynomial through the solved heads, at `place` = log C; zero weights if there are none."""
    weights = zero
    for node, solution in solved:
        others = [other for other, _ in solved if other != node]
        weights = weights + prod((place - other) / (node - other) for other in others) * solution
    return weights


def _columns(rows: Tensor) -> Tensor:
    """`rows` `[k, M]` as columns, with columns of zeros up to a multiple of 16.

    Matrix products with few columns are several times faster when these fill the vector registers of a processor.
    """
    count, length = rows.shape
    columns = rows.new_zeros(length, -(-count // 16) * 16)
    columns[:, :count] = rows.T
    return columns


def _blocks(features: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(features), ROWS):
        yield features[start : start + ROWS]
