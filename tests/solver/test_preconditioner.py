"""The approximate inverse Hessian against calculus."""

import pytest
import torch
from torch import Tensor

from ssl4eo_bench.solver.losses import LEADING, Sigmoid, Softmax
from ssl4eo_bench.solver.preconditioner import Preconditioner

SAMPLES, WIDTH, CLASSES = 200, 6, 3


def problem(width: int, *, softmax: bool, seed: int = 0) -> tuple[Tensor, Tensor, Preconditioner]:
    """Features `[1, rows, D]` in their eigenbasis, probabilities `[1, C, rows]` and their preconditioner."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(SAMPLES, width, generator=generator) * torch.logspace(0, 2, width)
    eigenvalues, axes = torch.linalg.eigh(features.T @ features)
    blocks = (features @ axes)[None]
    logits = torch.randn(1, CLASSES, SAMPLES, generator=generator)
    probabilities = logits.softmax(1) if softmax else logits.sigmoid()
    penalised = torch.ones(CLASSES, width + 1)
    penalised[:, -1] = 0
    spectrum = torch.cat([eigenvalues, torch.tensor([float(SAMPLES)])])
    return blocks, probabilities, Preconditioner(Softmax() if softmax else Sigmoid(), blocks, spectrum, penalised)


def hessian_times(weights: Tensor, blocks: Tensor, probabilities: Tensor, penalty: float, *, softmax: bool) -> Tensor:
    """The Hessian of the penalised loss, times weights `[C, D + 1]`."""
    columns = torch.cat([blocks[0], torch.ones(SAMPLES, 1)], dim=1).double()
    chances, moved = probabilities[0].double(), weights.double() @ columns.T
    change = chances * (moved - ((chances * moved).sum(0) if softmax else chances * moved))
    penalties = torch.full_like(weights, penalty)
    penalties[:, -1] = 0
    return (change @ columns + penalties * weights).float()


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("penalty", [1e-3, 1e3])
def test_it_is_the_inverse_where_all_axes_are_leading(penalty: float, softmax: bool) -> None:
    blocks, probabilities, preconditioner = problem(WIDTH, softmax=softmax)
    solve = preconditioner.at(probabilities, penalty)
    weights = torch.randn(CLASSES, WIDTH + 1, generator=torch.Generator().manual_seed(1))
    weights -= weights.mean(0) if softmax else 0
    product = hessian_times(weights, blocks, probabilities, penalty, softmax=softmax)
    found = solve(product)
    found -= found.mean(0) if softmax else 0  # a constant added to all classes has no curvature, and no inverse
    torch.testing.assert_close(found, weights, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("softmax", [True, False])
def test_it_is_symmetric_and_positive_beside_the_leading_axes(softmax: bool) -> None:
    width = LEADING + 20
    _, probabilities, preconditioner = problem(width, softmax=softmax)
    solve = preconditioner.at(probabilities, 1e-2)
    generator = torch.Generator().manual_seed(1)
    one, other = torch.randn(2, CLASSES, width + 1, generator=generator)
    if softmax:
        one, other = one - one.mean(0), other - other.mean(0)
    assert float((one * solve(other)).sum()) == pytest.approx(float((other * solve(one)).sum()), rel=1e-3)
    assert float((one * solve(one)).sum()) > 0


def test_many_samples_are_thinned_and_many_classes_leave_fewer_axes() -> None:
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randn(32, 512, 20, generator=generator)
    probabilities = torch.full((32, 700, 512), 1 / 700)
    spectrum = torch.cat([blocks.square().sum((0, 1)), torch.tensor([32 * 512.0])])
    preconditioner = Preconditioner(Softmax(), blocks, spectrum, torch.ones(700, 21))
    weights = torch.randn(700, 21, generator=generator)
    found, expected = preconditioner.at(probabilities, 1.0)(weights), weights / (spectrum / 700 + 1)
    torch.testing.assert_close(found - found.mean(0), expected - expected.mean(0), rtol=0.02, atol=1e-4)


@pytest.mark.parametrize("softmax", [True, False])
def test_certain_samples_and_rows_that_are_none_leave_it_finite(softmax: bool) -> None:
    _, probabilities, preconditioner = problem(WIDTH, softmax=softmax)
    probabilities[..., 50:] = 0
    probabilities[:, :, :50] = torch.tensor([1.0, 0.0, 0.0])[:, None]
    solve = preconditioner.at(probabilities, 1e-5)
    assert torch.isfinite(solve(torch.ones(CLASSES, WIDTH + 1))).all()
