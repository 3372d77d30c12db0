"""Label fractions and labelled pixels: nested, stratified, and no sample or pixel twice."""

from itertools import pairwise

import numpy as np
import pytest

from ssl4eo_bench.data.subsets import choose_pixels, labels_at, nested_subset
from ssl4eo_bench.errors import SpecError

FRACTIONS = (0.01, 0.05, 0.1, 0.37, 0.5, 1.0)


def names(count: int) -> tuple[str, ...]:
    return tuple(f"class{number}" for number in range(count))


def single(seed: int = 0) -> np.ndarray:
    """Ten classes of uneven size, in random order."""
    rng = np.random.default_rng(seed)
    return rng.permutation(np.repeat(np.arange(10), [900, 800, 700, 650, 500, 400, 300, 250, 150, 103]))


def several(seed: int = 0) -> np.ndarray:
    """Indicators of nineteen classes, some of them rare, several to a sample."""
    rng = np.random.default_rng(seed)
    shared = rng.random((6000, 1))
    return ((rng.random((6000, 19)) + shared) / 2 < np.geomspace(0.45, 0.12, 19)).astype(np.uint8)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("targets", [single(), several()], ids=["multiclass", "multilabel"])
def test_smaller_fractions_lie_in_larger_ones(targets: np.ndarray, seed: int) -> None:
    classes = names(10 if targets.ndim == 1 else 19)
    subsets = [nested_subset(targets, fraction, seed, classes) for fraction in FRACTIONS]
    for fraction, rows in zip(FRACTIONS, subsets, strict=True):
        assert len(rows) == round(fraction * len(targets))
        assert (np.diff(rows) > 0).all()  # ascending, and nothing twice
    for smaller, larger in pairwise(subsets):
        assert set(smaller) <= set(larger)
    assert len(subsets[-1]) == len(targets)


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_every_class_gives_its_share_to_within_a_sample(fraction: float) -> None:
    targets = single()
    rows = nested_subset(targets, fraction, 5, names(10))
    share = np.bincount(targets[rows], minlength=10) - fraction * np.bincount(targets, minlength=10)
    assert np.abs(share).max() <= 1.0


@pytest.mark.parametrize("fraction", [0.02, 0.1, 0.3])
def test_labels_keep_their_frequency_better_than_by_chance(fraction: float) -> None:
    targets = several()
    counts = fraction * targets.sum(0)

    def error(rows: np.ndarray) -> float:
        return float((np.abs(targets[rows].sum(0) - counts) / np.sqrt(counts)).mean())

    rng = np.random.default_rng(1)
    size = round(fraction * len(targets))
    by_chance = np.mean([error(rng.choice(len(targets), size, replace=False)) for _ in range(20)])
    stratified = np.mean([error(nested_subset(targets, fraction, seed, names(19))) for seed in range(5)])
    assert stratified < 0.7 * by_chance


def test_the_seed_decides_the_draw() -> None:
    targets = single()
    first, again, other = (nested_subset(targets, 0.1, seed, names(10)) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert len(set(first) & set(other)) < 0.3 * len(first)


def test_every_sample_is_as_likely_as_any_other() -> None:
    targets = several()[:400]
    drawn = np.zeros(len(targets))
    for seed in range(400):
        drawn[nested_subset(targets, 0.25, seed, names(19))] += 1
    assert drawn.mean() == pytest.approx(100)
    assert drawn.std() < 1.5 * np.sqrt(400 * 0.25 * 0.75)
    assert drawn.min() > 40


def test_a_fraction_too_small_for_a_class_is_refused() -> None:
    with pytest.raises(SpecError, match=r"--fraction 0.001 keeps 5 of 4,753 training samples, and none of class"):
        nested_subset(single(), 0.001, 0, names(10))
    targets = single()
    assert len(nested_subset(targets[targets != 3], 0.1, 0, names(10))) > 0  # a class that is nowhere is not missed


IDS = ["a", "b", "c"]


def maps() -> np.ndarray:
    labels = np.random.default_rng(0).integers(0, 4, (3, 16, 16)).astype(np.uint8)
    labels[:, :8] = 255
    return labels


def test_labelled_pixels_are_chosen_once_each() -> None:
    pixels = choose_pixels(IDS, maps(), 100)
    assert pixels.shape == (3, 100)
    assert all(len(set(row)) == 100 for row in pixels)
    assert (labels_at(maps(), pixels) != 255).all()
    assert len({tuple(row) for row in pixels}) == 3


def test_the_choice_is_that_of_the_tile_alone() -> None:
    together = choose_pixels(IDS, maps(), 20)
    alone = choose_pixels(["c", "a"], maps()[[2, 0]], 20)
    np.testing.assert_array_equal(alone, together[[2, 0]])


def test_every_labelled_pixel_is_as_likely() -> None:
    ids = [f"tile {number}" for number in range(400)]
    pixels = choose_pixels(ids, np.repeat(maps()[:1], 400, axis=0), 32)
    counts = np.bincount(pixels.ravel(), minlength=256)[128:]
    assert counts.mean() == 100
    assert 60 < counts.min() < counts.max() < 145


def test_a_tile_with_few_labels_gives_all_of_them_again_and_again() -> None:
    labels = np.full((1, 16, 16), 255, dtype=np.uint8)
    labels[0, 3, 4:7] = 1
    pixels = choose_pixels(["a"], labels, 8)
    counts = np.bincount(pixels[0], minlength=256)
    assert set(np.flatnonzero(counts)) == {52, 53, 54}
    assert sorted(counts[52:55]) == [2, 3, 3]


def test_a_tile_without_labels_gives_ignored_pixels() -> None:
    labels = np.full((1, 16, 16), 255, dtype=np.uint8)
    assert (labels_at(labels, choose_pixels(["a"], labels, 8)) == 255).all()


def test_labels_are_those_of_the_pixels() -> None:
    labels = np.arange(512).reshape(2, 16, 16)
    np.testing.assert_array_equal(labels_at(labels, np.array([[0, 17], [255, 3]])), [[0, 17], [511, 259]])
