"""Writing generated files: tables and leaderboards.

Official results make `tables/` and `leaderboard.*`. Results on the embedded sample have files of their own, marked
`.sample`; partial, limited and uncommitted ones enter neither.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from ssl4eo_bench.files.atomic import write_text

SUFFIXES = {False: "", True: ".sample"}
"""What stands in a file's name before its ending, by whether the results are on the sample."""


def csv_text(frame: pd.DataFrame) -> str:
    """A frame as CSV: fractions in full precision, empty where there is nothing."""
    return frame.to_csv(index=False, lineterminator="\n")


def write_generated(folder: Path, texts: Mapping[str, str], stale: Iterable[Path], *starts: str) -> list[Path]:
    """Write generated files, remove those of results that are not there any more, and return what was written.

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
