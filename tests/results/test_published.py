from pathlib import Path

import pytest

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.protocols import PROTOCOLS, RECIPES
from ssl4eo_bench.errors import ResultError
from ssl4eo_bench.results.published import COLUMNS, PublishedNumber, differences, published_numbers, read_published
from tests.conftest import ROOT

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


MOCO = "resnet50.ssl4eo_s12-moco_v2-s2l1c"
SHIPPED = read_published(ROOT / "results" / "published.csv")


@pytest.mark.parametrize("protocol", [*PROTOCOLS, *RECIPES])
def test_numbers_of_ssl4eo_s12_on_dfc2020_are_on_another_target(protocol: str) -> None:
    tuned = [number for number in SHIPPED if number.task == "dfc2020" and number.model.startswith("RN50")]
    assert [number.value for number in tuned] == [0.5483, 0.5468, 0.4968]
    for number in tuned:
        assert "lc maps" in number.note
        assert f"metric {number.metric}" in differences(number, task="dfc2020", protocol=protocol, metric="miou")


def test_torchgeo_benchs_numbers_of_the_moco_networks_say_how_inputs_were_scaled() -> None:
    """Before its pull request 206 the option had no effect: what was called standardised was x / 10000."""
    scaled = {
        number.value: (number.checkpoint.rpartition("-")[2], number.protocol.rpartition(", ")[2])
        for number in SHIPPED
        if number.task == "eurosat-spatial" and number.checkpoint
    }
    divided, standardised = "inputs x / 10000", "bands standardised"
    assert scaled == {
        0.9037: ("s2l1c", divided),
        0.9319: ("s2l1c", divided),
        0.9328: ("s2rgb", divided),
        0.9576: ("s2rgb", divided),
        0.6828: ("s2l1c", standardised),
        0.8376: ("s2l1c", standardised),
        0.6976: ("s2rgb", standardised),
        0.8544: ("s2rgb", standardised),
    }


@pytest.mark.parametrize("protocol", [*PROTOCOLS, *RECIPES])
def test_no_number_of_torchgeo_bench_compares_with_a_run(protocol: str) -> None:
    """Its heads are fitted on train and val together, and its neighbours are five."""
    numbers = [number for number in SHIPPED if "torchgeo-bench" in number.source]
    assert len(numbers) == 34
    for number in numbers:
        assert differences(number, task=number.task, protocol=protocol, metric=number.metric) == (
            f"protocol {number.protocol}",
        )


def test_published_numbers_name_tasks_and_checkpoints_of_the_suite() -> None:
    known = catalogue.load_catalogue().checkpoints
    assert {number.task for number in SHIPPED} <= set(catalogue.tasks())
    assert {number.checkpoint for number in SHIPPED if number.checkpoint} <= set(known)


def test_numbers_on_the_two_splits_of_bigearthnet_are_told_apart() -> None:
    """91.8 and 88.7 are one network on two splits: the one was scored on val of the older split."""
    moco = [n for n in SHIPPED if n.checkpoint == MOCO and "bigearthnet" in n.task]
    assert [(n.task, n.split) for n in moco if n.value == 0.918] == [("bigearthnet-google", "val")]
    assert [(n.task, n.split) for n in moco if n.value == 0.887] == [("bigearthnet", "test")]
    for number in moco:  # and neither says how it was made, so that it could stand beside one of the suite's protocols
        for protocol in PROTOCOLS:
            for task in ("bigearthnet", "bigearthnet-google"):
                assert differences(number, task=task, protocol=protocol, metric="micro_map")
