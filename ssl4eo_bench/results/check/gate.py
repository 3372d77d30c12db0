"""The check of a results directory by all rules."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
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


def check(results: Path, baseline: Baseline | None) -> Report:
    """All faults of a results directory, by itself and compared with an earlier state, if there is one.

    Raises:
        ResultError: if there are no results, now or before.
    """
    contents, found, faults = _read(results)
    if not contents and not (baseline and baseline.runs):
        raise ResultError(f"{results} holds no result files (runs/**/*.json); name yours with --results.")
    tolerances, findings = _tolerances(results, baseline)
    findings += [*faults, *_misplaced(results, found), *_duplicates(found), *_unofficial(found)]
    findings += [*_differing_seeds(found, tolerances), *_differing_units(found)]
    if baseline:
        changed = {place for place, content in baseline.runs.items() if contents.get(place) != content}
        findings += changes(baseline, contents.keys(), found, changed, tolerances)
    texts: dict[str, str] = {}
    notes = []
    if len(found) < len(contents):
        notes.append("tables and leaderboard were not compared, since not all result files are valid")
    else:
        findings += stray_figure_data(results, {result.digest for result in found.values()})
        texts, more = _generate(results, list(found.values()))
        findings += more
    if baseline is None:
        notes.append("nothing was compared with what it was, since these results are in no commit")
    return Report(
        results=tuple(contents),
        generated=tuple(sorted({*texts, *_generated(results)})),
        against=baseline.name if baseline else None,
        findings=tuple(sorted(set(findings))),
        notes=(*notes, *_unknown_tasks(found.values())),
    )


def _read(results: Path) -> tuple[dict[str, bytes], dict[str, RunResult], list[Finding]]:
    """The bytes of all result files, empty where they cannot be read, the valid results, by place, and faults."""
    files = result_files(results)
    contents: dict[str, bytes] = {}
    found: dict[str, RunResult] = {}
    faults: list[Finding] = []
    with uncollected(), progress.stage("result files", total=len(files), unit="files") as advance:
        for file in files:
            place = file.relative_to(results).as_posix()
            try:
                contents[place] = result_bytes(file)
                result = parse_result(contents[place], file)
                faults += [Finding(place, what, cure) for what, cure in content_faults(result)]
                faults += figure_faults(results, result)
                found[place] = result.in_short
            except ResultFileError as error:
                contents.setdefault(place, b"")
                faults.append(Finding(place, error.what, error.cure))
            advance(1)
    return contents, found, faults


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


def _generate(results: Path, found: Sequence[RunResult]) -> tuple[dict[str, str], list[Finding]]:
    """What should have been generated, and findings about what was."""
    try:
        texts = table_files(found) | leaderboard_files(found, published_numbers(results))
    except ResultFileError as error:
        return {}, [Finding(str(error.file), error.what, error.cure)]
    except ResultError as error:
        return {}, [Finding(PUBLISHED, f"is not valid: {error}", "correct it")]
    return texts, list(generated_faults(results, texts))


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
