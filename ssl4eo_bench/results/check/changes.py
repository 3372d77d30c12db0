"""Changes between two states of the results that are not allowed: official runs must stay, and so must their metrics.

Metrics are compared with the state before, and with what was first committed under the same versions, so that small
steps within the tolerance do not add up. A run under a new name (equal digests) is compared like any other.
"""

from collections.abc import Iterator, Mapping, Set
from operator import itemgetter
from pathlib import PurePosixPath

from ssl4eo_bench.config.records import MetricValue
from ssl4eo_bench.errors import ResultFileError, shortlist
from ssl4eo_bench.results.check.baseline import Baseline
from ssl4eo_bench.results.check.findings import Finding
from ssl4eo_bench.results.check.tolerances import Tolerances
from ssl4eo_bench.results.files import RunResult, parse_result

BUMP = "restore it, or raise the version of the task or the protocol and run again"


def changes(
    baseline: Baseline, stored: Set[str], found: Mapping[str, RunResult], changed: Set[str], tolerances: Tolerances
) -> Iterator[Finding]:
    """The changes since `baseline` that are not allowed.

    Only official runs that could be read in the baseline are guarded; all others may change and go. `stored` are the
    places of all result files now, `found` the valid ones, and `changed` the places of files with other bytes than in
    `baseline`, and of files that are gone.
    """
    official = [result for result in found.values() if result.enters_tables]
    by_digest = {result.digest: result for result in official}
    origins: dict[str, tuple[int, RunResult]] = {}  # by digest and by place, the first of each, with its number
    for number, (place, content) in enumerate(baseline.first(changed).items()):
        if (one := _official(content, place)) is not None:
            for key in (one.digest, str(one.spec.path)):
                origins.setdefault(key, (number, one))
    versions: dict[tuple[object, ...], list[RunResult]] = {}
    for result in official:
        versions.setdefault(_run(result), []).append(result)
    for place in sorted(changed):
        was = _official(baseline.runs[place], place)
        if was is None or (place in stored and place not in found):
            continue  # an invalid file has its finding already
        now = found.get(place) or by_digest.get(was.digest)
        if now is None:
            if not any(_is_higher_version(result, was) for result in versions.get(_run(was), ())):
                yield Finding(place, f"was removed; {baseline.name} has it", BUMP)
            continue
        known = [origins[key] for key in (now.digest, place) if key in origins]
        _, origin = min(known, key=itemgetter(0), default=(0, was))
        there = str(now.spec.path)
        renamed = "" if there == place else f" (it was {place})"
        if fault := _change(was, now, tolerances):
            yield Finding(there, f"{fault}{renamed}", BUMP)
        elif fault := _change(origin, now, tolerances):
            yield Finding(there, f"{fault}, step by step since it was first committed{renamed}", BUMP)


def _official(stored: bytes, place: str) -> RunResult | None:
    try:
        result = parse_result(stored, PurePosixPath(place))
    except ResultFileError:
        return None
    return result if result.enters_tables else None


def _is_higher_version(result: RunResult, was: RunResult) -> bool:
    """Whether a result of the same run has a higher version of its task or protocol, and no lower one of either."""
    task = result.spec.task.version - was.spec.task.version
    protocol = result.spec.protocol.version - was.spec.protocol.version
    return min(task, protocol) >= 0 < max(task, protocol)


def _run(result: RunResult) -> tuple[object, ...]:
    spec = result.spec
    seed = spec.seed if spec.seed_matters else None  # every seed gives the same numbers
    return spec.task.name, spec.protocol.name, spec.checkpoint.name, seed, spec.fraction


def _change(was: RunResult, now: RunResult, tolerances: Tolerances) -> str | None:
    """The change between two results of one place that is not allowed, or none."""
    if not now.enters_tables:
        return "was official, and comes from changed code now"
    if now.digest != was.digest:
        return "is another experiment under the same name: its specification changed"
    moved = moved_metrics(was, now, tolerances)
    if was.resampled and _units(now) != _units(was):
        moved.append("its replicates are gone, or draw other units")
    return f"moved: {shortlist(moved, at_most=3)}" if moved else None


def _units(result: RunResult) -> tuple[int, str] | None:
    return (result.resampled.units, result.resampled.units_are) if result.resampled else None


def moved_metrics(was: RunResult, now: RunResult, tolerances: Tolerances) -> list[str]:
    """Sentences about the metrics that are gone, or moved by more than their tolerance."""
    moved = []
    for split, metrics in was.metrics.items():
        for name, value in metrics.items():
            allowed = tolerances.of(name, value)
            following = now.metrics.get(split, {}).get(name)
            if following is None:
                moved.append(f"{split} {name} is gone")
            elif _distance(value, following) > allowed:
                moved.append(f"{split} {name} from {_shown(value)} to {_shown(following)} (tolerance {allowed:g})")
    return moved


def _distance(was: MetricValue, now: MetricValue) -> float:
    """The largest move of a value or one of its bounds; infinite if bounds appeared or disappeared."""
    if (was.low is None) != (now.low is None):
        return float("inf")
    pairs = ((was.value, now.value), (was.low, now.low), (was.high, now.high))
    return max(abs(after - before) for before, after in pairs if before is not None and after is not None)


def _shown(value: MetricValue) -> str:
    bounds = "" if value.low is None or value.high is None else f" ({value.low:.5f}–{value.high:.5f})"
    return f"{value.value:.5f}{bounds}"
