"""The leaderboard's files, generated from the result files, and the standings that views are made of."""

from collections.abc import Sequence
from pathlib import Path

from ssl4eo_bench.errors import ResultError, shortlist
from ssl4eo_bench.results.files import RunResult, generating, read_results
from ssl4eo_bench.results.generated import csv_text, entering, mark, on_all_samples, write_generated
from ssl4eo_bench.results.published import PublishedNumber, published_numbers
from ssl4eo_bench.results.selection import is_of
from ssl4eo_bench.results.standings import Standings, standings
from ssl4eo_bench.results.views import HEADING, markdown

STARTS = ("rank_first,rank_last,protocol,checkpoint,", HEADING)


def write_leaderboard(results: Path) -> list[Path]:
    """Write `leaderboard.csv` and `.md` of the official results, and those of the sample; none without results."""
    with generating(results):
        texts = leaderboard_files(read_results(results), published_numbers(results))
        return write_generated(results, texts, [results / name for name in _names()], *STARTS)


def leaderboard_files(results: Sequence[RunResult], published: Sequence[PublishedNumber]) -> dict[str, str]:
    """The leaderboards of all results that enter them: their text, by their name in the results directory.

    Raises:
        ResultError: if results of one task are of different splits.
    """
    texts = {}
    for sample in (False, True):
        if chosen := on_all_samples(entering(results, sample=sample)):
            board = standings(chosen, () if sample else published)  # nothing was published on the sample
            texts[f"leaderboard{mark(sample=sample)}.csv"] = csv_text(board.frame())
            texts[f"leaderboard{mark(sample=sample)}.md"] = markdown(board)
    return texts


def official_standings(
    results: Path, *, tasks: Sequence[str] = (), protocols: Sequence[str] = (), metrics: Sequence[str] = ()
) -> Standings:
    """The standings of official results, or of some of them.

    Args:
        results: a results directory.
        tasks: with or without version (default: all); the mean is then over these.
        protocols: with or without version (default: all).
        metrics: to show; see `standings`.

    Raises:
        ResultError: if there are none, or none of one of these names.
    """
    chosen = on_all_samples(entering(read_results(results), sample=False))
    _require("task", tasks, {name for r in chosen for name in (r.spec.task.name, r.spec.task_slug)})
    _require("protocol", protocols, {name for r in chosen for name in (r.spec.protocol.name, r.spec.protocol_slug)})
    chosen = [result for result in chosen if is_of(result, tasks=tasks, protocols=protocols)]
    if not chosen:
        raise ResultError(
            f"{results} has no such official result; `list runs --results {results}` shows what there is."
        )
    counted = sorted({result.spec.task_slug for result in chosen}) if tasks else None
    return standings(chosen, published_numbers(results), metrics=metrics, counted=counted)


def refuse_generated(file: Path, results: Path) -> None:
    """Keep views out of the place of generated files.

    Raises:
        ResultError: if `file` is one of them.
    """
    if file.name in _names() and file.resolve().parent == results.resolve():
        raise ResultError(f"{file} is for the leaderboard of all results; name another file with --out.")


def _names() -> list[str]:
    return [f"leaderboard{mark(sample=sample)}.{kind}" for sample in (False, True) for kind in ("csv", "md")]


def _require(kind: str, names: Sequence[str], known: set[str]) -> None:
    for name in names:
        if name not in known:
            there = shortlist(sorted(known), at_most=20) or "nothing"
            raise ResultError(f"no official result on all training samples has {kind} {name!r}; there is {there}.")
