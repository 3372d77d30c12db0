"""Which checkpoint is above which: the paired tests that ranks are made of, as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ssl4eo_bench.results.compare import LEVEL
from ssl4eo_bench.results.leaderboard import Entry
from ssl4eo_bench.results.markdown import points
from ssl4eo_bench.results.paired_ranks import corrected_p

MOST = 30
"""Checkpoints that a matrix has at most, the best ones."""

Verdict = Literal["above", "below", ""]
"""What the test says; empty where it says nothing."""


@dataclass(frozen=True)
class Cell:
    """One checkpoint against another: the difference in percentage points, and all that is said of it in words."""

    difference: str
    verdict: Verdict
    words: str


@dataclass(frozen=True)
class Matrix:
    """The best checkpoints of a task and protocol, best first, against each other; there are `of` of them in all."""

    names: tuple[str, ...]
    cells: tuple[tuple[Cell | None, ...], ...]
    of: int


def matrix_of(entries: Sequence[Entry]) -> Matrix | None:
    """The matrix of entries on one task in one protocol; none where there is nothing to test."""
    best = sorted(entries, key=lambda entry: (-entry.lead.value, entry.spec.checkpoint.name))[:MOST]
    p = corrected_p([entry.score for entry in best])
    if np.isnan(p).all():
        return None
    cells = tuple(
        tuple(None if one is other else _cell(one, other, p[row, column]) for column, other in enumerate(best))
        for row, one in enumerate(best)
    )
    return Matrix(tuple(entry.spec.checkpoint.name for entry in best), cells, len(entries))


def _cell(one: Entry, other: Entry, p: float) -> Cell:
    difference = one.lead.value - other.lead.value
    verdict: Verdict = ("above" if difference > 0 else "below") if p <= LEVEL else ""
    said = {"above": "is above", "below": "is below", "": "is not told apart from"}[verdict]
    tested = "no test" if np.isnan(p) else f"corrected p {p_text(p)}"
    names = f"{one.spec.checkpoint.name} {said} {other.spec.checkpoint.name}"
    words = f"{names}: {points(difference)} points, {tested}"
    return Cell(f"{100 * difference:+.1f}".replace("-", "−"), verdict, words)


def p_text(p: float) -> str:
    """A p value with its sign, such as `= 0.031`."""
    return "< 0.001" if p < 0.0005 else f"= {p:.3f}"
