from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.task import Groups, Split, SplitName, Task, UnlistedSplit
from ssl4eo_bench.data.split_lists import read_list
from ssl4eo_bench.data.splits import check_list, open_splits
from ssl4eo_bench.errors import MissingDataError, SplitError

LISTS: dict[SplitName, list[str]] = {"train": ["t2", "t1", "t3", "t4"], "val": ["v1", "v2"], "test": ["x1", "x2"]}


class Fake:
    def __init__(self, gone: Sequence[str] = ()) -> None:
        self.gone = set(gone)
        self.labels_read: list[str] = []

    def ids(self, split: SplitName) -> list[str]:
        return LISTS[split]

    def absent(self, ids: Sequence[str]) -> list[str]:
        return [id_ for id_ in ids if id_ in self.gone]

    def targets(self, ids: Sequence[str]) -> np.ndarray:
        self.labels_read += ids
        return np.zeros(len(ids), dtype=np.int64)

    def read(self, ids: Sequence[str], bands: Sequence[str]) -> Groups:
        return (np.zeros((len(ids), len(bands), 64, 64), dtype=np.uint16),)

    def fingerprint(self, ids: Sequence[str]) -> str:
        return "-".join(ids)


def task(source: Fake) -> Task:
    splits = {split: Split.of(ids) for split, ids in LISTS.items()}
    return catalogue.task("eurosat").model_copy(update={"open": lambda folder: source, "splits": splits})


def test_splits_are_sorted_and_labels_are_not_opened_yet(tmp_path: Path) -> None:
    source = Fake()
    opened = open_splits(task(source), tmp_path)
    assert opened["train"].ids == ("t1", "t2", "t3", "t4")
    assert opened["train"].record == Split.of(LISTS["train"])
    assert source.labels_read == []
    assert len(opened["val"].targets()) == 2
    assert source.labels_read == ["v1", "v2"]


def test_absent_samples_are_counted_and_named_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError) as refusal:
        open_splits(task(Fake(gone=["t1", "t4", "x2"])), tmp_path)
    message = str(refusal.value)
    assert (
        "3 samples of task 'eurosat' are absent (2 of 4 train, 0 of 2 val, 1 of 2 test), such as t1, t4, x2" in message
    )
    assert "EuroSATallBands.zip" in message
    assert "--partial runs on what is there" in message


def test_partial_keeps_what_is_there(tmp_path: Path) -> None:
    opened = open_splits(task(Fake(gone=["t1", "x2"])), tmp_path, partial=True)
    assert opened["train"].ids == ("t2", "t3", "t4")
    assert opened["test"].ids == ("x1",)
    assert opened["test"].record != Split.of(LISTS["test"])


def test_partial_needs_some_of_each_split(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="even --partial needs some of each split"):
        open_splits(task(Fake(gone=["v1", "v2"])), tmp_path, partial=True)


def test_a_limit_takes_evenly_spaced_samples(tmp_path: Path) -> None:
    opened = open_splits(task(Fake()), tmp_path, limit=2)
    assert opened["train"].ids == ("t1", "t3")
    assert opened["val"].ids == ("v1", "v2")


def test_a_data_directory_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"nowhere does not exist; name yours with --data-dir .* try --sample"):
        open_splits(task(Fake()), tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "the list is empty"),
        (["a", "b", "b"], "the list names b more than once"),
        (["a", "b"], "the list has 2 ids, but the official one has 3"),
        (["a", "b", "c", "d"], "the list has 4 ids, but the official one has 3"),
        (["a", "b", "z"], "the list has the right number of ids, but not the official ones"),
    ],
)
def test_a_list_that_is_not_the_official_one_is_refused(ids: list[str], message: str) -> None:
    expected = Split.of(["a", "b", "c"])
    check_list(["c", "a", "b"], expected, "the list")
    with pytest.raises(SplitError, match=message):
        check_list(ids, expected, "the list")


def test_line_ends_and_a_missing_last_one_do_not_matter(tmp_path: Path) -> None:
    for content in ("a\nb", "a\nb\n", "a\r\nb\r\n", "\na \n\nb\n"):
        (tmp_path / "list.txt").write_text(content, newline="")
        assert read_list(tmp_path / "list.txt") == ["a", "b"]


def test_splits_that_share_ids_are_refused(tmp_path: Path) -> None:
    class Overlapping(Fake):
        def ids(self, split: SplitName) -> list[str]:
            return ["v1", "x1"] if split == "test" else LISTS[split]

    shared = task(Overlapping()).model_copy(update={"splits": {split: UnlistedSplit() for split in LISTS}})
    with pytest.raises(SplitError, match="the val and test lists of task 'eurosat' share 1 ids, such as v1"):
        open_splits(shared, tmp_path)
