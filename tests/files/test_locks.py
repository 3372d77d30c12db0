import errno
import fcntl
import itertools
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock

from ssl4eo_bench.errors import LockedError
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
    holder = rf"process {os.getpid()} on {re.escape(socket.gethostname())} since 20\d\d-.*"
    assert len(progress.notes) == 3
    assert all(re.fullmatch(rf"another one is in; waiting( \({holder}\))?", note) for note in progress.notes)


def test_waiting_has_an_end_that_names_file_and_holder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "LONGEST_WAIT", 0.3)
    with (
        locked(file, note=""),
        pytest.raises(
            LockedError, match=r"\.lock is still locked by .* since 20.* does not release it; stop .*or delete"
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
        pytest.raises(LockedError, match="still locked by a process that is not known"),
        locked(tmp_path / ".lock", note=""),
    ):
        pytest.fail("two are in")


def test_who_does_not_want_to_wait_is_told_who_holds_the_lock(file: Path, progress: Recorder) -> None:
    with (
        locked(file, note=""),
        pytest.raises(LockedError, match=rf"is locked by process {os.getpid()} on .* since 20") as refusal,
        locked(file, note="waiting", wait=False),
    ):
        pytest.fail("two are in")
    assert str(pickle.loads(pickle.dumps(refusal.value))) == str(refusal.value)
    assert progress.notes == []
    with locked(file, note="", wait=False):
        pass


@pytest.mark.parametrize("reason", [errno.ENOLCK, errno.ENOSYS])
def test_without_flock_the_lock_of_a_dead_process_of_this_host_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, progress: Recorder, reason: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(fcntl, "flock", refuse)
    if (child := os.fork()) == 0:
        with locked(tmp_path / ".lock", note=""):
            os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert (tmp_path / ".lock.soft").exists()
    with locked(tmp_path / ".lock", note="waiting", wait=False):
        assert progress.notes == []


@pytest.fixture
def without_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_has_flock", lambda folder: False)


@pytest.mark.usefixtures("without_flock")
def test_without_flock_a_lock_left_on_another_host_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "LONGEST_SILENCE", 0.3)
    (tmp_path / ".lock").write_text("77\nnode7\n2026-01-02 03:04:05+00:00\n")
    (tmp_path / ".lock.soft").write_text("77\nnode7\n")
    with (
        pytest.raises(
            LockedError, match=r"process 77 on node7 since 2026-01-02 .*no sign of life.* delete .*lock\.soft"
        ),
        locked(tmp_path / ".lock", note=""),
    ):
        pytest.fail("two are in")


@pytest.mark.usefixtures("without_flock")
def test_without_flock_a_living_holder_is_waited_for_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder touches the lock; the clock jumps by a day meanwhile, forth and back."""
    monkeypatch.setattr(locks, "LONGEST_SILENCE", 0.4)
    monkeypatch.setattr(locks, "TOUCH_INTERVAL", 0.05)
    now, jumps = time.time, itertools.cycle((86_400, -86_400))
    monkeypatch.setattr(time, "time", lambda: now() + next(jumps))
    inside, left = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(tmp_path / ".lock", note=""):
            inside.set()
            threading.Event().wait(1)
            left.set()

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()
    with locked(tmp_path / ".lock", note=""):
        assert left.is_set()
    thread.join()


def test_a_folder_that_is_deleted_while_a_process_waits_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "entry"
    entered = threading.Event()

    def enter() -> None:
        with locked(folder / "lock", note=""):
            entered.set()

    with locked(folder / "lock", note=""):
        thread = threading.Thread(target=enter)
        thread.start()
        threading.Event().wait(0.1)
        shutil.rmtree(folder)
    thread.join()
    assert entered.is_set()
