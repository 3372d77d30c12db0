"""Every error of the package reaches another process as it was."""

import importlib
import pickle
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import ssl4eo_bench
from ssl4eo_bench.errors import (
    BenchError,
    DataError,
    IncompleteError,
    JobError,
    ResultFileError,
    UnknownNameError,
    without_frames,
)

SENTENCE = "a.h5 is cut off; fetch it again."
EXAMPLES = {
    UnknownNameError: UnknownNameError("task", "eurosatt", ["eurosat", "so2sat"], hint="; ask"),
    IncompleteError: IncompleteError({"knn": DataError(SENTENCE)}, ["result"]),
    JobError: JobError(ValueError("shapes")),
    ResultFileError: ResultFileError(Path("runs/a.json"), "is empty", "restore it"),
}
"""The errors that do not take a sentence alone."""


def exceptions() -> list[type[Exception]]:
    """All classes of exceptions that a module of the package defines."""
    for module in pkgutil.walk_packages(ssl4eo_bench.__path__, "ssl4eo_bench."):
        if not module.name.endswith("__main__") and ".backbones." not in module.name:  # those need their libraries
            importlib.import_module(module.name)
    return sorted(set(below(Exception)), key=lambda kind: kind.__name__)


def below(kind: type[Exception]) -> Iterator[type[Exception]]:
    for subclass in kind.__subclasses__():
        if subclass.__module__.startswith("ssl4eo_bench"):
            yield subclass
        yield from below(subclass)


def test_every_error_survives_a_process_boundary() -> None:
    kinds = exceptions()
    assert {BenchError, DataError, *EXAMPLES} < set(kinds)
    assert {"_CutError", "_NotWeightsError"} < {kind.__name__ for kind in kinds}
    for kind in kinds:
        error = EXAMPLES.get(kind) or kind(SENTENCE)
        vars(error)["seen"] = [1, 2]
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is kind
        assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))


def test_an_unforeseen_error_keeps_its_traceback_and_no_frames() -> None:
    def fail() -> None:
        raise ValueError("two\nlines")

    with pytest.raises(ValueError, match="two") as caught:
        fail()
    error = without_frames(caught.value)
    assert isinstance(error, JobError)
    assert str(error).startswith("ValueError: two lines; unless that tells you what to cure")
    assert "in fail" in error.traceback
    assert error.__traceback__ is None
    assert error.__cause__ is None
    known = DataError(SENTENCE)
    assert without_frames(known) is known
