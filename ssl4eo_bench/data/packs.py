"""Packs: a dataset's stored pixels and labels in a few large arrays instead of many small files.

A pack is optional. It is a store of shards (`files.shards`) below the task's folder in the data directory:

    packed/<task>-v<version>/manifest.json       what is packed, and the checksum of every file
                             train.txt …         the ids of each split, in the order of the official list
                             00000-10m.npy …     pixels [rows, C, H, W] of one resolution, all bands of the task;
                             00000-10m-s1.npy …  of one sensor and resolution in tasks of several sensors
                             00000-labels.npy    labels
                             00000-place-and-date.npy

Rows are in the order of sorted ids, all splits one after another. Pixels are in native resolution. A packing that was
interrupted continues at the next shard. A file is compared with its checksum before anything of it is used.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from functools import cached_property
from itertools import pairwise
from pathlib import Path, PurePath
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field, ValidationError

from ssl4eo_bench.config.bands import sensor_of
from ssl4eo_bench.config.canonical import Frozen
from ssl4eo_bench.config.inputs import PerImage
from ssl4eo_bench.config.task import SPLITS, Groups, Source, Split, SplitName, Task
from ssl4eo_bench.errors import DamagedFileError, MissingDataError
from ssl4eo_bench.files.hashing import file_hash
from ssl4eo_bench.files.reading import read_bytes, reading
from ssl4eo_bench.files.shards import MANIFEST, Shard, ShardStore

PLACE_AND_DATE = "place-and-date"


class Contents(Frozen):
    """What a pack holds.

    Attributes:
        tells: what is packed of place and date; packs of an earlier format have nothing.
        lists: the sha256 of the list file of each split; packs of an earlier format have none.
        chunk_rows: rows of every shard but the last.
    """

    task: str
    version: int
    bands: tuple[str, ...]
    tells: tuple[PerImage, ...] = ()
    splits: dict[SplitName, Split]
    lists: dict[SplitName, str] = Field(default_factory=dict)
    chunk_rows: Annotated[int, Field(gt=0)]

    @property
    def shards(self) -> int:
        """The number of shards of all splits together."""
        return -(-sum(split.count for split in self.splits.values()) // self.chunk_rows)


class Pack(NamedTuple):
    """What a pack holds, and its shards."""

    contents: Contents
    store: ShardStore

    @property
    def complete(self) -> bool:
        """Whether all shards are written; False for a pack of an earlier format, without checksums of its lists."""
        count = self.contents.shards
        return (
            bool(self.contents.lists)
            and count <= len(self.store.shards)
            and self.store.shards.keys() >= set(range(count))
        )

    def damaged_lists(self) -> list[Path]:
        """The files with the ids of a split that are absent or not what was written."""
        files = {list_file(self.store.folder, split): self.contents.lists.get(split) for split in SPLITS}
        return [file for file, sha256 in files.items() if not file.is_file() or file_hash(file) != sha256]


class PackedSource:
    """A pack opened for reading.

    What is read of it is what was packed: each file is compared with its checksum once, when it is first read.

    Raises:
        DamagedFileError: from every method, for a file that is not what the manifest says.
    """

    def __init__(self, folder: Path, arrays: dict[str, str]) -> None:
        """Open the pack in a folder; `arrays` are those of `pixel_arrays`."""
        self._folder = folder
        self._arrays = arrays

    def __reduce__(self) -> tuple[type["PackedSource"], tuple[Path, dict[str, str]]]:
        """Another process opens the pack anew, because it may see other files."""
        return PackedSource, (self._folder, self._arrays)

    @cached_property
    def _pack(self) -> Pack:
        """Read once, so that files are compared with the same manifest that fingerprints are made from."""
        return read_pack(self._folder)

    @cached_property
    def _ids(self) -> dict[SplitName, list[str]]:
        if damaged := self._pack.damaged_lists():
            raise self._damaged(damaged[0])
        files = {split: list_file(self._folder, split) for split in SPLITS}
        with self._reading(self._folder):
            return {split: read_bytes(file).decode("utf-8").splitlines() for split, file in files.items()}

    @cached_property
    def _row(self) -> dict[str, int]:
        return {id_: row for row, id_ in enumerate(id_ for split in SPLITS for id_ in sorted(self._ids[split]))}

    def ids(self, split: SplitName) -> list[str]:
        """The ids of a split, in the order of the official list."""
        return list(self._ids[split])

    def absent(self, ids: Sequence[str]) -> list[str]:
        """Those of `ids` that the pack does not hold."""
        return [id_ for id_ in ids if id_ not in self._row]

    def targets(self, ids: Sequence[str]) -> np.ndarray:
        """Labels, as the task's own reader gives them."""
        return self._gather(ids, "labels", slice(None))

    def read(self, ids: Sequence[str], bands: Sequence[str]) -> Groups:
        """Stored pixels, as the task's own reader gives them."""
        groups = []
        for array in dict.fromkeys(found for band, found in self._arrays.items() if band in bands):
            stored = [band for band, found in self._arrays.items() if found == array]
            positions = [position for position, band in enumerate(stored) if band in bands]
            groups.append(self._gather(ids, array, slice(None) if len(positions) == len(stored) else positions))
        return tuple(groups)

    def place_and_date(self, ids: Sequence[str]) -> np.ndarray:
        """Place and date, as the task's own reader gives them.

        Raises:
            MissingDataError: if the pack is older than the task's telling them.
        """
        if not self._pack.contents.tells:
            raise MissingDataError(
                f"the pack {self._folder} has no place and date of its samples; delete the folder, and run "
                f"`ssl4eo-bench data prepare {self._pack.contents.task}` or read the files without a pack."
            )
        return self._gather(ids, PLACE_AND_DATE, slice(None))

    def fingerprint(self, ids: Sequence[str]) -> str:
        """The digest of the checksums of the shards these samples lie in, and of their rows."""
        rows = [self._row[id_] for id_ in ids]
        numbers = sorted({row // self._pack.contents.chunk_rows for row in rows})
        with self._reading(self._folder / MANIFEST):
            sums = [_as_json(self._pack.store.shards[number]) for number in numbers]
        return hashlib.sha256("\n".join((*sums, *map(str, rows))).encode()).hexdigest()

    def _gather(self, ids: Sequence[str], what: str, columns: slice | list[int]) -> np.ndarray:
        rows = np.array([self._row[id_] for id_ in ids])
        numbers, places = np.divmod(rows, self._pack.contents.chunk_rows)
        parts = []
        for start, stop in pairwise([0, *(np.flatnonzero(np.diff(numbers)) + 1), len(numbers)]):  # a shard each
            block = self._rows(int(numbers[start]), what, places[start:stop])
            parts.append(block if columns == slice(None) else block[:, columns])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _rows(self, number: int, what: str, rows: np.ndarray) -> np.ndarray:
        """A copy of some rows of an array of a shard."""
        file = self._folder / array_file(number, what)
        with self._reading(file):
            array = self._pack.store.array(number, file.name)
            if array is None:
                raise self._damaged(file)
            consecutive = (np.diff(rows) == 1).all()
            found = array.read(int(rows[0]), int(rows[-1]) + 1) if consecutive else array.mapped()[rows]
            if len(found) != len(rows):
                raise self._damaged(file)
            return found

    @property
    def _cure(self) -> str:
        return f"run `ssl4eo-bench data prepare {self._pack.contents.task}`, which writes damaged files anew"

    def _reading(self, file: Path) -> AbstractContextManager[None]:
        """Refuse a file that has its checksum, but cannot be what was packed."""
        return reading(f"{file} is not what was packed", cure=self._cure)

    def _damaged(self, file: Path) -> DamagedFileError:
        return DamagedFileError(f"{file} is not what was packed; {self._cure}.")


def _as_json(shard: Shard) -> str:
    """A shard as fingerprints have it, which enter the keys of cached features: this text must never change."""
    return json.dumps({"samples": shard.facts["samples"], "files": shard.files}, separators=(",", ":"))


def list_file(folder: Path, split: SplitName) -> Path:
    """The file of a pack that lists the ids of a split."""
    return folder / f"{split}.txt"


def array_file(number: int, what: str) -> str:
    """The name of the file with one array of a shard: `labels`, or pixels, such as `10m`."""
    return f"{number:05d}-{what}.npy"


def pixel_arrays(task: Task) -> dict[str, str]:
    """The array that each band of a task lies in, in the order of `Task.groups`.

    It is named by its resolution, `10m`, and in tasks of several sensors by the sensor as well, `10m-s1`.
    """
    resolution = {band.name: band.resolution for band in task.bands}
    sensors = {name: sensor_of(name).replace("Sentinel-", "-s") for name in resolution}
    several = len(set(sensors.values())) > 1
    ordered = [name for group in task.groups(tuple(resolution)) for name in group]
    return {name: f"{resolution[name]}m{sensors[name] if several else ''}" for name in ordered}


def pack_folder(task: Task, data_dir: Path) -> Path:
    """The folder of the pack of a task, whether it exists or not."""
    parent = data_dir / task.folder if (data_dir / task.folder).is_dir() else data_dir
    return parent / "packed" / f"{task.name}-v{task.version}"


def open_source(task: Task, data_dir: Path) -> Source:
    """A task's complete pack if there is one, else its files as they were published.

    Raises:
        MissingDataError: if there is neither.
    """
    folder = pack_folder(task, data_dir)
    if is_complete(folder):
        return PackedSource(folder, pixel_arrays(task))
    try:
        return task.open(data_dir)
    except MissingDataError as error:
        if (folder / MANIFEST).is_file():
            raise MissingDataError(
                f"{folder} is a pack that was not finished or is of an earlier format, and what it is finished from "
                f"(by `ssl4eo-bench data prepare {task.name}`) is not there: {error}"
            ) from error
        raise


def is_complete(folder: Path) -> bool:
    """Whether a folder holds a complete pack."""
    return (folder / MANIFEST).is_file() and read_pack(folder).complete


def read_pack(folder: Path) -> Pack:
    """The pack in a folder, as its manifest describes it.

    Raises:
        DamagedFileError: if the manifest cannot be read, or is not what was written.
    """
    with suppress(ValidationError):
        store = ShardStore.open(folder)
        if store and all(PurePath(name).name == name for shard in store.shards.values() for name in shard.files):
            return Pack(Contents.model_validate_json(json.dumps(store.about)), store)
    raise DamagedFileError(
        f"{folder / MANIFEST} is not what was written; delete the folder {folder} and run "
        f"`ssl4eo-bench data prepare {folder.name.rpartition('-v')[0]}`."
    )
