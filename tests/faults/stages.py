"""The stages that write files, each run in a process of its own that has imported everything already.

A stage is a command on a folder: its cache, data and results lie there. What it has made is compared by `outcome`.
"""

import hashlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from ssl4eo_bench.__main__ import program
from ssl4eo_bench.config import catalogue, protocols
from ssl4eo_bench.config.protocols import Finetune
from ssl4eo_bench.data.packing import damaged_files, pack
from ssl4eo_bench.data.packs import pack_folder
from ssl4eo_bench.data.splits import open_splits
from ssl4eo_bench.errors import BenchError
from ssl4eo_bench.files.atomic import TEMPORARY
from ssl4eo_bench.results.files import read_results
from tests.conftest import ROOT

TASK, NETWORK = "eurosat-rgb", "timm:test_resnet.random"
RUN = ("run", "--task", TASK, "--sample", "--results", "results", "--cache-dir", "cache", "--quiet")
FEW = ("--limit", "40")

COMMANDS = {
    "sample": (*RUN, *FEW, "--protocol", "knn", "--checkpoint", "bandstats"),
    "features": (*RUN, *FEW, "--protocol", "linear", "--checkpoint", NETWORK, "--image-size", "48"),
    "fit": (*RUN, "--protocol", "linear", "--checkpoint", "bandstats"),
    "finetune": (*RUN, *FEW, "--protocol", "finetune", "--checkpoint", NETWORK, "--image-size", "32"),
    "pack": (),
    "tables": ("tables", "--results", "results", "--quiet"),
    "leaderboard": ("leaderboard", "--results", "results", "--quiet"),
    "report": (
        *("report", "--sample", "--results", "results", "--cache-dir", "cache"),
        *("--out", "results/report.html", "--quiet"),
    ),
}
"""The command of each stage; a pack has none, since no command packs a sample."""

STARTS_WITH = {"features": "sample", "fit": "sample", "finetune": "sample", "tables": "fit", "leaderboard": "fit"} | {
    "report": "fit"
}

SERVER = multiprocessing.get_context("forkserver")


@contextmanager
def preloaded() -> Iterator[None]:
    """Let processes of `SERVER` start with everything imported."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), before)))
    SERVER.set_forkserver_preload(["tests.faults.imports"])
    probe = SERVER.Process(target=time.sleep, args=(0,))
    probe.start()
    probe.join()
    try:
        yield
    finally:
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


def work(root: Path, words: tuple[str, ...], prepare: Callable[[], object] | None = None) -> None:
    """Run a command in a folder, as the program does; its output goes to a file."""
    protocols.ON_SAMPLES["finetune"] = Finetune(rates=(1e-3,), epochs=3, warmup=0, batch=16)
    os.chdir(root)
    output = os.open(_output(root), os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o666)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = ["ssl4eo-bench", *words]
    if prepare:
        prepare()
    program() if words else _pack()


def _pack() -> None:
    task = catalogue.task(TASK)
    try:
        pack(task, open_splits(task, Path("data"), packed=False, sample=True), pack_folder(task, Path("data")))
    except BenchError as error:
        sys.exit(error.told())


def started(root: Path, stage: str, prepare: Callable[[], object] | None = None) -> ForkServerProcess:
    """A process that runs a stage in a folder."""
    process = SERVER.Process(target=work, args=(root, COMMANDS[stage], prepare))
    process.start()
    return process


def run(root: Path, stage: str, prepare: Callable[[], object] | None = None) -> tuple[int, str]:
    """Run a stage in a folder; its exit code and output."""
    process = started(root, stage, prepare)
    process.join()
    assert process.exitcode is not None
    return process.exitcode, _output(root).read_text(encoding="utf-8", errors="replace")


class Begun:
    """Folders in which a stage can begin, made once, and what each stage makes in it undisturbed: below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._undisturbed: dict[str, tuple[float, Any]] = {}

    def at(self, stage: str, place: Path) -> Path:
        """A new folder with what a stage begins with."""
        before = STARTS_WITH.get(stage)
        if before:
            self.undisturbed(before)
            shutil.copytree(self.folder / before, place)
        else:
            (place / "data").mkdir(parents=True)
            if stage == "pack":
                catalogue.task(TASK).embedded().make(place / "data")
        return place

    def undisturbed(self, stage: str) -> tuple[float, Any]:
        """Seconds and outcome of a stage that nothing disturbs."""
        if stage not in self._undisturbed:
            root = self.at(stage, self.folder / stage)
            before = time.monotonic()
            code, output = run(root, stage)
            assert code == 0, output
            self._undisturbed[stage] = time.monotonic() - before, outcome(root, stage)
        return self._undisturbed[stage]


def outcome(root: Path, stage: str) -> Any:
    """What a stage has made: numbers and digests of its results, or hashes of files that are always the same."""
    if stage in ("tables", "leaderboard", "report"):
        return {str(file.relative_to(root)): _hash(file) for file in sorted((root / "results").rglob("*.*[!k]"))}
    if stage == "pack":
        folder = pack_folder(catalogue.task(TASK), root / "data")
        assert damaged_files(folder) == []
        return {file.name: _hash(file) for file in sorted(folder.glob("[!.]*.npy"))}
    return [result.model_dump(exclude={"provenance"}) for result in read_results(root / "results")]


def litter(root: Path) -> list[Path]:
    """Temporary files and folders below a folder."""
    return [path for path in root.rglob(".*") if TEMPORARY.fullmatch(path.name) or path.suffix == ".unpacking"]


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""


def _output(root: Path) -> Path:
    """Where the output of the process in a folder goes: to another disk."""
    return Path(tempfile.gettempdir()) / f"{hashlib.sha256(str(root).encode()).hexdigest()}.output"
