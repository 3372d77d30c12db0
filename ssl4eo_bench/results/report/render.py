"""Writing the report: one HTML page, and its figures as files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from ssl4eo_bench import progress
from ssl4eo_bench.errors import ResultError
from ssl4eo_bench.files.atomic import write_text
from ssl4eo_bench.results.figure_style import UNDATED, save_figure, svg_element
from ssl4eo_bench.results.files import ALL, RunFilter, read_results
from ssl4eo_bench.results.frame import choose, csv_text, frame_of
from ssl4eo_bench.results.leaderboard import Leaderboard
from ssl4eo_bench.results.published import published_numbers
from ssl4eo_bench.results.ranked_rows import make_leaderboard
from ssl4eo_bench.results.report import groups
from ssl4eo_bench.results.report.groups import RunGroup
from ssl4eo_bench.results.report.matrix import Matrix, matrix_of
from ssl4eo_bench.results.report.pages import render, script_of
from ssl4eo_bench.results.report.report_figures import FigureSection, figure_sections
from ssl4eo_bench.version import __version__

MOST_ROWS = 1000
"""Of a table of the page, at most: with more, browsers are slow, and nobody reads on."""

OPEN_UP_TO = 4
"""Groups that are open from the start."""


@dataclass(frozen=True)
class ShownGroup:
    """A group of runs with what the page shows of it: its figures, not drawn yet, and who is above whom."""

    group: RunGroup
    sections: list[FigureSection]
    matrix: Matrix | None

    @property
    def csv(self) -> str:
        """A row for each run, as `load_results` gives them."""
        return csv_text(self.group.frame.drop(columns="result").dropna(axis="columns", how="all"))


def write_report(
    results: Path,
    file: Path,
    *,
    cache_dir: Path,
    figures_dir: Path | None = None,
    wanted: RunFilter = ALL,
    sample: bool = False,
) -> list[Path]:
    """Write the report of a results directory, and return the files that were written.

    Args:
        results: the directory.
        file: the page.
        cache_dir: where the scores of single samples are kept; what needs them is left out where they are not there.
        figures_dir: where each figure is written as PNG, SVG and PDF, too.
        wanted: tasks and protocols; where tasks are named, the mean is over these.
        sample: report the runs on the embedded sample instead of the official ones.

    Raises:
        UnknownNameError: for a task or protocol without results.
        ResultError: if there is nothing to report, results cannot be read, or `file` is a directory.
        WriteError: if a file cannot be written.
    """
    if file.is_dir():
        raise ResultError(f"{file} is a directory; name a file with --out.")
    with progress.stage("results", total=1, unit="directories") as advance:
        everything = frame_of(read_results(results))
        advance(1)
    frame = choose(everything, wanted, sample=sample)
    runs, whole = list(frame["result"]), frame[frame["on_leaderboard"]]
    published = () if sample else published_numbers(results)  # nothing was published on the sample
    counted = sorted(set(frame["task"])) if wanted.tasks else None
    board = None if whole.empty else make_leaderboard(whole, published, counted=counted)
    shown = _shown(groups.groups_of(frame), board, results, cache_dir)
    drawn, written = _draw(shown, figures_dir)
    environments = groups.environments_of(runs)
    page = render(
        "report.html.j2",
        board=board,
        board_csv=csv_text(board.frame()) if board else "",
        checkpoints=groups.checkpoints_of(runs),
        drawn=drawn,
        environments=[made[0].provenance for made in environments],
        most_rows=MOST_ROWS,
        left_out=groups.left_out(everything["result"], sample=sample),
        number_of={run.digest: number for number, made in enumerate(environments, 1) for run in made},
        open_up_to=OPEN_UP_TO,
        runs=runs,
        sample=sample,
        shown=shown,
        version=__version__,
        warnings=groups.warnings_of(runs),
        **script_of("page.js"),
    )
    write_text(file, page)
    return [file, *written]


def _shown(found: Sequence[RunGroup], board: Leaderboard | None, results: Path, cache_dir: Path) -> list[ShownGroup]:
    """The groups with their figures and comparisons."""
    shown = []
    with progress.stage("data of figures", total=len(found), unit="tasks × protocols") as advance:
        for group in found:
            rows = board.protocols.get(group.protocol, []) if board else []
            entries = [row.entries[group.task] for row in rows if group.task in row.entries]
            sections = figure_sections(group, entries, results, cache_dir)
            shown.append(ShownGroup(group, sections, matrix_of(entries)))
            advance(1)
    return shown


def _draw(shown: Sequence[ShownGroup], figures_dir: Path | None) -> tuple[dict[str, Markup], list[Path]]:
    """The figures as SVG elements by name, and the files that they were written to."""
    drawn: dict[str, Markup] = {}
    written: list[Path] = []
    figures = [(one.group, figure) for one in shown for section in one.sections for figure in section.figures]
    with progress.stage("figures", total=len(figures), unit="figures") as advance:
        for group, one in figures:
            name, figure = f"{group.name}.{one.name}", one.draw()
            drawn[name] = Markup(svg_element(figure, name, f"{group.task}, {group.protocol}. {one.words}"))
            if figures_dir:
                stem = name.replace(":", "-")
                written += [save_figure(figure, figures_dir / f"{stem}.{ending}", name=stem) for ending in UNDATED]
            advance(1)
    return drawn, written
