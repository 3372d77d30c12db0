"""Writing files and folders whole or not at all.

Until they are whole they have hidden names with process and host in them. What a killed process leaves is removed when
another process writes to the same folder.
"""

import errno
import hashlib
import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO

from ssl4eo_bench.errors import BenchError, WriteError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""The errors of a full disk and of a used-up quota."""

ABANDONED = 24 * 3600.0
"""Seconds without a change, by the clock of the file system, after which nobody writes to a temporary file any more."""

TEMPORARY = re.compile(r"\..+\.([0-9]+)-([0-9a-f]{8})\.\w+", re.DOTALL)
"""The names of temporary files: a name, process id and host of the writer, something random."""

LONGEST_NAME = 60
"""Characters of a name that a temporary name begins with."""

_swept: set[Path] = set()
"""Folders that this process has looked through."""


@contextmanager
def writing(path: Path, *, cure: str = "name another place", error: type[BenchError] = WriteError) -> Iterator[None]:
    """Turn errors of the operating system in the block into one sentence: that `path` cannot be written, and why.

    The sentence ends in the cure: how to name another place.
    """
    try:
        yield
    except BenchError:
        raise
    except Exception as stop:
        cause = _of_the_system(stop)
        if cause is None:
            raise
        full = "free some space, or " if cause.errno in DISK_FULL else ""
        raise error(f"{path} cannot be written ({cause.strerror or cause}); {full}{cure}.") from stop


def _of_the_system(error: BaseException) -> OSError | None:
    """An error of the operating system, or that of a full disk behind an error that a library made of it."""
    if isinstance(error, OSError):
        short = error.errno is None and "requested and" in str(error)  # NumPy says only how much it has written
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if short else error
    behind = error.__cause__ or error.__context__
    found = _of_the_system(behind) if behind else None
    return found if found and found.errno in DISK_FULL else None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file to write to, which takes the place of `path` when the block ends without an error.

    The file is synced to disk first. Other processes see the old file or the new one, never a part of one. If the
    block raises, nothing changes.

    Raises:
        WriteError: if the disk is full or the folder cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path) as (opened, temporary):
            temporary.chmod(0o666 & ~_umask())  # mkstemp gives 0600, which would hide shared results from colleagues
            yield temporary
            os.fsync(opened.fileno())
            opened.close()  # Windows renames no file that is open
            temporary.replace(path)


@contextmanager
def _temporary(path: Path) -> Iterator[tuple[IO[bytes], Path]]:
    handle, name = tempfile.mkstemp(prefix=_prefix(path), dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as opened:
            remove_abandoned(path.parent, now=os.fstat(handle).st_mtime)
            yield opened, Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def making(folder: Path) -> Iterator[Path]:
    """Give a temporary folder to fill, which becomes the new folder `folder` when the block ends without an error."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=_prefix(folder), dir=folder.parent))
    try:
        remove_abandoned(folder.parent, now=temporary.stat().st_mtime)
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_abandoned(folder: Path, *, now: float) -> None:
    """Remove temporary files and folders of dead writers from a folder, the first time that this process asks for it.

    A writer on this host is dead if there is no such process, one on another host after a day without a change. `now`
    is the present time by the clock of the file system.
    """
    if folder in _swept:
        return
    _swept.add(folder)
    for path in folder.iterdir():
        if (found := TEMPORARY.fullmatch(path.name)) is None:
            continue
        with suppress(OSError):  # another process removes it, or it belongs to somebody else
            if (found[2] == _host() and not _lives(int(found[1]))) or now - path.stat().st_mtime > ABANDONED:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _prefix(path: Path) -> str:
    return f".{path.name[:LONGEST_NAME]}.{os.getpid()}-{_host()}."


@cache
def _host() -> str:
    """Eight digits for this host, or for the container that numbers its own processes."""
    processes = Path("/proc/self/ns/pid")
    number = processes.stat().st_ino if processes.exists() else 0
    return hashlib.sha256(f"{socket.gethostname()}:{number}".encode()).hexdigest()[:8]


def _lives(process: int) -> bool:
    if sys.platform == "win32":  # there, such a signal would end the process
        return True
    with suppress(PermissionError, OverflowError):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
    return True


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 with LF line ends, whole or not at all.

    Raises:
        WriteError: if the disk is full or the folder cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
