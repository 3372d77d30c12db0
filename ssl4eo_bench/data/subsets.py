"""Subsets that probes are fitted on: label fractions of a training split, and labelled pixels of tiles."""

import hashlib
from collections.abc import Sequence

import numpy as np

from ssl4eo_bench.config.task import IGNORED
from ssl4eo_bench.errors import SpecError


def nested_subset(targets: np.ndarray, fraction: float, seed: int, classes: tuple[str, ...]) -> np.ndarray:
    """The rows of a stratified subset, ascending; with the same seed, smaller fractions are subsets of larger ones.

    Each stratum gives its share to within one sample. Without several labels per sample, the strata are the classes.
    With several, a sample belongs to the stratum of its rarest class, as in the first step of iterative stratification
    (Sechidis et al., ECML PKDD 2011). Within a stratum, samples with the same labels stand next to each other and the
    subset is spread evenly over them. No sample is drawn twice.

    Targets are class numbers `[N]`, or indicators `[N, C]`.

    Raises:
        SpecError: if a class of the split does not occur in the subset.
    """
    indicators = np.eye(len(classes), dtype=bool)[targets] if targets.ndim == 1 else targets.astype(bool)
    rows = np.sort(_stratified_order(indicators, seed)[: max(1, round(fraction * len(targets)))])
    lost = np.flatnonzero(indicators.any(0) & ~indicators[rows].any(0))
    if len(lost):
        raise SpecError(
            f"--fraction {fraction:g} keeps {len(rows):,} of {len(targets):,} training samples, and none of class "
            f"{classes[lost[0]]!r}; choose a larger one."
        )
    return rows


def _stratified_order(indicators: np.ndarray, seed: int) -> np.ndarray:
    """Return all rows in an order so that the first part of any length is stratified."""
    count, frequency = len(indicators), indicators.sum(0)
    generator = np.random.default_rng(seed)
    drawn = generator.permutation(count)
    rarest = np.where(indicators, frequency, count + 1).argmin(1)  # the first class for a sample without labels
    _, labels = np.unique(indicators, axis=0, return_inverse=True)
    sorted_ = np.lexsort((drawn, labels.ravel(), rarest))
    shares = np.empty(count)
    for stratum in np.split(sorted_, np.flatnonzero(np.diff(rarest[sorted_])) + 1):
        turn = (np.argsort(_radical_inverses(len(stratum))) + generator.integers(len(stratum))) % len(stratum)
        shares[stratum[turn]] = (np.arange(len(stratum)) + 0.5) / len(stratum)
    return np.lexsort((drawn, shares))


def _radical_inverses(count: int) -> np.ndarray:
    """The first `count` numbers of the van der Corput sequence in base 2."""
    remaining, values, digit = np.arange(count), np.zeros(count), 0.5
    while remaining.any():
        values += digit * (remaining & 1)
        remaining, digit = remaining >> 1, digit / 2
    return values


def choose_pixels(ids: Sequence[str], labels: np.ndarray, count: int) -> np.ndarray:
    """The numbers `[N, count]` of labelled pixels of each tile, counted row by row, drawn without replacement.

    The draw from label maps `[N, H, W]` depends on the id and the labels of the tile, not on other tiles or the seed of
    a run. A tile with fewer labelled pixels gives all of them repeatedly, one without any gives pixels whose label is
    `IGNORED`.
    """
    return np.stack([_pixels_of_tile(id_, tile.ravel(), count) for id_, tile in zip(ids, labels, strict=True)])


def labels_at(labels: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """The labels `[N, K]` of the pixels `[N, K]` of label maps `[N, H, W]`."""
    return np.take_along_axis(labels.reshape(len(labels), -1), pixels, axis=1)


def _pixels_of_tile(id_: str, labels: np.ndarray, count: int) -> np.ndarray:
    labelled = np.flatnonzero(labels != IGNORED)
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(id_.encode()).digest()[:8], "big"))
    return np.sort(np.resize(rng.permutation(labelled), count)) if labelled.size else np.zeros(count, dtype=np.int64)
