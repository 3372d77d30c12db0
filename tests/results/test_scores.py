from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from ssl4eo_bench.files.npz_files import read_arrays
from ssl4eo_bench.results.scores import EXACT, _widen, store_arrays

ROWS, CLASSES = 2000, 19


def of_network(draw: np.random.Generator) -> np.ndarray:
    return np.asarray(expit(draw.normal(scale=12.0, size=(ROWS, CLASSES)).astype(np.float32).astype(np.float64)))


def of_votes(draw: np.random.Generator) -> np.ndarray:
    return np.round(draw.random((ROWS, CLASSES)) * 2.0**32) / 2.0**32


@pytest.mark.parametrize(("make", "share"), [(of_network, 0.45), (of_votes, 0.7)])
def test_scores_take_fewer_bytes_and_stay_what_they_were(
    tmp_path: Path, make: Callable[[np.random.Generator], np.ndarray], share: float
) -> None:
    draw = np.random.default_rng(0)
    ids = [f"S2A_MSIL2A_20170613T101031_{number}_ü" for number in range(ROWS)]
    arrays = {"scores": make(draw), "targets": draw.integers(0, 2, (ROWS, CLASSES)), "embedding": np.ones((ROWS, 2))}
    arrays["scores"][0, :2] = 0, 1
    store_arrays(tmp_path / "new.npz", ids, arrays)
    np.savez(tmp_path / "old.npz", ids=np.array(ids), **arrays)  # type: ignore[arg-type]
    assert (tmp_path / "new.npz").stat().st_size < share * (tmp_path / "old.npz").stat().st_size
    new, old = read_arrays(tmp_path / "new.npz"), read_arrays(tmp_path / "old.npz")
    assert new is not None
    assert old is not None
    for kept in (new, old):
        _widen(kept)
        assert kept.keys() == {"ids", *arrays}
        assert kept["ids"].tolist() == ids
        np.testing.assert_array_equal(kept["targets"], arrays["targets"], strict=True)
        np.testing.assert_allclose(kept["scores"], arrays["scores"], rtol=0, atol=EXACT)
    np.testing.assert_array_equal(np.argsort(-new["scores"].ravel()), np.argsort(-arrays["scores"].ravel()))
