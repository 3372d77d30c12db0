"""Every batch that a task's reader gives is checked: what it forgets or mixes up must not become a number."""

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from ssl4eo_bench.data.reader import Reader
from ssl4eo_bench.data.splits import open_splits
from ssl4eo_bench.errors import DamagedFileError, DataError
from ssl4eo_bench.spec import catalogue
from ssl4eo_bench.spec.checkpoints import checkpoint_from
from ssl4eo_bench.spec.inputs import InputMapping, map_inputs
from ssl4eo_bench.spec.tasks import Groups, Kind, Source
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
    ("alter", "found"),
    [
        (lambda pixels, _: pixels[:, :, :63], r"float32 \[2, 2, 63, 64\]"),
        (lambda pixels, _: pixels[:1], r"float32 \[1, 2, 64, 64\]"),
        (lambda pixels, _: pixels[0], r"float32 \[2, 64, 64\]"),
        (lambda pixels, _: pixels.astype(complex), r"complex128 \[2, 2, 64, 64\]"),
    ],
)
def test_pixels_of_another_shape_or_type_are_refused(
    alter: Callable[[np.ndarray, Sequence[int]], np.ndarray], found: str
) -> None:
    with pytest.raises(DataError, match=rf"task 'eurosat' gives {found} .* \[2, 2, 64, 64\] is expected"):
        reader(Pixels(alter)).read(["t1", "t2"], ["B02", "B03"])


@pytest.mark.parametrize(
    ("kind", "labels", "fits"),
    [
        ("multiclass", [0, 9], True),
        ("multiclass", [0, 10], False),
        ("multiclass", [-1, 0], False),
        ("multiclass", [0.0, 1.0], False),
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
    source.targets = lambda ids: np.asarray(labels)  # type: ignore[method-assign]
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


def test_a_sample_of_nothing_else_is_an_error() -> None:
    def nothing(pixels: np.ndarray, chosen: Sequence[int]) -> np.ndarray:
        pixels[1] = np.nan
        return pixels

    with pytest.raises(DamagedFileError, match="sample t2 of task 'eurosat' has no finite value at all"):
        reader(Pixels(nothing)).read(["t1", "t2"], ["B02", "B03"])


def test_large_values_are_not_taken_for_infinite_ones() -> None:
    opened = reader(Pixels(lambda pixels, _: np.full_like(pixels, 3e38)))
    opened.read(["t1"], ["B02"])
    assert opened.not_finite == {}


def test_a_reader_can_be_sent_to_another_process(sample_of: Callable[[str], Path]) -> None:
    samples = open_splits(catalogue.task("so2sat"), sample_of("so2sat"), sample=True)["val"]
    again = pickle.loads(pickle.dumps(samples.source))
    np.testing.assert_array_equal(
        again.read(samples.ids[:2], ["B02"])[0], samples.source.read(samples.ids[:2], ["B02"])[0]
    )
