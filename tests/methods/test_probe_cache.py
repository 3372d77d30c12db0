"""Fits that are kept."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from ssl4eo_bench.config.protocols import Linear
from ssl4eo_bench.extraction.problem import Context, Problem
from ssl4eo_bench.extraction.store import Origin
from ssl4eo_bench.labels.base import Rows
from ssl4eo_bench.methods import linear, probe_cache
from ssl4eo_bench.methods.linear import LinearProbe, fit_probe, probed
from ssl4eo_bench.plan import Job

Pair = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> tuple[list[Any], Pair, Pair]:
    """The protocols that were fitted, and features with labels of two splits."""
    fitted: list[Any] = []

    def logged(protocol: Any, *arguments: Any, **options: Any) -> LinearProbe:
        fitted.append(protocol)
        return fit_probe(protocol, *arguments, **options)

    monkeypatch.setattr(linear, "fit_probe", logged)
    rng = np.random.default_rng(0)
    train, val = ((rng.normal(size=(n, 6)).astype(np.float16), rng.integers(0, 2, (n, 3), np.uint8)) for n in (80, 40))
    return fitted, train, val


def fit(folder: Path, train: Pair, val: Pair, *, full_path: bool = False) -> LinearProbe:
    task = SimpleNamespace(kind="multilabel", classes=("a", "b", "c"))
    problem = Problem(cast(Job, SimpleNamespace(task=task)), Context(folder, ("cpu",), full_path=full_path))
    rows = [Rows(*pair, (), Origin(0, (), ())) for pair in (train, val)]
    return probed(problem, Linear(points=9), *rows)


def test_the_same_fit_is_read_and_is_the_same_to_the_last_bit(
    pairs: tuple[list[Any], Pair, Pair], tmp_path: Path
) -> None:
    fitted, train, val = pairs
    first, second = fit(tmp_path, train, val), fit(tmp_path, train, val)
    assert len(fitted) == 1
    assert np.array_equal(first.head.logits(val[0]), second.head.logits(val[0]))
    assert (first.path, first.error, first.warnings) == (second.path, second.error, second.warnings)
    apart = {"weights": None, "standardisation": None}
    assert vars(first.head) | apart == vars(second.head) | apart


@pytest.mark.parametrize("which", ["train features", "train labels", "val features", "val labels", "full path"])
def test_any_other_input_is_another_fit(pairs: tuple[list[Any], Pair, Pair], tmp_path: Path, which: str) -> None:
    fitted, train, val = pairs
    fit(tmp_path, train, val)
    array = {"train features": train[0], "train labels": train[1], "val features": val[0], "val labels": val[1]}
    if which in array:
        array[which][7] = 1 - array[which][7]
    fit(tmp_path, train, val, full_path=which == "full path")
    assert len(fitted) == 2


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_a_damaged_file_is_fitted_and_written_again(
    pairs: tuple[list[Any], Pair, Pair], tmp_path: Path, content: bytes | None
) -> None:
    fitted, train, val = pairs
    fit(tmp_path, train, val)
    (file,) = (tmp_path / probe_cache.FOLDER).iterdir()
    whole = file.read_bytes()
    middle = len(whole) // 2
    file.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :] if content is None else content)
    fit(tmp_path, train, val)
    assert len(fitted) == 2
    assert file.read_bytes() == whole
