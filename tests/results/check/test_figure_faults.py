import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl4eo_bench.config.canonical import digest
from ssl4eo_bench.results.figure_data import figure_data, figure_file
from ssl4eo_bench.results.files import RunResult, read_result, write_result
from tests.results.check.conftest import RUN, only, report_on

Make = Callable[..., RunResult]


@pytest.fixture
def board(board: Path, honest: Make) -> Path:
    """The board, with the data of figures of one of its results."""
    write_result(board, honest(figures=True))
    return board


def data_of(results: Path) -> Path:
    return figure_file(results, read_result(results / RUN).digest)


def rewrite(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change figure data as who knows the format can: with a checksum that fits."""
    content = json.loads(file.read_text(encoding="utf-8"))
    del content["checksum"]
    change(content)
    file.write_text(json.dumps(content | {"checksum": digest(content)}, indent=1) + "\n", encoding="utf-8")


def test_results_with_and_without_figure_data_are_right(board: Path) -> None:
    assert report_on(board).findings == ()
    data_of(board).unlink()
    assert report_on(board).findings == ()


def test_figure_data_is_small_and_in_no_result_file(board: Path, honest: Make) -> None:
    assert data_of(board).stat().st_size < 10_000
    result = read_result(board / RUN)
    assert result.figures is None
    assert result.checksum == honest().checksum


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda c: c["reliability"].pop(), "gives a number of predictions of"),
        (lambda c: c["reliability"][-1].update(correct=c["reliability"][-1]["correct"] - 1), "gives a number of right"),
        (lambda c: c["reliability"][-1].update(confidence=0.5), "gives an ECE of"),
        (lambda c: c.update(places="AAD+"), "has places of samples or classes that its result does not have"),
        (lambda c: c.update(places="AA=="), "is not valid: places: places are not three bytes each"),
        (lambda c: c.update(result="0" * 64), "is of another run of its result"),
        (lambda c: c.update(digest="0" * 64), "was edited: its bytes are not those that were written"),
        (lambda c: c.update(schema_version=2), "has format 2, this version reads 1"),
        (lambda c: c.pop("reliability"), "cannot be read ('reliability')"),
    ],
)
def test_figure_data_that_contradicts_its_result_is_found(
    board: Path, change: Callable[[dict[str, Any]], object], what: str
) -> None:
    rewrite(data_of(board), change)
    findings = report_on(board).findings
    assert {finding.file for finding in findings} == {data_of(board).relative_to(board).as_posix()}
    assert any(finding.what.startswith(what) for finding in findings)


def test_damaged_edited_and_stray_figure_data_is_found(board: Path, honest: Make) -> None:
    file = data_of(board)
    whole = file.read_bytes()
    for damaged, what in ((b"\xff", "cannot be read"), (whole.replace(b"0.9", b"0.8", 1), "was edited")):
        file.write_bytes(damaged)
        assert what in only(report_on(board)).what
    file.write_bytes(whole)
    stray = figure_file(board, "1" * 64)
    stray.write_bytes(whole)
    assert only(report_on(board)).what == "belongs to no result"
    stray.unlink()
    write_result(board, honest(of=1))  # made again, the old data is left
    assert any(finding.what == "is of another run of its result" for finding in report_on(board).findings)


def test_places_of_samples_with_several_labels_have_no_class() -> None:
    targets = np.array([[1, 0], [1, 1], [0, 0], [0, 1]])
    points = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0], [4.0, 1.0]])
    data = figure_data({"scores": np.full((4, 2), 0.5), "targets": targets, "embedding": points})
    assert data is not None
    assert data.points.tolist() == [[0, 0, 0], [64, 0, 255], [128, 0, 255], [255, 0, 1]]
    assert [(one.bin, one.count, one.correct) for one in data.reliability] == [(7, 8, 4)]
    assert figure_data({"confusions": np.zeros((1, 2, 2))}) is None
