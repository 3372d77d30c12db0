import errno
import fcntl
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from ssl4eo_bench.errors import WriteError
from ssl4eo_bench.files import locks
from ssl4eo_bench.files.locks import locked
from tests.conftest import Recorder


@pytest.fixture(params=[True, False], ids=["flock", "no flock"])
def file(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock file, on a file system with `flock` or without it."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    if not request.param:
        monkeypatch.setattr(fcntl, "flock", refuse)
    return tmp_path / ".lock"


def test_one_at_a_time_and_the_others_say_that_they_wait(progress: Recorder, file: Path) -> None:
    inside: list[int] = []
    most: list[int] = []
    started = threading.Barrier(4)

    def work() -> None:
        started.wait()
        with locked(file, note="another one is in; waiting"):
            inside.append(1)
            most.append(len(inside))
            threading.Event().wait(0.05)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 4
    assert progress.notes == ["another one is in; waiting"] * 3


def test_waiting_has_an_end_that_names_file_and_holder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "LONGEST_WAIT", 0.3)
    with (
        locked(file, note=""),
        pytest.raises(
            WriteError, match=r"\.lock.* is still locked by (.*) after .* hours; stop .*or delete"
        ) as refusal,
        locked(file, note=""),
    ):
        pytest.fail("two are in")
    assert f"process {os.getpid()} on {socket.gethostname()}" in str(refusal.value)
    with locked(file, note=""):  # nothing is left of the first holder
        pass


def test_a_killed_process_holds_no_lock(tmp_path: Path, progress: Recorder) -> None:
    script = (
        f"from ssl4eo_bench.files.locks import *\nwith locked(Path({str(tmp_path)!r}, '.lock'), note=''): os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    with locked(tmp_path / ".lock", note="waiting"):
        assert progress.notes == []


def test_an_unknown_holder_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "LONGEST_WAIT", 0.1)
    with (
        FileLock(tmp_path / ".lock"),
        pytest.raises(WriteError, match="still locked by a process that is not known"),
        locked(tmp_path / ".lock", note=""),
    ):
        pytest.fail("two are in")
