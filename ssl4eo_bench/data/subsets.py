"""Label fractions: nested, stratified subsets of a training split."""

import numpy as np

from ssl4eo_bench.errors import SpecError


def nested_subset(targets: np.ndarray, fraction: float, seed: int, classes: tuple[str, ...]) -> np.ndarray:
    """The rows of a stratified subset, ascending; with one seed, a smaller fraction's rows are among a larger one's.

    Every stratum gives its share to within one sample. Strata are the classes, and for labels that a sample may have
    several of, the samples by the rarest class they have, as iterative stratification begins with it (Sechidis et al.,
    ECML PKDD 2011); inside of one, samples with the same labels stand together and the subset is spread evenly over
    them. Nothing is drawn twice.

    Args:
        targets: class numbers `[N]`, or indicators `[N, C]`.
        fraction: above 0, up to 1.
        seed: of the draw.
        classes: their names.

    Raises:
        SpecError: if a class that the split has would not occur.
    """
    indicators = np.eye(len(classes), dtype=bool)[targets] if targets.ndim == 1 else targets.astype(bool)
    rows = np.sort(_order(indicators, seed)[: max(1, round(fraction * len(targets)))])
    counts = indicators.sum(0)
    lost = np.flatnonzero((counts > 0) & ~indicators[rows].any(0))
    if len(lost):
        raise SpecError(
            f"--fraction {fraction:g} keeps {len(rows):,} of {len(targets):,} training samples, and none of class "
            f"{classes[lost[0]]!r}; choose a larger one."
        )
    return rows


def _order(indicators: np.ndarray, seed: int) -> np.ndarray:
    """All rows in an order whose every start is stratified."""
    count, frequency = len(indicators), indicators.sum(0)
    generator = np.random.default_rng(seed)
    drawn = generator.permutation(count)
    rarest = np.where(indicators, frequency, count + 1).argmin(1)  # for a sample without labels, the first class
    _, labels = np.unique(indicators, axis=0, return_inverse=True)
    sorted_ = np.lexsort((drawn, labels.ravel(), rarest))
    shares = np.empty(count)
    for stratum in np.split(sorted_, np.flatnonzero(np.diff(rarest[sorted_])) + 1):
        turn = (np.argsort(_radical_inverses(len(stratum))) + generator.integers(len(stratum))) % len(stratum)
        shares[stratum[turn]] = (np.arange(len(stratum)) + 0.5) / len(stratum)
    return np.lexsort((drawn, shares))


def _radical_inverses(count: int) -> np.ndarray:
    """The van der Corput sequence: numbers 0 to count - 1 with their binary digits mirrored at the point."""
    remaining, values, digit = np.arange(count), np.zeros(count), 0.5
    while remaining.any():
        values += digit * (remaining & 1)
        remaining, digit = remaining >> 1, digit / 2
    return values
