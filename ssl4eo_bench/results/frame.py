"""Results as one pandas DataFrame, one row for each run. Tables, leaderboard, comparisons and report start from it."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from ssl4eo_bench.config.records import Cost
from ssl4eo_bench.errors import ResultError, ResultFileError, UnknownNameError
from ssl4eo_bench.results.files import RunFilter, RunResult, read_results

KEYS = ["task", "protocol", "checkpoint", "fraction", "marks"]
"""Columns that tell experiments apart; runs that agree in all of them differ in their seed alone."""


def load_results(directory: Path | str) -> pd.DataFrame:
    """The results below a directory, one row for each run.

    The columns are `task` and `protocol` (each with its version), `checkpoint`, `seed`, `fraction` (of the training
    samples), `marks` (`sample`, `partial`, ...; empty for a whole official split), `official`, `kind`, `main_metric`,
    `train_samples`, `test_samples`, every test metric as a fraction with the bounds of its interval (`accuracy`,
    `accuracy_low`, `accuracy_high`), `C`, `started`, `digest` and a few more. What a run does not have is NaN.

    Raises:
        ResultError: if the directory is absent or one of the files cannot be used.
    """
    return frame_of(read_results(Path(directory), in_short=True)).drop(columns="result")


def frame_of(results: Iterable[RunResult]) -> pd.DataFrame:
    """Results in their order as a frame like that of `load_results`, with each `RunResult` in the column `result`."""
    records = [_record(result) for result in results]
    if not records:
        flags = dict.fromkeys(("official", "on_leaderboard"), bool)
        return pd.DataFrame(columns=[*KEYS, "seed", *flags, "result"]).astype(flags)
    return pd.DataFrame(records)


def _record(result: RunResult) -> dict[str, object]:
    spec = result.spec
    record: dict[str, object] = {
        "task": spec.task_slug,
        "protocol": spec.protocol_slug,
        "checkpoint": spec.checkpoint.name,
        "seed": spec.seed,
        "fraction": result.fraction,
        "marks": " ".join(spec.marks),
        "official": result.enters_tables,
        "kind": spec.task.kind,
        "main_metric": result.main_metric,
        "train_samples": result.subset.count if result.subset else result.counts["train"],
        "test_samples": result.counts["test"],
    }
    for name, metric in result.metrics["test"].items():
        record |= {name: metric.value, f"{name}_low": metric.low, f"{name}_high": metric.high}
    return record | {
        "C": result.selection.C,
        **(cost.model_dump() if (cost := result.provenance.cost) else dict.fromkeys(Cost.model_fields)),
        "images_per_second": result.images_per_second,
        "started": result.provenance.started,
        "digest": result.digest,
        "seed_matters": spec.seed_matters,
        "is_floor": spec.checkpoint.is_floor,
        "on_leaderboard": spec.fraction is None and result.reference is None,
        "result": result,
    }


def csv_text(frame: pd.DataFrame) -> str:
    """A frame as CSV: fractions in full precision, empty where there is nothing."""
    return frame.to_csv(index=False, lineterminator="\n")


def publishable(frame: pd.DataFrame, *, sample: bool) -> pd.DataFrame:
    """The runs that generated files are made of: official ones, or those on the whole embedded sample."""
    return frame[frame["marks"] == "sample"] if sample else frame[frame["official"]]


def select(frame: pd.DataFrame, wanted: RunFilter) -> pd.DataFrame:
    """The runs that are wanted."""
    return frame[frame["result"].map(wanted.matches).astype(bool)]


def choose(frame: pd.DataFrame, wanted: RunFilter, *, sample: bool, of: str = "results") -> pd.DataFrame:
    """The wanted runs among those that generated files are made of; `of` says in errors what the frame holds.

    Raises:
        UnknownNameError: for a task or protocol without runs.
        ResultError: if there are none.
    """
    runs = publishable(frame, sample=sample)
    for kind, names in (("task", wanted.tasks), ("protocol", wanted.protocols)):
        known = {name for slug in runs[kind] for name in (slug, unversioned(slug))}
        for name in names:
            if known and name not in known:
                raise UnknownNameError(f"{of} of {kind}", name, known)
    found = select(runs, wanted)
    if found.empty:
        what = "sample" if sample else "official"
        others = not sample and any(run.spec.sample for run in frame["result"])
        hint = "; --sample shows those on the embedded sample" if others else ""
        raise ResultError(f"there are no such {what} {of}; make some with `ssl4eo-bench run`{hint}.")
    return found


def unversioned(slug: str) -> str:
    """A task or protocol without its version."""
    return slug.rpartition("-v")[0]


def distinct(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs that can differ by their seeds: of runs that no seed can change, only the one of the lowest seed."""
    return frame[frame["seed_matters"] | (frame["seed"] == frame.groupby(KEYS)["seed"].transform("min"))]


def metric_names(frame: pd.DataFrame) -> list[str]:
    """Names of the test metrics of runs on one task, the main metric first."""
    main = frame["main_metric"].iloc[0]
    measured = (name.removesuffix("_low") for name in map(str, frame) if name.endswith("_low"))
    return sorted((name for name in measured if frame[name].notna().any()), key=lambda name: (name != main, name))


def require_one_split(results: Iterable[RunResult]) -> None:
    """Refuse results of one task on different samples: their numbers do not compare.

    Raises:
        ResultFileError: naming two of them.
    """
    first: dict[str, RunResult] = {}
    for result in results:
        other = first.setdefault(result.spec.task_slug, result)
        if result.spec.task.splits != other.spec.task.splits:
            raise ResultFileError(
                result.spec.path,
                f"was run on other samples than {other.spec.path}",
                "run one of them again on the same data, or remove it",
            )
