"""Choosing the labelled pixels of tiles that a dense head is fitted on."""

import hashlib
from collections.abc import Sequence

import numpy as np

from ssl4eo_bench.config.task import IGNORED


def choose_pixels(ids: Sequence[str], labels: np.ndarray, count: int) -> np.ndarray:
    """Labelled pixels `[N, count]` of each tile, numbered row by row, without replacement while there are enough.

    The draw depends on the tile's id and labels alone, not on the other tiles or on a run's seed. A tile with fewer
    labelled pixels gives all of them, again and again, and one without any gives pixels that are ignored.

    Args:
        ids: of the tiles.
        labels: `[N, H, W]`.
        count: how many.
    """
    return np.stack([_of_tile(id_, tile.ravel(), count) for id_, tile in zip(ids, labels, strict=True)])


def labels_at(labels: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """The labels `[N, K]` of chosen pixels of label maps `[N, H, W]`."""
    return np.take_along_axis(labels.reshape(len(labels), -1), pixels, axis=1)


def _of_tile(id_: str, labels: np.ndarray, count: int) -> np.ndarray:
    labelled = np.flatnonzero(labels != IGNORED)
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(id_.encode()).digest()[:8], "big"))
    return np.sort(np.resize(rng.permutation(labelled), count)) if labelled.size else np.zeros(count, dtype=np.int64)
