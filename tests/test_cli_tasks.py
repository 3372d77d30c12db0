"""`task check`, `new task` and `new backbone`: what authors of tasks and backbones begin with."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.own_data import draw_folder

Command = Callable[..., tuple[int, str, str]]


def written(command: Command, name: str, *changes: tuple[str, str]) -> None:
    """A new task, with some of its code changed."""
    code, out, err = command("new", "task", name)
    assert (code, err) == (0, "")
    assert f"task check {name} --tasks-dir tasks" in out
    file = Path("tasks", f"{name}.py")
    text = file.read_text(encoding="utf-8")
    for before, after in changes:
        assert text.count(before) == 1
        text = text.replace(before, after)
    file.write_text(text, encoding="utf-8")


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)


def test_what_new_writes_passes_its_own_tests(command: Command) -> None:
    written(command, "fresh")
    code, out, _ = command("new", "backbone", "my_net")
    assert (code, "--arch python:my_net:MyNet" in out) == (0, True)
    done = run_python("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
    for what in ("task", "backbone"):
        code, _, err = command("new", what, "fresh" if what == "task" else "my_net")
        assert (code, "choose another name" in err) == (2, True)
    assert command("new", "task", "My-Task")[0] == command("new", "backbone", "1net")[0] == 2
    assert "there is a module of tasks 'eurosat' already" in command("new", "task", "eurosat", "--out", "other")[2]


FAULTS = {
    "bands are not selected": ("(id_)[chosen] for id_", "(id_) for id_", "opening", r"\[1, 4, 32, 32\]"),
    "channels last": (
        "(np.stack([self._image(id_)[chosen] for id_ in ids]),)",
        "(np.stack([self._image(id_)[chosen].transpose(1, 2, 0) for id_ in ids]),)",
        "opening",
        r"gives uint16 \[1, 32, 32, 4\]",
    ),
    "labels off by one": (
        'np.array([CLASSES.index(id_.split("/")[0])',
        'np.array([1 + CLASSES.index(id_.split("/")[0])',
        "labels",
        r"from 2 to 2|from 1 to 2",
    ),
    "a class without samples": (
        "for name in CLASSES for number",
        "for name in CLASSES[:1] for number",
        "labels",
        "train has no sample of forest",
    ),
    "a random sample": ("np.random.default_rng(0)", "np.random.default_rng()", "sample again", "another each time"),
    "another unit": ('unit="dn"', 'unit="reflectance"', "pixels", "pixels said to be in reflectance have the median"),
    "a traceback": (
        'raise MissingDataError(f"{root} is not there; {HOW_TO_GET}.")',
        'raise ZeroDivisionError("none")',
        "no data",
        "ZeroDivisionError: none",
    ),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_faulty_task_fails_its_check(command: Command, what: str) -> None:
    before, after, check, message = FAULTS[what]
    name = "".join(filter(str.isalpha, what)).lower()
    written(command, name, (before, after))
    code, out, err = command("task", "check", name, "--tasks-dir", "tasks", "--json")
    assert code == 1, err
    faults = {row["check"]: row["fault"] for row in json.loads(out) if row["fault"]}
    assert re.search(message, faults[check])


def test_a_broken_neighbour_touches_no_other_task(command: Command) -> None:
    written(command, "sound")
    Path("tasks", "torn.py").write_text("import no_such_package\n", encoding="utf-8")
    listed = command("list", "tasks", "--tasks-dir", "tasks", "--json")
    names = {row["task"] for row in json.loads(listed[1])}
    assert {"sound", "eurosat"} <= names
    assert "left out: task module 'torn' cannot be used: ModuleNotFoundError" in listed[2]
    run = ("run", "--protocol", "knn", "--checkpoint", "bandstats", "--sample", "--tasks-dir", "tasks")
    assert command(*run, "--task", "sound")[0] == 0
    code, _, err = command("task", "check", "torn", "--tasks-dir", "tasks")
    assert (code, "task module 'torn' cannot be used" in err) == (2, True)


def test_a_folder_is_checked_on_its_own_images(command: Command, tmp_path: Path) -> None:
    code, out, err = command("task", "check", f"folder:{draw_folder(tmp_path / 'mine')}", "--json")
    assert code == 0, err
    checked = {row["check"]: row["ok"] for row in json.loads(out)}
    assert (checked["pixels"], checked["sample again"]) == (True, None)
    code, out, _ = command("task", "check", f"folder:{tmp_path / 'mine'}", "--data-unit", "reflectance")
    assert (code, "pixels said to be in reflectance" in out) == (1, True)


@pytest.mark.parametrize("kind", ["task", "backbone"])
def test_a_keyword_is_no_name_of_a_module(command: Command, kind: str) -> None:
    code, _, err = command("new", kind, "class")
    assert (code, "no keyword of Python, not 'class'" in err) == (2, True)
