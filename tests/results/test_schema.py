"""Old result files load for ever, and files of every version are checked."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from ssl4eo_bench.config.records import Resampled
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
    if stored["schema_version"] == 1:
        assert result.resampled is None
        for metrics in stored["metrics"].values():  # the interval of `ece` was of something else
            metrics["ece"] = {"value": metrics["ece"]["value"]}
    assert {key: loaded.get(key) for key in MEASURED} == {key: stored.get(key) for key in MEASURED}
    assert result.digest == result.spec.digest == stored["digest"]  # what was run then is found by what is run now
    assert file.relative_to(FROZEN).as_posix() == str(result.spec.path)


class Next(RunResult):
    """A result of a later version: it has a mood, and `warnings` are called `remarks`."""

    schema_version: Literal[4]  # type: ignore[assignment]
    mood: str
    remarks: tuple[str, ...]


def update_to_3(content: dict[str, Any]) -> dict[str, Any]:
    return content | {"mood": "unknown"}


def update_to_4(content: dict[str, Any]) -> dict[str, Any]:
    assert content["mood"]  # in order
    return {key: value for key, value in content.items() if key != "warnings"} | {"remarks": content["warnings"]}


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two versions later."""
    monkeypatch.setattr(schema, "SCHEMA_VERSION", 4)
    monkeypatch.setattr(schema, "UPDATES", schema.UPDATES | {3: update_to_3, 4: update_to_4})
    monkeypatch.setattr(files, "RunResult", Next)


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("file", OLD, ids=lambda file: file.relative_to(FROZEN / "runs").as_posix())
def test_a_later_version_reads_files_of_all_before(file: Path) -> None:
    stored = json.loads(file.read_text(encoding="utf-8"))
    result = read_result(file)
    assert isinstance(result, Next)
    assert (result.schema_version, result.mood, list(result.remarks)) == (4, "unknown", stored["warnings"])
    assert result.digest == stored["digest"]


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"seed": 0', '"seed": 1', "was edited: its checksum"),
        ('"seed": 0', '"seed":  0', "was formatted anew"),
        ('"warnings": []', '"warnings": [],\n "mood": "good"', "was edited: its checksum"),
        ('"schema_version": 1', '"schema_version": 2', "was edited: its checksum"),
        ('"schema_version": 1', '"schema_version": 5', "has schema 5, this version reads up to 4; upgrade"),
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
    content = schema.update_to_2(json.loads(source.read_text(encoding="utf-8")))
    resampled = Resampled.of(np.full(1000, 0.5), 240, "samples").model_dump()
    file.write_bytes(sealed(content | {"schema_version": 3, "mood": "good", "resampled": resampled}))
    result = read_result(file)
    assert isinstance(result, Next)
    assert result.mood == "good"


def first_schema(tmp_path: Path, change: dict[str, Any], runners: list[str], name: str | None = None) -> Path:
    """A result file of schema 1 of a network, with another checkpoint entry and other runners."""
    source = next(file for file in OLD if "test_resnet" in file.as_posix() and "eurosat" in file.as_posix())
    content = json.loads(source.read_text(encoding="utf-8"))
    content["spec"]["checkpoint"] |= change
    content["provenance"]["runners"] = runners
    place = source.relative_to(FROZEN)
    file = tmp_path / (place.parent.parent / name / place.name if name else place)
    file.parent.mkdir(parents=True)
    file.write_bytes(sealed(content))
    return file


def test_schema_1_had_two_precisions_under_one_name(tmp_path: Path) -> None:
    """On GPUs it ran in bfloat16 unasked: such a result is not what its name says today."""
    with pytest.raises(
        ResultFileError, match="it was run in bfloat16, as version 1 did on GPUs, under the name of a run"
    ):
        read_result(first_schema(tmp_path, {}, ["torch-cuda-bf16"]))
    asked = first_schema(tmp_path / "asked", {"precision": "bfloat16"}, ["torch-cuda-bf16"])
    assert read_result(asked).spec.checkpoint.precision == "bfloat16"


def test_float32_that_was_asked_for_is_what_runs_anyway(tmp_path: Path) -> None:
    """Its name and its digest are those of a run that nobody asked for a precision."""
    plain = read_result(first_schema(tmp_path / "plain", {}, ["torch-cuda"]))
    name = plain.spec.checkpoint.name
    asked = first_schema(
        tmp_path, {"name": f"{name}@float32", "precision": "float32"}, ["torch-cuda"], "timm-test_resnet"
    )
    with pytest.raises(ResultFileError, match=f"belongs at {plain.spec.path}"):
        read_result(asked)
    moved = tmp_path / plain.spec.path
    moved.parent.mkdir(parents=True)
    asked.rename(moved)
    assert read_result(moved).digest == plain.digest


def test_a_backbone_whose_bands_were_mostly_zero_is_no_official_result_any_more(tmp_path: Path) -> None:
    source = next(file for file in OLD if "eurosat-rgb" in file.as_posix() and "test_resnet" in file.as_posix())
    content = json.loads(source.read_text(encoding="utf-8"))
    for channel in content["spec"]["inputs"]["channels"][1:]:
        del channel["source"]
    file = tmp_path / source.relative_to(FROZEN)
    file.parent.mkdir(parents=True)
    file.write_bytes(sealed(content))
    assert not read_result(file).spec.is_official
