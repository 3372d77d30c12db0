"""Stores of arrays in shards of rows: the cached features of a split, and the pack of a dataset.

A store is a folder:

    manifest.json      what the arrays are; of each shard the sha256 of its files, and other facts; a checksum of it all
    00000-10m.npy …    the arrays of a shard, a file for each

A file is written whole or not at all. Each process compares it with its checksum once, before anything of it is used,
and again if it has changed. A shard is a unit of work: any process may write any shard at any time.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import numpy as np

from ssl4eo_bench.config.canonical import digest
from ssl4eo_bench.errors import DamagedFileError
from ssl4eo_bench.files.atomic import replacing, write_text
from ssl4eo_bench.files.hashing import file_hash
from ssl4eo_bench.files.locks import locked

MANIFEST = "manifest.json"

OPEN_MAPS = 16
"""Shards of an array that stay mapped: each holds a file handle, and what was read of it counts as memory."""


_COMPARED: "dict[tuple[Path, str], StoredArray]" = {}
"""Files that this process has compared with their checksums, by path and checksum."""


@dataclass(frozen=True)
class Shard:
    """What a manifest says of a shard: the sha256 of each of its files, by name, and facts of the writer's choice."""

    files: dict[str, str]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredArray:
    """An array file that was compared with its checksum; its values begin at an offset, and are in C order.

    Its state is the size, modification time and inode of the file at the comparison.
    """

    file: Path
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    state: tuple[int, ...]

    def mapped(self) -> np.ndarray:
        """The array as a memory map. Writing to it changes this process's copy, never the file.

        Raises:
            DamagedFileError: if the file has changed since it was compared.
        """
        with self._opened() as opened:
            return np.memmap(opened, self.dtype, "c", self.offset, self.shape).view(np.ndarray)

    def read(self, start: int, stop: int) -> np.ndarray:
        """A copy of consecutive rows, which is faster than copying them from a memory map.

        Raises:
            DamagedFileError: if the file has changed since it was compared.
        """
        row = self.shape[1:]
        begin, count = self.offset + start * prod(row) * self.dtype.itemsize, (stop - start) * prod(row)
        with self._opened() as opened:
            return np.fromfile(opened, self.dtype, count, offset=begin).reshape(-1, *row)

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        try:
            opened = self.file.open("rb")
        except OSError as error:
            raise self._changed() from error
        with opened:
            if _state(os.fstat(opened.fileno())) != self.state:
                raise self._changed()
            yield opened

    def _changed(self) -> DamagedFileError:
        return DamagedFileError(
            f"{self.file} has changed since it was checked; run the command again, which checks it anew."
        )


class ShardedArray:
    """An array with rows in consecutive shards, read from memory maps when it is indexed.

    It is indexed by a slice, row numbers or a mask `[rows]`. A slice without a step that lies in one shard is a view of
    its memory map, anything else a copy.

    Attributes:
        shape: `[rows, …]`.
        dtype: of the widest shard; rows of the others are converted when they are read.
        use: something that lives as long as this array, to keep its files where they are.
    """

    def __init__(self, shards: Sequence[StoredArray]) -> None:
        self.use: object = None
        self._shards = tuple(shards)
        self._ends = np.cumsum([shard.shape[0] for shard in self._shards])
        self._mapped = lru_cache(OPEN_MAPS)(lambda number: shards[number].mapped())
        self.shape = (int(self._ends[-1]), *self._shards[0].shape[1:])
        self.dtype = np.result_type(*{shard.dtype for shard in self._shards})

    @property
    def size(self) -> int:
        """The number of values."""
        return prod(self.shape)

    def __len__(self) -> int:
        """The number of rows."""
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Some rows, as the class describes it.

        Raises:
            IndexError: if a row number is negative or too large, or a mask has another length.
        """
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            number = int(np.searchsorted(self._ends, start, "right"))
            if step == 1 and start < stop <= self._ends[number]:
                first = start - self._start(number)
                return self._mapped(number)[first : first + stop - start].astype(self.dtype, copy=False)
            return self._chosen(np.arange(start, stop, step))
        if rows.dtype == bool and rows.shape != (len(self),):
            raise IndexError(f"a mask of shape {rows.shape} for {len(self)} rows")
        return self._chosen(np.flatnonzero(rows) if rows.dtype == bool else rows)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All rows in memory."""
        del copy  # there is nothing that could be shared
        return self._chosen(np.arange(len(self))).astype(dtype or self.dtype, copy=False)

    def astype(self, dtype: Any, copy: bool = True) -> np.ndarray:
        """All rows in memory, of another type; `copy` is there because arrays of NumPy have it."""
        return self.__array__(dtype, copy)

    def flattened(self) -> "ShardedArray":
        """The same values with a row for each vector along the last axis: `[N, K, D]` becomes `[N · K, D]`."""
        return ShardedArray([replace(one, shape=(prod(one.shape[:-1]), one.shape[-1])) for one in self._shards])

    def _start(self, number: int) -> int:
        return int(self._ends[number]) - self._shards[number].shape[0]

    def _chosen(self, rows: np.ndarray) -> np.ndarray:
        """A copy of the rows of these numbers, in their order."""
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)}")
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        numbers = np.searchsorted(self._ends, rows, "right")
        for number in np.unique(numbers).tolist():
            here = numbers == number
            found[here] = self._mapped(number)[rows[here] - self._start(number)]
        return found


class ShardStore:
    """The shards in a folder that are written, by number. One store may be used from several threads at once.

    `about` says what the arrays are, in JSON values by name. Shards of stores that differ in it are never mixed.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any], shards: Mapping[int, Shard] | None = None) -> None:
        self.folder = folder
        self.about = dict(about)
        self.shards = dict(shards or {})
        self._one_thread = Lock()

    @classmethod
    def open(cls, folder: Path) -> "ShardStore | None":
        """The store that the manifest in a folder describes; None if that is absent, unreadable or was edited."""
        try:
            about = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            checksum = about.pop("checksum", None)  # manifests of earlier versions may have none
            return cls(folder, about, _listed(about)) if checksum in (None, digest(about)) else None
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None

    def damaged(self, number: int) -> list[Path]:
        """The files of a shard that are absent or not what was written."""
        return [self.folder / name for name in self.shards[number].files if not self.array(number, name)]

    def is_sound(self, number: int) -> bool:
        """Whether a shard is there and not damaged."""
        return number in self.shards and not self.damaged(number)

    def missing(self, count: int) -> list[int]:
        """The numbers below `count` of the shards that have to be written."""
        return [number for number in range(count) if not self.is_sound(number)]

    def array(self, number: int, name: str) -> StoredArray | None:
        """A file of a shard, compared with its checksum; None if it is absent or not what was written."""
        file, sha256 = self.folder / name, self.shards[number].files.get(name, "")
        if found := _known(file, sha256):
            return found
        with self._one_thread:
            return _known(file, sha256) or _compared(file, sha256)  # another thread may have compared it meanwhile

    def write(self, number: int, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        """Write a shard, or write it anew, and list it in the manifest beside those of other processes.

        Arrays come by file name. The facts, JSON values by name, are kept in the manifest.

        Raises:
            WriteError: if the folder cannot be written.
        """
        files = {name: _write(self.folder / name, array) for name, array in arrays.items()}
        note = f"another process writes to {self.folder}; waiting for it"
        with self._one_thread, locked(self.folder / "manifest.lock", note=note):
            stored = ShardStore.open(self.folder)
            others = stored.shards if stored and stored.about == self.about else self.shards
            self.shards = others | {number: Shard(files, dict(facts))}
            self.write_manifest()

    def write_manifest(self) -> None:
        """Write the manifest, with no other shards than this store has."""
        shards = {str(number): {"files": one.files} | one.facts for number, one in sorted(self.shards.items())}
        content = self.about | {"shards": shards}
        write_text(self.folder / MANIFEST, json.dumps(content | {"checksum": digest(content)}, indent=1) + "\n")


def _listed(content: dict[str, Any]) -> dict[int, Shard]:
    """The shards of a manifest, taken out of it.

    In earlier versions those of packs were a list, "chunks", and those of features were named by their only file.
    """
    if "chunks" in content:
        return {number: Shard(one.pop("files"), one) for number, one in enumerate(content.pop("chunks"))}
    return {
        int("".join(filter(str.isdigit, name))): Shard(one.pop("files", None) or {name: one.pop("sha256")}, one)
        for name, one in content.pop("shards").items()
    }


def _write(file: Path, array: np.ndarray) -> str:
    """Write an array file and return its sha256."""
    with replacing(file) as temporary:
        with temporary.open("wb") as opened:
            np.save(opened, np.ascontiguousarray(array), allow_pickle=False)
        sha256 = file_hash(temporary)
        stored = replace(_layout(temporary), file=file)
    _COMPARED[file, sha256] = stored
    return sha256


def _known(file: Path, sha256: str) -> StoredArray | None:
    """An array file that this process has found to have this checksum and that has not changed since."""
    found = _COMPARED.get((file, sha256))
    with suppress(FileNotFoundError):
        return found if found and _state(file.stat()) == found.state else None
    return None


def _compared(file: Path, sha256: str) -> StoredArray | None:
    """An array file, or None if it is absent, does not have this checksum or holds no array."""
    with suppress(FileNotFoundError, EOFError, ValueError):
        state = _state(file.stat())  # before the comparison, so that a later change is noticed
        if file_hash(file) == sha256:
            _COMPARED[file, sha256] = replace(_layout(file), state=state)
    return _known(file, sha256)


def _layout(file: Path) -> StoredArray:
    mapped: np.memmap[Any, Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    return StoredArray(file, mapped.offset, mapped.dtype, mapped.shape, _state(file.stat()))


def _state(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_size, stat.st_mtime_ns, stat.st_ino
