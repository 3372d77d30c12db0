"""The wheel carries tasks and checkpoints, and works from any directory without the repository."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.version import __version__
from tests.conftest import ROOT

REPORT = [
    f"results/report/{name}"
    for name in ("report.html.j2", "leaderboard.html.j2", "macros.html.j2", "page.css", "page.js")
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content in a directory of its own, as an installation has it."""
    site = tmp_path_factory.mktemp("site")
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def python(code: str, site: Path, cwd: Path) -> str:
    # -P and PYTHONPATH put the unpacked wheel before the editable installation of the repository.
    arguments = [sys.executable, "-P", "-c", code]
    environment = {"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(arguments, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_installed_copy_lists_its_tasks_and_checkpoints(installed: Path, tmp_path: Path) -> None:
    code = (
        "import ssl4eo_bench; from ssl4eo_bench.config import catalogue\n"
        "print(ssl4eo_bench.__file__); print(*catalogue.tasks()); print(*catalogue.load_catalogue().checkpoints)"
    )
    where, tasks, checkpoints = python(code, installed, tmp_path).splitlines()
    assert Path(where).is_relative_to(installed)
    assert tasks.split() == list(catalogue.tasks())
    assert "bandstats" in checkpoints.split()


def test_an_installed_copy_makes_its_sample(installed: Path, tmp_path: Path) -> None:
    code = "import sys; from ssl4eo_bench.cli import main; sys.exit(main(['data', 'sample', 'eurosat-rgb', '--quiet']))"
    assert python(code, installed, tmp_path).strip() == "eurosat-rgb-sample"
    assert len(list(tmp_path.rglob("*.jpg"))) == 600


def test_the_wheel_has_no_second_tasks_package_and_no_tests(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert len(names) == len(set(names))
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"ssl4eo_bench"}
    for needed in ("tasks/eurosat.py", "checkpoints.yaml", "published.csv", "data/spectra.json", "py.typed", *REPORT):
        assert f"ssl4eo_bench/{needed}" in names


def test_the_source_distribution_can_build_and_test_itself(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"tasks/eurosat.py", "checkpoints.yaml", "hatch_build.py", "pyproject.toml", "LICENSE"} <= names
    read_by_tests = {
        "tests/conftest.py",
        "docs/tasks.md",
        "examples/trackers.py",
        "results/leaderboard.md",
        "mkdocs.yml",
    }
    assert read_by_tests | {"README.md", "CONTRIBUTING.md", "CITATION.cff", "recipe/recipe.yaml"} <= names


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
IN_CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base", "huggingface-hub": "huggingface_hub"}


def test_the_readme_of_an_index_has_absolute_links_alone(installed: Path) -> None:
    (metadata,) = installed.glob("*.dist-info/METADATA")
    links = re.findall(r"\]\(([^)]+)\)", metadata.read_text(encoding="utf-8"))
    assert f"{PROJECT['urls']['Repository']}/raw/main/docs/report.png" in links
    assert all(link.startswith("https://") for link in links)


def test_version_and_requirements_are_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    recipe = yaml.safe_load((ROOT / "recipe" / "recipe.yaml").read_text(encoding="utf-8"))
    assert citation["version"] == recipe["context"]["version"] == __version__
    needed = (re.fullmatch(r"([\w-]+)(>=.+)", one) for one in PROJECT["dependencies"])
    expected = {f"{IN_CONDA.get(one[1], one[1])} {one[2]}" for one in needed if one}
    assert set(recipe["requirements"]["run"]) == expected | {f"python {PROJECT['requires-python']}"}
