"""Locks between processes. They also work on network file systems without `flock`.

There a lock is a file that is there or not, and its holder touches it all the time. One of a dead process on this host
is taken over; one that nobody on another host touches any more is reported. No decision depends on the time of day.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryFile

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from ssl4eo_bench import progress
from ssl4eo_bench.errors import LockedError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
"""The name of the lock file of a folder."""

LONGEST_WAIT = 24 * 3600.0
"""Seconds until a waiting process gives up. The largest downloads and feature extractions take less."""

POLL_INTERVAL = 0.2
"""Seconds between two tries of a waiting process."""

TOUCH_INTERVAL = 20.0
"""Seconds between two touches of a lock without `flock`."""

UNKNOWN = "a process that is not known"

LONGEST_SILENCE = 600.0
"""Seconds without a touch after which the holder is taken for dead; network file systems show one after a minute."""


@contextmanager
def locked(file: Path, *, note: str, wait: bool = True) -> Iterator[None]:
    """Hold a lock file, so that only one process at a time runs such a block.

    The folder of the file is made where it is absent. The file stays there, with process id, host and time of its last
    holder in it. While another process holds it, the note is shown.

    Raises:
        OSError: if no file can be made in the folder.
        LockedError: if another process holds the lock and `wait` is False, still holds it after `LONGEST_WAIT`, or has
            left it behind on another host.
    """
    has_flock = _has_flock(file.parent)
    lock = FileLock(file) if has_flock else SoftFileLock(f"{file}.soft")
    try:
        _acquire(lock, 0)
    except Timeout:
        holder = _holder(file)
        if not wait:
            raise LockedError(f"{file} is locked by {holder or UNKNOWN}; wait for it, or stop it.") from None
        progress.note(f"{note} ({holder})" if holder else note)
        _wait(lock, file)
    try:
        with suppress(OSError):  # the holder is only known in messages
            since = datetime.now().astimezone().isoformat(" ", "seconds")
            file.write_text(f"{os.getpid()}\n{socket.gethostname()}\n{since}\n", encoding="utf-8")
        with nullcontext() if has_flock else _touching(Path(lock.lock_file)):
            yield
    finally:
        lock.release()


def share(file: Path) -> int:
    """Open a file that any number of processes share and return its handle; until it is closed, `alone` is refused.

    On a file system without `flock`, `alone` is not.

    Raises:
        OSError: if the file cannot be opened.
    """
    handle = os.open(file, os.O_CREAT | os.O_WRONLY, 0o666)
    if fcntl:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH)
    return handle


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """Hold a file that no process shares.

    Raises:
        BlockingIOError: if one does.
    """
    if fcntl is None:
        try:
            file.unlink(missing_ok=True)
        except PermissionError as error:  # Windows deletes no file that is open
            raise BlockingIOError(*error.args) from error
        yield
        return
    with file.open("ab") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # no `flock` here
            pass
        yield


def _acquire(lock: BaseFileLock, timeout: float) -> None:
    """Acquire a lock, in a folder that another process may delete when it is empty."""
    while True:
        try:
            lock.acquire(timeout=timeout, poll_interval=POLL_INTERVAL)
            return
        except FileNotFoundError:
            Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)


def _has_flock(folder: Path) -> bool:
    """Whether files in a folder, which is made where it is absent, can be locked by the operating system."""
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:  # Windows locks files on all of its file systems
        return True
    with suppress(FileNotFoundError), TemporaryFile(dir=folder) as probe:
        try:
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
    return _has_flock(folder)  # another process has deleted it meanwhile


@contextmanager
def _touching(file: Path) -> Iterator[None]:
    """Touch a file from time to time while the block runs."""
    over = threading.Event()

    def touch() -> None:
        while not over.wait(TOUCH_INTERVAL):
            with suppress(OSError):
                os.utime(file)

    thread = threading.Thread(target=touch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _wait(lock: BaseFileLock, file: Path) -> None:
    """Acquire a lock that another process holds.

    Raises:
        LockedError: if it holds it for too long, or does not touch a lock that has to be touched.
    """
    started = seen = time.monotonic()
    touched = _touched(lock)
    while True:
        with suppress(Timeout):
            _acquire(lock, min(TOUCH_INTERVAL, LONGEST_WAIT, LONGEST_SILENCE))
            return
        now = time.monotonic()
        if touched != (touched := _touched(lock)):
            seen = now
        silent = touched is not None and now - seen > LONGEST_SILENCE
        if silent or now - started > LONGEST_WAIT:
            how = f"shows no sign of life for {(now - seen) / 60:.0f} minutes" if silent else "does not release it"
            raise LockedError(
                f"{file} is still locked by {_holder(file) or UNKNOWN}, which {how}; stop that process, or delete "
                f"{lock.lock_file} if it does not run any more, and run the same command again."
            )


def _touched(lock: BaseFileLock) -> int | None:
    """When a lock without `flock` was touched; None for one with it, or that is not there."""
    with suppress(OSError):
        return Path(lock.lock_file).stat().st_mtime_ns if isinstance(lock, SoftFileLock) else None
    return None


def _holder(file: Path) -> str:
    """The holder of a lock file in words; empty if it is not known."""
    with suppress(OSError, ValueError):
        pid, host, since = file.read_text(encoding="utf-8").splitlines()
        return f"process {int(pid)} on {host} since {since}"
    return ""
