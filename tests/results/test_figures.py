from collections.abc import Callable
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.patches import Rectangle

from ssl4eo_bench.config.records import ReliabilityBin
from ssl4eo_bench.config.task import IGNORED
from ssl4eo_bench.results import figures
from ssl4eo_bench.results.figure_style import INK, MUTED, PAPER, HoverFigure, SeriesStyle, svg_element
from ssl4eo_bench.results.figures import CostPoint, Series

CLASSES = ["a field", "a wood", "a lake"]


def series(name: str = "one", number: int = 0, *, floor: bool = False, chosen: int | None = None) -> Series:
    return Series(name, SeriesStyle(number, floor), (0.01, 0.1, 1.0), (0.3, 0.5, 0.6), (0.1, 0.05, 0.0), chosen)


BINS = [ReliabilityBin(bin=3, count=10, correct=4, confidence=0.25)]


def point(name: str, flops: float, value: float) -> CostPoint:
    return CostPoint(name, SeriesStyle(0), 1e9 * flops, value, value - 0.01, value + 0.01, "8 M parameters")


DRAWN: dict[str, Callable[[], HoverFigure]] = {
    "label efficiency": lambda: figures.label_efficiency([series(), series("floor", 1, floor=True)], "accuracy"),
    "penalties": lambda: figures.penalties([series(chosen=1)], "accuracy"),
    "learning": lambda: figures.learning([series()], [series(chosen=2)], "miou"),
    "classes": lambda: figures.class_scores({"F1": [series()], "AP": [series()]}, CLASSES, [5, 6, 7]),
    "confusion": lambda: figures.confusion(np.diag([3, 0, 1]), CLASSES),
    "calibration": lambda: figures.calibration(BINS, SeriesStyle(0)),
    "cost": lambda: figures.cost_quality([point("a", 1, 0.5), point("b", 2, 0.4), point("c", 3, 0.6)], "accuracy"),
    "embedding": lambda: figures.embedding(np.random.default_rng(0).normal(size=(9, 2)), np.arange(9) % 4 - 1, CLASSES),
    "label maps": lambda: figures.label_maps(
        ["tile"], np.zeros((1, 4, 4, 3), np.uint8), np.full((1, 4, 4), IGNORED), np.ones((1, 4, 4), int), CLASSES
    ),
}


def texts(figure: HoverFigure) -> list[str]:
    """Everything written in a figure."""
    figure.draw_without_rendering()
    axes = [text for one in figure.axes for text in (one.xaxis.label, one.yaxis.label, *one.texts)]
    ticks = [tick for one in figure.axes for tick in (*one.get_xticklabels(), *one.get_yticklabels())]
    legends = [text for legend in figure.legends for text in legend.get_texts()]
    return [*(one.get_title("left") for one in figure.axes), *(text.get_text() for text in (*axes, *ticks, *legends))]


@pytest.mark.parametrize("name", DRAWN)
def test_every_figure_is_drawn_without_pyplot(name: str) -> None:
    from matplotlib import pyplot as plt

    assert DRAWN[name]().axes
    assert plt.get_fignums() == []


def test_style_is_applied_and_not_left_behind() -> None:
    before = dict(rcParams)
    figure = DRAWN["label efficiency"]()
    assert dict(rcParams) == before
    assert figure.axes[0].xaxis.label.get_color() == INK


def test_label_efficiency_names_what_was_measured() -> None:
    written = texts(DRAWN["label efficiency"]())
    assert {"1 %", "10 %", "100 %", "accuracy on test", "one", "floor"} <= set(written)


def test_floors_are_grey_and_dashed_and_others_differ_in_more_than_colour() -> None:
    assert (SeriesStyle(3, floor=True).colour, SeriesStyle(3, floor=True).dashes) == (MUTED, "--")
    looks = [(SeriesStyle(number).colour, SeriesStyle(number).marker) for number in range(50)]
    assert len(set(looks)) == len(looks)


def test_the_chosen_point_is_in_a_ring() -> None:
    (axes,) = DRAWN["penalties"]().axes
    (ring,) = [line for line in axes.lines if line.get_markerfacecolor() == "none"]
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (0.1, 0.5)  # type: ignore[index]
    assert "10⁻¹" in texts(DRAWN["penalties"]())


def test_a_confusion_matrix_has_shares_of_the_true_class() -> None:
    figure = figures.confusion(np.array([[3, 1, 0], [0, 0, 0], [0, 1, 199]]), CLASSES)
    (axes,) = figure.axes
    cells = {(round(text.get_position()[0]), round(text.get_position()[1])): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "75", (1, 0): "25", (1, 2): "", (2, 2): "100"}  # what rounds to zero has no number
    assert len([patch for patch in axes.patches if isinstance(patch, Rectangle)]) == 4


def test_numbers_in_dark_cells_are_light() -> None:
    (axes,) = figures.confusion(np.array([[9, 1], [5, 5]]), CLASSES[:2]).axes
    assert {text.get_text(): text.get_color() == PAPER for text in axes.texts} == {"90": True, "10": False, "50": False}


def test_many_classes_have_no_numbers() -> None:
    (axes,) = figures.confusion(np.eye(21, dtype=int), [str(number) for number in range(21)]).axes
    assert not axes.texts


def test_classes_have_their_support_and_those_without_a_value_have_no_dot() -> None:
    one = Series("one", SeriesStyle(0), (0.5, np.nan, 0.7), range(3))
    figure = figures.class_scores({"AP": [one]}, CLASSES, [1234, 0, 7])
    assert {"a field  (1,234)", "a wood  (0)", "AP"} <= set(texts(figure))


def test_label_maps_name_the_classes_that_occur() -> None:
    truth = np.array([[[0, IGNORED], [0, 0]]], dtype=np.int16)
    predicted = np.array([[[0, 2], [0, 0]]], dtype=np.int16)
    figure = figures.label_maps(["tile 7"], np.zeros((1, 2, 2, 3), np.uint8), truth, predicted, CLASSES)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["a field", "a lake", "no label"]
    _, labels, prediction = (axes.images[0].get_array() for axes in figure.axes)
    assert labels is not None
    assert prediction is not None
    assert (labels[0, 0] == prediction[0, 0]).all()
    assert (labels[0, 1] != prediction[0, 1]).any()
    assert {"tile 7", "labels", "prediction"} <= set(texts(figure))


def test_a_place_says_what_is_there() -> None:
    (hover,) = figures.calibration(BINS, SeriesStyle(0)).hovers
    assert hover.text == "confidence 25.0 %: 4 of 10 right, 40.0 % (16.8–68.7)"
    figure = DRAWN["confusion"]()
    assert figure.hovers[0].text == "a field, predicted as a field: 3 of 3 (100.0 %)"
    assert DRAWN["label efficiency"]().hovers[-1].text == ("one, 100 % of the training samples: 60.00 %")


def test_places_lie_where_the_figure_is_drawn() -> None:
    figure = figures.label_efficiency([series()], "accuracy")
    svg = ET.fromstring(svg_element(figure, "f", "words").replace("xlink:", ""))
    middles = [(float(one.attrib["cx"]), float(one.attrib["cy"])) for one in svg.iter("circle")]
    drawn = [(float(one.attrib["x"]), float(one.attrib["y"])) for one in svg.iter("use")]
    assert len(middles) == 3
    assert all(min(abs(x - a) + abs(y - b) for a, b in drawn) < 0.2 for x, y in middles)


def test_the_line_of_cost_and_quality_joins_what_nothing_cheaper_reaches() -> None:
    (axes,) = DRAWN["cost"]().axes
    assert list(axes.lines[-1].get_xdata()) == [1e9, 3e9]  # type: ignore[arg-type]


def test_names_are_text_whatever_stands_in_them() -> None:
    name = r"$\frac{$ _x_ <script>"
    figure = figures.confusion(np.eye(2, dtype=int), [name, "_hidden"])
    assert name in texts(figure)
    assert "_hidden" in texts(figures.label_efficiency([series("_hidden")], "accuracy"))
