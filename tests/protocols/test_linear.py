from typing import Any

import numpy as np
import pytest

from ssl4eo_bench.progress import Silent
from ssl4eo_bench.protocols import linear as linear_module
from ssl4eo_bench.protocols.linear import LinearProbe, fit_linear
from ssl4eo_bench.protocols.solver import Head
from ssl4eo_bench.spec.protocols import Linear
from tests.protocols.test_solver import data

KIND: dict[str, Any] = {"softmax": "multiclass", "sigmoid": "multilabel"}


def fit(family: Any = "softmax", *, protocol: Linear | None = None, **options: Any) -> tuple[LinearProbe, Any]:
    features, targets = data(family, samples=600)
    train, val, test = ((features[s], targets[s]) for s in (slice(300), slice(300, 450), slice(450, None)))
    protocol = protocol or Linear()
    probe = fit_linear(protocol, KIND[family], 4, train, val, device="cpu", progress=Silent(), **options)
    return probe, test


@pytest.mark.parametrize("family", ["softmax", "sigmoid"])
def test_the_probe_predicts_and_is_chosen_by_the_main_metric_on_val(family: Any) -> None:
    probe, (features, targets) = fit(family)
    probabilities = probe.probabilities(features)
    assert probabilities.dtype == np.float64
    assert probabilities.shape == (150, 4)
    best = max(point.val for point in probe.path)
    first_best = next(point.C for point in probe.path if point.val == best)
    assert probe.head.C == first_best
    if family == "softmax":
        np.testing.assert_allclose(probabilities.sum(1), 1.0)
        assert (probabilities.argmax(1) == targets).mean() > 0.5
        assert probe.thresholds is None
    else:
        assert probe.thresholds is not None
        assert probe.thresholds.shape == (4,)


class Scripted:
    """Stands for the solver: heads whose accuracy on `val` is scripted."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, accuracies: list[float], *, converged: bool = True, flat: int = 0
    ) -> None:
        """The first `flat` heads explain next to nothing of the training labels."""
        self.solved = 0

        def path(standardisation: Any, features: Any, targets: Any, family: Any, grid: Any, **options: Any) -> Any:
            for penalty, accuracy in zip(grid, accuracies, strict=False):
                self.solved += 1
                explained = 0.01 if self.solved <= flat else 0.5
                yield Head(penalty, accuracy, 0.0, 1, converged, explained)  # type: ignore[arg-type]

        def logits(head: Head, standardisation: Any, features: Any) -> np.ndarray:
            right = round(float(head.weights) * 100)
            return np.repeat([[1.0, 0.0], [0.0, 1.0]], [right, 100 - right], axis=0)

        monkeypatch.setattr(linear_module, "solve_path", path)
        monkeypatch.setattr(Head, "logits", logits)

    def fit(self, **options: Any) -> LinearProbe:
        features, targets = np.random.default_rng(0).random((100, 3), dtype=np.float32), np.zeros(100, dtype=np.int64)
        split = (features, targets)
        return fit_linear(
            Linear(points=12, patience=3), "multiclass", 2, split, split, device="cpu", progress=Silent(), **options
        )


def test_ties_go_to_the_stronger_penalty(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = Scripted(monkeypatch, [0.5, 0.8, 0.8, 0.7, 0.8, 0.1]).fit()
    assert probe.head.C == Linear(points=12).grid()[1]


def test_the_path_stops_when_val_does_not_improve(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = Scripted(monkeypatch, [0.5, 0.8, 0.7, 0.7, 0.7, 0.99, 1.0])
    probe = scripted.fit()
    assert [point.val for point in probe.path] == [0.5, 0.8, 0.7, 0.7, 0.7]
    assert scripted.solved == 5
    assert probe.head.C == Linear(points=12).grid()[1]


def test_a_flat_start_does_not_use_up_the_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = Scripted(monkeypatch, [0.3, 0.5, 0.2, 0.3, 0.3, 0.3, 0.9, 0.8, 0.8, 0.8, 0.99], flat=6).fit()
    assert [point.val for point in probe.path] == [0.3, 0.5, 0.2, 0.3, 0.3, 0.3, 0.9, 0.8, 0.8, 0.8]
    assert probe.head.C == Linear(points=12).grid()[6]


def test_the_full_path_is_shown_but_moves_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = Scripted(monkeypatch, [0.5, 0.8, 0.7, 0.7, 0.7, 0.99, 1.0]).fit(full_path=True)
    assert [point.val for point in probe.path] == [0.5, 0.8, 0.7, 0.7, 0.7, 0.99, 1.0]
    assert probe.head.C == Linear(points=12).grid()[1]


def test_an_optimum_on_the_edge_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    strongest = Scripted(monkeypatch, [0.9, 0.8, 0.7, 0.6]).fit()
    weakest = Scripted(monkeypatch, [0.1 + 0.05 * step for step in range(12)]).fit()
    inside = Scripted(monkeypatch, [0.8, 0.9, 0.7, 0.6, 0.5]).fit()
    for probe in (strongest, weakest):
        assert "lies on the edge of the grid" in " ".join(probe.warnings)
    assert inside.warnings == ()


def test_penalties_that_did_not_converge_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = Scripted(monkeypatch, [0.8, 0.9, 0.7, 0.6, 0.5], converged=False).fit()
    assert probe.warnings == ("5 of the penalties stopped before their gradient was small enough",)


def test_two_fits_give_the_same_bits() -> None:
    (one, (features, _)), (other, _) = fit(), fit()
    assert one.path == other.path
    assert one.probabilities(features).tobytes() == other.probabilities(features).tobytes()
