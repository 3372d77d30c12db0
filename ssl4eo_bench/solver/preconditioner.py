"""The approximate inverse Hessian that every step of the solver starts from.

In the eigenbasis of the features' Gram matrix the Hessian of the loss is close to `S ⊗ Λ`, with the eigenvalues Λ and
the mean over samples of the curvature between classes S (`diag(p) - p pᵀ` for softmax, `p (1 - p)` for sigmoids). With
the penalty added it stays diagonal up to a rotation of the classes, so inverting it costs next to nothing. Böhning's
bound (Ann. Inst. Stat. Math. 44, 1992) has the largest possible S in its place, which is far too large once a head is
confident.

Along the axes of the largest eigenvalues that is not close enough: what separates classes best decides which samples
are still uncertain. So the Hessian of the leading axes and the intercept is computed as it is, and factored.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

LEADING = 32
"""Axes whose Hessian is exact: ill-conditioned features take two thirds of the iterations."""
COUPLED = 330
"""Weights whose Hessian is exact, at most: softmax couples those of all classes."""
ROWS = 1 << 13
"""Samples, evenly spread, that the exact Hessian is at least taken from: many more than it has weights."""
BLOCK = 512  # rows at once
FLOOR = 1e-4
"""Of curvatures between classes, relative to the largest. One direction has none: a constant added to all classes
changes no probability. The solver takes it out of every step."""
RIDGE = 1e-5
"""Of the exact Hessian, relative to its diagonal: more than the rounding of its sums."""
SMALLEST = 1e-12  # curvature of a class that no sample has


class Preconditioner:
    """Of logistic regressions on one set of rotated features.

    Args:
        blocks: features, `[blocks, rows, D]`, the axes in ascending order of their eigenvalues.
        spectrum: `[D + 1]`, the eigenvalues and the number of samples, which is that of the intercept.
        penalised: `[C, D + 1]`, 0 for intercepts, 1 for all else.
        softmax: whether classes are coupled.
    """

    def __init__(self, blocks: Tensor, spectrum: Tensor, penalised: Tensor, *, softmax: bool) -> None:
        self._spectrum = spectrum
        self._penalised = penalised
        self._softmax = softmax
        leading = max(0, min(LEADING, COUPLED // len(penalised) - 1)) if softmax else LEADING
        self._every = max(1, blocks.shape[:2].numel() // ROWS)
        columns = blocks[:, :: self._every, max(0, blocks.shape[2] - leading) :]
        self._columns = functional.pad(columns, (0, 1), value=1.0).flatten(0, 1)

    def at(self, probabilities: Tensor, penalty: float) -> Callable[[Tensor], Tensor]:
        """What multiplies weights `[C, D + 1]` with the approximate inverse Hessian.

        Args:
            probabilities: `[blocks, C, rows]`; zero where a row is no sample.
            penalty: 1 / C.
        """
        samples = self._spectrum[-1]
        if self._softmax:
            between = torch.diag(probabilities.sum((0, 2))) - (probabilities @ probabilities.mT).sum(0)
            values, axes = torch.linalg.eigh(between.double() / samples)
            values = values.clamp_min(FLOOR * values.max())
        else:
            values = (probabilities * (1 - probabilities)).sum((0, 2), dtype=torch.float64) / samples
            axes = torch.eye(len(values), device=values.device)
        rotation = axes.float()
        diagonal = values.clamp_min(SMALLEST).float()[:, None] * self._spectrum + penalty * self._penalised
        factor, length = self._factor(probabilities, penalty), self._columns.shape[1]

        def solve(weights: Tensor) -> Tensor:
            found: Tensor = rotation @ ((rotation.T @ weights) / diagonal)
            leading = weights[:, -length:].reshape(factor.shape[0], -1, 1)
            found[:, -length:] = torch.cholesky_solve(leading, factor).reshape(-1, length)
            return found

        return solve

    def _factor(self, probabilities: Tensor, penalty: float) -> Tensor:
        """Cholesky factors of the Hessian of the leading weights, `[1, C · L, C · L]` or, of sigmoids, `[C, L, L]`."""
        classes, length = len(self._penalised), self._columns.shape[1]
        own = self._spectrum.new_zeros(classes, length, length, dtype=torch.float64)
        shared = self._spectrum.new_zeros(classes * length, classes * length, dtype=torch.float64)
        others = 1 - torch.eye(classes, device=shared.device)
        sampled = probabilities[..., :: self._every].transpose(0, 1).flatten(1)
        for columns, some in zip(torch.split(self._columns, BLOCK), torch.split(sampled, BLOCK, dim=1), strict=True):
            # Of a class that is nearly certain 1 - p is mostly rounding; the sum of the others is not.
            curvature = some * (others @ some if self._softmax else 1 - some)
            own += ((curvature[:, None] * columns.T) @ columns).double()
            if self._softmax:
                weighted = (some[:, None] * columns.T).flatten(0, 1)
                shared += (weighted @ weighted.T).double()
        hessian = own
        if self._softmax:
            between = shared.view(classes, length, classes, length) * others[:, None, :, None]
            hessian = (torch.block_diag(*own) - between.view_as(shared))[None]  # type: ignore[no-untyped-call]
        hessian *= self._every
        diagonal = hessian.diagonal(dim1=1, dim2=2)
        diagonal += RIDGE * diagonal + penalty * self._penalised[:, -length:].reshape_as(diagonal) + SMALLEST
        factor: Tensor = torch.linalg.cholesky_ex(hessian).L  # a failure shows in the direction, which is checked
        return factor.float()
