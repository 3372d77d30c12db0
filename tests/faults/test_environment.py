"""Processes that are asked to end, files that vanish, jumping clocks, limits, file systems that lack something."""

import errno
import fcntl
import os
import random
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path

import pytest

from ssl4eo_bench.extraction.store import FeatureCache
from ssl4eo_bench.training import distributed
from ssl4eo_bench.training.distributed import ProcessGroup, launch
from tests.faults.counting import counted
from tests.faults.stages import SERVER, STARTS_WITH, Begun, litter, outcome, run, started
from tests.faults.tally import LONG

TIMES = 10 if LONG else 1


def jumping_clock() -> None:
    """Let the time of day jump by a day, forth and back."""
    now, jumps = time.time, cycle((86_400, -86_400, 0))
    time.time = lambda: now() + next(jumps)


def without_flock(reason: int) -> None:
    """Let the file system refuse to lock."""

    def refuse(*_: object) -> None:
        raise OSError(reason, os.strerror(reason))

    fcntl.flock = refuse


def limited(kind: int, amount: int) -> None:
    """Take memory or files away from a process."""
    resource.setrlimit(kind, (amount, resource.getrlimit(kind)[1]))


def in_address_space() -> int:
    """Bytes of addresses that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")


def short_of_memory(more: int) -> None:
    limited(resource.RLIMIT_AS, in_address_space() + more)


@pytest.mark.parametrize("stage", ["features", "finetune"])
def test_who_is_asked_to_end_does_so_and_goes_on_later(begun: Begun, tmp_path: Path, stage: str) -> None:
    drawn = random.Random(f"{stage} SIGTERM")
    seconds, expected = begun.undisturbed(stage)
    with counted(f"SIGTERM in {stage}") as tally:
        for number in range(TIMES):
            root = begun.at(stage, tmp_path / str(number))
            ready = SERVER.Event()
            process = started(root, stage, ready.set)
            ready.wait()
            time.sleep(0.1 + drawn.uniform(0, 0.6) * seconds)
            process.terminate()
            process.join(20)
            tally.tried += 1
            assert process.exitcode in (143, 0)
            assert litter(root) == []
            code, output = run(root, stage)
            assert code == 0, output
            assert outcome(root, stage) == expected
            tally.survived += 1


def stay(folder: Path, group: ProcessGroup) -> None:
    """Note the process and work for a long time."""
    (folder / str(group.rank)).write_text(str(os.getpid()))
    time.sleep(60)


def test_processes_of_a_training_end_with_the_one_that_started_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "GRACE", 1.0)

    def stop() -> None:
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # which ends the wait for them

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        launch(("cpu", "cpu"), partial(stay, tmp_path))
    thread.join()
    for rank in tmp_path.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(rank.read_text()), 0)


PREPARED: dict[str, Callable[[], object]] = {
    "a jumping clock": jumping_clock,
    "no flock (ENOLCK)": partial(without_flock, errno.ENOLCK),
    "no flock (ENOSYS)": partial(without_flock, errno.ENOSYS),
    "40 open files": partial(limited, resource.RLIMIT_NOFILE, 40),
    "little memory": partial(short_of_memory, 200 << 20),
}


@pytest.mark.parametrize("what", PREPARED if LONG else list(PREPARED)[:2] + list(PREPARED)[3:])
@pytest.mark.parametrize("stage", ["features", "finetune"] if LONG else ["fit"])
def test_in_other_surroundings_the_result_is_the_same(begun: Begun, tmp_path: Path, stage: str, what: str) -> None:
    _, expected = begun.undisturbed(stage)
    with counted(f"{what} in {stage}") as tally:
        root = begun.at(stage, tmp_path / "root")
        code, output = run(root, stage, PREPARED[what])
        tally.tried += 1
        tally.tracebacks += "Traceback" in output
        assert "Traceback" not in output, output
        if what != "little memory":
            assert code == 0, output
        code, output = run(root, stage)
        assert code == 0, output
        assert outcome(root, stage) == expected
        assert litter(root) == []
        tally.survived += 1


def test_files_that_vanish_cost_a_sentence_at_most(begun: Begun, tmp_path: Path) -> None:
    drawn, stage = random.Random("vanish"), "features"
    seconds, expected = begun.undisturbed(stage)
    with counted("files that vanish") as tally:
        for number in range(TIMES):
            root = begun.at(stage, tmp_path / str(number))
            process = started(root, stage)
            time.sleep(drawn.uniform(0.1, 0.9) * seconds)
            shutil.rmtree(root / "cache", ignore_errors=True)
            process.join()
            tally.tried += 1
            code, output = run(root, stage)
            tally.tracebacks += "Traceback" in output
            assert code == 0, output
            assert outcome(root, stage) == expected
            tally.survived += 1


def test_a_complete_cache_may_be_read_only(begun: Begun, tmp_path: Path) -> None:
    _, expected = begun.undisturbed("fit")
    root = Path(shutil.copytree(begun.folder / "fit", tmp_path / "root"))
    shutil.rmtree(root / "results")
    shutil.copytree(begun.folder / STARTS_WITH["fit"] / "results", root / "results")
    bound = subprocess.run(["mount", "--bind", root / "cache", root / "cache"], capture_output=True, check=False)
    if bound.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", root / "cache"], check=True)
        code, output = run(root, "fit")
    finally:
        subprocess.run(["umount", root / "cache"], check=True)
    assert code == 0, output
    assert outcome(root, "fit") == expected


def test_signals_have_their_own_exit_codes(begun: Begun, tmp_path: Path) -> None:
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        root = begun.at("fit", tmp_path / str(code))
        found, output = run(root, "fit", partial(_signalled, number))
        assert found == code
        assert output.startswith("interrupted; " if code == 130 else "terminated; ")


def _signalled(number: int) -> None:
    """Send a signal to this process when its features are asked for."""

    def stopped(*_: object) -> None:
        signal.raise_signal(number)

    FeatureCache.get = stopped  # type: ignore[method-assign,assignment]
