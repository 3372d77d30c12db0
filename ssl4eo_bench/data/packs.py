"""Packs: a dataset's stored pixels and labels in a few large arrays instead of many small files.

A pack is optional. It lies below the task's folder in the data directory, in chunks of rows in native resolution:

    packed/<task>-v<version>/manifest.json       the ids' digests, and each chunk's checksums
                             train.txt …         the ids of each split, in row order
                             00000-10m.npy …     pixels [rows, C, H, W] of one resolution, all bands of the task
                             00000-labels.npy    labels

Chunks are written whole, so a packing that was cut off goes on at the next chunk.
"""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from ssl4eo_bench.errors import DamagedFileError
from ssl4eo_bench.spec.canonical import Frozen
from ssl4eo_bench.spec.tasks import SPLITS, Groups, Source, Split, SplitName, Task

MANIFEST = "manifest.json"


class Chunk(Frozen):
    """One chunk: the sha256 of each of its files, and the fingerprint of the samples it was made from."""

    samples: str
    files: dict[str, str]


class Manifest(Frozen):
    """What a pack holds. It is complete when it has all chunks."""

    task: str
    version: int
    bands: tuple[str, ...]
    splits: dict[SplitName, Split]
    chunk_rows: int
    chunks: tuple[Chunk, ...] = ()

    @property
    def rows(self) -> int:
        """The number of samples, all splits together."""
        return sum(split.count for split in self.splits.values())

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be packed."""
        return len(self.chunks) == -(-self.rows // self.chunk_rows)


class PackedSource:
    """A pack opened for reading."""

    def __init__(self, folder: Path, resolutions: dict[str, int]) -> None:
        self._folder = folder
        self._resolutions = resolutions
        self._layouts: dict[Path, tuple[int, np.dtype[Any], tuple[int, ...]]] = {}  # offset, type, shape

    @cached_property
    def _row(self) -> dict[str, int]:
        return {id_: row for row, id_ in enumerate(id_ for split in SPLITS for id_ in self.ids(split))}

    @cached_property
    def _chunk_rows(self) -> int:
        return read_manifest(self._folder).chunk_rows

    def ids(self, split: SplitName) -> list[str]:
        """The ids of a split."""
        return (self._folder / f"{split}.txt").read_text(encoding="utf-8").splitlines()

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
        chunks = read_manifest(self._folder).chunks
        sums = [chunks[number].model_dump_json() for number in sorted({row // self._chunk_rows for row in rows})]
        return hashlib.sha256("\n".join((*sums, *map(str, rows))).encode()).hexdigest()

    def _gather(self, ids: Sequence[str], what: str, columns: slice | list[int]) -> np.ndarray:
        rows = np.array([self._row[id_] for id_ in ids])
        chunks, places = np.divmod(rows, self._chunk_rows)
        parts = []
        for start, stop in _runs(chunks):
            block = self._rows(self._folder / f"{chunks[start]:05d}-{what}.npy", places[start:stop])
            parts.append(block if columns == slice(None) else block[:, columns])
        gathered: np.ndarray = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return gathered

    def _rows(self, file: Path, rows: np.ndarray) -> np.ndarray:
        """A copy of some rows of an array; what lies together is read as it lies, which is faster than mapping it."""
        if file not in self._layouts:
            mapped = _mapped(file)
            self._layouts[file] = mapped.offset, mapped.dtype, mapped.shape
        offset, dtype, (count, *shape) = self._layouts[file]
        if rows.max() >= count:
            raise DamagedFileError(f"{file} has {count} rows only; run `ssl4eo-bench data prepare` again.")
        if (np.diff(rows) != 1).any():
            chosen: np.ndarray = _mapped(file)[rows]
            return chosen
        size = prod(shape)
        read = np.fromfile(file, dtype, count=len(rows) * size, offset=offset + int(rows[0]) * size * dtype.itemsize)
        if len(read) < len(rows) * size:
            raise DamagedFileError(f"{file} has been cut off; run `ssl4eo-bench data prepare` again.")
        return read.reshape(len(rows), *shape)


def _runs(numbers: np.ndarray) -> Iterator[tuple[int, int]]:
    """The stretches of equal numbers."""
    bounds = [0, *(np.flatnonzero(np.diff(numbers)) + 1), len(numbers)]
    yield from pairwise(bounds)


def _mapped(file: Path) -> np.memmap[Any, Any]:
    try:
        mapped: np.memmap[Any, Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DamagedFileError(
            f"{file} is no array of a pack ({error}); run `ssl4eo-bench data prepare` again."
        ) from error
    return mapped


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
    return task.open(data_dir)


def is_complete(folder: Path) -> bool:
    """Whether a whole pack lies in a folder."""
    return (folder / MANIFEST).is_file() and read_manifest(folder).complete


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a pack.

    Raises:
        DamagedFileError: if it cannot be read.
    """
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise DamagedFileError(f"{folder} is no pack, or a damaged one; delete it, and pack again.") from error
