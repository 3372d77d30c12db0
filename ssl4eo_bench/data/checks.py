"""What is there of a dataset, and whether it is whole."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ssl4eo_bench.data.packing import damaged_chunks
from ssl4eo_bench.data.packs import is_complete, open_source, pack_folder
from ssl4eo_bench.data.published import Published, published
from ssl4eo_bench.data.splits import check_list
from ssl4eo_bench.errors import DataError, MissingDataError, shortlist
from ssl4eo_bench.progress import Advance, Progress
from ssl4eo_bench.spec.tasks import SPLITS, Source, SplitName, Task
from ssl4eo_bench.storage import free_bytes

AT_ONCE = 64
"""Samples that are read in one go; a batch that fails is read again one by one to name the bad ones."""

BLOCK = 1 << 22
"""Bytes of an archive that are hashed between two signs of progress."""


@dataclass(frozen=True)
class Status:
    """What is there of a task.

    Attributes:
        present: samples that are there, by split; none where the split list is not there.
        listed: samples that the split list on disk names, or that the official one has.
        missing: published files that are not in the task's folder, or not unpacked.
        packed: whether there is a complete pack.
        problem: one sentence, if the dataset cannot be opened.
        free: bytes on the disk of the data directory.
    """

    present: dict[SplitName, int | None]
    listed: dict[SplitName, int | None]
    missing: tuple[Published, ...]
    packed: bool
    problem: str
    free: int


@dataclass(frozen=True)
class Fault:
    """Something that is wrong with a dataset: where, and what."""

    where: str
    what: str


def survey(task: Task, data_dir: Path) -> Status:
    """Look at what is there of a task, without reading pixels."""
    problem = ""
    listed: dict[SplitName, int | None] = {split: task.splits[split].count for split in SPLITS}
    present: dict[SplitName, int | None] = dict.fromkeys(SPLITS)
    try:
        source = open_source(task, data_dir)
        for split in SPLITS:
            ids = source.ids(split)
            listed[split], present[split] = len(ids), len(ids) - len(source.absent(ids))
    except DataError as error:
        problem = str(error)
    pack = pack_folder(task, data_dir)
    found = published([task], data_dir) if task.files else []
    whole = not problem and present == listed  # unpacked by hand, or packed
    return Status(
        present=present,
        listed=listed,
        missing=tuple(item for item in found if item.todo != "nothing" and not (whole and item.file.unpack)),
        packed=not problem and is_complete(pack),
        problem=problem,
        free=free_bytes(data_dir),
    )


def verify(task: Task, data_dir: Path, progress: Progress) -> list[Fault]:
    """Everything that is wrong with a task's dataset: lists, published files, samples, pack.

    Raises:
        MissingDataError: if there is no dataset at all.
    """
    try:
        source = task.open(data_dir)  # not the pack, which would hide the published files behind it
    except MissingDataError:
        source = open_source(task, data_dir)
    faults = [*_list_faults(task, source), *_file_faults(task, data_dir / task.folder, progress)]
    for split in SPLITS:
        ids = source.ids(split)
        absent = set(source.absent(ids))
        if absent:
            faults.append(Fault(f"{split}", f"{len(absent):,} samples absent, such as {shortlist(sorted(absent))}"))
        there = sorted(set(ids) - absent)
        with progress.stage(f"reading {split}", total=len(there), unit="samples") as advance:
            faults += _sample_faults(task, source, there, advance)
    if is_complete(folder := pack_folder(task, data_dir)):
        faults += [Fault(str(file), "not what was packed; pack again") for file in damaged_chunks(folder, progress)]
    return faults


def _list_faults(task: Task, source: Source) -> Iterator[Fault]:
    for split in SPLITS:
        try:
            check_list(source.ids(split), task.splits[split], f"the {split} list")
        except DataError as error:
            yield Fault(f"{split} list", str(error))


def _file_faults(task: Task, folder: Path, progress: Progress) -> list[Fault]:
    """Published files that are there and are not what was published."""
    faults = []
    for file in task.files:
        place = folder / file.name
        for name, expected in file.hashes.items() if place.is_file() else ():
            found = _hash(place, name, progress)
            if not found.startswith(expected):
                faults.append(Fault(str(place), f"{name} is {found}, published is {expected}; fetch it again"))
    return faults


def _sample_faults(task: Task, source: Source, ids: Sequence[str], advance: Advance) -> list[Fault]:
    bands = [band.name for band in task.bands]

    def read(part: Sequence[str]) -> list[Fault]:
        try:
            source.read(part, bands)
            source.targets(part)
        except DataError as error:
            if len(part) == 1:
                return [Fault(part[0], str(error))]
            return [fault for id_ in part for fault in read([id_])]
        return []

    faults = []
    parts = [ids[start : start + AT_ONCE] for start in range(0, len(ids), AT_ONCE)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for part, found in zip(parts, pool.map(read, parts), strict=True):
            faults += found
            advance(len(part))
    return faults


def _hash(file: Path, name: str, progress: Progress) -> str:
    digest = hashlib.new(name, usedforsecurity=False)
    with (
        progress.stage(f"checksum {file.name}", total=file.stat().st_size, unit="bytes") as advance,
        file.open("rb") as opened,
    ):
        while block := opened.read(BLOCK):
            digest.update(block)
            advance(len(block))
    return digest.hexdigest()
