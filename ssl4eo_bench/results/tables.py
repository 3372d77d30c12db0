"""Result tables and leaderboard: generated from the result files, byte for byte the same each time.

Official results make `tables/` and `leaderboard.csv`. Results on the embedded sample have files of their own, marked
`.sample`; partial, limited and uncommitted ones enter neither.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ssl4eo_bench.errors import ResultFileError
from ssl4eo_bench.results.files import RunResult, generating, read_results
from ssl4eo_bench.spec import catalogue
from ssl4eo_bench.spec.tasks import MAIN_METRIC, SHARED_METRICS
from ssl4eo_bench.storage import write_text

TABLE_STARTS = ("checkpoint,seed,", "checkpoint,fraction,seeds,")
BOARD_START = "protocol,checkpoint,seeds,mean"
MARKDOWN_START = "| protocol | checkpoint | seeds | mean |"


def write_tables(results: Path) -> list[Path]:
    """Write the table of every task and protocol, remove stale ones, and return what is there now."""
    with generating(results):
        written = _write(results, table_texts(read_results(results)))
        for file in set((results / "tables").glob("*-v*.*-v*.csv")) - set(written):
            _remove_generated(file, *TABLE_STARTS)
    return written


def table_texts(found: Sequence[RunResult]) -> dict[str, str]:
    """The tables of all results, by their place below the results directory."""
    texts = {}
    for sample in (False, True):
        chosen = _of_kind(found, sample=sample)
        for name in sorted({_table_name(result) for result in chosen}):
            rows = [result for result in chosen if _table_name(result) == name]
            _require_one_split(rows)
            for kind, frame in (("", _table(rows)), (".summary", _summary(rows))):
                texts[f"tables/{name}{kind}{_mark(sample)}.csv"] = _csv(frame)
    return texts


def write_leaderboard(results: Path) -> list[Path]:
    """Write `leaderboard.csv` and `.md` of the official results, and those of the sample; none without results.

    Runs on a fraction of the training samples do not stand there.
    """
    with generating(results):
        written = _write(results, leaderboard_texts(read_results(results)))
        for ending, start in (("csv", BOARD_START), ("md", MARKDOWN_START)):
            for file in {results / f"leaderboard{_mark(sample)}.{ending}" for sample in (False, True)} - set(written):
                _remove_generated(file, start)
    return written


def leaderboard_texts(found: Sequence[RunResult]) -> dict[str, str]:
    """The leaderboards of all results, by their place below the results directory."""
    texts = {}
    for sample in (False, True):
        chosen = [result for result in _of_kind(found, sample=sample) if result.spec.fraction is None]
        if chosen:
            board = leaderboard(chosen)
            texts[f"leaderboard{_mark(sample)}.csv"] = _csv(board)
            texts[f"leaderboard{_mark(sample)}.md"] = markdown(board)
    return texts


def _write(results: Path, texts: dict[str, str]) -> list[Path]:
    for place, text in texts.items():
        write_text(results / place, text)
    return [results / place for place in texts]


def _remove_generated(file: Path, *starts: str) -> None:
    """Remove a file that was generated from results that are not there any more; one that starts otherwise stays."""
    try:
        generated = file.read_text(encoding="utf-8").startswith(starts)
    except (FileNotFoundError, UnicodeDecodeError):
        return
    if generated:
        file.unlink(missing_ok=True)


def leaderboard(results: Sequence[RunResult]) -> pd.DataFrame:
    """One row for each protocol and checkpoint, means over seeds, best first.

    `seeds` is how many there are of the task with the fewest.
    `mean` is the mean of the main metrics of the headline tasks, and empty unless every one of them is there: means
    over different tasks do not compare.
    """
    rows: dict[tuple[str, str], dict[str, list[float]]] = {}
    seeds: dict[tuple[str, str], Counter[str]] = {}
    for result in results:
        spec = result.spec
        key = (spec.protocol_slug, spec.checkpoint.name)
        seeds.setdefault(key, Counter())[spec.task_slug] += 1
        for metric in _board_metrics(result):
            values = rows.setdefault(key, {}).setdefault(f"{spec.task_slug}.{metric}", [])
            values.append(result.metrics["test"][metric].value)
    columns = sorted({column for row in rows.values() for column in row})
    records = []
    for (protocol, checkpoint), row in rows.items():
        means = {column: sum(row[column]) / len(row[column]) for column in columns if column in row}
        head = {"protocol": protocol, "checkpoint": checkpoint, "seeds": min(seeds[protocol, checkpoint].values())}
        records.append({**head, "mean": _mean(means), **means})
    board = pd.DataFrame(records, columns=["protocol", "checkpoint", "seeds", "mean", *columns])
    order = ["protocol", "mean", *_main_columns(results), "checkpoint"]
    return board.sort_values(order, ascending=[column in ("protocol", "checkpoint") for column in order], kind="stable")


def markdown(board: pd.DataFrame) -> str:
    """A board as a Markdown table, in percent."""
    lines = ["| " + " | ".join(board.columns) + " |", "|" + "---|" * len(board.columns)]
    for record in board.itertuples(index=False):
        cells = [f"{100 * cell:.2f}" if isinstance(cell, float) else str(cell) for cell in record]
        lines.append("| " + " | ".join("" if cell == "nan" else cell for cell in cells) + " |")
    return "\n".join(lines) + "\n"


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
    records = [
        {"checkpoint": result.spec.checkpoint.name, "fraction": _fraction(result)}
        | {metric: result.metrics["test"][metric].value for metric in _test_metrics(result)}
        for result in results
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


def _require_one_split(results: Sequence[RunResult]) -> None:
    """Numbers on different samples do not compare, also where nobody published the official ones."""
    first = results[0]
    for other in results[1:]:
        if other.spec.task.splits != first.spec.task.splits:
            raise ResultFileError(
                other.spec.path,
                f"was run on other samples than {first.spec.path}",
                "run one of them again on the same data, or remove it",
            )


def _mean(values: dict[str, float]) -> float:
    headline = [task for task in catalogue.tasks().values() if task.headline]
    columns = [f"{task.name}-v{task.version}.{task.main_metric}" for task in headline]
    if not all(column in values for column in columns):
        return float("nan")
    return sum(values[column] for column in columns) / len(columns)


def _main_columns(results: Sequence[RunResult]) -> list[str]:
    return sorted({f"{result.spec.task_slug}.{MAIN_METRIC[result.spec.task.kind]}" for result in results})


def _board_metrics(result: RunResult) -> list[str]:
    return list(dict.fromkeys((MAIN_METRIC[result.spec.task.kind], *SHARED_METRICS)))


def _of_kind(results: Sequence[RunResult], *, sample: bool) -> list[RunResult]:
    if sample:
        return [result for result in results if result.spec.marks == ("sample",)]
    return [result for result in results if result.enters_tables]


def _table_name(result: RunResult) -> str:
    return f"{result.spec.task_slug}.{result.spec.protocol_slug}"


def _mark(sample: bool) -> str:
    return ".sample" if sample else ""


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, lineterminator="\n")
