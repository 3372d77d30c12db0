"""Flipped and missing bytes in every kind of stored file: what is there is made anew or refused, never believed."""

import random
import shutil
from pathlib import Path

import pytest

from ssl4eo_bench.training.loop import State
from tests.faults.counting import counted
from tests.faults.stages import STARTS_WITH, Begun, outcome, run
from tests.faults.tally import LONG

FLIPS = 50 if LONG else 1
"""In each kind of file."""

KINDS = {
    "features": ("features", "cache/features/*/shard-*.npy"),
    "manifest": ("features", "cache/features/*/manifest.json"),
    "probe": ("features", "cache/probes/*.npz"),
    "sample": ("fit", "cache/samples/*/*/**/*.*"),
    "state": ("finetune", "cache/finetuning/*.pt"),
    "result": ("fit", "results/runs/**/*.json"),
    "scores": ("report", "cache/scores/*.npz"),
    "table": ("tables", "results/tables/*.csv"),
    "pack": ("pack", "data/eurosat/packed/*/*.npy"),
    "pack manifest": ("pack", "data/eurosat/packed/*/manifest.json"),
    "pack list": ("pack", "data/eurosat/packed/*/*.txt"),
}
"""The stage that reads files of a kind when it is run again, and where they lie."""

QUICK = ("features", "probe", "sample", "state", "result")
"""Those that are always tried."""


def interrupt() -> None:
    """Stop a training when its state is written for the second time."""
    write, count = State.write, iter(range(10))

    def write_and_stop(state: State, file: Path) -> None:
        write(state, file)
        if next(count):
            raise KeyboardInterrupt

    State.write = write_and_stop  # type: ignore[method-assign,assignment]


@pytest.fixture
def place(begun: Begun, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder with files of the kind."""
    stage, _ = KINDS[request.param]
    if request.param == "state":
        root = begun.at(stage, tmp_path / "whole")
        assert run(root, stage, interrupt)[0] == 130
    else:
        begun.undisturbed(stage)
        root = Path(shutil.copytree(begun.folder / stage, tmp_path / "whole"))
    if request.param in ("features", "manifest", "probe", "sample"):  # else nothing would be computed
        shutil.rmtree(root / "results")
        shutil.copytree(begun.folder / STARTS_WITH[stage] / "results", root / "results")
    if request.param in ("features", "manifest", "sample"):
        shutil.rmtree(root / "cache" / "probes")
    return root


def without_scores(place: Path, root: Path) -> object:
    """A report without the figures that need scores."""
    shutil.copytree(place, root, copy_function=shutil.copy2)
    shutil.rmtree(root / "cache" / "scores")
    assert run(root, "report")[0] == 0
    return outcome(root, "report")


@pytest.mark.parametrize(("place", "kind"), [(kind, kind) for kind in (KINDS if LONG else QUICK)], indirect=["place"])
def test_no_damage_is_believed(begun: Begun, place: Path, kind: str, tmp_path: Path) -> None:
    stage, pattern = KINDS[kind]
    _, expected = begun.undisturbed(stage)
    right = [expected, *([without_scores(place, tmp_path / "without")] if kind == "scores" else [])]
    drawn = random.Random(kind)
    with counted(f"flipped and missing bytes: {kind}") as tally:
        for number in range(FLIPS):
            root = Path(shutil.copytree(place, tmp_path / "damaged", copy_function=shutil.copy2))
            file = drawn.choice(sorted(root.glob(pattern)))
            content = bytearray(file.read_bytes())
            if number % 5 == 4:
                del content[drawn.randrange(len(content)) :]
            else:
                content[drawn.randrange(len(content))] ^= 1 << drawn.randrange(8)
            file.write_bytes(content)
            code, output = run(root, stage)
            tally.tried += 1
            tally.tracebacks += "Traceback" in output
            assert "Traceback" not in output
            wrong = code == 0 and outcome(root, stage) not in right
            tally.silent += wrong
            tally.survived += not wrong
            assert not wrong, (file, output)
            assert code == 0 or "error: " in output, output
            shutil.rmtree(root)
