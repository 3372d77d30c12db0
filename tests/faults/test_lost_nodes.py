"""Nodes and workers of a Ray cluster that are lost while a sweep runs: the result is that of the local executor."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.executors.test_cluster import two_nodes
from tests.faults.counting import counted
from tests.faults.tally import LONG

pytest.importorskip("ray", reason="needs the package ray")

SWEEP = """
task: [eurosat-rgb, so2sat]
protocol: [linear, knn]
checkpoint: [bandstats, "timm:test_resnet.random"]
seed: [0, 1]
fraction: [0.5, 1]
sample: true
limit: 60
"""


def started(root: Path, name: str, *options: str) -> "subprocess.Popen[bytes]":
    """The sweep in a process of its own, with results and cache of its own."""
    (root / "sweep.yaml").write_text(SWEEP)
    folders = ("--results", str(root / name), "--cache-dir", str(root / f"{name}-cache"))
    command = [sys.executable, "-m", "ssl4eo_bench", "run", str(root / "sweep.yaml"), "--quiet", *folders, *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def results(folder: Path) -> dict[str, Any]:
    """All results without what differs between two processes."""
    found = {}
    for file in folder.rglob("seed*.json"):
        content = json.loads(file.read_text())
        found[str(file.relative_to(folder))] = {
            name: value for name, value in content.items() if name not in ("provenance", "checksum")
        }
    return found


def written(root: Path, name: str) -> dict[Path, int]:
    """When each result and each shard of features was written."""
    files = [*(root / name).rglob("seed*.json"), *(root / f"{name}-cache").rglob("shard-*.npy")]
    return {file: file.stat().st_mtime_ns for file in files}


def workers() -> list[int]:
    """The processes that run a task of the package."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cmdline").read_bytes().startswith((b"ray::_compute_shard", b"ray::_do_job")):
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(not LONG, reason="takes minutes; SSL4EO_BENCH_FAULTS=long runs it")
@pytest.mark.parametrize("fault", ["raylet", "worker"])
def test_what_is_lost_is_done_again_and_nothing_else(tmp_path: Path, fault: str) -> None:
    assert started(tmp_path, "local").wait() == 0
    expected, drawn = results(tmp_path / "local"), random.Random(2026)
    with counted(f"{fault} of a Ray cluster killed") as tally:
        tally.lost = 0
        for number in range(3):
            name = f"{fault}{number}"
            with two_nodes() as (cluster, node):
                sweep = started(tmp_path, name, "--executor", "ray", "--address", cluster.address)
                while len(results(tmp_path / name)) < drawn.randrange(2, 12) and sweep.poll() is None:
                    time.sleep(0.2)
                before = written(tmp_path, name)
                if fault == "raylet":
                    cluster.remove_node(node, allow_graceful=False)
                else:
                    os.kill(drawn.choice(workers()), signal.SIGKILL)
                tally.tried += 1
                assert sweep.wait() == 0
            found, after = results(tmp_path / name), written(tmp_path, name)
            tally.silent += found != expected
            tally.lost += sum(after.get(file) != when for file, when in before.items())
            tally.survived += found == expected
            assert found == expected
            assert tally.lost == 0
