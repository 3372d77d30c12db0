from typing import Any

import numpy as np
import pytest

from ssl4eo_bench.config.protocols import Linear
from ssl4eo_bench.labels import labels_of
from ssl4eo_bench.methods import linear as linear_module
from ssl4eo_bench.methods.linear import LinearProbe
from ssl4eo_bench.solver.path import Head
from tests import probes
from tests.solver.test_path import data

KIND: dict[str, Any] = {"softmax": "multiclass", "sigmoid": "multilabel"}


def fit(family: Any = "softmax", *, protocol: Linear | None = None, **options: Any) -> tuple[LinearProbe, Any]:
    features, targets = data(family, samples=600)
    train, val, test = ((features[s], targets[s]) for s in (slice(300), slice(300, 450), slice(450, None)))
    protocol = protocol or Linear()
    return probes.linear(protocol, KIND[family], 4, train, val, **options), test


@pytest.mark.parametrize("family", ["softmax", "sigmoid"])
def test_the_probe_predicts_and_is_chosen_on_val(family: Any) -> None:
    probe, (features, targets) = fit(family)
    probabilities = probes.probabilities(KIND[family], probe, features)
    assert probabilities.dtype == np.float64
    assert probabilities.shape == (150, 4)
    best = max(point.val for point in probe.path)
    near = [point for point in probe.path if point.val >= best - probe.error]
    assert probe.head.C == min(near, key=lambda point: point.loss or 0.0).C
    assert 0 <= probe.error < 0.1
    assert family == "softmax" or probe.error == 0  # average precision has no plateaus
    if family == "softmax":
        np.testing.assert_allclose(probabilities.sum(1), 1.0)
        assert (probabilities.argmax(1) == targets).mean() > 0.5


class Scripted:
    """Stands for the solver: heads whose accuracy on `val` is scripted, and who are so sure of it."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        accuracies: list[float],
        *,
        converged: bool = True,
        flat: int = 0,
        sure: tuple[float, ...] = (),
    ) -> None:
        """The first `flat` heads explain next to nothing of the training labels."""
        self.solved = 0
        confidence = dict(zip(Linear(points=12).grid(), sure, strict=False))

        def path(loss: Any, data: Any, grid: Any, **options: Any) -> Any:
            for penalty, accuracy in zip(grid, accuracies, strict=False):
                self.solved += 1
                explained = 0.01 if self.solved <= flat else 0.5
                yield Head(None, penalty, accuracy, 0.0, 1, converged, explained)  # type: ignore[arg-type]

        def logits(head: Head, features: Any) -> np.ndarray:
            right = round(float(head.weights) * 100)
            return np.repeat([[1.0, 0.0], [0.0, 1.0]], [right, 100 - right], axis=0) * confidence.get(head.C, 1.0)

        monkeypatch.setattr(linear_module, "solve_path", path)
        monkeypatch.setattr(Head, "logits", logits)

    def fit(self, **options: Any) -> LinearProbe:
        features, targets = np.random.default_rng(0).random((100, 3), dtype=np.float32), np.zeros(100, dtype=np.int64)
        split = (features, targets)
        return probes.linear(Linear(points=12, patience=3), "multiclass", 2, split, split, **options)


def test_ties_go_to_the_stronger_penalty(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = Scripted(monkeypatch, [0.5, 0.8, 0.8, 0.7, 0.8, 0.1]).fit()
    assert probe.head.C == Linear(points=12).grid()[1]


def test_on_a_plateau_the_loss_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.80 ± 0.04: what is right two times more and far too sure of itself is no better."""
    sure = (1.0, 1.5, 1.0, 30.0, 1.0)
    probe = Scripted(monkeypatch, [0.5, 0.77, 0.78, 0.80, 0.7], sure=sure).fit()
    assert probe.error == pytest.approx(0.04)
    assert probe.head.C == Linear(points=12).grid()[2]
    beyond = Scripted(monkeypatch, [0.5, 0.75, 0.75, 0.80, 0.7], sure=sure).fit()
    assert beyond.head.C == Linear(points=12).grid()[3]  # not within the standard error


def test_a_head_that_explains_nothing_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """With balanced classes accuracy does not see how strong a penalty is; the loss stays that of guessing."""
    probe = Scripted(monkeypatch, [0.9, 0.9, 0.9, 0.8, 0.8], flat=3).fit()
    assert probe.head.C == Linear(points=12).grid()[3]
    assert probe.warnings == ()


def test_where_nothing_is_learnt_there_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = Scripted(monkeypatch, [0.3, 0.6, 0.5, 0.4], flat=4).fit()
    assert probe.head.C == Linear(points=12).grid()[1]
    assert "no penalty lets the linear head explain a tenth of the training loss" in probe.warnings[0]


def test_balanced_classes_do_not_make_the_strongest_penalty_win() -> None:
    """Five samples of each of ten classes: accuracy is that of the class means, whatever the penalty."""
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(10, 64))
    train_labels, val_labels = np.repeat(np.arange(10), 5), rng.integers(0, 10, 400)
    train, val = ((centres[of] + 2 * rng.normal(size=(len(of), 64)), of) for of in (train_labels, val_labels))
    floats = [(features.astype(np.float32), of) for features, of in (train, val)]
    probe = probes.linear(Linear(), "multiclass", 10, *floats)
    assert probe.head.explained >= linear_module.LEARNT
    assert labels_of("multiclass").mean_loss(probe.head.logits(val[0]), val[1]) < 0.9 * np.log(10)


@pytest.mark.parametrize("kind", ["multiclass", "segmentation"])
def test_the_standard_error_is_the_spread_over_other_samples(kind: Any) -> None:
    def metric(seed: int) -> tuple[float, float]:
        rng = np.random.default_rng(seed)
        targets = rng.integers(0, 4, 800)
        logits = (rng.normal(size=(800, 4)) + np.eye(4)[targets]).astype(np.float32)
        labels = labels_of(kind)
        return labels.main_metric(logits, targets), labels.standard_error(logits, targets)

    values, errors = zip(*map(metric, range(40)), strict=True)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.35)


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
    assert one.head.logits(features).tobytes() == other.head.logits(features).tobytes()
