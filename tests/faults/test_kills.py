"""SIGKILL at random moments of every stage: the same command then gives the undisturbed result, and nothing stays."""

import random
import shutil
import time
from pathlib import Path

import pytest

from tests.faults.counting import counted
from tests.faults.stages import COMMANDS, Begun, litter, outcome, run, started
from tests.faults.tally import LONG

KILLS = 25 if LONG else 1
"""Of each stage."""

STAGES = list(COMMANDS) if LONG else ["features", "finetune"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_stage_is_done_by_the_same_command(begun: Begun, tmp_path: Path, stage: str) -> None:
    drawn = random.Random(f"{stage} 2026")
    seconds, expected = begun.undisturbed(stage)
    with counted(f"SIGKILL in {stage}") as tally:
        for number in range(KILLS):
            root = begun.at(stage, tmp_path / str(number))
            process = started(root, stage)
            time.sleep(drawn.uniform(0.02, 1.0) * seconds)
            process.kill()
            process.join()
            tally.tried += 1
            code, output = run(root, stage)
            tally.tracebacks += "Traceback" in output
            assert code == 0, output
            found = outcome(root, stage)
            tally.silent += found != expected
            tally.survived += found == expected
            assert found == expected
            assert litter(root) == []
            shutil.rmtree(root)
