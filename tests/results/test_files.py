import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ssl4eo_bench.errors import ResultError
from ssl4eo_bench.results.files import (
    RunResult,
    check_writable,
    find_result,
    read_result,
    read_results,
    write_result,
)

Make = Callable[..., RunResult]


def test_what_is_written_is_read_back_exactly(tmp_path: Path, make_result: Make) -> None:
    result = make_result(accuracy=1 / 3)
    file = write_result(tmp_path, result)
    assert file == tmp_path / "runs/eurosat-v1/linear-v1/resnet18.random/seed0.json"
    assert read_result(file) == result
    raw = json.loads(file.read_text())
    assert raw["metrics"]["test"]["accuracy"]["value"] == 1 / 3  # a number, in full precision
    assert raw["metrics"]["val"]["accuracy"] == {"value": 0.1 + 0.2}  # what was not measured is absent
    assert "recall" not in raw["classes"][0]


def test_writing_twice_changes_no_byte(tmp_path: Path, make_result: Make) -> None:
    file = write_result(tmp_path, make_result())
    before = file.read_bytes()
    write_result(tmp_path, read_result(file))
    assert file.read_bytes() == before


def spoilt(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"seed": 0', '"seed": 1', "was edited: its checksum is not that of its content"),
        ('"schema_version": 1', '"schema_version": 2', "has schema 2, this version reads up to 1; upgrade"),
        ('"schema_version": 1', '"schema_version": 1,\n "mood": "good"', "key 'mood' is not a known key"),
        ('"digest"', '"digset"', "key 'digset' is not a known key"),
        ('"value": 0.5', '"value": "0.5"', "metrics.test.accuracy.value: Input should be a valid number"),
        ('"value": 0.5', '"value": NaN', "metrics.test.accuracy.value"),
        ('"value": 0.5', '"value": 0.9', "was edited: its checksum"),
        ('"value": 0.5', '"value": 5.0', "a metric is not a fraction between 0 and 1"),
        ('"micro_map": {', '"nano_map": {', "test has no micro_map"),
        ('"train": 16200', '"train": 16201', "counts are not those of the splits"),
        ("{", "[", "cannot be read"),
    ],
)
def test_an_altered_file_is_refused_by_name(
    tmp_path: Path, make_result: Make, old: str, new: str, message: str
) -> None:
    file = write_result(tmp_path, make_result())
    spoilt(file, old, new)
    with pytest.raises(ResultError) as refusal:
        read_result(file)
    assert message in str(refusal.value)
    assert str(file) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_in_the_wrong_place_is_refused(tmp_path: Path, make_result: Make) -> None:
    file = write_result(tmp_path, make_result())
    moved = file.with_name("seed7.json")
    file.rename(moved)
    with pytest.raises(ResultError, match=r"belongs at runs/eurosat-v1/linear-v1/resnet18.random/seed0.json"):
        read_results(tmp_path)


def test_results_are_found_by_file_place_and_digest(tmp_path: Path, make_result: Make) -> None:
    first, second = make_result(), make_result(checkpoint="bandstats")
    file = write_result(tmp_path, first)
    write_result(tmp_path, second)
    for name in (
        str(file),
        "runs/eurosat-v1/linear-v1/resnet18.random/seed0.json",
        "eurosat-v1/linear-v1/resnet18.random/seed0",
        first.digest[:8],
    ):
        assert find_result(tmp_path, name) == first
    with pytest.raises(ResultError, match=r"no result is called 'nothing'; `ssl4eo-bench list runs"):
        find_result(tmp_path, "nothing")


def test_directories_that_cannot_serve_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResultError, match=r"results directory \S*file/results cannot be written"):
        check_writable(tmp_path / "file" / "results")
    with pytest.raises(ResultError, match=r"nowhere does not exist; name yours with --results"):
        read_results(tmp_path / "nowhere")
    check_writable(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
