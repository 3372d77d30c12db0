from pathlib import Path

import pytest

from ssl4eo_bench.errors import ResultError
from ssl4eo_bench.results.published import (
    COLUMNS,
    PublishedNumber,
    differences,
    published_numbers,
    read_published,
)

HEAD = ",".join(COLUMNS)
ROW = "eurosat,resnet50.random,RN50,random,linear,test,accuracy,0.918,1,A paper,https://example.org,"


def number(**changes: object) -> PublishedNumber:
    values = dict(zip(COLUMNS, ROW.split(","), strict=True)) | {"value": 0.918, "fraction": 1.0}
    return PublishedNumber.model_validate(values | changes)


def test_rows_are_read_in_their_order(tmp_path: Path) -> None:
    file = tmp_path / "published.csv"
    unstated = ROW.replace("RN50", "RN18").replace(",1,", ",,")
    file.write_text(f"{HEAD}\n{ROW}\n{unstated}\n")
    first, second = read_published(file)
    assert first == number()
    assert (second.model, second.fraction, second.percent) == ("RN18", None, "91.8")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([ROW.replace("0.918", "91.8")], r"line 2: value: Input should be less than or equal to 1; correct the row"),
        ([ROW.replace("0.918", "high")], r"line 2: value: Input should be a valid number"),
        ([ROW.replace("0.918", "nan")], r"line 2: value"),
        ([ROW.replace("0.918", "")], r"line 2: value"),
        ([ROW, ROW.replace(",1,", ",0,")], r"line 3: fraction: Input should be greater than 0"),
        ([ROW.replace("test", "")], r"line 2: split: String should have at least 1 character"),
        ([ROW.replace("https", "ftp")], r"line 2: url"),
        ([ROW.replace("eurosat", "eurosatt")], r"line 2: task 'eurosatt' not found; did you mean 'eurosat'"),
        ([ROW[:-1]], r"line 2: expected 12 cells; put text with commas in quotes"),
        ([ROW + ",more"], r"line 2: expected 12 cells"),
        ([ROW, ROW], r"line 3: the same number as in line 2; remove one of them"),
    ],
)
def test_a_bad_row_is_one_sentence_with_its_line(tmp_path: Path, rows: list[str], message: str) -> None:
    file = tmp_path / "published.csv"
    file.write_text("\n".join([HEAD, *rows]) + "\n")
    with pytest.raises(ResultError, match=message) as refusal:
        read_published(file)
    assert str(file) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"task,value\n", HEAD.upper().encode(), b"\xff\xfe"])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "published.csv").write_bytes(content)
    with pytest.raises(ResultError, match=r"must have the columns task, checkpoint|cannot be read"):
        read_published(tmp_path / "published.csv")


def test_a_directory_has_its_own_numbers_or_those_of_the_package(tmp_path: Path) -> None:
    assert any(number.value == 0.918 for number in published_numbers(tmp_path))
    (tmp_path / "published.csv").write_text(f"{HEAD}\n{ROW}\n")
    assert published_numbers(tmp_path) == [number()]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ()),
        ({"split": "val"}, ("split val of eurosat",)),
        ({"task": "eurosat-spatial"}, ("split test of eurosat-spatial",)),
        ({"split": "random 80/20"}, ("split random 80/20",)),
        ({"protocol": "finetune"}, ("protocol finetune",)),
        ({"metric": "accuracy, mean of batches"}, ("metric accuracy, mean of batches",)),
        ({"fraction": 0.1}, ("fraction 0.1",)),
        ({"fraction": None, "protocol": "not stated"}, ("protocol not stated", "fraction not stated")),
    ],
)
def test_a_number_compares_only_where_everything_agrees(changes: dict[str, object], expected: tuple[str, ...]) -> None:
    assert differences(number(**changes), task="eurosat", protocol="linear", metric="accuracy") == expected
