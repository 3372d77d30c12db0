"""Opening the splits of a task. The lists on disk are checked against the official ones first."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from ssl4eo_bench import progress
from ssl4eo_bench.config.task import SPLITS, Split, SplitName, Task, UnlistedSplit
from ssl4eo_bench.data.packs import open_source
from ssl4eo_bench.data.reader import Reader
from ssl4eo_bench.errors import MissingDataError, SplitError, shortlist

LABELS_AT_ONCE = 1024
"""Samples between two reports of progress; labels may be half a million files."""


@dataclass(frozen=True)
class OpenSplit:
    """One split of an opened dataset: the sorted ids of the samples in use, and what reads and checks them."""

    ids: tuple[str, ...]
    reader: Reader

    def targets(self) -> np.ndarray:
        """Labels in the order of `ids`; they are not read before, so that test labels cannot leak into a choice."""
        parts = []
        with progress.stage("labels", total=len(self.ids), unit="samples") as advance:
            for start in range(0, len(self.ids), LABELS_AT_ONCE):
                parts.append(self.reader.targets(self.ids[start : start + LABELS_AT_ONCE]))
                advance(len(parts[-1]))
        return np.concatenate(parts)

    @property
    def record(self) -> Split:
        """Count and digest, as results record them."""
        return Split.of(self.ids)


def open_splits(
    task: Task,
    data_dir: Path,
    *,
    sample: bool = False,
    partial: bool = False,
    limit: int | None = None,
    packed: bool = True,
) -> dict[SplitName, OpenSplit]:
    """All splits of a task, after their lists and the reader have been checked.

    With `sample`, the directory holds the embedded sample, which has smaller splits. With `partial`, absent samples are
    left out instead of refused. `limit` is the largest number of samples of each split, evenly spaced over the sorted
    ids. With `packed`, samples are read from the task's pack if there is one.

    Raises:
        MissingDataError: if the directory, a list or a listed sample is absent.
        SplitError: if a list is not the official one, or belongs to the embedded sample and `sample` is not set.
        DataError: if the task's reader does not give the bands and samples that it is asked for.
    """
    if task.folder and not data_dir.is_dir():
        raise MissingDataError(
            f"data directory {data_dir} does not exist; name yours with --data-dir or SSL4EO_BENCH_DATA, or try "
            "--sample, which needs no data."
        )
    source = open_source(task, data_dir) if packed else task.open(data_dir)
    expected = task.embedded().splits if sample else task.splits
    listed = {split: source.ids(split) for split in SPLITS}
    if not sample:
        _refuse_sample(task, listed, data_dir)
    for split, ids in listed.items():
        check_list(ids, expected[split], f"the {split} list of task {task.name!r}")
    _refuse_overlap(task, listed)
    absent = {split: set(source.absent(ids)) for split, ids in listed.items()}
    present = {split: sorted(set(ids) - absent[split]) for split, ids in listed.items()}
    if any(absent.values()) and not (partial and all(present.values())):
        raise MissingDataError(_absence(task, listed, absent, partial=partial))
    reader = Reader(task, source)
    train = present["train"]
    reader.require_selection([train[0], *train[1:][-1:]])  # the first and the last, which may be the same
    return {split: OpenSplit(tuple(_thin(present[split], limit)), reader) for split in SPLITS}


def _refuse_sample(task: Task, listed: dict[SplitName, list[str]], data_dir: Path) -> None:
    """Refuse the embedded sample as the dataset; without an official list, nothing else would notice it."""
    for split, known in task.sample.splits.items() if task.sample else ():
        if task.splits[split] != known and Split.of(listed[split]) == known:
            raise SplitError(
                f"{data_dir} holds the embedded sample of task {task.name!r}, not the dataset; name the dataset's "
                "directory with --data-dir, or ask for the sample with --sample."
            )


def _refuse_overlap(task: Task, listed: dict[SplitName, list[str]]) -> None:
    for first, second in combinations(SPLITS, 2):
        if both := set(listed[first]) & set(listed[second]):
            raise SplitError(
                f"the {first} and {second} lists of task {task.name!r} share {len(both):,} ids, such as "
                f"{shortlist(sorted(both), at_most=3)}; fetch the official lists again."
            )


def _absence(
    task: Task, listed: dict[SplitName, list[str]], absent: dict[SplitName, set[str]], *, partial: bool
) -> str:
    counts = ", ".join(f"{len(absent[split]):,} of {len(listed[split]):,} {split}" for split in SPLITS)
    names = shortlist(sorted(set().union(*absent.values())), at_most=3)
    choice = "even --partial needs some of each split" if partial else "--partial runs on what is there"
    total = sum(map(len, absent.values()))
    download = f", or run `ssl4eo-bench data download {task.name}`" if any(file.url for file in task.files) else ""
    return (
        f"{total:,} samples of task {task.name!r} are absent ({counts}), such as {names}; {task.how_to_get}{download} "
        f"({choice})."
    )


def check_list(ids: Sequence[str], expected: Split | UnlistedSplit, where: str) -> None:
    """Refuse a split list that is not the official one.

    Raises:
        SplitError: if it is empty, names an id twice, or has other ids than the official list.
    """
    cure = "fetch the official list again"
    if not ids:
        raise SplitError(f"{where} is empty; {cure}.")
    if twice := [id_ for id_, count in Counter(ids).items() if count > 1]:
        raise SplitError(f"{where} names {shortlist(twice, at_most=3)} more than once; {cure}.")
    if expected.count is not None and len(ids) != expected.count:
        raise SplitError(f"{where} has {len(ids):,} ids, but the official one has {expected.count:,}; {cure}.")
    if isinstance(expected, Split) and (found := Split.of(ids).digest) != expected.digest:
        raise SplitError(
            f"{where} has the right number of ids, but not the official ones (digest {found[:12]}…, expected "
            f"{expected.digest[:12]}…): at least one id belongs to another split or dataset; {cure}."
        )


def _thin(ids: list[str], limit: int | None) -> list[str]:
    if limit is None or limit >= len(ids):
        return ids
    return [ids[step * len(ids) // limit] for step in range(limit)]
