"""k-NN against its definition, sample by sample."""

import numpy as np
import pytest

from ssl4eo_bench.config.protocols import Knn
from ssl4eo_bench.config.task import Kind
from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.methods import knn
from ssl4eo_bench.methods.knn import KnnProbe
from tests import probes


def data(count: int, seed: int, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    """Features far from unit length and labels that depend on them; class 3 never occurs."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, 12)) * rng.uniform(0.1, 30, (count, 1))
    scores = features[:, :3] / np.linalg.norm(features, axis=1, keepdims=True)
    targets = scores.argmax(1) if kind == "multiclass" else np.pad(scores > 0.1, ((0, 0), (0, 1))).astype(np.uint8)
    return features.astype(np.float16), targets


def fitted(kind: Kind, train: tuple[np.ndarray, np.ndarray], **settings: float) -> KnnProbe:
    protocol = Knn().model_copy(update=settings)
    return probes.knn(protocol, kind, 4, train)


def slowly(kind: Kind, train: tuple[np.ndarray, np.ndarray], queries: np.ndarray, k: int, t: float) -> np.ndarray:
    """The definition in float64."""
    features, targets = train[0].astype(np.float64), train[1]
    votes = np.eye(4)[targets] if kind == "multiclass" else targets.astype(np.float64)
    shares = []
    for query in queries.astype(np.float64):
        lengths = np.linalg.norm(features, axis=1) * np.linalg.norm(query)
        cosine = features @ query / np.maximum(lengths, 1e-300)
        nearest = np.argsort(-cosine)[:k]
        weights = np.exp(cosine[nearest] / t)
        shares.append((weights[:, None] * votes[nearest]).sum(0) / weights.sum())
    return np.stack(shares)


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
@pytest.mark.parametrize(("k", "temperature"), [(20, 0.07), (1, 0.07), (5, 10.0), (1000, 0.5)])
def test_scores_are_those_of_the_definition(
    kind: Kind, k: int, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knn, "QUERIES", 32)  # several blocks, and a last one that is not full
    train, (queries, _) = data(300, 0, kind), data(70, 2, kind)
    found = fitted(kind, train, k=k, temperature=temperature).probabilities(queries)
    np.testing.assert_allclose(found, slowly(kind, train, queries, k, temperature), atol=1e-4)
    assert (found[:, 3] == 0).all()
    if kind == "multiclass":
        np.testing.assert_allclose(found.sum(1), 1)


def test_it_predicts() -> None:
    train, (queries, targets) = data(2000, 0, "multiclass"), data(300, 2, "multiclass")
    probe = fitted("multiclass", train)
    assert (probe.probabilities(queries).argmax(1) == targets).mean() > 0.8


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_an_offset_that_all_features_share_costs_no_digits(kind: Kind) -> None:
    """In float32, similarities of features that all point one way are equal: 0.719 was found where 0.949 is right."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(700, 12)).astype(np.float32)
    targets = features[:, :3].argmax(1) if kind == "multiclass" else (features[:, :4] > 0.5).astype(np.uint8)
    features += np.float32(1000.0)
    train, queries = (features[:400], targets[:400]), features[400:]
    found = fitted(kind, train).probabilities(queries)
    np.testing.assert_allclose(found, slowly(kind, train, queries, 20, 0.07), atol=1e-3)
    if kind == "multiclass":
        assert (found.argmax(1) == targets[400:]).mean() > 0.75


@pytest.mark.parametrize("outlier", [-1.0, 0.0])
@pytest.mark.parametrize("offset", [0.0, 10.0, 1000.0])
def test_scores_are_exact_whatever_one_training_sample_is(offset: float, outlier: float) -> None:
    """It lies far from all others, whose small differences decide."""
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(700, 12)) + offset).astype(np.float32)
    targets = features[:, :3].argmax(1)
    features[0] *= outlier
    found = fitted("multiclass", (features[:400], targets[:400])).probabilities(features[400:])
    np.testing.assert_allclose(
        found, slowly("multiclass", (features[:400], targets[:400]), features[400:], 20, 0.07), atol=1e-6
    )


def test_many_samples_at_the_last_place_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where they are too many to be told apart in float64."""
    features, targets = np.ones((50, 12), dtype=np.float32), np.arange(50) % 4
    monkeypatch.setattr(knn, "CANDIDATES", 30)
    found = fitted("multiclass", (features, targets)).probabilities(np.ones((2, 12), dtype=np.float32))
    assert found == pytest.approx(np.tile(np.bincount(targets) / 50, (2, 1)))


def test_samples_that_are_equally_near_share_the_last_place() -> None:
    """Whatever their order: eight copies of one sample, of which three classes have 4, 3 and 1, for two places."""
    rng = np.random.default_rng(0)
    near, copy, far = rng.normal(size=(3, 12)).astype(np.float32)
    query = near + 0.1 * copy
    features = np.stack([near, *[near + copy] * 8, *[-far] * 20])
    targets = np.array([3, 0, 0, 0, 0, 1, 1, 1, 2, *[1] * 20])
    found = []
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(features))
        probe = fitted("multiclass", (features[order], targets[order]), k=3, temperature=1e6)
        found.append(probe.probabilities(query[None])[0])
    expected = np.array([2 * 4 / 8, 2 * 3 / 8, 2 * 1 / 8, 1]) / 3
    for shares in found:
        assert shares == pytest.approx(expected, abs=1e-5)


def test_equal_features_give_the_shares_of_the_training_labels() -> None:
    features, targets = np.ones((50, 12), dtype=np.float32), np.arange(50) % 4
    found = fitted("multiclass", (features, targets)).probabilities(np.ones((2, 12), dtype=np.float32))
    assert found == pytest.approx(np.tile(np.bincount(targets) / 50, (2, 1)))


def test_a_feature_vector_of_zeros_is_no_division_by_zero() -> None:
    features, targets = data(50, 0, "multiclass")
    features[3] = 0
    assert np.isfinite(fitted("multiclass", (features, targets)).probabilities(np.zeros((2, 12), np.float16))).all()


def test_segmentation_is_refused() -> None:
    with pytest.raises(SpecError, match="protocol 'knn' is for labels of whole images; use --protocol linear"):
        Knn().for_kind("segmentation")


def test_neighbours_that_agree_give_one_score_whatever_they_weigh() -> None:
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(400, 12)).astype(np.float32), np.zeros(400, dtype=np.int64)
    found = fitted("multiclass", (features, targets)).probabilities(rng.normal(size=(300, 12)).astype(np.float32))
    assert set(found[:, 0].tolist()) == {1.0}
    assert set(found[:, 1:].ravel().tolist()) == {0.0}
