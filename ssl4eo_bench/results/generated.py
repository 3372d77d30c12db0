"""What all generated files share: which results enter them, and how they are written and removed.

Official results make `tables/` and `leaderboard.*`. Results on the embedded sample have files of their own, marked
`.sample`; partial, limited and uncommitted ones enter neither.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from ssl4eo_bench.errors import ResultFileError
from ssl4eo_bench.files.atomic import write_text
from ssl4eo_bench.results.files import RunResult


def entering(results: Sequence[RunResult], *, sample: bool) -> list[RunResult]:
    """Those results that official files are made of, or those of the embedded sample's files."""
    if sample:
        return [result for result in results if result.spec.marks == ("sample",)]
    return [result for result in results if result.enters_tables]


def on_all_samples(results: Sequence[RunResult]) -> list[RunResult]:
    """Those results that stand on leaderboards: on all training samples, and by no recipe of published numbers."""
    return [result for result in results if result.spec.fraction is None and result.reference is None]


def distinct(results: Sequence[RunResult]) -> list[RunResult]:
    """Those runs of one checkpoint, task and protocol that differ: where no seed matters, only the first."""
    first = min(results, key=lambda result: result.spec.seed)
    return [result for result in results if result.spec.seed_matters or result is first]


def mark(*, sample: bool) -> str:
    """What stands in a file's name before its ending."""
    return ".sample" if sample else ""


def require_one_split(results: Sequence[RunResult]) -> None:
    """Numbers on different samples do not compare, also where nobody published the official ones.

    Raises:
        ResultFileError: if results of one task are of different splits.
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


def csv_text(frame: pd.DataFrame) -> str:
    """A frame as CSV: fractions in full precision, empty where there is nothing."""
    return frame.to_csv(index=False, lineterminator="\n")


def write_generated(folder: Path, texts: Mapping[str, str], stale: Iterable[Path], *starts: str) -> list[Path]:
    """Write generated files, and remove what was generated from results that are not there any more.

    Args:
        folder: a results directory.
        texts: by path below it.
        stale: files that go, unless they are among the texts.
        starts: of generated files; a stale one that starts otherwise stays.
    """
    written = []
    for path, text in texts.items():
        write_text(folder / path, text)
        written.append(folder / path)
    for file in set(stale) - set(written):
        _remove_generated(file, starts)
    return written


def _remove_generated(file: Path, starts: tuple[str, ...]) -> None:
    try:
        generated = file.read_text(encoding="utf-8").startswith(starts)
    except (FileNotFoundError, UnicodeDecodeError):
        return
    if generated:
        file.unlink(missing_ok=True)
