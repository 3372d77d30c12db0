"""The solver against scikit-learn's, solved far, and against plain calculus."""

from typing import Any, Literal

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from ssl4eo_bench.config.protocols import Linear
from ssl4eo_bench.solver.losses import Loss, Sigmoid, Softmax
from ssl4eo_bench.solver.path import Data, Head, solve_path

Family = Literal["softmax", "sigmoid"]
LOSSES: dict[str, Loss] = {"softmax": Softmax(), "sigmoid": Sigmoid()}
PENALTIES = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0]


def data(
    family: Family, *, samples: int = 300, width: int = 20, classes: int = 4, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Correlated features of uneven scale with overlapping classes."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, width))
    labels = rng.integers(0, classes, samples)
    features = centres[labels] + 2 * rng.normal(size=(samples, width)) @ rng.normal(size=(width, width)) / width**0.5
    features = features * np.geomspace(0.01, 100, width) + rng.normal(size=width) * 5
    if family == "softmax":
        return features.astype(np.float32), labels
    indicators = (rng.random((samples, classes)) < 0.15) | (np.eye(classes)[labels] > 0)
    return features.astype(np.float32), indicators.astype(np.uint8)


def solve(
    features: np.ndarray, targets: np.ndarray, family: Family, penalties: list[float], *, classes: int, **options: Any
) -> list[Head]:
    given, tolerance = Data(features, targets, classes), options.get("tolerance", 1e-5)
    return list(solve_path(LOSSES[family], given, penalties, tolerance=tolerance, device="cpu"))


def standardise(features: np.ndarray) -> np.ndarray:
    exact = features.astype(np.float64)
    spread = exact.std(0)
    standardised: np.ndarray = (exact - exact.mean(0)) / np.where(spread > 1e-7 * np.abs(exact.mean(0)), spread, 1.0)
    return standardised


def objective(logits: np.ndarray, targets: np.ndarray, family: Family, weights: np.ndarray, penalty: float) -> float:
    """`C · Σ loss + ½ ‖W‖²` in float64."""
    logits = logits.astype(np.float64)
    if family == "softmax":
        loss = np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(logits)), targets]
    else:
        loss = (np.logaddexp(0, logits) - logits * targets).sum(axis=1)
    return float(penalty * loss.sum() + 0.5 * np.square(weights).sum())


def objective_of(head: Head, standardised: np.ndarray, targets: np.ndarray, family: Family) -> float:
    weights = head.weights.double().numpy()
    logits = standardised @ weights[:, :-1].T + weights[:, -1]
    return objective(logits, targets, family, weights[:, :-1], head.C)


def by_scikit_learn(
    standardised: np.ndarray, targets: np.ndarray, family: Family, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weights and intercepts."""
    columns = [targets] if family == "softmax" else list(targets.T)
    fits = [LogisticRegression(C=penalty, tol=1e-9, max_iter=20000).fit(standardised, column) for column in columns]
    return np.concatenate([fit.coef_ for fit in fits]), np.concatenate([fit.intercept_ for fit in fits])


@pytest.mark.parametrize("family", ["softmax", "sigmoid"])
def test_heads_are_those_of_scikit_learn_at_every_penalty(family: Family) -> None:
    features, targets = data(family)
    heads = solve(features, targets, family, PENALTIES, classes=4)
    standardised = standardise(features)
    for head in heads:
        weights, intercepts = by_scikit_learn(standardised, targets, family, head.C)
        expected = standardised @ weights.T + intercepts
        found = head.logits(features)
        if family == "softmax":  # a constant for all classes means nothing
            found, expected = (z - z.mean(1, keepdims=True) for z in (found, expected))
        np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())
        np.testing.assert_allclose(head.weights[:, :-1].numpy(), weights, atol=2e-3 * np.abs(weights).max())
        best = objective(expected, targets, family, weights, head.C)
        assert objective_of(head, standardised, targets, family) <= best * (1 + 1e-5)


@pytest.mark.parametrize("family", ["softmax", "sigmoid"])
def test_the_gradient_vanishes_where_it_stops(family: Family) -> None:
    features, targets = data(family, samples=600)
    heads = solve(features, targets, family, list(Linear().grid()), classes=4)
    standardised = torch.from_numpy(standardise(features))
    truth = torch.eye(4, dtype=torch.float64)[targets] if family == "softmax" else torch.from_numpy(targets).double()
    for head in heads:
        weights = head.weights.double().requires_grad_()
        logits = standardised @ weights[:, :-1].T + weights[:, -1]
        if family == "softmax":
            loss = (torch.logsumexp(logits, 1) - (logits * truth).sum(1)).sum()
        else:
            loss = torch.nn.functional.softplus(logits).sum() - (logits * truth).sum()
        (loss + weights[:, :-1].square().sum() / (2 * head.C)).backward()  # type: ignore[no-untyped-call]
        zero = (torch.full_like(truth, 0.25 if family == "softmax" else 0.5) - truth).T @ torch.cat(
            [standardised, torch.ones(len(standardised), 1)], dim=1
        )
        assert weights.grad is not None
        if family == "softmax":
            relative = float(weights.grad.norm() / zero.norm())
        else:
            relative = float((weights.grad.norm(dim=1) / zero.norm(dim=1)).max())
        assert head.converged
        assert relative <= 2e-5
        assert head.gradient == pytest.approx(relative, rel=0.5, abs=3e-6)


@pytest.mark.parametrize("family", ["softmax", "sigmoid"])
def test_a_path_gives_the_heads_that_single_solves_give(family: Family) -> None:
    features, targets = data(family)
    path = solve(features, targets, family, PENALTIES, classes=4)
    standardised = standardise(features)
    for head in path:
        (alone,) = solve(features, targets, family, [head.C], classes=4)
        one, other = (objective_of(h, standardised, targets, family) for h in (head, alone))
        assert one == pytest.approx(other, rel=1e-5)


@pytest.mark.parametrize("family", ["softmax", "sigmoid"])
@pytest.mark.parametrize(
    "case", ["constant", "duplicated", "wide", "separable", "imbalanced", "absent", "tiny", "huge"]
)
def test_awkward_data_converge(case: str, family: Family) -> None:
    features, targets = data(family)
    classes = 4
    if case == "constant":
        features[:, 3] = 7.5
    elif case == "duplicated":
        features = np.concatenate([features, features[:, :5]], axis=1)
    elif case == "wide":
        features, targets = data(family, samples=60, width=200)
    elif case == "separable":
        truth = np.eye(4)[targets] if family == "softmax" else targets
        features = np.concatenate([features, 3 * truth.astype(np.float32)], axis=1)
    elif case == "imbalanced":
        targets[5:] = 0
    elif case == "absent":
        classes = 5
        targets = targets if family == "softmax" else np.pad(targets, ((0, 0), (0, 1)))
    elif case == "tiny":
        features *= 1e-6
    else:
        features *= 1e6
    heads = solve(features, targets, family, PENALTIES, classes=classes)
    assert all(np.isfinite(head.logits(features)).all() for head in heads)
    assert all(head.converged for head in heads), [head.gradient for head in heads]
    standardised, there = standardise(features), targets if family == "softmax" else targets[:, :4]
    for head in heads[2:5:2]:
        weights, intercepts = by_scikit_learn(standardised, there, family, head.C)
        best = objective(standardised @ weights.T + intercepts, there, family, weights, head.C)
        # A class without samples costs less the further its intercept goes.
        assert objective_of(head, standardised, targets, family) <= best * (1 + (1e-3 if case == "absent" else 1e-5))


def test_a_class_without_samples_has_no_part_in_a_softmax() -> None:
    features, targets = data("softmax")
    few = solve(features, targets, "softmax", PENALTIES, classes=4)
    more = solve(features, np.array([0, 2, 3, 5])[targets], "softmax", PENALTIES, classes=6)
    for head, other in zip(few, more, strict=True):
        assert torch.equal(other.weights[[0, 2, 3, 5]], head.weights)
        assert not other.weights[[1, 4], :-1].any()
        probabilities = torch.softmax(torch.from_numpy(other.logits(features)), dim=1)
        assert not probabilities[:, [1, 4]].any()


def test_samples_of_one_class_leave_nothing_to_solve() -> None:
    features, targets = data("softmax")
    (head,) = solve(features, np.full_like(targets, 2), "softmax", [1.0], classes=4)
    assert head.converged
    assert head.iterations == 0
    assert int(head.weights[:, -1].argmax()) == 2


@pytest.mark.parametrize("family", ["softmax", "sigmoid"])
def test_features_that_are_all_constant_leave_the_intercepts(family: Family) -> None:
    features, targets = data(family)
    (head,) = solve(np.ones_like(features), targets, family, [1.0], classes=4)
    assert head.converged
    assert not head.weights[:, :-1].any()
    logits = torch.from_numpy(head.logits(np.ones_like(features[:1])))
    shares = np.bincount(targets) / len(targets) if family == "softmax" else targets.mean(0)
    found = logits.softmax(1) if family == "softmax" else logits.sigmoid()
    np.testing.assert_allclose(found[0].numpy(), shares, rtol=1e-4)


def test_no_constant_is_added_to_the_logits_of_all_classes() -> None:
    # It would change no probability, but take digits away from what does.
    features, targets = data("softmax")
    targets[5:] = 0
    heads = solve(features, targets, "softmax", list(Linear().grid()), classes=4)
    for head in heads:
        present = head.weights[np.unique(targets)]
        assert float(present.mean(0).abs().max()) <= 1e-4 * float(present.abs().max())


def test_constant_features_take_no_part_and_no_time() -> None:
    features, targets = data("softmax")
    alone = solve(features, targets, "softmax", PENALTIES, classes=4)
    wider = np.zeros((len(features), 23), np.float32)
    varying = [column for column in range(23) if column not in (0, 8, 22)]
    wider[:, varying], wider[:, 0], wider[:, 22] = features, 3.5, 1e4
    heads = solve(wider, targets, "softmax", PENALTIES, classes=4)
    for head, other in zip(alone, heads, strict=True):
        assert not other.weights[:, [0, 8, 22]].any()
        assert torch.equal(other.weights[:, [*varying, 23]], head.weights)


def test_a_head_that_cannot_converge_says_so_and_keeps_its_best_weights() -> None:
    features, targets = data("softmax")
    heads = solve(features, targets, "softmax", [1.0], classes=4, tolerance=1e-12)
    assert not heads[0].converged
    assert heads[0].gradient < 1e-5
    assert np.isfinite(heads[0].logits(features)).all()


def test_the_same_problem_gives_the_same_bits() -> None:
    features, targets = data("softmax")
    runs = [solve(features, targets, "softmax", PENALTIES, classes=4) for _ in range(2)]
    for one, other in zip(*runs, strict=True):
        assert torch.equal(one.weights, other.weights)


@pytest.mark.parametrize("family", ["softmax", "sigmoid"])
def test_what_a_head_explains_is_relative_to_the_best_constant(family: Family) -> None:
    features, targets = data(family)
    heads = solve(features, targets, family, PENALTIES, classes=4)
    standardised = standardise(features)
    for head in heads:
        logits = standardised @ head.weights[:, :-1].double().numpy().T + head.weights[:, -1].double().numpy()
        loss = objective(logits, targets, family, np.zeros(1), 1.0)
        shares = np.bincount(targets) / len(targets) if family == "softmax" else targets.mean(0)
        constant = np.log(shares) if family == "softmax" else np.log(shares / (1 - shares))
        best = objective(np.tile(constant, (len(targets), 1)), targets, family, np.zeros(1), 1.0)
        assert head.explained == pytest.approx(1 - loss / best, abs=1e-5)
    assert heads[0].explained < 0.1 < heads[-1].explained
