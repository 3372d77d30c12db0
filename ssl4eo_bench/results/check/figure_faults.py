"""Rules for the data of figures that is kept beside results: it belongs to its result, and agrees with its numbers."""

from collections.abc import Collection, Iterator
from pathlib import Path

from ssl4eo_bench.config.records import FigureData
from ssl4eo_bench.config.task import IGNORED
from ssl4eo_bench.errors import ResultFileError
from ssl4eo_bench.metrics.calibration import error_of_bins
from ssl4eo_bench.results.check.content import EXACT
from ssl4eo_bench.results.check.findings import Finding
from ssl4eo_bench.results.figure_data import CURE, FOLDER, figure_file, read_figure_data
from ssl4eo_bench.results.files import RunResult


def figure_faults(results: Path, result: RunResult) -> Iterator[Finding]:
    """What is wrong with the figure data of a result; nothing where there is none."""
    place = figure_file(results, result.digest).relative_to(results).as_posix()
    try:
        data = read_figure_data(results, result.digest, result.checksum)
    except ResultFileError as error:
        yield Finding(place, error.what, error.cure)
        return
    if data is None:
        return
    samples, classes = result.counts["test"], data.points[:, 2]
    if len(classes) > samples or any(classes[classes != IGNORED] >= len(result.classes)):
        yield Finding(place, "has places of samples or classes that its result does not have", CURE)
    for what, found, expected in _counted(result, data):
        if abs(found - expected) > EXACT:
            yield Finding(place, f"gives {what} of {found:,.10g}, and its result {expected:,.10g}", CURE)


def _counted(result: RunResult, data: FigureData) -> Iterator[tuple[str, float, float]]:
    """What the bins of the reliability diagram give, by name, and what the result gives."""
    test, bins, samples = result.metrics["test"], data.reliability, result.counts["test"]
    if result.spec.task.kind == "multilabel":
        predictions, right = samples * len(result.classes), sum(one.support for one in result.classes)
    else:
        predictions, right = samples, round(test["accuracy"].value * samples)
    yield "a number of predictions", sum(one.count for one in bins), predictions
    yield "a number of right ones", sum(one.correct for one in bins), right
    if "ece" in test:
        yield "an ECE", error_of_bins(bins), test["ece"].value


def stray_figure_data(results: Path, digests: Collection[str]) -> Iterator[Finding]:
    """Figure data of no result that is there."""
    for file in sorted((results / FOLDER).glob("*.json")):
        if file.stem not in digests:
            yield Finding(file.relative_to(results).as_posix(), "belongs to no result", "remove it")
