"""A disk that is full in the middle of every stage: one sentence, nothing half written, and the same command goes on."""

import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.counting import counted
from tests.faults.stages import COMMANDS, Begun, litter, outcome, run
from tests.faults.tally import LONG

TRIES = 8 if LONG else 1
STAGES = list(COMMANDS) if LONG else ["sample", "finetune"]
PAGE = 4096

Resize = Callable[[int], None]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Resize]]:
    """A disk of its own, and a function that gives it another size in bytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("no small disk can be mounted here")

    def resize(size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size // PAGE * PAGE}", place], check=True)

    try:
        yield place, resize
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_is_one_sentence(begun: Begun, disk: tuple[Path, Resize], stage: str) -> None:
    place, resize = disk
    drawn = random.Random(f"{stage} full")
    _, expected = begun.undisturbed(stage)
    with counted(f"full disk in {stage}") as tally:
        for _ in range(TRIES):
            root = begun.at(stage, place / "root")
            before = shutil.disk_usage(place).used
            code, output = run(root, stage)
            written = shutil.disk_usage(place).used - before
            assert code == 0, output
            shutil.rmtree(root)
            begun.at(stage, root)
            resize(before + max(PAGE, int(written * drawn.uniform(0, 0.95))))
            code, output = run(root, stage)
            tally.tried += 1
            tally.tracebacks += "Traceback" in output
            assert "Traceback" not in output
            if code:
                assert re.search("No space left on device|free some", output), output
            assert litter(root) == []
            resize(1 << 30)
            again, output = run(root, stage)
            assert again == 0, output
            found = outcome(root, stage)
            tally.silent += found != expected
            tally.survived += found == expected
            assert found == expected
            shutil.rmtree(root)
