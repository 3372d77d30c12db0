"""The report as one HTML page, and its figures as files."""

import base64
import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path

from jinja2 import Environment as Templates
from jinja2 import FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from ssl4eo_bench import __version__, progress
from ssl4eo_bench.errors import ResultError
from ssl4eo_bench.files.atomic import write_text
from ssl4eo_bench.results.files import read_results
from ssl4eo_bench.results.panels import ranks
from ssl4eo_bench.results.published import published_numbers
from ssl4eo_bench.results.report import collect
from ssl4eo_bench.results.report.exhibits import exhibits
from ssl4eo_bench.results.report.svg import inline, write_files

HERE = Path(__file__).parent

OPEN_UP_TO = 4
"""Groups up to which their first exhibits are open from the start."""


def write_report(
    results: Path,
    file: Path,
    *,
    cache_dir: Path,
    figures_dir: Path | None = None,
    tasks: Collection[str] = (),
    protocols: Collection[str] = (),
    sample: bool = False,
) -> list[Path]:
    """Write the report of a results directory.

    Args:
        results: the directory.
        file: the page.
        cache_dir: where the scores of single samples are kept; what needs them is left out where they are not there.
        figures_dir: where each figure is written as PNG, SVG and PDF, too.
        tasks: those to report, with or without version; empty for all. The mean is then over these.
        protocols: the same.
        sample: report the runs on the embedded sample instead of the official ones.

    Returns:
        The files that were written.

    Raises:
        UnknownNameError: for a task or protocol without results.
        ResultError: if there is nothing to report, results cannot be read, or `file` is a directory.
        WriteError: if a file cannot be written.
    """
    if file.is_dir():
        raise ResultError(f"{file} is a directory; name a file with --out.")
    with progress.stage("results", total=1, unit="directories") as advance:
        everything = read_results(results)
        advance(1)
    chosen = collect.choose(everything, tasks, protocols, sample=sample)
    groups = collect.groups_of(chosen)
    shown = []
    with progress.stage("scores of single samples", total=len(groups), unit="tasks × protocols") as advance:
        for group in groups:
            shown.append((group, exhibits(group, cache_dir)))
            advance(1)
    drawn: dict[str, Markup] = {}
    written: list[Path] = []
    pictures = [(group, picture) for group, found in shown for exhibit in found for picture in exhibit.pictures]
    with progress.stage("figures", total=len(pictures), unit="figures") as advance:
        for group, picture in pictures:
            name, figure = f"{group.name}.{picture.name}", picture.draw()
            drawn[name] = Markup(inline(figure, name, f"{group.task}, {group.protocol}. {picture.words}"))
            if figures_dir:
                written += write_files(figure, figures_dir, name.replace(":", "-"))
            advance(1)
    environments = collect.environments(chosen)
    page = _template().render(
        board=collect.board_of(
            chosen,
            () if sample else published_numbers(results),  # nothing was published on the sample
            counted=sorted({result.spec.task_slug for result in chosen}) if tasks else None,
        ),
        checkpoints=collect.checkpoint_records(chosen),
        collect=collect,
        drawn=drawn,
        environments=environments,
        left_out=collect.left_out(everything, sample=sample),
        number_of={environment: number for number, environment in enumerate(environments, 1)},
        open=len(groups) <= OPEN_UP_TO,
        runs=chosen,
        sample=sample,
        script=_asset("page.js"),
        script_hash=_hash(_asset("page.js")),
        shown=shown,
        style=_asset("page.css"),
        version=__version__,
        warnings=collect.warnings_of(chosen),
    )
    write_text(file, page)
    return [file, *written]


def _template() -> Template:
    templates = Templates(
        loader=FileSystemLoader(HERE),
        autoescape=True,  # whatever stands in a result file is text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"percent": _percent, "points": _points, "joined": _joined, "ranks": ranks}
    return templates.get_template("page.html.j2")


def _asset(name: str) -> Markup:
    return Markup((HERE / name).read_text(encoding="utf-8"))


def _hash(script: str) -> str:
    """What a content security policy lets this script run by, and no other."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _points(value: float) -> str:
    return f"{100 * value:+.2f}"


def _joined(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))
