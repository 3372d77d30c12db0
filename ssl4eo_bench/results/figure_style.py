"""The style of all figures, and how they are saved: equal figures give equal bytes.

Figures are made without pyplot, and the style is applied only while one is drawn or saved, so nothing is left behind.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any, Final, Literal, ParamSpec, TypeVar

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ssl4eo_bench.files.atomic import replacing

INK: Final = "#1b1f24"
MUTED: Final = "#6a737d"
GRID: Final = "#dfe3e8"
PAPER: Final = "#fefefe"
SERIES: Final = ("#0b66b0", "#d1560b", "#0d8265", "#a33b82", "#a67200", "#3b8fcb", "#5c4bb5", "#8a4b2a")
"""After Okabe & Ito, darkened until each has a contrast of 3 to white."""

HEAT: Final = "#08407a"
MARKERS: Final = "osD^vPX"

UNDATED: Final[dict[str, dict[str, Any]]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
"""What is left out of files of each format: it would differ each time."""


STYLE: Final[dict[Any, Any]] = {
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), MUTED),
    **dict.fromkeys(("axes.labelcolor", "axes.titlecolor", "text.color", "xtick.labelcolor", "ytick.labelcolor"), INK),
    **dict.fromkeys(("axes.facecolor", "figure.facecolor"), PAPER),
    **dict.fromkeys(("axes.spines.right", "axes.spines.top", "legend.frameon"), False),
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",  # text stays text: it can be searched, and takes a tenth of the space
    "text.parse_math": False,  # names are names, also those with a dollar
}
_THEME = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper", HEAT: "heat"} | {
    colour: f"series{number}" for number, colour in enumerate(SERIES)
}
_COLOUR = re.compile("|".join(_THEME))
_REFERENCE = re.compile(r'(?:url\(|href=")#([^")]+)')
_ID = re.compile(r' id="([^"]+)"')


@dataclass(frozen=True)
class SeriesStyle:
    """The look of a series in all figures, which follows from its number; floors are grey and dashed."""

    number: int
    floor: bool = False

    @property
    def colour(self) -> str:
        """The colour of line and marker."""
        return MUTED if self.floor else SERIES[self.number % len(SERIES)]

    @property
    def marker(self) -> str:
        """The form of the points."""
        return MARKERS[self.number % len(MARKERS)]

    @property
    def points(self) -> dict[str, Any]:
        """Arguments of matplotlib for lines and points; the points of floors are hollow."""
        return {
            "color": self.colour,
            "marker": self.marker,
            "markerfacecolor": PAPER if self.floor else self.colour,
        }

    @property
    def dashes(self) -> Literal["-", "--"]:
        """The dash pattern of the line."""
        return "--" if self.floor else "-"


@dataclass(frozen=True)
class Hover:
    """A text that a place of a figure shows to a pointer: a point, or a cell, which is a square with sides of 1.

    `x` and `y` are of its middle, in the units of the axes.
    """

    axes: Axes
    x: float
    y: float
    text: str
    is_cell: bool = False


class HoverFigure(Figure):
    """A figure with texts for places, which SVG elements of pages show."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        FigureCanvasAgg(self)
        self.hovers: list[Hover] = []


Parameters = ParamSpec("Parameters")
Drawn = TypeVar("Drawn", bound=Figure)


def styled(draw: Callable[Parameters, Drawn]) -> Callable[Parameters, Drawn]:
    """A function that draws a figure, made to draw it in this style."""

    @wraps(draw)
    def drawn(*arguments: Parameters.args, **options: Parameters.kwargs) -> Drawn:
        with rc_context(STYLE):
            return draw(*arguments, **options)

    return drawn


def svg_element(figure: HoverFigure, name: str, words: str) -> str:
    """A figure as an SVG element: its colours are variables of the page, its places have their texts as titles.

    The ids within follow from its name, which is unique on the page. `words` say what it shows.
    """
    with _saving(name):
        written = StringIO()
        figure.savefig(written, format="svg", transparent=True, dpi=144, metadata=UNDATED["svg"])
    text = written.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>|\s*<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    used = set(_REFERENCE.findall(text))
    text = _ID.sub(lambda found: found[0] if found[1] in used else "", text)
    text = _COLOUR.sub(lambda found: f"var(--{_THEME[found[0]]})", text)
    width = figure.get_figwidth() * 96
    fitting = f"min-width:{0.75 * width:.0f}px;max-width:{1.15 * width:.0f}px"
    head = f'<svg class="plot" role="img" aria-label="{escape(words)}" style="{fitting}" '
    box = re.search(r'viewBox="[^"]+"', text)
    assert box
    drawn = text[text.index(">") :].rstrip().removesuffix("</svg>")
    return f'{head}{box[0]}{drawn}<g class="hover">{"".join(_targets(figure))}</g></svg>'


def _targets(figure: HoverFigure) -> Iterator[str]:
    """The places of a figure as invisible shapes, in the units of a saved SVG: 72 to an inch, downwards."""
    scale, height = 72 / figure.dpi, 72 * figure.get_figheight()
    for one in figure.hovers:
        x, y = one.axes.transData.transform((one.x, one.y)) * scale
        place = f'circle cx="{x:.1f}" cy="{height - y:.1f}" r="5"'
        if one.is_cell:
            (left, bottom), (right, top) = (
                one.axes.transData.transform([(one.x - 0.5, one.y + 0.5), (one.x + 0.5, one.y - 0.5)]) * scale
            )  # y points downwards there
            place = f'rect x="{left:.1f}" y="{height - top:.1f}" width="{right - left:.1f}" height="{top - bottom:.1f}"'
        yield f"<{place}><title>{escape(one.text)}</title></{place.partition(' ')[0]}>"


def save_figure(figure: Figure, file: Path, *, name: str = "figure") -> Path:
    """Write a figure in the format that the file's ending names (png, svg or pdf), and return the file.

    The ids within an SVG follow from the name.
    """
    ending = file.suffix[1:]
    with replacing(file) as temporary, _saving(name):
        figure.savefig(temporary, format=ending, dpi=200, metadata=UNDATED[ending])
    return file


@contextmanager
def _saving(name: str) -> Iterator[None]:
    with rc_context(STYLE | {"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a letter that the font lacks is a box in PNG and PDF
        yield
