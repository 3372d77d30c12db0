"""Packs: a dataset's stored pixels and labels in a few large arrays instead of many small files.

A pack is optional. It lies below the task's folder in the data directory, in chunks of rows in native resolution:

    packed/<task>-v<version>/manifest.json       the ids' digests, and the checksum of every file
                             train.txt …         the ids of each split, in the order of the official list
                             00000-10m.npy …     pixels [rows, C, H, W] of one resolution, all bands of the task
                             00000-labels.npy    labels

Rows are in the order of sorted ids, all splits one after another. Chunks are written whole, so a packing that was cut
off goes on at the next chunk. A file is compared with its checksum before anything of it is used.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field, ValidationError

from ssl4eo_bench.config.canonical import Frozen, digest
from ssl4eo_bench.config.task import SPLITS, Groups, Source, Split, SplitName, Task
from ssl4eo_bench.errors import DamagedFileError, MissingDataError
from ssl4eo_bench.files.atomic import write_text

MANIFEST = "manifest.json"


class Chunk(Frozen):
    """One chunk: the sha256 of each of its files, and the fingerprint of the samples it was made from."""

    samples: str
    files: dict[str, str]


class Manifest(Frozen):
    """What a pack holds.

    Attributes:
        task: name.
        version: of the task.
        bands: of the pixels, in their order.
        splits: the ids of each split.
        lists: the sha256 of the list file of each split.
        chunk_rows: rows of every chunk but the last.
        chunks: those that are written.
        checksum: of all the others; packs of an earlier format have neither this nor `lists`.
    """

    task: str
    version: int
    bands: tuple[str, ...]
    splits: dict[SplitName, Split]
    lists: dict[SplitName, str] = Field(default_factory=dict)
    chunk_rows: int
    chunks: tuple[Chunk, ...] = ()
    checksum: str = ""

    @property
    def rows(self) -> int:
        """The number of samples, all splits together."""
        return sum(split.count for split in self.splits.values())

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be packed; a pack of an earlier format lacks its checksums."""
        return bool(self.checksum) and len(self.chunks) == -(-self.rows // self.chunk_rows)

    def sealed(self) -> "Manifest":
        """The same with the checksum that belongs to it."""
        return self.model_copy(update={"checksum": digest(self.model_dump(exclude={"checksum"}))})


class _Layout(NamedTuple):
    """Where the values of an array lie in its file."""

    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class PackedSource:
    """A pack opened for reading.

    What is read of it is what was packed: each file is hashed once, when it is first read.

    Raises:
        DamagedFileError: from every method, for a file that is not what the manifest says.
    """

    def __init__(self, folder: Path, resolutions: dict[str, int]) -> None:
        self._folder = folder
        self._resolutions = resolutions
        self._layouts: dict[str, _Layout] = {}  # of the files that have been checked
        self._checking = Lock()

    def __reduce__(self) -> tuple[type["PackedSource"], tuple[Path, dict[str, int]]]:
        """Another process opens the pack anew, since it may see other files."""
        return PackedSource, (self._folder, self._resolutions)

    @cached_property
    def _manifest(self) -> Manifest:
        """Read once: what is checked against it and what fingerprints say of it must be the same."""
        return read_manifest(self._folder)

    @cached_property
    def _ids(self) -> dict[SplitName, list[str]]:
        lists = {}
        for split in SPLITS:
            file = list_file(self._folder, split)
            content = file.read_bytes() if file.is_file() else b""
            if hashlib.sha256(content).hexdigest() != self._manifest.lists.get(split):
                raise self._damaged(file)
            lists[split] = content.decode().splitlines()
        return lists

    @cached_property
    def _row(self) -> dict[str, int]:
        return {id_: row for row, id_ in enumerate(id_ for split in SPLITS for id_ in sorted(self._ids[split]))}

    def ids(self, split: SplitName) -> list[str]:
        """The ids of a split, in the order of the official list."""
        return list(self._ids[split])

    def absent(self, ids: Sequence[str]) -> list[str]:
        """Those that the pack does not hold."""
        return [id_ for id_ in ids if id_ not in self._row]

    def targets(self, ids: Sequence[str]) -> np.ndarray:
        """Labels, as the task's own reader gives them."""
        return self._gather(ids, "labels", slice(None))

    def read(self, ids: Sequence[str], bands: Sequence[str]) -> Groups:
        """Stored pixels, as the task's own reader gives them."""
        groups = []
        for resolution in sorted({self._resolutions[band] for band in bands}):
            stored = [band for band, found in self._resolutions.items() if found == resolution]
            positions = [position for position, band in enumerate(stored) if band in bands]
            groups.append(
                self._gather(ids, f"{resolution}m", slice(None) if len(positions) == len(stored) else positions)
            )
        return tuple(groups)

    def fingerprint(self, ids: Sequence[str]) -> str:
        """The digest of the checksums of the chunks these samples lie in, and of where they lie."""
        rows = [self._row[id_] for id_ in ids]
        numbers = sorted({row // self._manifest.chunk_rows for row in rows})
        sums = [self._manifest.chunks[number].model_dump_json() for number in numbers]
        return hashlib.sha256("\n".join((*sums, *map(str, rows))).encode()).hexdigest()

    def _gather(self, ids: Sequence[str], what: str, columns: slice | list[int]) -> np.ndarray:
        rows = np.array([self._row[id_] for id_ in ids])
        chunks, places = np.divmod(rows, self._manifest.chunk_rows)
        parts = []
        for start, stop in _runs(chunks):
            block = self._rows(int(chunks[start]), what, places[start:stop])
            parts.append(block if columns == slice(None) else block[:, columns])
        gathered: np.ndarray = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return gathered

    def _rows(self, chunk: int, what: str, rows: np.ndarray) -> np.ndarray:
        """A copy of some rows of an array; what lies together is read as it lies, which is faster than mapping it."""
        name = f"{chunk:05d}-{what}.npy"
        file = self._folder / name
        offset, dtype, (_, *shape) = self._layout(chunk, name)
        if (np.diff(rows) != 1).any():
            chosen: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)[rows]
            return chosen
        size = prod(shape)
        read = np.fromfile(file, dtype, count=len(rows) * size, offset=offset + int(rows[0]) * size * dtype.itemsize)
        if len(read) < len(rows) * size:  # since it was checked
            raise self._damaged(file)
        return read.reshape(len(rows), *shape)

    def _layout(self, chunk: int, name: str) -> _Layout:
        """That of a file which has been checked."""
        if name not in self._layouts:
            with self._checking:
                if name not in self._layouts:  # by another thread meanwhile
                    self._layouts[name] = self._checked(chunk, name)
        return self._layouts[name]

    def _checked(self, chunk: int, name: str) -> _Layout:
        file = self._folder / name
        if sha256_of(file) != self._manifest.chunks[chunk].files.get(name):
            raise self._damaged(file)
        mapped: np.memmap[Any, Any] = np.load(file, mmap_mode="r", allow_pickle=False)
        return _Layout(mapped.offset, mapped.dtype, mapped.shape)

    def _damaged(self, file: Path) -> DamagedFileError:
        return DamagedFileError(
            f"{file} is not what was packed; run `ssl4eo-bench data prepare {self._manifest.task}`, which writes "
            "damaged files anew."
        )


def _runs(numbers: np.ndarray) -> Iterator[tuple[int, int]]:
    """The stretches of equal numbers."""
    bounds = [0, *(np.flatnonzero(np.diff(numbers)) + 1), len(numbers)]
    yield from pairwise(bounds)


def list_file(folder: Path, split: SplitName) -> Path:
    """The file of a pack that lists the ids of a split."""
    return folder / f"{split}.txt"


def sha256_of(file: Path) -> str:
    """The checksum of a file of a pack; nothing for one that is absent."""
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def pack_folder(task: Task, data_dir: Path) -> Path:
    """Where the pack of a task lies."""
    home = data_dir / task.folder if (data_dir / task.folder).is_dir() else data_dir
    return home / "packed" / f"{task.name}-v{task.version}"


def open_source(task: Task, data_dir: Path) -> Source:
    """A task's complete pack if there is one, else its files as they were published.

    Raises:
        MissingDataError: if there is neither.
    """
    folder = pack_folder(task, data_dir)
    if is_complete(folder):
        return PackedSource(folder, {band.name: band.resolution for band in task.bands})
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
    """Whether a whole pack lies in a folder."""
    return (folder / MANIFEST).is_file() and read_manifest(folder).complete


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a pack.

    Raises:
        DamagedFileError: if it cannot be read, or is not what was written.
    """
    try:
        found = Manifest.model_validate_json((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        found = None
    if found is None or (found.checksum and found != found.sealed()):
        raise DamagedFileError(
            f"{folder / MANIFEST} is not what was written; delete the folder {folder} and run "
            f"`ssl4eo-bench data prepare {folder.name.rpartition('-v')[0]}`."
        )
    return found


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a pack, with its checksum."""
    write_text(folder / MANIFEST, json.dumps(manifest.sealed().model_dump(), indent=1) + "\n")
