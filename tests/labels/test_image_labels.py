import numpy as np
import pytest

from ssl4eo_bench.labels import image_labels
from ssl4eo_bench.labels.image_labels import plane


def test_the_plane_is_that_of_the_largest_variance() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 40)) * np.append([9.0, 4.0], np.full(38, 0.1)) + 5
    found = plane(features)
    assert found.dtype == np.float32
    for axis in (0, 1):
        assert abs(np.corrcoef(found[:, axis], features[:, axis])[0, 1]) > 0.99
    assert (plane(features) == found).all()


def test_axes_of_some_rows_serve_all(monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.random.default_rng(0).normal(size=(300, 6)) * np.array([9.0, 4.0, 0.1, 0.1, 0.1, 0.1])
    whole = plane(features)
    monkeypatch.setattr(image_labels, "PLANE_ROWS", 70)
    assert np.abs(np.corrcoef(plane(features)[:, 0], whole[:, 0])[0, 1]) > 0.99


@pytest.mark.parametrize("shape", [(1, 5), (2, 5), (3, 1), (2, 1), (4, 3)])
def test_few_samples_and_features_that_never_change_have_a_plane(shape: tuple[int, int]) -> None:
    assert plane(np.full(shape, 2.0)).tolist() == np.zeros((shape[0], 2)).tolist()
    assert np.isfinite(plane(np.random.default_rng(0).normal(size=shape).astype(np.float16))).all()
