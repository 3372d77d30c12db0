"""Writing files whole or not at all."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ssl4eo_bench.errors import BenchError, WriteError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""The errors of a full disk and of a used-up quota."""


@contextmanager
def writing(path: Path, *, cure: str = "name another place", error: type[BenchError] = WriteError) -> Iterator[None]:
    """Turn errors of the operating system in the block into one sentence: that `path` cannot be written, and why.

    Args:
        path: the file or folder that is written.
        cure: the end of the sentence, which says how to name another place.
        error: the class of the error that is raised.
    """
    try:
        yield
    except OSError as cause:
        full = "free some space, or " if cause.errno in DISK_FULL else ""
        raise error(f"{path} cannot be written ({cause.strerror or cause}); {full}{cure}.") from cause


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
        with _temporary(path) as (handle, temporary):
            os.fchmod(handle, 0o666 & ~_umask())  # mkstemp gives 0600, which would hide shared results from colleagues
            yield temporary
            os.fsync(handle)
            temporary.replace(path)


@contextmanager
def _temporary(path: Path) -> Iterator[tuple[int, Path]]:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        yield handle, Path(name)
    finally:
        os.close(handle)
        Path(name).unlink(missing_ok=True)


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
