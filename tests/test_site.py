"""The documentation site: it builds without a warning, holds what it is made of, and loads nothing from elsewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ssl4eo_bench.config import catalogue
from tests.conftest import ROOT

pytest.importorskip("mkdocs", reason="the extra `docs` is not installed: no mkdocs")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_it_loads_nothing_from_elsewhere(site: Path) -> None:
    loaded = re.compile(
        r"""<(?:script|img|iframe|link rel="(?:stylesheet|preconnect)")[^>]*(?:src|href)=["']?(https?:[^"' >]+)"""
    )
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    assert not {url for page in pages for url in loaded.findall(page.read_text(encoding="utf-8"))}


def test_tables_are_of_the_whole_catalogue(site: Path) -> None:
    inputs = (site / "input_table.html").read_text(encoding="utf-8")
    cards = (site / "task_cards.html").read_text(encoding="utf-8")
    for task in catalogue.tasks():
        assert f"<code>{task}</code>" in inputs
        assert f'id="{task}"' in cards
    assert all(f"<code>{name}</code>" in inputs for name in catalogue.load_catalogue().checkpoints)


def test_formulas_need_no_script(site: Path) -> None:
    metrics = (site / "metrics.html").read_text(encoding="utf-8")
    assert metrics.count("<math") == 4
    assert "$$" not in metrics
