import numpy as np
import pytest
import torch

from ssl4eo_bench.solver.standardisation import ROWS, Standardisation

CPU = torch.device("cpu")


def features(samples: int, width: int = 5) -> np.ndarray:
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(samples, width)) * np.geomspace(1e-3, 1e3, width) + 1000 * rng.normal(size=width)
    return drawn.astype(np.float32)


@pytest.mark.parametrize("samples", [1, 7, ROWS, ROWS + 1, 3 * ROWS - 1])
def test_rows_come_in_order_and_none_is_lost(samples: int) -> None:
    values = features(samples)
    found = Standardisation.of(features(1000), CPU)
    some, others = (torch.cat(list(found.stream(values, rows))) for rows in (ROWS, 100))
    torch.testing.assert_close(some, (torch.from_numpy(values) - found.mean) / found.scale, rtol=0, atol=0)
    torch.testing.assert_close(some, others, rtol=0, atol=0)


def test_training_features_have_mean_zero_and_deviation_one() -> None:
    values = features(5000)
    values[:, 2] = 0.1  # constant
    found = Standardisation.of(values, CPU)
    rows = torch.cat(list(found.stream(values))).double()
    expected = torch.tensor([1, 1, 0, 1, 1], dtype=torch.float64)
    torch.testing.assert_close(rows.std(0, correction=0), expected, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(rows.mean(0), torch.zeros(5, dtype=torch.float64), rtol=0, atol=0.1)
    assert float(found.scale[2]) == 1.0


def test_half_precision_is_read_as_it_is() -> None:
    values = (features(700) / 1000).astype(np.float16)
    halves, floats = (Standardisation.of(array, CPU) for array in (values, values.astype(np.float32)))
    torch.testing.assert_close(halves.mean, floats.mean)
    torch.testing.assert_close(
        next(halves.stream(values)), next(floats.stream(values.astype(np.float32))), rtol=1e-5, atol=1e-5
    )
