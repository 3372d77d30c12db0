"""What `doctor` finds on machines of several kinds; the network is always this machine, or none."""

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssl4eo_bench import doctor

Command = Callable[..., tuple[int, str, str]]
Findings = dict[str, dict[str, Any]]


@pytest.fixture
def examined(command: Command, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, Findings]]:
    """The exit code of `doctor --json` without a network, and its findings by what was looked at."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def call(*options: str) -> tuple[int, Findings]:
        code, out, err = command("doctor", "--json", *options)
        assert err == ""
        found = json.loads(out)
        assert found["broken"] == bool(code)
        return code, {one["what"]: one for one in found["findings"]}

    return call


def test_a_machine_is_described_in_words_and_numbers(
    examined: Callable[..., tuple[int, Findings]], command: Command, tmp_path: Path
) -> None:
    code, found = examined()
    assert code == 0
    assert found["packages"]["facts"]["torch"]
    assert found["threads"]["facts"]["threads"] >= 1
    assert found["cache"]["facts"]["folder"] == str(tmp_path / "cache")
    assert isinstance(found["disk"]["facts"]["free_bytes"], int)
    assert "eurosat" in found["tasks"]["facts"]["tasks"]
    assert found["data"]["facts"] == {"folder": "data", "tasks": []}
    assert found["network"]["facts"] == {"offline": ["HF_HUB_OFFLINE"], "reachable": None}
    code, out, _ = command("doctor")
    lines = out.splitlines()
    assert code == 0
    assert {line.split()[1] for line in lines[:-1] if not line.startswith(" ")} == set(found)
    assert lines[-1].startswith(("all is well", "runs will work; to be improved: "))


def test_data_that_are_there_are_named(
    examined: Callable[..., tuple[int, Findings]], sample_of: Callable[[str], Path]
) -> None:
    _, found = examined("--data-dir", str(sample_of("eurosat-rgb")))
    assert "eurosat-rgb" in found["data"]["facts"]["tasks"]
    assert "eurosat" not in found["data"]["facts"]["tasks"]


def test_samples_that_are_absent_are_not_counted(
    examined: Callable[..., tuple[int, Findings]], sample_of: Callable[[str], Path], tmp_path: Path
) -> None:
    copy = shutil.copytree(sample_of("eurosat-rgb"), tmp_path / "copy")
    images = sorted(copy.rglob("*.jpg"))
    images[0].unlink()
    _, found = examined("--data-dir", str(copy))
    assert f"eurosat-rgb {len(images) - 1:,} of {len(images):,}" in found["data"]["found"]


def test_what_is_broken_is_told_with_its_cure(
    examined: Callable[..., tuple[int, Findings]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "broken.py").write_text("TASKS = [1]\n")
    monkeypatch.setattr("ssl4eo_bench.tasks.__path__", [str(tmp_path / "tasks")])
    monkeypatch.setattr(doctor, "requires", lambda _: ["nothing.of_that-name>=1", "ray>=2; extra == 'ray'"])
    monkeypatch.setattr(doctor, "_torch", lambda: 1 / 0)
    code, found = examined("--cache-dir", "/proc/cache")
    assert code == 1
    assert {what for what, one in found.items() if one["state"] == "broken"} == {"packages", "torch", "cache", "tasks"}
    assert found["packages"]["cure"] == "run `pip install nothing.of_that-name`"
    assert found["torch"]["found"] == "ZeroDivisionError: division by zero"
    assert found["cache"]["facts"]["writable"] is False
    assert "task module 'broken' has 1 in its TASKS" in found["tasks"]["found"]


def test_what_is_slow_is_told_with_its_cure(
    examined: Callable[..., tuple[int, Findings]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    monkeypatch.setattr(doctor, "_file_system", lambda _: "nfs4")
    monkeypatch.setattr(doctor, "free_bytes", lambda _: 1000)
    code, found = examined()
    assert code == 0
    slow = {"OpenVINO", "threads", "cache", "disk"}
    assert {what for what, one in found.items() if one["state"] == "warning"} - {"device"} == slow
    assert "pip install 'ssl4eo-bench[cpu]'" in found["OpenVINO"]["cure"]
    assert "OMP_NUM_THREADS" in found["threads"]["cure"]
    assert "local disk" in found["cache"]["cure"]


def test_a_network_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in doctor.OFFLINE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(doctor, "LONGEST_WAIT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and never answers
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        found = doctor._network()
    assert found.state == "warning"
    assert "cannot be reached" in found.found
    assert found.facts["reachable"] is False
