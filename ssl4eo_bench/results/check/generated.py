"""Whether the files that are generated from results are those that these results give."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ssl4eo_bench.results.check.findings import Finding
from ssl4eo_bench.results.files import RunResult
from ssl4eo_bench.results.leaderboard import leaderboard_files
from ssl4eo_bench.results.published import PublishedNumber
from ssl4eo_bench.results.tables import table_files

PLACES = ("tables/**/*", "leaderboard*")
"""Where only generated files may lie."""

WRITE = "write tables and leaderboard anew (`ssl4eo-bench tables`, `ssl4eo-bench leaderboard`)"


def generated_texts(found: Sequence[RunResult], published: Sequence[PublishedNumber]) -> dict[str, str]:
    """Every generated file, by its place below the results directory.

    Args:
        found: all results.
        published: numbers of the literature to stand beside.

    Raises:
        ResultFileError: if results do not go together.
    """
    return table_files(found) | leaderboard_files(found, published)


def present(results: Path) -> list[str]:
    """The places of the files that should have been generated."""
    files = [file for pattern in PLACES for file in results.glob(pattern) if file.is_file()]
    return sorted(file.relative_to(results).as_posix() for file in files if not file.name.startswith("."))


def generated_faults(results: Path, texts: dict[str, str]) -> Iterator[Finding]:
    """Generated files that are missing, stale, or come from nowhere."""
    there = present(results)
    for place, text in texts.items():
        if place not in there:
            yield Finding(place, "is missing", WRITE)
        elif (results / place).read_bytes() != text.encode():
            yield Finding(place, "is not what the result files give", WRITE)
    for place in there:
        if place not in texts:
            yield Finding(place, "is given by no result file", f"remove it, or {WRITE}")
