"""Reading rows of HDF5 files; the first axis of each array counts the samples."""

import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssl4eo_bench.errors import DamagedFileError, MissingDataError
from ssl4eo_bench.files.reading import open_regular, reading, require_regular

SPARSE = 2
"""Rows that spread over more than this many times their number are read one by one, others in one piece."""

CHUNK_CACHE_BYTES = 64 * 2**20
"""Neighbouring rows of a chunked file can share chunks, which the default of 1 MiB would read again for every row.
Nothing is allocated for files that are stored in one piece."""

END_BYTES = 64 * 2**10
"""The bytes at the start and at the end of a file that its stamp depends on."""


class Hdf5File:
    """The arrays of one HDF5 file. Picklable and safe to read from several threads.

    Each thread and each process opens its own handle, since handles of the library survive neither a fork nor a pickle.
    The library has one lock for all files, so that threads read one after another.

    Raises:
        MissingDataError: from every method, if the file is not there.
        DamagedFileError: from every method, if it cannot be read or has no such array.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()

    def __reduce__(self) -> tuple[type["Hdf5File"], tuple[Path]]:
        return Hdf5File, (self.path,)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an array."""
        shape: tuple[int, ...] = self._array(name).shape
        return shape

    def attribute(self, name: str) -> Any:
        """An attribute of the file itself; None if it has none of this name, or one of several values."""
        with reading(f"{self.path} cannot be read"):
            value = self._file.attrs.get(name)
            return value if np.ndim(value) == 0 else None

    def rows(self, name: str, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        """These rows of an array, in this order, as stored.

        The library does not convert the values, since NumPy does so two and a half times faster.
        """
        wanted = np.asarray(numbers, dtype=np.int64)
        array = self._array(name)
        if not len(wanted):
            return np.empty((0, *array.shape[1:]), dtype=array.dtype)
        first, stop = int(wanted.min()), int(wanted.max()) + 1
        if first < 0 or stop > len(array):
            raise IndexError(f"rows {first} to {stop - 1} of {len(array)} of {name!r} in {self.path}")
        with reading(f"{self.path} cannot be read at {name!r}"):
            if stop - first > SPARSE * len(wanted):
                return np.stack([array[row] for row in wanted])
            piece: np.ndarray = array[first:stop]
        in_order = len(piece) == len(wanted) and bool((wanted == np.arange(first, stop)).all())
        return piece if in_order else piece[wanted - first]

    def stamp(self) -> str:
        """Size, time of last change and a digest of both ends: a short text that changes with the file's bytes."""
        status = self.path.stat()
        with open_regular(self.path) as opened:
            ends = hashlib.sha256(opened.read(END_BYTES))
            opened.seek(max(0, status.st_size - END_BYTES))
            ends.update(opened.read(END_BYTES))
        return f"{status.st_size}:{status.st_mtime_ns}:{ends.hexdigest()}"

    def _array(self, name: str) -> Any:
        """An array that lies in the file itself; looked for once with each handle."""
        file = self._file
        if name not in self._local.arrays:
            with reading(f"{self.path} cannot be read at {name!r}"):
                self._local.arrays[name] = _own_array(file, name, self.path)
        return self._local.arrays[name]

    @property
    def _file(self) -> Any:
        if getattr(self._local, "process", None) != os.getpid():
            self._local.file = _open(self.path)
            self._local.arrays = {}
            self._local.process = os.getpid()
        return self._local.file


def _open(path: Path) -> Any:
    import h5py

    if not path.exists():
        raise MissingDataError(f"{path} is not there.")
    with reading(f"{path} is no HDF5 file, or a cut-off one"):
        require_regular(path)
        return h5py.File(path, "r", rdcc_nbytes=CHUNK_CACHE_BYTES)


def _own_array(file: Any, name: str, path: Path) -> Any:
    """An array of numbers that lie in the file.

    HDF5 can take values from other files, and reads zeros where those files, or values of its own, are absent.
    """
    import h5py

    parts = [name.rsplit("/", depth)[0] for depth in range(name.count("/") + 1)]
    own = all(isinstance(file.get(part, getlink=True), h5py.HardLink) for part in parts)
    array = file.get(name) if own else None
    if not isinstance(array, h5py.Dataset) or not array.shape or array.dtype.kind not in "biuf":
        raise DamagedFileError(
            f"{path} holds no array {name!r}, only {', '.join(sorted(file)) or 'nothing'}; this is another "
            "file, or another release of the dataset."
        )
    if array.is_virtual or array.external or (array.size and not array.id.get_storage_size()):
        raise DamagedFileError(f"{path} has the values of {name!r} in other files, or nowhere; use the official file.")
    return array


def write_hdf5(path: Path, arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> None:
    """Write arrays as an HDF5 file in compressed chunks of one row."""
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    # In memory first: on a full disk the library ends the process.
    with h5py.File(path, "w", driver="core", backing_store=False) as opened:
        opened.attrs.update(attributes)
        for name, array in arrays.items():
            opened.create_dataset(
                name, data=array, chunks=(1, *array.shape[1:]), compression="gzip", compression_opts=1
            )
        opened.flush()
        image = opened.id.get_file_image()
    path.write_bytes(image)
