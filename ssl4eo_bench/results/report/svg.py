"""Figures for a page: SVG in the colours of its theme, and as files."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.figure import Figure

from ssl4eo_bench.files.atomic import replacing
from ssl4eo_bench.results.figures import GRID, HEAT, INK, MUTED, PAPER, SERIES, STYLE

NO_DATE: Final[dict[str, dict[str, Any]]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
"""Formats of files, and what is left out of each so that the same figure gives the same bytes."""

_THEME = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper", HEAT: "heat"} | {
    colour: f"series{number}" for number, colour in enumerate(SERIES)
}
_COLOUR = re.compile("|".join(_THEME))
_REFERENCE = re.compile(r'(?:url\(|href=")#([^")]+)')
_ID = re.compile(r' id="([^"]+)"')


def inline(figure: Figure, name: str, words: str) -> str:
    """A figure as an SVG element whose colours are variables of the page.

    Args:
        figure: drawn in the colours of `figures`.
        name: unique on the page; the ids within follow from it.
        words: what the figure shows.
    """
    with _settings(name):
        written = StringIO()
        figure.savefig(written, format="svg", transparent=True, dpi=144, metadata=NO_DATE["svg"])
    text = written.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>|\s*<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    used = set(_REFERENCE.findall(text))
    text = _ID.sub(lambda found: found[0] if found[1] in used else "", text)
    text = _COLOUR.sub(lambda found: f"var(--{_THEME[found[0]]})", text)
    width = figure.get_figwidth() * 96
    fitting = f"min-width:min({width:.0f}px, 20rem);max-width:{1.2 * width:.0f}px"
    head = f'<svg class="plot" role="img" aria-label="{escape(words)}" style="{fitting}" '
    box = re.search(r'viewBox="[^"]+"', text)
    assert box
    return head + box[0] + text[text.index(">") :].rstrip()


def write_files(figure: Figure, folder: Path, name: str) -> Iterator[Path]:
    """Write a figure as PNG, SVG and PDF, and name the files."""
    for ending, metadata in NO_DATE.items():
        file = folder / f"{name}.{ending}"
        with replacing(file) as temporary, _settings(name):
            figure.savefig(temporary, format=ending, dpi=200, metadata=metadata)
        yield file


@contextmanager
def _settings(name: str) -> Iterator[None]:
    with rc_context(STYLE | {"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a letter that the font lacks is a box in PNG and PDF
        yield
