"""How much of a dataset is on disk, and whether it is complete and unchanged."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssl4eo_bench import progress
from ssl4eo_bench.config.canonical import ids_digest
from ssl4eo_bench.config.task import IGNORED, SPLITS, Source, SplitName, Task
from ssl4eo_bench.data.packing import damaged_files
from ssl4eo_bench.data.packs import is_complete, open_source, pack_folder
from ssl4eo_bench.data.reader import Reader
from ssl4eo_bench.data.releases import PublishedFile, published_files
from ssl4eo_bench.data.splits import check_list
from ssl4eo_bench.errors import DataError, MissingDataError, WriteError, shortlist
from ssl4eo_bench.files.atomic import write_text
from ssl4eo_bench.files.hashing import file_hash
from ssl4eo_bench.files.places import free_bytes
from ssl4eo_bench.progress import Advance

AT_ONCE = 64
"""Samples that are read together. A batch that fails is read again one by one to name the bad samples."""

CHANGED = "bytes changed though size and time of last change did not; fetch them again"
"""The fault of samples that give other pixels or labels than in an earlier call."""


@dataclass(frozen=True)
class Status:
    """How much of a task's dataset is on disk.

    Attributes:
        present: the number of samples on disk by split; None without a split list.
        listed: the number of samples in the split list on disk, or else in the official list.
        missing: the published files that are absent or not unpacked.
        problem: why the dataset cannot be opened, in one sentence; empty if it can.
    """

    present: dict[SplitName, int | None]
    listed: dict[SplitName, int | None]
    missing: tuple[PublishedFile, ...]
    packed: bool
    problem: str
    free: int


@dataclass(frozen=True)
class Fault:
    """A fault of a dataset: the file, sample or split, and what is wrong with it."""

    where: str
    what: str


def survey(task: Task, data_dir: Path) -> Status:
    """The state of a task's dataset on disk, found without reading pixels."""
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
    found = published_files([task], data_dir) if task.files else []
    whole = not problem and present == listed  # then archives were unpacked by hand, or have another name
    return Status(
        present=present,
        listed=listed,
        missing=tuple(
            item
            for item in found
            if item.todo != "nothing" and not (whole and (item.file.unpack or not item.path.exists()))
        ),
        packed=not problem and is_complete(pack),
        problem=problem,
        free=free_bytes(data_dir),
    )


def verify(task: Task, data_dir: Path) -> list[Fault]:
    """All faults of a task's dataset: of lists, published files, samples, class counts and the pack.

    The digests of what was read are stored beside the dataset, so that a later call finds bytes that changed since.

    Raises:
        MissingDataError: if there is no dataset.
    """
    record: Record | None = Record(record_file(task, data_dir)) if task.folder else None  # others hash their files
    try:
        source = task.open(data_dir)  # not the pack, which would hide faults of the published files
    except MissingDataError:
        source, record = open_source(task, data_dir), None  # a pack has its own checksums
    lists = _list_faults(task, source)
    faults = [*lists.values(), *_file_faults(task, data_dir / task.folder)]
    counts: dict[SplitName, np.ndarray] = {}
    for split in SPLITS:
        ids = source.ids(split)
        absent = set(source.absent(ids))
        if absent:
            faults.append(Fault(f"{split}", f"{len(absent):,} samples absent, such as {shortlist(sorted(absent))}"))
        there = sorted(set(ids) - absent)
        with progress.stage(f"reading {split}", total=len(there), unit="samples") as advance:
            found, counted = _read_samples(task, source, there, record, advance)
        faults += found
        if not absent and split not in lists and counted is not None:
            counts[split] = counted
    if record:
        record.write()
    faults += _count_faults(task, counts)
    if is_complete(folder := pack_folder(task, data_dir)):
        faults += [Fault(str(file), "not what was packed; pack again") for file in damaged_files(folder)]
    return faults


def record_file(task: Task, data_dir: Path) -> Path:
    """The file in which `verify` stores digests of a task's samples."""
    home = data_dir / task.folder if (data_dir / task.folder).is_dir() else data_dir
    return home / f".verified-{task.name}-v{task.version}.json"


class Record:
    """The digests of all batches of samples that earlier calls of `verify` have read, by ids and fingerprint.

    The fingerprint of loose files consists of their sizes and times of last change. If it is the same and the digest
    is not, bytes have changed in a way that runs do not notice. The ids are part of the key because a reader may give
    several batches the same fingerprint.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._before = self._read()
        self._now: dict[str, str] = {}

    def _read(self) -> dict[str, str]:
        try:
            digests = json.loads(self._file.read_text(encoding="utf-8"))["digests"]
            return {str(fingerprint): str(digest) for fingerprint, digest in digests.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            progress.note(f"{self._file} cannot be read, so what was read before is not compared; made anew")
            return {}

    def changed(self, fingerprint: str, digest: str | None) -> bool:
        """Whether a batch had another digest in an earlier call.

        The first digest is kept until the fingerprint changes. The digest is None if the batch cannot be read now.
        """
        known = self._before.get(fingerprint, digest)
        if known is not None:
            self._now[fingerprint] = known
        return None not in (known, digest) and known != digest

    def write(self) -> None:
        """Store the digests of this call, or show a note if that is not possible."""
        try:
            write_text(self._file, json.dumps({"digests": self._now}, indent=0, sort_keys=True) + "\n")
        except WriteError as error:
            progress.note(f"what was read is not written down for later calls: {error}")


def _list_faults(task: Task, source: Source) -> dict[SplitName, Fault]:
    faults: dict[SplitName, Fault] = {}
    for split in SPLITS:
        try:
            check_list(source.ids(split), task.splits[split], f"the {split} list")
        except DataError as error:
            faults[split] = Fault(f"{split} list", str(error))
    return faults


def _file_faults(task: Task, folder: Path) -> list[Fault]:
    """The published files on disk with another hash than the published one."""
    faults = []
    for file in task.files:
        place = folder / file.name
        for name, expected in file.hashes.items() if place.is_file() else ():
            found = file_hash(place, name)
            if not found.startswith(expected):
                faults.append(Fault(str(place), f"{name} is {found}, published is {expected}; fetch it again"))
    return faults


def _read_samples(
    task: Task, source: Source, ids: Sequence[str], record: Record | None, advance: Advance
) -> tuple[list[Fault], np.ndarray | None]:
    """The faults of samples, and the number of samples or pixels of each class; None if a sample cannot be read."""
    bands, reader = [band.name for band in task.bands], Reader(task, source)

    def read(part: Sequence[str]) -> tuple[list[Fault], str, str | None, np.ndarray | None]:
        fingerprint = ""
        try:
            fingerprint = ids_digest([*part, source.fingerprint(part)])
            targets = reader.targets(part)
            return [], fingerprint, _digest(*source.read(part, bands), targets), _class_counts(task, targets)
        except DataError as error:
            if len(part) == 1:
                return [Fault(part[0], str(error))], fingerprint, None, None
            return [fault for id_ in part for fault in read([id_])[0]], fingerprint, None, None

    faults: list[Fault] = []
    counts: np.ndarray | None = np.zeros(len(task.classes), dtype=np.int64)
    parts = [ids[start : start + AT_ONCE] for start in range(0, len(ids), AT_ONCE)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for part, (found, fingerprint, digest, counted) in zip(parts, pool.map(read, parts), strict=True):
            faults += found
            counts = None if counts is None or counted is None else counts + counted
            if record and record.changed(fingerprint, digest):
                where = part[0] if len(part) == 1 else f"{part[0]} to {part[-1]}"
                faults.append(Fault(where, CHANGED))
            advance(len(part))
    return faults, counts


def _digest(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _class_counts(task: Task, targets: np.ndarray) -> np.ndarray:
    """The number of samples, or of labelled pixels, of each class."""
    if task.kind == "multilabel":
        samples: np.ndarray = targets.sum(axis=0, dtype=np.int64)
        return samples
    return np.bincount(
        targets[targets != IGNORED] if task.kind == "segmentation" else targets, minlength=len(task.classes)
    )


def _count_faults(task: Task, counts: Mapping[SplitName, np.ndarray]) -> Iterator[Fault]:
    """The splits that have another number of samples or pixels in a class than the official one."""
    unit = "pixels" if task.kind == "segmentation" else "samples"
    for splits, official in task.class_counts.items():
        if all(split in counts for split in splits):
            found = sum(counts[split] for split in splits)
            differing = [
                f"{name!r} has {there:,} {unit}, officially {expected:,}"
                for name, there, expected in zip(task.classes, np.asarray(found).tolist(), official, strict=True)
                if there != expected
            ]
            if differing:
                yield Fault(
                    f"labels of {' and '.join(splits)}", f"class {'; class '.join(differing)}; fetch them again"
                )
