import numpy as np
import pytest

from ssl4eo_bench.features.half_precision import LARGEST_ERROR, halved


def ordinary(shape: tuple[int, ...] = (500, 8)) -> np.ndarray:
    return np.random.default_rng(0).normal(1.0, 2.0, shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(500, 8), (100, 5, 8)])
def test_ordinary_features_take_half_the_bytes_and_lose_less_than_said(shape: tuple[int, ...]) -> None:
    features = ordinary(shape)
    found = halved(features)
    assert found.dtype == np.float16
    assert found.shape == shape
    error = (found.astype(np.float64) - features).reshape(-1, 8)
    assert (np.sqrt(np.square(error).mean(0)) <= LARGEST_ERROR * features.reshape(-1, 8).std(0)).all()


@pytest.mark.parametrize(
    ("column", "why"),
    [
        (1e6 + np.arange(500), "too large"),
        (1000 + np.linspace(0, 0.01, 500), "varies little around a large value"),
        (np.linspace(0, 1e-8, 500), "too small"),
        (np.full(500, 0.1), "a constant that would become another"),
    ],
)
def test_a_feature_that_would_be_spoilt_keeps_all_in_full_precision(column: np.ndarray, why: str) -> None:
    features = ordinary()
    features[:, 3] = column
    found = halved(features)
    assert found.dtype == np.float32, why
    np.testing.assert_array_equal(found, features)


def test_dead_features_do_no_harm() -> None:
    features = ordinary()
    features[:, 3] = 0.0
    assert halved(features).dtype == np.float16
