import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssl4eo_bench.errors import ResultError, ResultFileError
from ssl4eo_bench.results.files import (
    RunFilter,
    RunResult,
    check_writable,
    find_result,
    read_result,
    read_results,
    write_result,
)
from tests.results.forging import Change, forge

Make = Callable[..., RunResult]
Command = Callable[..., tuple[int, str, str]]


def test_what_is_written_is_read_back_exactly(tmp_path: Path, make_result: Make) -> None:
    result = make_result(accuracy=1 / 3)
    file = write_result(tmp_path, result)
    assert file == tmp_path / "runs/eurosat-v1/linear-v2/resnet18.random/seed0.json"
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
        ('"schema_version": 2', '"schema_version": 3', "has schema 3, this version reads up to 2; upgrade"),
        ('"schema_version": 2', '"schema_version": 2,\n "mood": "good"', "was edited: its checksum"),
        ('"value": 0.5', '"value": 0.9', "was edited: its checksum"),
        ('"value": 0.5', '"value": NaN', "was edited: its checksum"),
        ('"value": 0.5', '"value": 0.50', "was formatted anew: its bytes are not those that were written"),
        ('"seed": 0', '"seed":  0', "was formatted anew"),
        ('"seed": 0', '"seed": 0,\n  "seed": 0', "cannot be read (key 'seed' is given twice)"),
        ("cpu", "cp\\u0075", "was formatted anew"),
        ("{", "[", "cannot be read"),
    ],
)
def test_an_altered_file_is_refused_by_name(
    tmp_path: Path, make_result: Make, old: str, new: str, message: str
) -> None:
    file = write_result(tmp_path, make_result())
    spoilt(file, old, new)
    assert message in refusal(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "it holds no keys"),
        ("\udcff", "cannot be read ("),
        ("", "cannot be read ("),
        ("[" * 100_000, "cannot be read ("),
    ],
    ids=["list", "bytes", "empty", "deep"],
)
def test_a_file_of_something_else_is_refused_by_name(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "seed0.json"
    file.write_bytes(content.encode(errors="surrogateescape"))
    assert message in refusal(file)


def test_a_file_that_cannot_be_opened_is_refused_by_name(tmp_path: Path) -> None:
    assert "cannot be read (Is a directory)" in refusal(tmp_path)


INVALID: dict[str, Change] = {
    "key 'mood' is not a known key": lambda raw: raw.update(mood="good"),
    "key 'spec' is missing": lambda raw: raw.pop("spec"),
    "schema_version None is none from 1 to 2": lambda raw: raw.pop("schema_version"),
    "schema_version 0 is none": lambda raw: raw.update(schema_version=0),
    "schema_version True is none": lambda raw: raw.update(schema_version=True),
    "metrics.test.accuracy.value: Input should be a valid number": lambda raw: metric(raw).update(value="0.5"),
    "metrics.test.accuracy.value: Input should be less than or equal to 1": lambda raw: metric(raw).update(value=5.0),
    "metrics.test.accuracy.low: Input should be greater than or equal to 0": lambda raw: metric(raw).update(low=-3.0),
    "metrics.test.accuracy: an interval has one bound only": lambda raw: metric(raw).pop("high"),
    "classes.0.average_precision: Input should be less": lambda raw: raw["classes"][0].update(average_precision=1.9),
    "selection.path.0.val: Input should be less": lambda raw: raw["selection"]["path"][0].update(val=5.0),
    "macro_f1 was chosen by, not the main metric accuracy": lambda raw: raw["selection"].update(metric="macro_f1"),
    "val has no accuracy": lambda raw: raw["metrics"].update(val={}),
    "metrics are of train, val, test, not of val, test": lambda raw: raw.update(
        metrics={"train": raw["metrics"]["val"], **raw["metrics"]}
    ),
    "not_finite.test.values: Input should be greater": lambda raw: raw.update(
        not_finite={"test": {"values": -5, "samples": 1, "names": []}}
    ),
    "spec.seed: Input should be greater than or equal to 0": lambda raw: raw["spec"].update(seed=-1),
    "has no replicates (`resampled`), which only files of schema 1 lack": lambda raw: raw.pop("resampled"),
    "resampled.replicates: there are 2 replicates instead of 1,000": lambda raw: raw["resampled"].update(
        replicates="AAAAPwAAAD8="
    ),
    "test has no micro_map": lambda raw: raw["metrics"]["test"].pop("micro_map"),
    "counts are not those of the splits": lambda raw: raw["counts"].update(train=16201),
    "counts are of train, test, not of train, val, test": lambda raw: (
        raw["counts"].pop("val"),
        raw["spec"]["task"]["splits"].pop("val"),
    ),
    "was formatted anew": lambda raw: raw.update(counts=raw.pop("counts")),  # last now
}


def metric(raw: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = raw["metrics"]["test"]["accuracy"]
    return found


@pytest.mark.parametrize("message", INVALID)
def test_what_no_run_gives_is_refused_whatever_its_checksum(tmp_path: Path, make_result: Make, message: str) -> None:
    file = forge(write_result(tmp_path, make_result()), INVALID[message])
    assert message in refusal(file)


def test_a_digest_of_another_specification_is_refused(tmp_path: Path, make_result: Make) -> None:
    file = write_result(tmp_path, make_result().model_copy(update={"digest": "0" * 64}))
    assert "was edited: its digest is not that of its specification" in refusal(file)


def refusal(file: Path) -> str:
    with pytest.raises(ResultFileError) as refused:
        read_result(file)
    message = str(refused.value)
    assert message == f"result file {file} {refused.value.what}; {refused.value.cure}."
    assert "\n" not in message
    return message


def test_a_file_in_the_wrong_place_is_refused(tmp_path: Path, make_result: Make) -> None:
    file = write_result(tmp_path, make_result())
    moved = file.with_name("seed7.json")
    file.rename(moved)
    with pytest.raises(ResultError, match=r"belongs at runs/eurosat-v1/linear-v2/resnet18.random/seed0.json"):
        read_results(tmp_path)


def test_results_are_found_by_file_place_and_digest(tmp_path: Path, make_result: Make) -> None:
    first, second = make_result(), make_result(checkpoint="bandstats")
    file = write_result(tmp_path, first)
    write_result(tmp_path, second)
    for name in (
        str(file),
        "runs/eurosat-v1/linear-v2/resnet18.random/seed0.json",
        "eurosat-v1/linear-v2/resnet18.random/seed0",
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


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, True),
        ({"tasks": ["so2sat", "eurosat"]}, True),
        ({"tasks": ["eurosat-v1"]}, True),
        ({"tasks": ["eurosat-rgb"]}, False),
        ({"protocols": ["linear"]}, True),
        ({"protocols": ["linear-v2"]}, True),
        ({"protocols": ["linear-v1"]}, False),
        ({"checkpoints": ["resnet18.random"]}, True),
        ({"checkpoints": ["resnet18"]}, False),
        ({"seeds": [0]}, False),
        ({"seeds": [0, 3]}, True),
        ({"fractions": [1.0]}, True),
        ({"fractions": [0.1]}, False),
        ({"tasks": ["eurosat"], "seeds": [0]}, False),
    ],
)
def test_a_result_fits_what_was_asked_for(make_result: Make, chosen: dict[str, Any], expected: bool) -> None:
    assert RunFilter(**chosen).matches(make_result(seed=3)) is expected


def test_runs_are_listed_by_what_was_asked_for(tmp_path: Path, make_result: Make, command: Command) -> None:
    for seed in (0, 2, 10):
        write_result(tmp_path, make_result(seed=seed))
        write_result(tmp_path, make_result(seed=seed, fraction=0.1))
    write_result(tmp_path, make_result("eurosat-rgb", "bandstats", by="knn"))
    runs = ("list", "runs", "--results", tmp_path)

    def listed(*options: object) -> list[tuple[object, ...]]:
        rows = json.loads(command(*runs, *options, "--json")[1])
        return [(row["checkpoint"], row["fraction"], row["seed"]) for row in rows]

    assert listed("--task", "eurosat") == [("resnet18.random", f, s) for f in (0.1, 1.0) for s in (0, 2, 10)]
    assert listed("--fraction", "0.1", "--seed", 2, 10) == [("resnet18.random", 0.1, 2), ("resnet18.random", 0.1, 10)]
    assert listed("--protocol", "knn-v3") == listed("--checkpoint", "bandstats") == [("bandstats", 1.0, 0)]
    assert "marks" not in command(*runs)[1]  # all of them are official
    code, out, err = command(*runs, "--seed", 1, "--fraction", 0.1)
    assert (code, out) == (0, "")
    assert err == "no run fits these options; `ssl4eo-bench list runs` shows all of them\n"
    code, _, err = command("list", "tasks", "--task", "eurosat")
    assert code == 2
    assert "has no option --task; did you mean '--tasks-dir'?" in err
