"""Result tables: generated from the result files, byte for byte the same each time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ssl4eo_bench.config.task import MAIN_METRIC
from ssl4eo_bench.results.files import RunResult, generating, read_results
from ssl4eo_bench.results.generated import csv_text, distinct, entering, mark, require_one_split, write_generated

STARTS = ("checkpoint,seed,", "checkpoint,fraction,seeds,")


def write_tables(results: Path) -> list[Path]:
    """Write the table of every task and protocol, remove stale ones, and return what is there now."""
    with generating(results):
        there = (results / "tables").glob("*-v*.*-v*.csv")
        return write_generated(results, table_files(read_results(results)), there, *STARTS)


def table_files(results: Sequence[RunResult]) -> dict[str, str]:
    """The tables of all results that enter them: their text, by their path below the results directory.

    Raises:
        ResultError: if results of one task are of different splits.
    """
    texts = {}
    for sample in (False, True):
        chosen = entering(results, sample=sample)
        require_one_split(chosen)
        for name in sorted({_table_name(result) for result in chosen}):
            rows = [result for result in chosen if _table_name(result) == name]
            for kind, frame in (("", _table(rows)), (".summary", _summary(rows))):
                texts[f"tables/{name}{kind}{mark(sample=sample)}.csv"] = csv_text(frame)
    return texts


def _table(results: Sequence[RunResult]) -> pd.DataFrame:
    """One row for each run: every test metric with its interval, what was chosen, and the digest."""
    records = []
    for result in sorted(results, key=lambda r: (r.spec.checkpoint.name, r.spec.seed, _fraction(r))):
        record: dict[str, object] = {
            "checkpoint": result.spec.checkpoint.name,
            "seed": result.spec.seed,
            "fraction": _fraction(result),
            "train_samples": result.subset.count if result.subset else result.counts["train"],
        }
        for metric in _test_metrics(result):
            estimate = result.metrics["test"][metric]
            record |= {metric: estimate.value, f"{metric}_low": estimate.low, f"{metric}_high": estimate.high}
        record |= {"C": result.selection.C, "test_samples": result.counts["test"], "digest": result.digest}
        records.append(record)
    return pd.DataFrame(records)


def _summary(results: Sequence[RunResult]) -> pd.DataFrame:
    """One row for each checkpoint and fraction: mean and sample standard deviation over seeds of every test metric."""
    members: dict[tuple[str, float], list[RunResult]] = {}
    for result in results:
        members.setdefault((result.spec.checkpoint.name, _fraction(result)), []).append(result)
    records = [
        {"checkpoint": name, "fraction": fraction}
        | {metric: result.metrics["test"][metric].value for metric in _test_metrics(result)}
        for (name, fraction), runs in members.items()
        for result in distinct(runs)
    ]
    groups = pd.DataFrame(records).groupby(["checkpoint", "fraction"], sort=True)
    columns: dict[str, pd.Series[Any]] = {"seeds": groups.size()}
    for metric in _test_metrics(results[0]):
        columns |= {metric: groups[metric].mean(), f"{metric}_std": groups[metric].std()}
    return pd.DataFrame(columns).reset_index()


def _fraction(result: RunResult) -> float:
    return 1.0 if result.spec.fraction is None else result.spec.fraction


def _test_metrics(result: RunResult) -> list[str]:
    """Names of the test metrics, the main one first."""
    main = MAIN_METRIC[result.spec.task.kind]
    return sorted(result.metrics["test"], key=lambda name: (name != main, name))


def _table_name(result: RunResult) -> str:
    return f"{result.spec.task_slug}.{result.spec.protocol_slug}"
