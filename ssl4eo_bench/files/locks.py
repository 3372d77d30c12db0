"""Locks between processes. They also work on network file systems without `flock`."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile

from filelock import FileLock, SoftFileLock, Timeout

from ssl4eo_bench import progress
from ssl4eo_bench.errors import WriteError

LOCK = ".lock"
"""The name of the lock file of a folder."""

LONGEST_WAIT = 24 * 3600.0
"""Seconds until a waiting process gives up. The largest downloads and feature extractions take less."""

POLL_INTERVAL = 0.2
"""Seconds between two tries of a waiting process."""


@contextmanager
def locked(file: Path, *, note: str) -> Iterator[None]:
    """Hold a lock file, so that only one process at a time runs such a block.

    The folder of the file must exist. The file stays there, with process id and host of its last holder in it.

    Args:
        file: the lock file.
        note: shown if another process holds the lock.

    Raises:
        OSError: if no file can be made in the folder.
        WriteError: if another process still holds the lock after `LONGEST_WAIT`.
    """
    has_flock = _has_flock(file.parent)
    lock = FileLock(file) if has_flock else SoftFileLock(f"{file}.soft")  # the latter is a file that is there or not
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress.note(note)
        try:
            lock.acquire(timeout=LONGEST_WAIT, poll_interval=POLL_INTERVAL)
        except Timeout:
            raise _still_locked(Path(lock.lock_file)) from None
    try:
        if has_flock:
            with suppress(OSError):  # the holder is only known in messages
                file.write_text(f"{os.getpid()}\n{socket.gethostname()}\n", encoding="utf-8")
        yield
    finally:
        lock.release()


def _has_flock(folder: Path) -> bool:
    """Whether files in a folder can be locked by the operating system."""
    with TemporaryFile(dir=folder) as probe:
        try:
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def _still_locked(file: Path) -> WriteError:
    holder = "a process that is not known"
    with suppress(OSError, ValueError):
        pid, host, *_ = file.read_text(encoding="utf-8").split()
        holder = f"process {int(pid)} on {host}"
    return WriteError(
        f"{file} is still locked by {holder} after {LONGEST_WAIT / 3600:g} hours; stop that process, or delete the "
        "file if it does not run any more, and run the same command again."
    )
