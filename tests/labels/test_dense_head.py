from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score
from torch.nn import functional

from ssl4eo_bench.config.protocols import Linear
from ssl4eo_bench.labels.pixel_maps import dense_logits, label_scores, one_against_rest
from ssl4eo_bench.methods.linear import LinearProbe
from ssl4eo_bench.models.resizing import interpolate
from tests import probes

SIDE = 32


@pytest.fixture(scope="module")
def problem() -> tuple[Any, Any, LinearProbe]:
    """Grids far from zero, label maps that follow from them, and a probe fitted on some of their pixels."""
    rng = np.random.default_rng(0)
    grid = (rng.normal(size=(6, 12, 7, 7)) * np.linspace(0.1, 5, 12)[:, None, None] + 30).astype(np.float32)
    full = functional.interpolate(torch.from_numpy(grid), size=(SIDE, SIDE), mode="bilinear").numpy()
    truth = np.einsum("cd,ndhw->nchw", rng.normal(size=(3, 12)), full - 30).argmax(1)
    places = rng.integers(0, SIDE * SIDE, (6, 100))
    features = interpolate(grid, places, SIDE)
    labels = np.take_along_axis(truth.reshape(6, -1), places, axis=1)
    train, val = ((features[s].reshape(-1, 12), labels[s].ravel()) for s in (slice(4), slice(4, None)))
    probe = probes.linear(Linear(points=12, patience=3), "segmentation", 3, train, val)
    return grid, (full, truth, val), probe


def test_the_head_on_the_grid_is_the_head_on_upsampled_features(problem: Any) -> None:
    grid, (full, *_), probe = problem
    found = label_scores(dense_logits(probe.head, grid), SIDE)
    pixels = probes.probabilities("segmentation", probe, np.moveaxis(full, 1, -1).reshape(-1, 12))
    np.testing.assert_allclose(1 / (1 + np.exp(-np.moveaxis(found, 1, -1).reshape(-1, 3))), pixels, atol=1e-5)
    assert found.shape == (6, 3, SIDE, SIDE)


def test_scores_are_exact_where_a_probability_is_rounded_to_one() -> None:
    logits = torch.tensor([[300.0, 0.0, -5.0], [2.0, 1.0, 0.0], [7.0, 7.0, 7.0]])
    found = one_against_rest(logits).numpy()
    rest = [np.logaddexp.reduce(np.delete(logits.numpy().astype(float), c, axis=1), axis=1) for c in range(3)]
    np.testing.assert_allclose(found, logits.numpy() - np.stack(rest, axis=1), rtol=1e-6)


def test_logits_on_the_grid_are_those_of_the_probe(problem: Any) -> None:
    grid, _, probe = problem
    rows = np.moveaxis(grid, 1, -1).reshape(-1, 12)
    expected = probe.head.logits(rows)
    found = dense_logits(probe.head, grid).numpy()
    np.testing.assert_allclose(np.moveaxis(found, 1, -1).reshape(-1, 3), expected, atol=1e-4 * np.abs(expected).max())


def test_the_penalty_is_chosen_by_miou(problem: Any) -> None:
    _, (_, _, (features, labels)), probe = problem
    found = next(point.val for point in probe.path if point.C == probe.head.C)
    predicted = probes.probabilities("segmentation", probe, features).argmax(1)
    assert found == pytest.approx(jaccard_score(labels, predicted, average="macro"), abs=1e-9)
    assert found >= max(point.val for point in probe.path) - probe.error
    assert found > 0.7
    np.testing.assert_allclose(probes.probabilities("segmentation", probe, features).sum(1), 1.0)
