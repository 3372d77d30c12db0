"""The two losses of logistic regression, with everything that depends on whether they couple the classes.

Softmax couples the classes: they are one problem, and a sum over samples has shape `[1]`. With sigmoids each class is a
problem of its own, and a sum has shape `[classes]`. Values of samples have shape `[blocks, classes, rows]`.
"""

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

LEADING = 32
"""Axes with an exact Hessian: ill-conditioned features take two thirds of the iterations."""
COUPLED = 330
"""The most weights with an exact Hessian where the classes are coupled."""
FLOOR = 1e-4
"""The smallest curvature between classes, relative to the largest. One direction has none: a constant that is added to
all classes changes no probability. The solver takes it out of every step."""
BLOCK = 512  # rows at once


class Loss(ABC):
    """A cross-entropy of logits, as the solver needs it; by default of classes that are not coupled."""

    def indicators(self, targets: np.ndarray, classes: int) -> np.ndarray:
        """Return targets as indicators `[N, C]` in {0, 1}."""
        del classes
        return targets

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probabilities of logits, in their shape."""

    def by_problem(self, weights: Tensor) -> Tensor:
        """Return weights `[C, D + 1]` with one row for each problem, `[problems, length]`."""
        return weights

    def centred(self, direction: Tensor) -> Tensor:
        """Return a direction `[C, D + 1]` without the part that changes no probability."""
        return direction

    @abstractmethod
    def total(self, values: Tensor) -> Tensor:
        """Return the sum of values over samples for each problem.

        The sum is float64, but for the rows of one block: otherwise all values would be copied.
        """

    @abstractmethod
    def curvature(self, probabilities: Tensor, direction: Tensor) -> Tensor:
        """Return the second derivative of the loss along a direction of the logits, for each problem."""

    @abstractmethod
    def constant(self, shares: Tensor) -> Tensor:
        """Return the logits `[C]` of the best constant prediction, from the share `[C]` of each class."""

    @abstractmethod
    def constant_loss(self, shares: Tensor) -> Tensor:
        """Return the mean loss of the best constant prediction over samples."""

    @abstractmethod
    def normaliser(self, logits: Tensor) -> Tensor:
        """Return the part of the loss that does not depend on the targets, for each sample."""

    @abstractmethod
    def between_classes(self, probabilities: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean curvature between classes as eigenvalues `[C]` and eigenvectors `[C, C]`, in float64."""

    def leading_axes(self, classes: int) -> int:
        """Return the number of axes with an exact Hessian."""
        del classes
        return LEADING

    @abstractmethod
    def hessian(self, columns: Tensor, probabilities: Tensor) -> Tensor:
        """Return the exact Hessian of the weights of features `[N, L]` for probabilities `[C, N]`, in float64.

        It is `[1, C · L, C · L]` where classes are coupled, else `[C, L, L]`.
        """


class Softmax(Loss):
    """The cross-entropy of exclusive classes; targets are class numbers `[N]`."""

    def indicators(self, targets: np.ndarray, classes: int) -> np.ndarray:
        """Return class numbers as indicators."""
        found: np.ndarray = np.eye(classes, dtype=np.float32)[targets]
        return found

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the softmax over classes."""
        return torch.softmax(logits, dim=1)

    def by_problem(self, weights: Tensor) -> Tensor:
        """Return all weights in one row."""
        return weights.reshape(1, -1)

    def centred(self, direction: Tensor) -> Tensor:
        """Return the direction minus its mean over classes, which would use up the digits of the logits."""
        return direction - direction.mean(0)

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over samples and classes, `[1]`."""
        return values.sum(-1).sum(dtype=torch.float64)[None]

    def curvature(self, probabilities: Tensor, direction: Tensor) -> Tensor:
        """Return the sum over samples of the variance of the direction under the probabilities."""
        weighted = probabilities * direction
        mean = weighted.sum(1)
        return self.total(weighted.mul_(direction).sum(1) - mean.square())

    def constant(self, shares: Tensor) -> Tensor:
        """Return the logarithms of the shares, minus their mean."""
        return shares.log() - shares.log().mean()

    def constant_loss(self, shares: Tensor) -> Tensor:
        """Return the entropy of the shares."""
        entropy: Tensor = -torch.special.xlogy(shares, shares).sum()
        return entropy

    def normaliser(self, logits: Tensor) -> Tensor:
        """Return the log-sum-exp over classes, `[blocks, 1, rows]`."""
        return torch.logsumexp(logits, dim=1, keepdim=True)

    def between_classes(self, probabilities: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return the eigenbasis of the mean of `diag(p) - p pᵀ`."""
        mean = torch.diag(probabilities.sum((0, 2))) - (probabilities @ probabilities.mT).sum(0)
        values, axes = torch.linalg.eigh(mean.double() / samples)
        return values.clamp_min(FLOOR * values.max()), axes

    def leading_axes(self, classes: int) -> int:
        """Return fewer axes for more classes: the Hessian couples the weights of all of them."""
        return max(0, min(LEADING, COUPLED // classes - 1))

    def hessian(self, columns: Tensor, probabilities: Tensor) -> Tensor:
        """Return the Hessian of the weights of all classes together."""
        classes, length = len(probabilities), columns.shape[1]
        within = columns.new_zeros(classes, length, length, dtype=torch.float64)
        between = columns.new_zeros(classes * length, classes * length, dtype=torch.float64)
        others = 1 - torch.eye(classes, device=columns.device)
        for rows, p in zip(torch.split(columns, BLOCK), torch.split(probabilities, BLOCK, dim=1), strict=True):
            # For a class that is nearly certain 1 - p is mostly rounding; the sum of the other classes is not.
            within += (((p * (others @ p))[:, None] * rows.T) @ rows).double()
            weighted = (p[:, None] * rows.T).flatten(0, 1)
            between += (weighted @ weighted.T).double()
        between = (between.view(classes, length, classes, length) * others[:, None, :, None]).view_as(between)
        hessian: Tensor = torch.block_diag(*within) - between  # type: ignore[no-untyped-call]
        return hessian[None]


class Sigmoid(Loss):
    """The binary cross-entropy of each class; targets are indicators `[N, C]`."""

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the sigmoid of each logit."""
        return torch.sigmoid(logits)

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over samples for each class, `[C]`."""
        return values.sum(-1).sum(0, dtype=torch.float64)

    def curvature(self, probabilities: Tensor, direction: Tensor) -> Tensor:
        """Return the sum over samples of `p (1 - p) d²` for each class."""
        return self.total((1 - probabilities).mul_(probabilities).mul_(direction).mul_(direction))

    def constant(self, shares: Tensor) -> Tensor:
        """Return the log odds of the shares."""
        return shares.logit()

    def constant_loss(self, shares: Tensor) -> Tensor:
        """Return the sum over classes of the entropy of having the label or not."""
        others = 1 - shares
        entropy: Tensor = -(torch.special.xlogy(shares, shares).sum() + torch.special.xlogy(others, others).sum())
        return entropy

    def normaliser(self, logits: Tensor) -> Tensor:
        """Return the softplus of each logit."""
        return functional.softplus(logits)

    def between_classes(self, probabilities: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean of `p (1 - p)` for each class, and the axes of the classes."""
        values = (probabilities * (1 - probabilities)).sum((0, 2), dtype=torch.float64) / samples
        return values, torch.eye(len(values), device=values.device)

    def hessian(self, columns: Tensor, probabilities: Tensor) -> Tensor:
        """Return one Hessian for each class."""
        length = columns.shape[1]
        found = columns.new_zeros(len(probabilities), length, length, dtype=torch.float64)
        for rows, p in zip(torch.split(columns, BLOCK), torch.split(probabilities, BLOCK, dim=1), strict=True):
            found += (((p * (1 - p))[:, None] * rows.T) @ rows).double()
        return found
