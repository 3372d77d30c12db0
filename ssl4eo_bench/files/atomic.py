"""Writing files whole or not at all."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ssl4eo_bench.errors import WriteError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""The errors of a full disk and of a used-up quota."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file to write to, which takes the place of `path` when the block ends without an error.

    The file is synced to disk first. Other processes see the old file or the new one, never a part of one. If the
    block raises, nothing changes.

    Raises:
        WriteError: if the disk is full or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path) as (handle, temporary):
            os.fchmod(handle, 0o666 & ~_umask())  # mkstemp gives 0600, which would hide shared results from colleagues
            yield temporary
            os.fsync(handle)
            temporary.replace(path)
    except OSError as error:
        cure = "free some space, or name another place" if error.errno in DISK_FULL else "name another place"
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
