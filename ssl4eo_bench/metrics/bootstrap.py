"""Bootstrap intervals of metrics: units are drawn with replacement, and each metric is computed from the weights.

A metric is a function of how often each sample counts: once for its value, and as drawn for a resample. Results with
the same `Bootstrap` have the same resamples, so two of them are paired: the spread of the differences of their
replicates is that of a paired bootstrap.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ssl4eo_bench import progress
from ssl4eo_bench.config.records import RESAMPLES, MetricValue

AT_ONCE = 20
"""Resamples that are drawn and measured together."""

Metric = Callable[[np.ndarray], np.ndarray]
"""A metric `[B]` of weights `[B, N]`: how often each sample counts."""


@dataclass(frozen=True)
class Bootstrap:
    """What is drawn with replacement: single samples, or whole clusters of samples that depend on each other.

    `units` has the number `[N]` of the unit of each sample, from 0 on without gaps.
    """

    seed: int
    units: np.ndarray

    def weights(self) -> Iterator[np.ndarray]:
        """Yield how often each sample counts, `[B, N]`, in blocks of `RESAMPLES` resamples together."""
        for drawn in resamples(int(self.units.max()) + 1, RESAMPLES, self.seed):
            yield drawn[:, self.units]


def resamples(units: int, count: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each unit is drawn `[B, N]`, in blocks of `count` resamples together.

    A resample draws as many units as there are.
    """
    rng = np.random.default_rng(seed)
    for start in range(0, count, AT_ONCE):
        draws = rng.integers(units, size=(min(AT_ONCE, count - start), units))
        yield np.stack([np.bincount(row, minlength=units) for row in draws]).astype(float)


def replicated(
    measure: Callable[[np.ndarray], dict[str, np.ndarray]], bootstrap: Bootstrap | None
) -> dict[str, np.ndarray]:
    """Return the values `[RESAMPLES]` of each metric in the resamples; nothing without a bootstrap.

    `measure` returns the metrics `[B]` for weights `[B, N]`.
    """
    if bootstrap is None:
        return {}
    blocks = []
    with progress.stage("bootstrap intervals", total=RESAMPLES, unit="resamples") as advance:
        for weights in bootstrap.weights():
            blocks.append(measure(weights))
            advance(len(weights))
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def estimates(point: dict[str, np.ndarray], replicates: dict[str, np.ndarray]) -> dict[str, MetricValue]:
    """Return metrics `[1]` with the 95 % intervals of their replicates, where they have some.

    Resampling can move a metric to one side, since duplicates are easy to rank. An interval is then widened as far as
    its own value.
    """
    found = {}
    for name, (value,) in point.items():
        found[name] = MetricValue(value=float(value))
        if name in replicates:
            low, high = interval(replicates[name])
            found[name] = MetricValue(value=float(value), low=min(low, float(value)), high=max(high, float(value)))
    return found


def interval(replicates: np.ndarray) -> tuple[float, float]:
    """Return the 95 % percentile interval of replicates `[B]`."""
    low, high = np.percentile(replicates, (2.5, 97.5))
    return float(low), float(high)
