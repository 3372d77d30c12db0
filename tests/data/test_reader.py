"""Every batch that a task's reader gives is checked: what it forgets or mixes up must not become a number."""

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.checkpoint import checkpoint_from
from ssl4eo_bench.config.inputs import InputMapping, map_inputs
from ssl4eo_bench.config.task import Groups, Kind, Source
from ssl4eo_bench.data.reader import Reader
from ssl4eo_bench.data.splits import open_splits
from ssl4eo_bench.errors import DamagedFileError, DataError
from tests.data.test_splits import Fake
from tests.data.test_splits import task as task_of


class Pixels(Fake):
    """Thirteen bands of EuroSAT: every band holds its number."""

    def __init__(self, alter: Callable[[np.ndarray, Sequence[int]], np.ndarray] = lambda pixels, _: pixels) -> None:
        super().__init__()
        self.alter = alter

    def read(self, ids: Sequence[str], bands: Sequence[str]) -> Groups:
        order = [band.name for band in catalogue.task("eurosat").bands]
        chosen = [number for number, name in enumerate(order) if name in bands]
        planes = np.array(chosen, dtype=np.float32)[None, :, None, None]
        return (self.alter(np.tile(planes, (len(ids), 1, 64, 64)), chosen),)


class Shuffled(Fake):
    """Gives samples in an order of its own; each holds the number in its id."""

    def __init__(self, order: Callable[[Sequence[str]], Sequence[str]]) -> None:
        super().__init__()
        self.order = order

    def read(self, ids: Sequence[str], bands: Sequence[str]) -> Groups:
        levels = np.array([int(id_[1:]) for id_ in self.order(ids)], dtype=np.float32)
        return (np.tile(levels[:, None, None, None], (1, len(bands), 64, 64)),)


class Forgetful(Pixels):
    """Reads all bands whatever it is asked for."""

    def read(self, ids: Sequence[str], bands: Sequence[str]) -> Groups:
        del bands
        return super().read(ids, [band.name for band in catalogue.task("eurosat").bands])


class FirstBands(Pixels):
    """Gives the first bands, as many as it is asked for: of the right shape, and the wrong ones."""

    def read(self, ids: Sequence[str], bands: Sequence[str]) -> Groups:
        return super().read(ids, [band.name for band in catalogue.task("eurosat").bands][: len(bands)])


def reader(source: Source, kind: Kind = "multiclass") -> Reader:
    return Reader(catalogue.task("eurosat").model_copy(update={"kind": kind}), source)


def inputs(mean: float = 3.0) -> InputMapping:
    bands = ["B02", "B03"]
    entry = {"arch": "resnet18", "weights": {"random": True}, "bands": bands, "image_size": 64}
    scaling = {"mean": dict.fromkeys(bands, mean), "std": dict.fromkeys(bands, 1.0)}
    checkpoint = checkpoint_from(entry | {"name": "net.tag", "scaling": scaling}, "here")
    return map_inputs(catalogue.task("eurosat").bands, checkpoint)


@pytest.mark.parametrize(("source", "what"), [(Forgetful(), r"\[1, 13, 64, 64\]"), (FirstBands(), "band B02 alone")])
def test_a_reader_that_forgets_to_select_bands_is_refused_before_a_run(source: Fake, what: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=what):
        open_splits(task_of(source), tmp_path)


@pytest.mark.parametrize(
    ("order", "asked"),
    [(lambda ids: ids[::-1], "t1, t4"), (sorted, "t4, t1"), (lambda ids: sorted(ids)[::-1], "t1, t4")],
)
def test_a_reader_that_gives_samples_in_another_order_is_refused_before_a_run(
    order: Callable[[Sequence[str]], Sequence[str]], asked: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=rf"other pixels for the samples {asked}, read together in this order"):
        open_splits(task_of(Shuffled(order)), tmp_path)


def test_one_sample_is_enough_to_open_a_split(tmp_path: Path) -> None:
    source = Shuffled(sorted)
    source.gone = {"t1", "t2", "t4"}
    assert open_splits(task_of(source), tmp_path, partial=True)["train"].ids == ("t3",)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (None, "NoneType"),
        ([[1.0]], "list"),
        ((), "tuple"),
        (np.zeros((2, 2, 64, 64)), r"float64 \[2, 2, 64, 64\]"),  # not in a tuple
        ((np.zeros((2, 2, 63, 64)),), r"float64 \[2, 2, 63, 64\]"),
        ((np.zeros((1, 2, 64, 64)),), r"float64 \[1, 2, 64, 64\]"),
        ((np.zeros((2, 64, 64)),), r"float64 \[2, 64, 64\]"),
        ((np.zeros((2, 2, 64, 64), complex),), r"complex128 \[2, 2, 64, 64\]"),
    ],
)
def test_pixels_of_another_shape_or_type_are_refused(given: Groups, found: str) -> None:
    source = Fake()
    source.read = lambda ids, bands: given  # type: ignore[method-assign]
    with pytest.raises(DataError, match=rf"task 'eurosat' gives {found} for 2 samples .* \[2, 2, 64, 64\] is expected"):
        reader(source).read(["t1", "t2"], ["B02", "B03"])


@pytest.mark.parametrize(
    ("kind", "labels", "fits"),
    [
        ("multiclass", np.array([0, 9]), True),
        ("multiclass", np.array([0, 10]), False),
        ("multiclass", np.array([-1, 0]), False),
        ("multiclass", np.array([0.0, 1.0]), False),
        ("multiclass", [0, 1], False),  # no array
        ("multilabel", np.eye(10, dtype=np.uint8)[:2], True),
        ("multilabel", 2 * np.eye(10, dtype=np.uint8)[:2], False),
        ("multilabel", np.eye(9, dtype=np.uint8)[:2], False),
        ("segmentation", np.full((2, 4, 4), 255, dtype=np.uint8), True),
        ("segmentation", np.full((2, 4, 4), 10, dtype=np.uint8), False),
        ("segmentation", np.zeros((1, 4, 4), dtype=np.uint8), False),
    ],
)
def test_labels_out_of_range_are_refused(kind: Kind, labels: object, fits: bool) -> None:
    source = Fake()
    source.targets = lambda ids: labels  # type: ignore[method-assign,assignment,return-value]
    if fits:
        np.testing.assert_array_equal(reader(source, kind).targets(["t1", "t2"]), labels)
    else:
        with pytest.raises(DataError, match=f"which are no {kind} labels of 10 classes"):
            reader(source, kind).targets(["t1", "t2"])


def holes(pixels: np.ndarray, chosen: Sequence[int]) -> np.ndarray:
    pixels[0, 0, 3, :2] = np.nan
    pixels[0, -1, 0, 0] = np.inf
    return pixels


def test_values_that_are_not_finite_are_counted_and_become_zero_after_scaling() -> None:
    opened = reader(Pixels(holes))
    (stored,) = opened.read(["t1", "t2"], ["B02", "B03"])
    assert np.count_nonzero(~np.isfinite(stored)) == 3  # as the file has them
    assert opened.not_finite == {"t1": 3}
    (given,) = opened.read_inputs(["t1", "t2"], inputs(mean=7.0))
    assert given[0, 0, 3, :2].tolist() == [7.0, 7.0]
    assert given[0, 1, 0, 0] == 7.0
    untouched = np.isfinite(stored)
    np.testing.assert_array_equal(given[untouched], stored[untouched])


FIVE = ("B02", "B03", "B04", "B05", "B06")


@pytest.mark.parametrize(("bands", "allowed"), [(FIVE, 1), (FIVE[:2], 1), (FIVE[:1], 0)])
def test_a_sample_without_most_of_its_bands_is_damaged(bands: Sequence[str], allowed: int) -> None:
    def without(count: int) -> Callable[[np.ndarray, Sequence[int]], np.ndarray]:
        def alter(pixels: np.ndarray, _: Sequence[int]) -> np.ndarray:
            pixels[1, :count] = np.nan
            return pixels

        return alter

    opened = reader(Pixels(without(allowed)))
    opened.read(["t1", "t2"], bands)
    assert opened.not_finite == ({"t2": 64 * 64 * allowed} if allowed else {})
    what = f"sample t2 of task 'eurosat' has no finite value in {allowed + 1} of {len(bands)} bands"
    with pytest.raises(DamagedFileError, match=rf"{what} \({', '.join(bands[: allowed + 1])}\)"):
        reader(Pixels(without(allowed + 1))).read(["t1", "t2"], bands)


def test_large_values_are_not_taken_for_infinite_ones() -> None:
    opened = reader(Pixels(lambda pixels, _: np.full_like(pixels, 3e38)))
    opened.read(["t1"], ["B02"])
    assert opened.not_finite == {}


def test_a_reader_can_be_sent_to_another_process(sample_of: Callable[[str], Path]) -> None:
    samples = open_splits(catalogue.task("so2sat"), sample_of("so2sat"), sample=True)["val"]
    again = pickle.loads(pickle.dumps(samples.reader))
    np.testing.assert_array_equal(
        again.read(samples.ids[:2], ["B02"])[0], samples.reader.read(samples.ids[:2], ["B02"])[0]
    )
