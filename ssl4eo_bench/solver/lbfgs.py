"""The history of L-BFGS for many problems at once: the last steps, and how the gradients changed over them.

The two loops of Nocedal & Wright (Numerical Optimization, algorithm 7.4) run over pairs one by one. With the matrix of
the products of steps and changes they become two triangular systems (Byrd, Nocedal & Schnabel, Math. Program. 63,
1994), so that a direction costs a few matrix products however many pairs there are.
"""

from collections.abc import Callable

import torch
from torch import Tensor

PAIRS = 40
"""Kept for each problem; 20 take a fifth more iterations, 90 save none."""


class History:
    """Pairs of steps and gradient changes for problems with vectors `[problems, length]`.

    A place without a pair has a step and a change of zero and a product of one, and adds nothing to a direction.
    """

    def __init__(self, problems: int, length: int, device: torch.device) -> None:
        self._steps = torch.zeros(problems, PAIRS, length, device=device)
        self._changes = torch.zeros_like(self._steps)
        self._products = torch.eye(PAIRS, dtype=torch.float64, device=device).repeat(problems, 1, 1)
        self._order = torch.arange(PAIRS, device=device)  # of places, oldest pair first

    def add(self, step: Tensor, change: Tensor) -> None:
        """Replace the oldest pair by a step and the change of the gradient over it, both `[problems, length]`."""
        product, lengths = (step * change).sum(1, dtype=torch.float64), step.norm(dim=1) * change.norm(dim=1)
        sound = product > 1e-8 * lengths  # rounding can leave a pair without curvature
        self._order = self._order.roll(-1)
        place = self._order[-1]
        self._steps[:, place] = torch.where(sound[:, None], step, 0.0)
        self._changes[:, place] = torch.where(sound[:, None], change, 0.0)
        self._products[:, place] = _times(self._changes, self._steps[:, place])
        self._products[:, :, place] = _times(self._steps, self._changes[:, place])
        self._products[:, place, place] = torch.where(sound, product, 1.0)

    def add_curvature(self, curvature: Tensor) -> None:
        """Add a diagonal `[length]` to the Hessian of every problem: the gradient over each step changes by it."""
        self._changes += curvature * self._steps
        self._products = (self._steps @ self._changes.mT).double()
        exact = (self._steps * self._changes).sum(-1, dtype=torch.float64)
        unsound = exact <= 0
        self._steps[unsound] = self._changes[unsound] = 0.0
        self._products[unsound] = self._products.mT[unsound] = 0.0
        self._products.diagonal(dim1=1, dim2=2).copy_(torch.where(unsound, 1.0, exact))

    def clear(self, problems: Tensor) -> None:
        """Drop all pairs of the problems that are marked in `[problems]`."""
        self._steps[problems] = self._changes[problems] = 0.0
        self._products[problems] = torch.eye(PAIRS, dtype=torch.float64, device=problems.device)

    def direction(self, gradient: Tensor, solve: Callable[[Tensor], Tensor]) -> Tensor:
        """Return minus the product of the approximate inverse Hessian with the gradients of all problems.

        They have the shape that `solve` takes; reshaped, it is `[problems, length]`. `solve` multiplies with the
        inverse Hessian that is assumed without pairs.
        """
        flat = gradient.reshape(self._steps.shape[0], -1)
        ordered = self._products[:, self._order][:, :, self._order]
        upper = ordered.triu()
        first = torch.linalg.solve_triangular(upper, self._ordered(_times(self._steps, flat)), upper=True)
        vector = solve((flat - self._combined(self._changes, first)).view_as(gradient)).reshape(flat.shape)
        vector *= self._scale(gradient, solve)
        right = ordered.diagonal(dim1=1, dim2=2)[..., None] * first - self._ordered(_times(self._changes, vector))
        second = torch.linalg.solve_triangular(upper.mT, right, upper=False)
        return -(vector + self._combined(self._steps, second)).view_as(gradient)

    def _scale(self, like: Tensor, solve: Callable[[Tensor], Tensor]) -> Tensor:
        """Return how much smaller the inverse Hessian was over the last step than `solve` assumes, `[problems, 1]`.

        At most 1: otherwise one direction that `solve` is wrong about would lengthen the steps in all others.
        """
        last = self._order[-1]
        change = self._changes[:, last]
        assumed = (change * solve(change.view_as(like)).reshape(change.shape)).sum(1, dtype=torch.float64)
        scale = torch.where(assumed > 0, self._products[:, last, last] / assumed, 1.0)
        return scale.clamp_max(1.0).float()[:, None]

    def _ordered(self, products: Tensor) -> Tensor:
        return products[:, self._order, None]

    def _combined(self, pairs: Tensor, factors: Tensor) -> Tensor:
        by_place = torch.empty_like(factors[..., 0])
        by_place[:, self._order] = factors[..., 0]
        return (by_place.float()[:, None] @ pairs)[:, 0]


def _times(pairs: Tensor, vector: Tensor) -> Tensor:
    """Return products `[problems, PAIRS]` in float64 of the kept vectors with one vector of each problem."""
    return (pairs @ vector[..., None])[..., 0].double()
