"""Writing generated files: tables and leaderboards.

Official results make `tables/` and `leaderboard.*`. Results on the embedded sample have files of their own, marked
`.sample`; partial, limited and uncommitted ones enter neither.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import pandas as pd

from ssl4eo_bench.files.atomic import write_text

SUFFIXES = {False: "", True: ".sample"}
"""What stands in a file's name before its ending, by whether the results are on the sample."""


def csv_text(frame: pd.DataFrame) -> str:
    """A frame as CSV: fractions in full precision, empty where there is nothing."""
    return frame.to_csv(index=False, lineterminator="\n")


def write_generated(folder: Path, texts: Mapping[str, str], stale: Iterable[Path], *starts: str) -> list[Path]:
    """Write generated files, by path below a results directory, and return them.

    Of the `stale` files, those that are not among them are removed, unless they start as no generated file does.
    """
    written = []
    for path, text in texts.items():
        write_text(folder / path, text)
        written.append(folder / path)
    for file in set(stale) - set(written):
        with suppress(FileNotFoundError, UnicodeDecodeError):
            if file.read_text(encoding="utf-8").startswith(starts):
                file.unlink()
    return written
