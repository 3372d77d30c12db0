"""The matrix form of L-BFGS against the two loops that define it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ssl4eo_bench.solver.lbfgs import PAIRS, History

PROBLEMS, LENGTH = 3, 30


def two_loops(pairs: list[tuple[Tensor, Tensor]], gradient: Tensor, solve: Callable[[Tensor], Tensor]) -> Tensor:
    """Nocedal & Wright, algorithm 7.4, for one problem."""
    vector, factors = gradient.clone(), []
    for step, change in reversed(pairs):
        factors.append((step @ vector) / (step @ change))
        vector = vector - factors[-1] * change
    vector = solve(vector)
    if pairs:
        step, change = pairs[-1]
        vector = vector * ((step @ change) / (change @ solve(change))).clamp_max(1)
    for (step, change), factor in zip(pairs, reversed(factors), strict=True):
        vector = vector + step * (factor - (change @ vector) / (step @ change))
    return -vector


class Quadratic:
    """Problems whose gradient changes are those of Hessians `[problems, length, length]`."""

    def __init__(self) -> None:
        drawn = torch.Generator().manual_seed(0)
        root = torch.randn(PROBLEMS, LENGTH, LENGTH, generator=drawn, dtype=torch.float64)
        self.hessians = root @ root.mT + torch.eye(LENGTH)
        self.diagonal = 1 + torch.rand(PROBLEMS, LENGTH, generator=drawn, dtype=torch.float64)
        self.gradient = torch.randn(PROBLEMS, LENGTH, generator=drawn, dtype=torch.float64)
        self.steps = torch.randn(PAIRS + 5, PROBLEMS, LENGTH, generator=drawn, dtype=torch.float64)

    def fill(self, history: History, count: int) -> None:
        for step in self.steps[:count]:
            history.add(step.float(), self.change(step).float())

    def change(self, step: Tensor) -> Tensor:
        return (self.hessians @ step[..., None])[..., 0]

    def expected(self, problem: int, pairs: list[Tensor]) -> Tensor:
        known = [(step[problem], self.change(step)[problem]) for step in pairs]
        return two_loops(known, self.gradient[problem], lambda vector: vector / self.diagonal[problem])

    def direction(self, history: History) -> Tensor:
        return history.direction(self.gradient.float(), lambda vector: vector / self.diagonal.float()).double()


@pytest.mark.parametrize("count", [0, 1, 2, 9, PAIRS, PAIRS + 5])
def test_directions_are_those_of_the_two_loops(count: int) -> None:
    quadratic, history = Quadratic(), History(PROBLEMS, LENGTH, torch.device("cpu"))
    quadratic.fill(history, count)
    for problem, found in enumerate(quadratic.direction(history)):
        expected = quadratic.expected(problem, list(quadratic.steps[max(0, count - PAIRS) : count]))
        error = float((found - expected).norm() / expected.norm())
        assert error < (1e-2 if count > LENGTH else 1e-4)


def test_a_forgotten_problem_starts_anew_and_the_others_do_not() -> None:
    quadratic, history = Quadratic(), History(PROBLEMS, LENGTH, torch.device("cpu"))
    quadratic.fill(history, 6)
    before = quadratic.direction(history)
    history.clear(torch.tensor([False, True, False]))
    after = quadratic.direction(history)
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]])
    torch.testing.assert_close(after[1], quadratic.expected(1, []), rtol=1e-5, atol=1e-5)


def test_added_curvature_is_as_if_it_had_been_there() -> None:
    quadratic, history = Quadratic(), History(PROBLEMS, LENGTH, torch.device("cpu"))
    quadratic.fill(history, 6)
    added = torch.linspace(0, 2, LENGTH, dtype=torch.float64)
    history.add_curvature(added.float())
    quadratic.hessians = quadratic.hessians + torch.diag(added)
    for problem, found in enumerate(quadratic.direction(history)):
        expected = quadratic.expected(problem, list(quadratic.steps[:6]))
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_pairs_without_curvature_do_no_harm() -> None:
    quadratic, history = Quadratic(), History(PROBLEMS, LENGTH, torch.device("cpu"))
    quadratic.fill(history, 4)
    before = quadratic.direction(history)
    history.add(torch.ones(PROBLEMS, LENGTH), -torch.ones(PROBLEMS, LENGTH))
    after = quadratic.direction(history)
    # Only the scale of what is assumed without any pair is now that of no pair.
    assert torch.isfinite(after).all()
    assert ((after * quadratic.gradient).sum(1) < 0).all()
    assert not torch.equal(after, before)
    history.add_curvature(torch.full((LENGTH,), -1e6))  # takes the curvature of all
    torch.testing.assert_close(
        quadratic.direction(history), -quadratic.gradient / quadratic.diagonal, rtol=1e-5, atol=1e-5
    )
