"""The check of a results directory by all rules."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ssl4eo_bench import progress
from ssl4eo_bench.errors import ResultError, ResultFileError, shortlist
from ssl4eo_bench.results.check.baseline import Baseline
from ssl4eo_bench.results.check.changes import changes, moved_metrics
from ssl4eo_bench.results.check.content import RUN_AGAIN, content_faults, known_task
from ssl4eo_bench.results.check.figure_faults import figure_faults, stray_figure_data
from ssl4eo_bench.results.check.findings import Finding, Report
from ssl4eo_bench.results.check.tolerances import TOLERANCES, Tolerances, parse_tolerances
from ssl4eo_bench.results.files import RunResult, parse_result, result_bytes, result_files, uncollected
from ssl4eo_bench.results.published import PUBLISHED, published_numbers
from ssl4eo_bench.results.tables import table_files
from ssl4eo_bench.results.views import leaderboard_files

GENERATED = ("tables/**/*", "leaderboard*")
"""Where only generated files may lie."""

WRITE = "write tables and leaderboard anew (`ssl4eo-bench tables`)"


@dataclass(frozen=True)
class _Stored:
    """The result files of a directory: bytes by place (empty for a file that cannot be read), and the valid results."""

    contents: dict[str, bytes]
    found: dict[str, RunResult]
    findings: list[Finding]


def check(results: Path, baseline: Baseline | None) -> Report:
    """All faults of a results directory, by itself and compared with an earlier state, if there is one.

    Raises:
        ResultError: if there are no results, now or before.
    """
    stored = _read(results)
    if not stored.contents and not (baseline and baseline.runs):
        raise ResultError(f"{results} holds no result files (runs/**/*.json); name yours with --results.")
    tolerances, findings = _tolerances(results, baseline)
    findings += stored.findings
    findings += [*_misplaced(results, stored.found), *_duplicates(stored.found), *_unofficial(stored.found)]
    findings += [*_differing_seeds(stored.found, tolerances), *_differing_units(stored.found)]
    if len(stored.found) == len(stored.contents):
        findings += stray_figure_data(results, {result.digest for result in stored.found.values()})
    if baseline:
        changed = {place for place, content in baseline.runs.items() if stored.contents.get(place) != content}
        findings += changes(baseline, stored.contents.keys(), stored.found, changed, tolerances)
    texts, more, notes = _generate(results, stored)
    if baseline is None:
        notes.append("nothing was compared with what it was, since these results are in no commit")
    return Report(
        results=tuple(stored.contents),
        generated=tuple(sorted({*texts, *_generated(results)})),
        against=baseline.name if baseline else None,
        findings=tuple(sorted({*findings, *more})),
        notes=(*notes, *_unknown_tasks(stored.found.values())),
    )


def _read(results: Path) -> _Stored:
    files = result_files(results)
    stored = _Stored({}, {}, [])
    with uncollected(), progress.stage("result files", total=len(files), unit="files") as advance:
        for file in files:
            place = file.relative_to(results).as_posix()
            try:
                stored.contents[place] = result_bytes(file)
                result = parse_result(stored.contents[place], file)
                stored.findings.extend(Finding(place, what, cure) for what, cure in content_faults(result))
                stored.findings.extend(figure_faults(results, result))
                stored.found[place] = result.in_short
            except ResultFileError as error:
                stored.contents.setdefault(place, b"")
                stored.findings.append(Finding(place, error.what, error.cure))
            advance(1)
    return stored


def _tolerances(results: Path, baseline: Baseline | None) -> tuple[Tolerances, list[Finding]]:
    """The tolerances of the baseline, so that no change allows itself, and faults of those that are there now."""
    file = results / TOLERANCES
    own, findings = Tolerances(), []
    try:
        own = parse_tolerances(file.read_bytes() if file.exists() else b"")
    except (ValueError, OSError) as error:
        findings.append(Finding(TOLERANCES, f"is not valid: {error}", "give each metric a number from 0 to 0.1"))
    if baseline is None:
        return own, findings
    try:
        return parse_tolerances(baseline.tolerances or b""), findings
    except ValueError:  # a change may correct them, and gains no tolerance by that
        return Tolerances(), findings


def _misplaced(results: Path, found: Mapping[str, RunResult]) -> Iterator[Finding]:
    """Files that are no results, and results in folders below their place."""
    for file in sorted((results / "runs").rglob("*")):
        if file.is_file() and file.suffix != ".json" and not file.name.startswith("."):
            yield Finding(file.relative_to(results).as_posix(), "is no result file", "remove it")
    for place, result in found.items():
        if place.count("/") > str(result.spec.path).count("/"):  # the reader compares only the last parts
            yield Finding(place, f"belongs at {result.spec.path}", "move it back")


def _duplicates(found: Mapping[str, RunResult]) -> Iterator[Finding]:
    """Results of the same experiment as another one."""
    first: dict[str, str] = {}
    for place, result in found.items():
        if (other := first.setdefault(result.digest, place)) != place:
            yield Finding(place, f"is the same experiment as {other} (equal digests)", "remove one of them")


def _differing_seeds(found: Mapping[str, RunResult], tolerances: Tolerances) -> Iterator[Finding]:
    """Runs with different numbers that differ only in a seed that cannot change them."""
    first: dict[str, tuple[str, RunResult]] = {}
    for place, result in found.items():
        if result.spec.seed_matters:
            continue
        without_seed = result.spec.model_copy(update={"seed": 0}).digest
        other, same = first.setdefault(without_seed, (place, result))
        if moved := moved_metrics(same, result, tolerances):
            what = f"differs from {other}, though no seed can change this run: {shortlist(moved, at_most=3)}"
            yield Finding(place, what, "run both again, or remove the wrong one")


def _differing_units(found: Mapping[str, RunResult]) -> Iterator[Finding]:
    """Results with replicates that draw other units than most results on the same test samples."""
    groups: dict[tuple[str, str], dict[str, tuple[int, str]]] = {}
    for place, result in found.items():
        if result.resampled:
            samples = result.spec.task_slug, result.spec.task.splits["test"].digest
            groups.setdefault(samples, {})[place] = result.resampled.units, result.resampled.units_are
    for group in groups.values():
        usual, _ = Counter(group.values()).most_common(1)[0]
        for place, drawn in group.items():
            if drawn != usual:
                what = "draws {:,} {}".format(*drawn) + ", but other results of its task draw {:,} {}".format(*usual)
                yield Finding(place, what, RUN_AGAIN)


def _unofficial(found: Mapping[str, RunResult]) -> Iterator[Finding]:
    """Unofficial results in a directory of official ones."""
    if not any(result.enters_tables for result in found.values()):
        return
    for place, result in found.items():
        if not result.enters_tables:
            marks = ", ".join(result.spec.marks) or "run from changed code"
            cure = "keep it in a results directory of its own, or run it again officially"
            yield Finding(place, f"is not official ({marks}), but lies among official results", cure)


def _generate(results: Path, stored: _Stored) -> tuple[dict[str, str], list[Finding], list[str]]:
    """What should have been generated, findings about what was, and notes on what could not be compared."""
    if len(stored.found) < len(stored.contents):
        return {}, [], ["tables and leaderboard were not compared, since not all result files are valid"]
    found = list(stored.found.values())
    try:
        published = published_numbers(results)
    except ResultError as error:
        return {}, [Finding(PUBLISHED, f"is not valid: {error}", "correct it")], []
    try:
        texts = table_files(found) | leaderboard_files(found, published)
    except ResultFileError as error:
        return {}, [Finding(str(error.file), error.what, error.cure)], []
    return texts, list(generated_faults(results, texts)), []


def generated_faults(results: Path, texts: Mapping[str, str]) -> Iterator[Finding]:
    """Generated files that are missing, stale, or come from nowhere; `texts` are what they should be, by place."""
    there = _generated(results)
    for place, text in texts.items():
        if place not in there:
            yield Finding(place, "is missing", WRITE)
        elif (results / place).read_bytes() != text.encode():
            yield Finding(place, "is not what the result files give", WRITE)
    for place in there:
        if place not in texts:
            yield Finding(place, "is given by no result file", f"remove it, or {WRITE}")


def _generated(results: Path) -> list[str]:
    """The places of the files that should have been generated."""
    files = [file for pattern in GENERATED for file in results.glob(pattern) if file.is_file()]
    return sorted(file.relative_to(results).as_posix() for file in files if not file.name.startswith("."))


def _unknown_tasks(found: Iterable[RunResult]) -> Iterator[str]:
    unknown = sorted({result.spec.task.name for result in found if known_task(result) is None})
    if unknown:
        yield f"split sizes were not compared for tasks that are not in the catalogue: {', '.join(unknown)}"
