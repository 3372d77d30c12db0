"""Reading what others have made: regular files only, never more than fits, and one sentence for whatever is wrong."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ssl4eo_bench.errors import BenchError, DamagedFileError

LARGEST = 1 << 30
"""Bytes of a file that is read as a whole; images, lists and records are far smaller."""

LONGEST_REASON = 300
"""Characters of a library's words that a sentence repeats."""


def open_regular(file: Path) -> BinaryIO:
    """The file, opened for reading in binary.

    Raises:
        OSError: if it cannot be opened, or is a pipe, a socket or a device, which may never give a byte.
    """
    opened = open(file, "rb", opener=_without_waiting)  # noqa: SIM115 - the caller closes it
    if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
        opened.close()
        raise OSError(errno.EINVAL, "it is no regular file", str(file))
    return opened


def _without_waiting(name: str, flags: int) -> int:
    """Open a file as `open` does, but a pipe without waiting for its writer."""
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))  # Windows has no such pipes


def require_regular(file: Path) -> None:
    """Refuse what libraries must not open.

    Raises:
        OSError: as from `open_regular`.
    """
    open_regular(file).close()


def read_bytes(file: Path) -> bytes:
    """The content of a file.

    Raises:
        OSError: as from `open_regular`, or if it has more bytes than `LARGEST`.
    """
    with open_regular(file) as opened:
        require_size(os.fstat(opened.fileno()).st_size, file)
        return opened.read()


def require_size(size: int, file: Path) -> None:
    """Refuse to read so many bytes at once.

    Raises:
        OSError: if they are more than `LARGEST`.
    """
    if size > LARGEST:
        raise OSError(errno.EFBIG, f"it has more than {LARGEST:,} bytes", str(file))


@contextmanager
def reading(said: str, *, cure: str = "fetch it again", error: type[BenchError] = DamagedFileError) -> Iterator[None]:
    """Turn every exception of a library that reads damaged or hostile bytes into one sentence.

    It begins with what is `said`, such as `a.tif cannot be read`, and ends in the cure; between them are the words of
    the exception.
    """
    try:
        yield
    except BenchError:
        raise
    except Exception as cause:  # libraries promise no kinds of errors for what is no file of their format
        raise error(f"{said} ({reason(cause)}); {cure}.") from cause


def reason(error: Exception) -> str:
    """What an exception says, on one line of printable characters; its class if it says nothing."""
    said = (isinstance(error, OSError) and error.strerror) or str(error)
    line = "".join(character if character.isprintable() else " " for character in said[:LONGEST_REASON])
    return " ".join(line.split()) or type(error).__name__
