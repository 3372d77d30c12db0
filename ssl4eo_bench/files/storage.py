"""Where things lie on disk, and writing them whole or not at all."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from ssl4eo_bench.errors import WriteError

LOCK = ".lock"
"""Held, in a dataset's folder, by whoever puts files there."""

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors of a disk without room."""


def cache_root(chosen: Path | None = None) -> Path:
    """The cache directory: the one chosen, else `SSL4EO_BENCH_CACHE`, else the platform's."""
    if chosen:
        return chosen
    if named := os.environ.get("SSL4EO_BENCH_CACHE"):
        return Path(named)
    return user_cache_path("ssl4eo-bench", appauthor=False)


def data_root(chosen: Path | None = None) -> Path:
    """The data directory: the one chosen, else `SSL4EO_BENCH_DATA`, else `data` in the working directory."""
    return chosen or Path(os.environ.get("SSL4EO_BENCH_DATA", "data"))


def scores_file(cache_dir: Path, digest: str) -> Path:
    """Where a run leaves the scores of every test sample."""
    return cache_dir / "scores" / f"{digest}.npz"


def picture_file(cache_dir: Path, digest: str) -> Path:
    """Where a run on label maps leaves a picture of a few test tiles."""
    return cache_dir / "pictures" / f"{digest}.png"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` to write to; on leaving it is synced to disk and takes the place of `path`.

    Another process sees the old file or the new one, never half of one. If the block raises, nothing changes.

    Raises:
        WriteError: if the disk is full, or the place cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path) as (handle, temporary):
            os.fchmod(handle, 0o666 & ~_umask())  # mkstemp gives 0600, which would hide shared results from colleagues
            yield temporary
            os.fsync(handle)
            temporary.replace(path)
    except OSError as error:
        cure = "free some space, or name another place" if error.errno in FULL else "name another place"
        raise WriteError(f"{path} cannot be written ({error.strerror or error}); {cure}.") from error


@contextmanager
def _temporary(path: Path) -> Iterator[tuple[int, Path]]:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        yield handle, Path(name)
    finally:
        os.close(handle)
        Path(name).unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, or leave it as it was."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def locked(file: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Keep other processes out of what `file` stands for; `waiting` is called once if one of them is in there now."""
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def free_bytes(folder: Path) -> int:
    """The free space, in bytes, of the disk that `folder` is on or would be made on."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
