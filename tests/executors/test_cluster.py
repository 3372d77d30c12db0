"""A Ray cluster of two nodes on this machine gives what the local executor gives, also when a node is lost."""

import json
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.own_data import draw_folder

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - so Ray calls it; other tests would leave workers no time
ray = pytest.importorskip("ray", reason="needs the package ray")

Command = Callable[..., tuple[int, str, str]]

RUN = ("run", "--sample", "--limit", 60, "--task", "eurosat-rgb", "--protocol", "linear", "knn", "--json")
WHAT = ("--checkpoint", "bandstats", "timm:test_resnet.random", "--fraction", 0.5, 1)


@contextmanager
def two_nodes() -> Iterator[tuple[Any, Any]]:
    """A cluster of two nodes on this machine, and the second of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.cluster_utils import Cluster

        found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        node = found.add_node(num_cpus=1)
        found.wait_for_nodes()
    try:
        yield found, node
    finally:
        found.shutdown()  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with two_nodes() as (found, _):
        yield found


def outcomes_of(command: Command, *options: object) -> dict[str, Any]:
    """The outcome of each run by its file, without what differs between two processes."""
    code, out, err = command(*RUN, *WHAT, *options)
    assert code == 0, err
    found = {}
    for outcome in json.loads(out):
        result = outcome["result"]
        result.pop("provenance")
        found[outcome["file"].partition("/runs/")[2]] = result
    return found


def test_digests_and_numbers_are_those_of_the_local_executor(command: Command, cluster: Any, tmp_path: Path) -> None:
    here = outcomes_of(command, "--results", "here", "--cache-dir", "here-cache")
    there = outcomes_of(
        command,
        *("--results", "there", "--cache-dir", "there-cache", "--executor", "ray", "--address", cluster.address),
    )
    assert len(here) == 8
    assert there == here
    assert not list(tmp_path.rglob("*.lock.soft"))
    code, out, _ = command(*RUN, *WHAT, "--results", "there", "--executor", "ray", "--address", "nowhere:1")
    assert code == 0  # all is there: no cluster is asked
    assert {outcome["status"] for outcome in json.loads(out)} == {"skipped"}


def test_workers_get_tasks_that_are_in_no_catalogue(command: Command, cluster: Any, tmp_path: Path) -> None:
    run = ("run", "--task", f"folder:{draw_folder(tmp_path / 'mine')}", "--protocol", "knn", "--json")
    options = ("--checkpoint", "bandstats", "--executor", "ray", "--address", cluster.address)
    code, out, _ = command(*run, *options)
    assert code == 0, out.replace("\n", " ")[-1500:]
    there = json.loads(out)[0]["result"]
    code, out, _ = command(*run, "--checkpoint", "bandstats", "--results", "here", "--cache-dir", "here-cache")
    assert code == 0, out.replace("\n", " ")[-1500:]
    assert json.loads(out)[0]["result"]["digest"] == there["digest"]
    assert json.loads(out)[0]["result"]["metrics"] == there["metrics"]


PLUGINS = """
import os
import signal
import signal
from pathlib import Path

import torch
from torch import nn


class Mean(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(1, 2, len(inputs.bands)))

    def forward(self, images):
        return images.mean(dim=(2, 3)) * self.scale


class Dies(Mean):
    def forward(self, images):
        marker = Path(__file__).with_name("died")
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(images)


class Breaks(Mean):
    def forward(self, images):
        raise ZeroDivisionError("no such network")
"""

ENTRIES = """
checkpoints:
  {name}: {{arch: "python:plugins:{cls}", weights: {{own: true}}, bands: [B04, B03, B02], image_size: 32, scaling: {{divide: 3000}}}}
"""


def test_a_lost_worker_is_replaced_and_what_fails_fails_alone(command: Command, cluster: Any, tmp_path: Path) -> None:
    folder = tmp_path / "backbones"
    folder.mkdir()
    (folder / "plugins.py").write_text(PLUGINS)
    entries = ENTRIES.format(name="dies", cls="Dies") + ENTRIES.format(name="breaks", cls="Breaks").split("\n", 2)[2]
    (tmp_path / "mine.yaml").write_text(entries)
    what = ("--checkpoints", tmp_path / "mine.yaml", "--checkpoint", "dies", "breaks", "--backbones-dir", folder)
    code, out, _ = command(*RUN, *what, "--executor", "ray", "--address", cluster.address)
    assert code == 1
    assert (folder / "died").exists()
    outcomes = {(one["file"].split("/")[-2], one["status"]): one for one in json.loads(out)}
    assert set(outcomes) == {("dies", "done"), ("breaks", "failed")}
    assert "ZeroDivisionError: no such network" in outcomes["breaks", "failed"]["error"]


def test_no_cluster_at_an_address_is_one_sentence(command: Command) -> None:
    code, _, err = command(*RUN, "--checkpoint", "bandstats", "--executor", "ray", "--address", "127.0.0.1:1")
    assert code == 2
    assert "error: there is no Ray cluster at '127.0.0.1:1'" in err


def test_the_handler_of_sigterm_stays_ours() -> None:
    from ssl4eo_bench.executors import cluster

    before = signal.getsignal(signal.SIGTERM)
    with suppress(RuntimeError), cluster._own_signals():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as Ray puts its own in its place
        raise RuntimeError  # as it does where it finds no cluster
    assert signal.getsignal(signal.SIGTERM) is before
