"""What the documents promise: links lead somewhere, commands are understood and run, and so do programs."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml

from ssl4eo_bench import cli
from tests.conftest import ROOT
from tests.documents import PAGES, blocks, commands, synopses, words

Command = Callable[..., tuple[int, str, str]]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_to_other_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_are_understood(page: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_run", lambda given: 0)  # all but the parser
    Path("sweep.yaml").write_text("task: [eurosat]\nprotocol: [linear]\n")
    for call in commands(page):
        code, _, err = command(*words(call))
        assert code == 0, f"{call}: {err}"
    for call in synopses(page):  # which need not be complete
        code, _, err = command(*words(call))
        assert code == 0 or "required" in err, f"{call}: {err}"


NOT_RUN = {
    r"data download|data prepare|data verify": "needs real data",
    r"--executor ray": "needs a cluster",
    r"\b(TASK|NAME|RUN)\b|\[": "a pattern for commands",
    r"--figures": "takes long, and has tests of its own",
    r"\bmine\b|mine[.-]|folder:|csv:": "needs files of the reader",
}
"""What is in commands that are parsed alone, and why they are not run."""


def as_run(call: str) -> tuple[str, ...]:
    """A command on the embedded sample and without a network. Runs are planned alone, but for that of the default suite."""
    given = words(re.sub(r"--data-dir \S+|--checkpoint resnet18.random --sample", "", call))
    if given[0] not in ("run", "features"):
        return tuple(given)
    if given[0] == "features" or ("--checkpoint" not in given and "--sample" in given):
        given += ["--checkpoint", "bandstats", "--limit", "8"]
    elif "--dry-run" not in given:
        given += ["--dry-run"]
    return (*given, *(() if "--sample" in given or given[1].endswith(".yaml") else ("--sample",)))


CALLS = {call for page in PAGES for call in commands(page) if not re.search("|".join(NOT_RUN), call)}


@pytest.mark.parametrize("call", sorted({as_run(call) for call in CALLS}), ids=" ".join)
def test_commands_run(
    call: tuple[str, ...], command: Command, results: Path, sweep: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(results.parent)
    Path("sweep.yaml").write_text(sweep)
    code, _, err = command(*call)
    assert code == 0, err


@pytest.fixture
def sweep() -> str:
    """The sweep file that the documents show."""
    found = next(block for block in blocks(ROOT / "docs" / "scale.md", "yaml") if block.startswith("# sweep.yaml"))
    return found.replace(", so2sat", "")  # making its sample takes long


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_other_blocks_can_be_read(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block, page, "exec")
    for block in blocks(page, "yaml"):
        yaml.safe_load(block)
    shell = "\n".join(blocks(page, "bash", "console", ""))
    made = re.findall(r"^make ([a-z-]+)", shell, re.MULTILINE)
    extras = [name for found in re.findall(r"pip install \S*?\[([\w,]+)\]", shell) for name in found.split(",")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert all(f"\n{target}:" in (ROOT / "Makefile").read_text(encoding="utf-8") for target in made)
    assert set(extras) <= set(project["optional-dependencies"])


def test_the_network_of_the_readme_runs(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = blocks(ROOT / "README.md", "python")
    small = block.replace("resnet18", "test_resnet").replace(
        "sample=True", 'sample=True, protocol="knn", image_size=32, limit=40'
    )
    exec(small, {})
    assert re.search(r"mine\s+knn", capsys.readouterr().out)


def test_features_are_loaded_as_shown(command: Command) -> None:
    for ending, block in zip(("npz", "parquet"), blocks(ROOT / "docs" / "features.md", "python"), strict=True):
        assert (
            command(*as_run(f"ssl4eo-bench features --task eurosat-rgb --checkpoint bandstats --out test.{ending}"))[0]
            == 0
        )
        found: dict[str, Any] = {}
        exec(block, found)
        assert found["features"].shape == (8, 21)
        assert found["about"]["task"] == "eurosat-rgb-v1"


def python(*arguments: str, **environment: str) -> None:
    """Run Python in the working directory, with this checkout."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_classes_of_backbones_run(command: Command) -> None:
    evaluated, any_bands = blocks(ROOT / "docs" / "backbones.md", "python")
    Path("any_bands.py").write_text(f"import torch\nfrom torch import nn\n{any_bands}", encoding="utf-8")
    own = """
    found = bench.run("eurosat", "knn", "mine", checkpoint_files=["mine.yaml"], sample=True, limit=30)
    assert found[0].spec.inputs.metadata == ("lonlat",)
    """
    entry = "{arch: 'python:any_bands:AnyBands', options: {width: 8}, weights: {random: true}, bands: [B02, B11], "
    Path("mine.yaml").write_text(f"checkpoints: {{mine: {entry} image_size: 32, scaling: {{divide: 10000}}}}}}")
    quick = evaluated.replace("sample=True,", "sample=True, limit=30,")
    python("-c", quick + dedent(own), SSL4EO_BENCH_BACKBONES=".")


def test_the_example_of_a_task_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = blocks(ROOT / "docs" / "tasks.md", "python")
    monkeypatch.chdir(tmp_path)
    Path("tasks").mkdir()
    Path("tasks/mine.py").write_text(code, encoding="utf-8")
    run = ("run", "--task", "mine", "--protocol", "linear", "--sample", "--checkpoint", "bandstats")
    python("-m", "ssl4eo_bench", *run, "--tasks-dir", "tasks", "--cache-dir", "cache")
    assert Path("results/tables/mine-v1.linear-v2.sample.csv").is_file()
