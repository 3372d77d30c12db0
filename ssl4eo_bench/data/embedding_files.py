"""Vectors of samples, read from the files that were made elsewhere: NumPy archives and Parquet.

A file needs ids, as text, and one vector of numbers for each: `ids` and `features` in an archive, the columns `id` and
`features` in Parquet. Vectors are looked up by id over all files; ids that nobody asks for are ignored. Files are read
in blocks, so that memory holds the vectors of a split and one block.
"""

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from ssl4eo_bench import progress
from ssl4eo_bench.config.weights import EmbeddingFile
from ssl4eo_bench.data.split_lists import MOST_ROWS
from ssl4eo_bench.errors import WeightsError, shortlist
from ssl4eo_bench.files.hashing import file_hash
from ssl4eo_bench.files.reading import LARGEST, reading

ROWS = 8192
"""Vectors in a block."""

INFLATED = 100
"""How many times its packed size a large array may have; vectors of numbers do not pack well."""

Block = tuple[Sequence[str], np.ndarray]
"""Ids, and their vectors `[N, D]` in the type of the file."""


class NpzReader:
    """Reads an archive of NumPy arrays; none of them is unpickled."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def ids(self) -> Sequence[str]:
        """The ids, from the array `ids`."""
        with self._array("ids") as (member, shape, _, dtype):
            if dtype.kind != "U" or len(shape) != 1:
                raise WeightsError(f"{self._file}: `ids` is not a list of texts; save `np.array(ids)` of texts.")
            found: list[str] = np.frombuffer(member.read(), dtype).tolist()
        return found

    def about(self) -> str:
        """The description that `ssl4eo-bench features` writes, as JSON, from the array `about`; empty without one."""
        with zipfile.ZipFile(self._file) as archive:
            if "about.npy" not in archive.namelist():
                return ""
        with self._array("about") as (member, _, _, dtype):
            return str(np.frombuffer(member.read(), dtype)[0]) if dtype.kind == "U" else ""

    def blocks(self) -> Iterator[Block]:
        """All ids and vectors, from the arrays `ids` and `features`."""
        ids = self.ids()
        with self._array("features") as (member, shape, by_column, dtype):
            if len(shape) != 2 or shape[0] != len(ids):
                found = " × ".join(map(str, shape)) or "a single number"
                raise WeightsError(f"{self._file}: `features` is {found}, not one row for each of {len(ids):,} ids.")
            whole = np.frombuffer(member.read(), dtype).reshape(shape, order="F") if by_column else None
            for start in range(0, len(ids), ROWS):
                names = ids[start : start + ROWS]
                if whole is None:
                    read = np.frombuffer(member.read(len(names) * shape[1] * dtype.itemsize), dtype)
                    yield names, read.reshape(len(names), shape[1])
                else:
                    yield names, whole[start : start + ROWS]

    @contextmanager
    def _array(self, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], bool, np.dtype[Any]]]:
        """The values of an array as bytes, its shape, whether they are stored column after column, and their type."""
        with zipfile.ZipFile(self._file) as archive:
            if f"{name}.npy" not in archive.namelist():
                there = shortlist(member.removesuffix(".npy") for member in archive.namelist())
                raise WeightsError(
                    f"{self._file} has no array `{name}` (it has {there or 'none'}); save `ids` and `features`."
                )
            packed = archive.getinfo(f"{name}.npy")
            if packed.file_size > max(LARGEST, INFLATED * packed.compress_size):
                raise ValueError(f"`{name}` unpacks to {packed.file_size:,} bytes")
            with archive.open(packed) as member:
                version = np.lib.format.read_magic(member)
                headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                shape, by_column, dtype = headers[version](member)
                if dtype.hasobject:
                    raise WeightsError(
                        f"{self._file}: `{name}` is pickled, and nothing is unpickled here; save an array of "
                        f"{'text' if name == 'ids' else 'numbers'} instead of objects."
                    )
                yield member, shape, by_column, dtype


class ParquetReader:
    """Reads a table of Parquet."""

    def __init__(self, file: Path) -> None:
        from pyarrow import parquet  # takes a while: not where no table is read

        self._file = file
        self._table = parquet.ParquetFile(file, memory_map=True)
        if self._table.metadata.num_rows > MOST_ROWS:
            raise ValueError(f"it has {self._table.metadata.num_rows:,} rows")

    def ids(self) -> Sequence[str]:
        """The ids, from the column `id`."""
        return [name for (names,) in self._columns("id") for name in self._texts(names)]

    def about(self) -> str:
        """The description, from the metadata `ssl4eo_bench.about`; empty if there is none."""
        metadata = self._table.schema_arrow.metadata or {}
        return str(metadata.get(b"ssl4eo_bench.about", b""), "utf-8")

    def blocks(self) -> Iterator[Block]:
        """All ids and vectors, from the columns `id` and `features`."""
        for names, lists in self._columns("id", "features"):
            yield self._texts(names), self._vectors(lists)

    def _columns(self, *names: str) -> Iterator[Sequence[Any]]:
        there = self._table.schema_arrow.names
        if missing := [name for name in names if name not in there]:
            raise WeightsError(
                f"{self._file} has no column `{missing[0]}` (it has {shortlist(there)}); write one with `id` and "
                "`features`."
            )
        for batch in self._table.iter_batches(batch_size=ROWS, columns=list(names)):
            yield [batch.column(name) for name in names]

    def _texts(self, column: Any) -> list[str]:
        found: list[Any] = column.to_pylist()
        if not all(isinstance(name, str) for name in found):
            raise WeightsError(f"{self._file}: the column `id` does not hold texts only; write ids as text.")
        return found

    def _vectors(self, column: Any) -> np.ndarray:
        lengths: set[int | None] = (
            set(column.value_lengths().to_pylist()) if hasattr(column, "value_lengths") else set()
        )
        if len(lengths) != 1 or None in lengths:
            raise WeightsError(
                f"{self._file}: the column `features` does not hold one list of numbers, of one length, in every row; "
                "write it as lists of fixed size."
            )
        values: np.ndarray = column.flatten().to_numpy(zero_copy_only=False)
        return values.reshape(len(column), lengths.pop() or 0)


READERS: dict[str, type[NpzReader | ParquetReader]] = {".npz": NpzReader, ".parquet": ParquetReader}
"""The reader of a file, by its ending."""


class _Found:
    """The vectors that were found so far, in the order of the ids that are looked up."""

    def __init__(self, ids: Sequence[str]) -> None:
        self._ids = ids
        self._rows = {id_: row for row, id_ in enumerate(ids)}
        self._there = np.zeros(len(ids), dtype=bool)
        self.vectors: np.ndarray = np.empty((0, 0), dtype=np.float32)

    @property
    def absent(self) -> list[str]:
        """The ids that are still without a vector."""
        return [self._ids[row] for row in np.flatnonzero(~self._there).tolist()]

    def add(self, file: str, names: Sequence[str], block: np.ndarray) -> int:
        """Take the vectors of a block that are looked up; returns how many are new."""
        width = block.shape[1]
        if block.dtype.kind not in "fiu" or not width:
            raise WeightsError(f"{file}: {width} values of type {block.dtype} are no vector; write float32 numbers.")
        if not self.vectors.size:
            self.vectors = np.empty((len(self._ids), width), dtype=np.float32)
        if width != self.vectors.shape[1]:
            raise WeightsError(
                f"{file} has vectors of {width:,} numbers, where others have {self.vectors.shape[1]:,}; give "
                "vectors of one width."
            )
        places = np.array([self._rows.get(name, -1) for name in names], dtype=np.int64)
        with np.errstate(over="ignore"):  # what float32 cannot hold is found below
            given = block[places >= 0].astype(np.float32)
        places = places[places >= 0]
        self._refuse(file, places[~np.isfinite(given).all(axis=1)], "vectors that are not finite numbers", "correct")
        new = ~self._there[places]
        self.vectors[places[new]] = given[new]
        self._there[places] = True
        twice = places[(self.vectors[places] != given).any(axis=1)]
        self._refuse(file, twice, "other vectors than there are for the same ids", "keep one of")
        return int(new.sum())

    def _refuse(self, file: str, places: np.ndarray, what: str, cure: str) -> None:
        if len(places):
            names = shortlist([self._ids[row] for row in places], at_most=3)
            raise WeightsError(f"{file} has {what}, such as those of {names}; {cure} these.")


def require_vectors(
    files: Sequence[EmbeddingFile], about: Mapping[str, object], splits: Mapping[str, Sequence[str]]
) -> None:
    """Refuse files that lack an id of a split; vectors are not read.

    What the files say of themselves, as far as they do, has to agree with `about`.

    Raises:
        WeightsError: naming the file, or the first ids that no file has.
    """
    there: set[str] = set()
    for file in files:
        with _opened(file) as reader:
            _require_about(file.path, reader.about(), about)
            there.update(reader.ids())
    for split, ids in splits.items():
        absent = [id_ for id_ in ids if id_ not in there]
        hint = f"their ids are like {min(there)!r}: write them as the task does, or " if there else ""
        hint = hint if len(absent) == len(ids) else ""
        _refuse_absent(files, absent, f"of the {len(ids):,} {split} samples", hint)


def read_vectors(files: Sequence[EmbeddingFile], ids: Sequence[str], what: str) -> np.ndarray:
    """The vectors `[N, D]` float32 of samples, in the order of their ids; `what` is the title of progress.

    Raises:
        WeightsError: if an id is in no file, or in several places with different vectors; if vectors differ in width,
            or are not finite numbers; if a file is absent, damaged, pickled or not the one of its sha256.
    """
    found = _Found(ids)
    with progress.stage(what, total=len(ids), unit="samples") as advance:
        for file in files:
            for names, block in _blocks(file):
                advance(found.add(file.path, names, block))
    _refuse_absent(files, found.absent, f"of the {len(ids):,} samples")
    return found.vectors


def _blocks(file: EmbeddingFile) -> Iterator[Block]:
    with _opened(file) as reader:
        yield from reader.blocks()


@contextmanager
def _opened(file: EmbeddingFile) -> Iterator[NpzReader | ParquetReader]:
    """The reader of a file that has the right content; whatever goes wrong while it reads becomes a sentence."""
    path = Path(file.path)
    require_format(path)
    if not path.exists():
        raise WeightsError(f"{path} is not there; name a file with embeddings.")
    with reading(f"{path} cannot be read as {path.suffix}", cure="write it anew", error=WeightsError):
        sha256 = embeddings_sha256(path)
        if sha256 != file.sha256:
            raise WeightsError(
                f"{path} has sha256 {sha256}, and its entry says {file.sha256}; restore the file, or correct the entry."
            )
        yield READERS[path.suffix](path)


def require_format(file: Path) -> None:
    """Refuse a file with an ending of no known format.

    Raises:
        WeightsError: naming the endings that are known.
    """
    if file.suffix not in READERS:
        raise WeightsError(f"{file} ends in none of {', '.join(READERS)}; the ending says how embeddings are stored.")


def embeddings_sha256(file: Path) -> str:
    """The sha256 of a file, computed once for as long as it does not change."""
    status = file.stat()
    return _hashed(file.resolve(), status.st_size, status.st_mtime_ns)


@cache
def _hashed(file: Path, size: int, modified: int) -> str:
    del size, modified
    return file_hash(file)


def _require_about(file: str, description: str, expected: Mapping[str, object]) -> None:
    """Refuse a file that another task, kind of labels or sample is written into."""
    try:
        said = json.loads(description or "{}")
    except ValueError:  # other tools may keep other things under this name
        return
    for key, value in expected.items():
        if isinstance(said, dict) and said.get(key, value) != value:
            raise WeightsError(
                f"{file} says that its {key} is {said[key]!r}, not {value!r}; write the features of this task with "
                "`ssl4eo-bench features`, or remove `about` from the file if they are the same images."
            )


def _refuse_absent(files: Sequence[EmbeddingFile], absent: Sequence[str], of_what: str, hint: str = "") -> None:
    if absent:
        raise WeightsError(
            f"{len(absent):,} {of_what} have no vector in {shortlist(Path(file.path).name for file in files)}, such as "
            f"{shortlist(absent, at_most=3)}; {hint}add a file that has them."
        )
