import numpy as np

from ssl4eo_bench.data.pixels import choose_pixels, labels_at

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
