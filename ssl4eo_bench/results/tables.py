"""Result tables: generated from the result files, byte for byte the same each time.

Official results make `tables/` and `leaderboard.*`. Results on the embedded sample have files of their own, marked
`.sample`; partial, limited and uncommitted ones enter neither.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from ssl4eo_bench.results.files import RunResult
from ssl4eo_bench.results.frame import csv_text, distinct, frame_of, metric_names, publishable, require_one_split

SUFFIXES = {False: "", True: ".sample"}
"""What stands in a file's name before its ending, by whether the results are on the sample."""

TABLE_STARTS = ("checkpoint,seed,", "checkpoint,fraction,seeds,")


def tables_there(results: Path) -> list[Path]:
    """The files of a results directory with names of tables."""
    return sorted((results / "tables").glob("*-v*.*-v*.csv"))


def table_files(results: Iterable[RunResult]) -> dict[str, str]:
    """The tables of all results that enter them: their text, by their path below the results directory.

    Raises:
        ResultError: if results of one task are of different splits.
    """
    frame, texts = frame_of(results), {}
    for sample, suffix in SUFFIXES.items():
        chosen = publishable(frame, sample=sample)
        require_one_split(chosen["result"])
        for (task, protocol), runs in chosen.groupby(["task", "protocol"]):
            for kind, table in (("", _table(runs)), (".summary", _summary(runs))):
                texts[f"tables/{task}.{protocol}{kind}{suffix}.csv"] = csv_text(table)
    return texts


def _table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row for each run: every test metric with its interval, what was chosen, and the digest."""
    metrics = [f"{name}{part}" for name in metric_names(runs) for part in ("", "_low", "_high")]
    columns = ["checkpoint", "seed", "fraction", "train_samples", *metrics, "C", "test_samples", "digest"]
    return runs.sort_values(["checkpoint", "seed", "fraction"])[columns]


def _summary(runs: pd.DataFrame) -> pd.DataFrame:
    """One row for each checkpoint and fraction: mean and sample standard deviation over seeds of every test metric."""
    keys = ["checkpoint", "fraction"]
    groups = distinct(runs).sort_values([*keys, "seed"]).groupby(keys)  # in order, which decides on the last digit
    columns: dict[str, pd.Series[Any]] = {"seeds": groups.size()}
    for metric in metric_names(runs):
        columns |= {metric: groups[metric].mean(), f"{metric}_std": groups[metric].std()}
    return pd.DataFrame(columns).reset_index()
