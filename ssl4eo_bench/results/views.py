"""The leaderboard's files, generated from the result files, and its views: CSV, Markdown, HTML and LaTeX."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from ssl4eo_bench.errors import ResultError
from ssl4eo_bench.files.atomic import write_text
from ssl4eo_bench.results.files import RunFilter, RunResult, fingerprints_of, generating, read_and_keep, read_results
from ssl4eo_bench.results.frame import choose, csv_text, frame_of, publishable
from ssl4eo_bench.results.index import generated_before, keep_generated
from ssl4eo_bench.results.latex import latex
from ssl4eo_bench.results.leaderboard import FIRST_COLUMNS, Leaderboard
from ssl4eo_bench.results.markdown import HEADING, markdown
from ssl4eo_bench.results.published import PublishedNumber, published_numbers
from ssl4eo_bench.results.ranked_rows import headline_tasks, make_leaderboard
from ssl4eo_bench.results.tables import SUFFIXES, TABLE_STARTS, table_files, tables_there

STARTS = (f"{','.join(FIRST_COLUMNS)},", HEADING)
"""How the generated files begin, so that no other file is replaced or removed."""
NAMES: Final = [f"leaderboard{suffix}.{kind}" for suffix in SUFFIXES.values() for kind in ("csv", "md")]


def _html(board: Leaderboard) -> str:
    from ssl4eo_bench.results.report.pages import leaderboard_page  # brings jinja2, which `check` does without

    return leaderboard_page(board)


FORMATS: Final[dict[str, Callable[[Leaderboard], str]]] = {
    "csv": lambda board: csv_text(board.frame()),
    "md": markdown,
    "html": _html,
    "latex": latex,
}
"""Functions that make the views, by their names on the command line."""


def write_generated_files(results: Path) -> dict[str, list[Path]]:
    """Write tables and leaderboard, of the official results and of those on the sample, unless nothing has changed.

    Returns:
        The files by what they are: `table` or `leaderboard`.
    """
    with generating(results):
        published = published_numbers(results)
        settings = repr((published, headline_tasks()))
        tables, boards = tables_there(results), [file for name in NAMES if (file := results / name).is_file()]
        if not generated_before(results, [*fingerprints_of(results), settings], [*tables, *boards]):
            found, fingerprints = read_and_keep(results)
            table_texts, board_texts = table_files(found), leaderboard_files(found, published)
            tables = _write(results, table_texts, tables, TABLE_STARTS)
            boards = _write(results, board_texts, boards, STARTS)
            keep_generated(results, [*fingerprints, settings], table_texts | board_texts)
    return {"table": tables, "leaderboard": boards}


def _write(results: Path, texts: Mapping[str, str], there: Iterable[Path], starts: tuple[str, ...]) -> list[Path]:
    """Write texts by path, and return their files; of the others that are there, those that start so are removed."""
    written = [results / path for path in texts]
    for file, text in zip(written, texts.values(), strict=True):
        write_text(file, text)
    for file in set(there) - set(written):
        with suppress(FileNotFoundError, UnicodeDecodeError):
            if file.read_text(encoding="utf-8").startswith(starts):
                file.unlink()
    return written


def leaderboard_files(results: Sequence[RunResult], published: Sequence[PublishedNumber]) -> dict[str, str]:
    """The leaderboards of all results that enter them: their text, by their name in the results directory.

    Raises:
        ResultError: if results of one task are of different splits.
    """
    frame, texts = frame_of(results), {}
    for sample, suffix in SUFFIXES.items():
        runs = publishable(frame, sample=sample)
        if (ranked := runs[runs["on_leaderboard"]]).empty:
            continue
        board = make_leaderboard(ranked, () if sample else published)  # nothing was published on the sample
        for kind in ("csv", "md"):
            texts[f"leaderboard{suffix}.{kind}"] = FORMATS[kind](board)
    return texts


def chosen_leaderboard(
    results: Path, wanted: RunFilter, *, metrics: Sequence[str] = (), sample: bool = False
) -> Leaderboard:
    """The leaderboard of official results, or of those on the embedded sample, or of some of them.

    Where tasks are named, the mean is over these.

    Raises:
        UnknownNameError: for a task or protocol without results.
        ResultError: if there are none.
    """
    frame = frame_of(read_results(results, in_short=True))
    runs = choose(frame[frame["on_leaderboard"]], wanted, sample=sample, of="results on all training samples")
    counted = sorted(set(runs["task"])) if wanted.tasks else None
    return make_leaderboard(runs, () if sample else published_numbers(results), metrics=metrics, counted=counted)


def refuse_generated(file: Path, results: Path) -> None:
    """Refuse to write a view over a generated file.

    Raises:
        ResultError: if `file` is one of them.
    """
    if file.name in NAMES and file.resolve().parent == results.resolve():
        raise ResultError(f"{file} is for the leaderboard of all results; name another file with --out.")
