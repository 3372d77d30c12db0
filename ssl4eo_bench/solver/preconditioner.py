"""The approximate inverse Hessian that every step of the solver starts from.

In the eigenbasis of the features' Gram matrix the Hessian of the loss is close to `S ⊗ Λ`: Λ are the eigenvalues, and S
is the mean over samples of the curvature between classes (`diag(p) - p pᵀ` for softmax, `p (1 - p)` for sigmoids). With
the penalty added it stays diagonal up to a rotation of the classes, so its inverse costs next to nothing. Böhning's
bound (Ann. Inst. Stat. Math. 44, 1992) uses the largest possible S instead, which is far too large once a head is
confident.

Along the axes with the largest eigenvalues this is not close enough: what separates classes best decides which samples
are still uncertain. So the Hessian of these axes and of the intercept is computed exactly and factored.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from ssl4eo_bench.solver.losses import Loss

ROWS = 1 << 13
"""The exact Hessian is estimated from at least so many samples, evenly spread: many more than it has weights."""
RIDGE = 1e-5
"""Added to the exact Hessian, relative to its diagonal: more than the rounding of its sums."""
SMALLEST = 1e-12  # curvature of a class without samples


class Preconditioner:
    """Approximate inverse Hessians of logistic regressions on one set of rotated features.

    Args:
        loss: that is minimised.
        blocks: features `[blocks, rows, D]`, the axes in ascending order of their eigenvalues.
        spectrum: `[D + 1]`, the eigenvalues, and the number of samples as that of the intercept.
        penalised: `[C, D + 1]`, 0 for intercepts, 1 for all other weights.
    """

    def __init__(self, loss: Loss, blocks: Tensor, spectrum: Tensor, penalised: Tensor) -> None:
        self._loss = loss
        self._spectrum = spectrum
        self._penalised = penalised
        self._every = max(1, blocks.shape[:2].numel() // ROWS)
        leading = loss.leading_axes(len(penalised))
        columns = blocks[:, :: self._every, max(0, blocks.shape[2] - leading) :]
        self._columns = functional.pad(columns, (0, 1), value=1.0).flatten(0, 1)

    def at(self, probabilities: Tensor, penalty: float) -> Callable[[Tensor], Tensor]:
        """Return a function that multiplies weights `[C, D + 1]` with the approximate inverse Hessian.

        Probabilities are `[blocks, C, rows]`, zero where a row is no sample; `penalty` is 1 / C.
        """
        values, axes = self._loss.between_classes(probabilities, self._spectrum[-1])
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
        """Return Cholesky factors of the penalised Hessian of the leading weights, shaped as `Loss.hessian` says."""
        sampled = probabilities[..., :: self._every].transpose(0, 1).flatten(1)
        hessian = self._loss.hessian(self._columns, sampled) * self._every
        diagonal = hessian.diagonal(dim1=1, dim2=2)
        penalised = self._penalised[:, -self._columns.shape[1] :].reshape_as(diagonal)
        diagonal += RIDGE * diagonal + penalty * penalised + SMALLEST
        factor: Tensor = torch.linalg.cholesky_ex(hessian).L  # a failure shows in the direction, which is checked
        return factor.float()
