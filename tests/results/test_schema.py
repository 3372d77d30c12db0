"""Old result files load for ever, and files of every version are checked."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest

from ssl4eo_bench.errors import ResultFileError
from ssl4eo_bench.results import files, schema
from ssl4eo_bench.results.files import RunResult, read_result
from tests.results.forging import sealed

FROZEN = Path(__file__).parent / "frozen"
OLD = sorted(FROZEN.rglob("*.json"))

MEASURED = ("counts", "subset", "metrics", "classes", "confusion", "selection", "warnings")


def test_every_kind_of_result_is_kept() -> None:
    kinds = {(result.spec.protocol.name, result.spec.task.kind) for result in map(read_result, OLD)}
    assert kinds >= {
        ("linear", "multiclass"),
        ("linear", "multilabel"),
        ("linear", "segmentation"),
        ("knn", "multiclass"),
        ("finetune", "multiclass"),
    }


@pytest.mark.parametrize("file", OLD, ids=lambda file: file.relative_to(FROZEN / "runs").as_posix())
def test_an_old_file_says_what_it_said(file: Path) -> None:
    stored = json.loads(file.read_text(encoding="utf-8"))
    result = read_result(file)
    loaded = result.model_dump(mode="json", exclude_none=True)
    assert {key: loaded.get(key) for key in MEASURED} == {key: stored.get(key) for key in MEASURED}
    assert result.digest == result.spec.digest == stored["digest"]  # what was run then is found by what is run now
    assert file.relative_to(FROZEN).as_posix() == str(result.spec.path)


class Next(RunResult):
    """A result of a later version: it has a mood, and `warnings` are called `remarks`."""

    schema_version: Literal[3]  # type: ignore[assignment]
    mood: str
    remarks: tuple[str, ...]


def update_to_2(content: dict[str, Any]) -> dict[str, Any]:
    return content | {"mood": "unknown"}


def update_to_3(content: dict[str, Any]) -> dict[str, Any]:
    assert content["mood"]  # in order
    return {key: value for key, value in content.items() if key != "warnings"} | {"remarks": content["warnings"]}


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two versions later."""
    monkeypatch.setattr(schema, "SCHEMA_VERSION", 3)
    monkeypatch.setattr(schema, "UPDATES", {2: update_to_2, 3: update_to_3})
    monkeypatch.setattr(files, "RunResult", Next)


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("file", OLD, ids=lambda file: file.relative_to(FROZEN / "runs").as_posix())
def test_a_later_version_reads_files_of_all_before(file: Path) -> None:
    stored = json.loads(file.read_text(encoding="utf-8"))
    result = read_result(file)
    assert isinstance(result, Next)
    assert (result.schema_version, result.mood, list(result.remarks)) == (3, "unknown", stored["warnings"])
    assert result.digest == stored["digest"]


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"seed": 0', '"seed": 1', "was edited: its checksum"),
        ('"seed": 0', '"seed":  0', "was formatted anew"),
        ('"warnings": []', '"warnings": [],\n "mood": "good"', "was edited: its checksum"),
        ('"schema_version": 1', '"schema_version": 2', "was edited: its checksum"),
        ('"schema_version": 1', '"schema_version": 4', "has schema 4, this version reads up to 3; upgrade"),
    ],
)
def test_an_old_file_is_checked_as_it_was_written(tmp_path: Path, old: str, new: str, message: str) -> None:
    source = OLD[-1]
    text = source.read_text(encoding="utf-8")
    file = tmp_path / source.relative_to(FROZEN)
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="utf-8")
    assert read_result(file).digest
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ResultFileError, match=message):
        read_result(file)


@pytest.mark.usefixtures("later")
def test_a_file_in_between_skips_what_is_behind_it(tmp_path: Path) -> None:
    source = OLD[-1]
    file = tmp_path / source.relative_to(FROZEN)
    file.parent.mkdir(parents=True)
    file.write_bytes(sealed(json.loads(source.read_text(encoding="utf-8")) | {"schema_version": 2, "mood": "good"}))
    result = read_result(file)
    assert isinstance(result, Next)
    assert result.mood == "good"
