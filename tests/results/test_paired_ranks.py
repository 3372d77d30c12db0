"""Rank ranges, which decide most pairs by a bound, are those of the plain way: every p value, and Holm over all."""

from collections.abc import Sequence

import numpy as np
import pytest

from ssl4eo_bench.metrics.paired import Variance, holm, p_values, rejected
from ssl4eo_bench.results import paired_ranks
from ssl4eo_bench.results.compare import LEVEL
from ssl4eo_bench.results.paired_ranks import Ranks, Score, corrected_p, rank_ranges

RESAMPLES = 100


def plain_ranges(scores: Sequence[Score]) -> list[Ranks]:
    """The ranks by a p value of every pair."""
    pairs = [
        (one, other)
        for one in range(len(scores))
        for other in range(one + 1, len(scores))
        if are_paired(scores[one], scores[other])
    ]
    p = holm([float(p_value(scores[one], scores[other])) for one, other in pairs])
    above, below = [0] * len(scores), [0] * len(scores)
    for (one, other), corrected in zip(pairs, p, strict=True):
        if corrected <= LEVEL:
            better, worse = (one, other) if scores[one].value > scores[other].value else (other, one)
            above[worse] += 1
            below[better] += 1
    return [(1 + better, len(scores) - worse) for better, worse in zip(above, below, strict=True)]


def ranges_of_matrix(scores: Sequence[Score]) -> list[Ranks]:
    """The ranks by the p values that the matrix of the report shows."""
    values = np.array([score.value for score in scores])
    told_apart = corrected_p(scores) <= LEVEL
    above = (told_apart & (values[None] > values[:, None])).sum(axis=1)
    below = (told_apart & (values[None] < values[:, None])).sum(axis=1)
    return list(zip((1 + above).tolist(), (len(scores) - below).tolist(), strict=True))


def are_paired(one: Score, other: Score) -> bool:
    resampled = all(found is not None for score in (one, other) for found in score.replicates)
    seeds = zip(one.single_seed, other.single_seed, strict=True)
    return resampled and one.units == other.units and all(a is None or b is None or a == b for a, b in seeds)


def p_value(one: Score, other: Score) -> np.ndarray:
    parts = [
        Variance(float(np.var(a - b, ddof=1)) / len(one.units) ** 2, max(units - 1, 1))
        for a, b, units in zip(one.replicates, other.replicates, one.units, strict=True)
        if a is not None and b is not None
    ]
    parts += [score.spread for score in (one, other) if score.spread]
    return p_values(np.float64(one.value - other.value), parts)


def random_board(rng: np.random.Generator) -> list[Score]:
    """Scores of up to 40 checkpoints: some without replicates, of few clusters, of one seed, of several, or twice."""
    tasks, spread, mixed = int(rng.integers(1, 4)), rng.choice([0.001, 0.005, 0.02, 0.1]), rng.random() < 0.7
    shared, scores = rng.normal(size=(tasks, RESAMPLES)), []
    for _ in range(rng.integers(0, 40)):
        value = 0.5 + spread * rng.normal()
        moved = value + 0.01 * shared + 0.004 * rng.normal(size=shared.shape)
        scores.append(
            Score(
                value=value,
                replicates=tuple(None if mixed and rng.random() < 0.1 else of_task for of_task in moved),
                units=tuple(int(rng.choice([12, 12, 5400])) if mixed else 5400 for _ in range(tasks)),
                spread=Variance(1e-5 * rng.random(), int(rng.integers(1, 4))) if mixed and rng.random() < 0.3 else None,
                single_seed=tuple(int(rng.integers(2)) if mixed and rng.random() < 0.4 else None for _ in range(tasks)),
            )
        )
        scores += scores[-1:] if rng.random() < 0.05 else []
    return scores


@pytest.mark.parametrize("rows", [1, 7, 128])
def test_ranks_are_those_of_every_p_value(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, told_apart = np.random.default_rng(rows), 0
    for _ in range(25):
        scores = random_board(rng)
        with monkeypatch.context() as patched:
            patched.setattr(paired_ranks, "ROWS", rows)
            found = rank_ranges(scores)
        assert found == plain_ranges(scores) == ranges_of_matrix(scores)
        told_apart += sum(ranks != (1, len(scores)) for ranks in found)
    assert told_apart > 100


def test_bounds_leave_few_pairs_to_be_put_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, ordered = np.random.default_rng(0), []
    shared = rng.normal(size=RESAMPLES)
    scores = [
        Score(value, (value + 0.01 * shared + 0.004 * rng.normal(size=RESAMPLES),), (5400,), None, (None,))
        for value in rng.uniform(0.4, 0.6, size=300)
    ]

    def noted(p: np.ndarray, level: float, tests: int) -> np.ndarray:
        ordered.append(len(p))
        return rejected(p, level, tests)

    monkeypatch.setattr(paired_ranks, "ROWS", 16)
    monkeypatch.setattr(paired_ranks, "rejected", noted)
    rank_ranges(scores)
    assert 0 < ordered[0] < 0.1 * 300 * 299 / 2
