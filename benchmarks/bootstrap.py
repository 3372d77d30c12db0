"""How fast are the bootstrap intervals of micro-mAP, and are they the same numbers?

The test split of BigEarthNet has 125,866 × 19 sample–class pairs. Peer: the resampled scores are sorted for each
resample. Ours: sorted once, then weighted by how often a sample was drawn.
"""

import sys

import numpy as np

from benchmarks.setting import alternate, arguments, describe_machine, median_ratio, report
from ssl4eo_bench.metrics.ranking import Ranking

SAMPLES, CLASSES = 125_866, 19


def resorted(scores: np.ndarray, labels: np.ndarray) -> float:
    """Average precision of all pairs; those of one score, such as of a sample drawn twice, are one step."""
    order = np.argsort(-scores.ravel(), kind="stable")
    ranked, truth = scores.ravel()[order], labels.ravel()[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    found = np.cumsum(truth, dtype=np.int64)[ends]
    gained = np.diff(found, prepend=0)
    return float((gained * found / (ends + 1)).sum() / found[-1])


def main() -> int:
    """Print the table; 1 if a target was missed."""
    options = arguments(__doc__ or "")
    describe_machine()
    resamples = 1000 if options.full else 50
    rng = np.random.default_rng(0)
    labels = (rng.random((SAMPLES, CLASSES)) < rng.uniform(0.02, 0.4, CLASSES)).astype(np.uint8)
    scores = 1 / (1 + np.exp(1.5 - 2 * labels + rng.normal(size=labels.shape)))
    drawn = [rng.integers(SAMPLES, size=SAMPLES) for _ in range(resamples)]
    found: dict[str, np.ndarray] = {}

    def ours() -> None:
        ranking = Ranking(scores, labels)
        counts = (np.bincount(rows, minlength=SAMPLES).astype(float)[None] for rows in drawn)
        found["ours"] = np.concatenate([ranking.average_precision(weights) for weights in counts])

    def peer() -> None:
        found["peer"] = np.array([resorted(scores[rows], labels[rows]) for rows in drawn])

    times = alternate(ours, peer, rounds=1)
    each = [np.median(of_one) / resamples * 1e3 for of_one in times]
    print(f"{resamples} resamples of {SAMPLES:,} × {CLASSES}: {each[0]:.0f} ms each, with sorting {each[1]:.0f} ms")
    difference = float(np.abs(found["ours"] - found["peer"]).max())
    met = [
        report("bootstrap, resorted ÷ sorted once", median_ratio(times[1], times[0]), 10.0),
        report("bootstrap, largest difference", difference, 1e-9, more_is_better=False, unit="", digits=12),
    ]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
