"""What the documents promise: links lead somewhere, and the example of a task runs."""

import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.conftest import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("*/README.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_other_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not broken


def code_of(page: str) -> list[str]:
    """The blocks of Python on a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_classes_of_backbones_run(tmp_path: Path) -> None:
    evaluated, any_bands = code_of("backbones.md")
    (tmp_path / "any_bands.py").write_text(f"import torch\nfrom torch import nn\n{any_bands}", encoding="utf-8")
    own = """
    found = bench.run("eurosat", "knn", "mine", checkpoint_files=["mine.yaml"], sample=True, limit=30, cache_dir="cache")
    assert found[0].spec.inputs.metadata == ("lonlat",)
    """
    entry = "{arch: 'python:any_bands:AnyBands', options: {width: 8}, weights: {random: true}, bands: [B02, B11], "
    (tmp_path / "mine.yaml").write_text(f"checkpoints: {{mine: {entry} image_size: 32, scaling: {{divide: 10000}}}}}}")
    quick = evaluated.replace("sample=True,", "sample=True, limit=30, cache_dir='cache',")
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", quick + dedent(own)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path, "SSL4EO_BENCH_BACKBONES": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_example_of_a_task_runs(tmp_path: Path) -> None:
    (code,) = code_of("tasks.md")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "mine.py").write_text(code, encoding="utf-8")
    command = [sys.executable, "-m", "ssl4eo_bench", "run", "--task", "mine", "--protocol", "linear", "--sample"]
    options = ["--checkpoint", "bandstats", "--tasks-dir", "tasks", "--cache-dir", "cache"]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [*command, *options],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results" / "tables" / "mine-v1.linear-v2.sample.csv").is_file()
