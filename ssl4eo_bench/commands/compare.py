"""Comparing two checkpoints, or two results."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ssl4eo_bench.console import line, table
from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.files.storage import cache_root
from ssl4eo_bench.results.compare import Comparison
from ssl4eo_bench.results.compare import compare as compared
from ssl4eo_bench.results.files import RunFilter
from ssl4eo_bench.results.pairs import find_pairs

Arguments = argparse.Namespace

FIGURES = (".png", ".svg", ".pdf")
COLUMNS = ("task", "setting", "seeds", "samples", "metric", "A", "B", "A − B", "p", "Holm", "McNemar", "verdict")
SPARE = ("seeds", "McNemar", "p", "samples", "metric", "Holm", "setting")
"""Columns that a narrow terminal can do without."""


def compare(arguments: Arguments) -> int:
    """Say of each task whether A is better, B is, or there is no evidence."""
    figure: Path | None = arguments.figure
    if figure and figure.suffix not in FIGURES:
        raise SpecError(f"--figure {figure} must end in {', '.join(FIGURES[:-1])} or {FIGURES[-1]}.")
    wanted = RunFilter(tasks=arguments.task, protocols=arguments.protocol, fractions=arguments.fraction)
    pairs = find_pairs(arguments.results, arguments.a, arguments.b, wanted, arguments.metric)
    comparisons = compared(
        pairs,
        arguments.results,
        cache_root(arguments.cache_dir),
    )
    if figure:
        from ssl4eo_bench.results.forest import draw_forest  # brings matplotlib

        draw_forest(comparisons, arguments.a, arguments.b, figure)
    if arguments.json:
        rows = [asdict(one) | {"verdict": one.verdict} for one in comparisons]
        print(json.dumps({"a": arguments.a, "b": arguments.b, "comparisons": rows}, indent=1))
    else:
        _show(comparisons, arguments.a, arguments.b)
        if figure:
            line(f"figure  {figure}")
    return 0


def _show(comparisons: Sequence[Comparison], a: str, b: str) -> None:
    line(f"A  {a}")
    line(f"B  {b}")
    title = "test in percent, A − B with 95 % interval"
    table(title, COLUMNS, map(_row, comparisons), right=COLUMNS[2:4] + COLUMNS[5:11], spare=SPARE)
    for verdict in dict.fromkeys(one.verdict for one in comparisons):
        where = [f"{one.task} ({one.setting})" for one in comparisons if one.verdict == verdict]
        line(f"{verdict}: {', '.join(where)}")
    for note in dict.fromkeys(f"{one.task}: {note}" for one in comparisons for note in one.notes):
        line(f"note  {note}")


def _row(one: Comparison) -> tuple[object, ...]:
    clusters = f" in {one.units:,}" if one.units < one.samples else ""
    return (
        one.task,
        one.setting,
        len(one.seeds),
        f"{one.samples:,}{clusters}",
        one.metric,
        f"{100 * one.a:.2f}",
        f"{100 * one.b:.2f}",
        f"{100 * one.difference:+.2f} ({100 * one.low:+.2f} to {100 * one.high:+.2f})",
        _p(one.p),
        _p(one.p_holm),
        _p(max(pair.p for pair in one.mcnemar)) if one.mcnemar else "–",
        one.verdict,
    )


def _p(value: float) -> str:
    return "<0.001" if value < 0.0005 else f"{value:.3f}"
