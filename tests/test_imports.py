"""The packages and the direction of imports between them, and what must start without torch."""

import ast
import os
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import ssl4eo_bench
from tests.conftest import ROOT, without

PACKAGE = ROOT / "ssl4eo_bench"
FILES = sorted(PACKAGE.rglob("*.py"))

# What each package may import of the others, from the ground up; a package may always import itself.
BASE = {"errors", "progress", "files", "config"}
RUN = BASE | {"data", "models", "plan", "metrics", "solver", "training", "extraction", "labels", "methods"}
ALLOWED = {
    "errors": set(),
    "progress": set(),
    "version": set(),
    "progress_bars": {"progress"},
    "provenance": {"files"},
    "tasks": set(),
    "config": {"errors", "tasks"},
    "files": {"errors", "progress", "config"},
    "data": BASE,
    "models": BASE,
    "backbones": BASE | {"models"},
    "metrics": {"progress", "config"},
    "solver": set(),
    "plan": BASE | {"data", "models"},
    "training": BASE | {"models"},
    "extraction": BASE | {"data", "models", "plan", "metrics"},
    "labels": BASE | {"data", "models", "plan", "metrics", "solver", "training", "extraction"},
    "methods": RUN - {"methods"},
    "results": BASE | {"metrics"},
    "job": RUN | {"results", "provenance"},
    "executors": BASE | {"models", "plan", "extraction", "methods", "results", "job"},
    "doctor": BASE | {"data"},
    "api": BASE | {"progress_bars", "data", "models", "plan", "extraction", "results", "executors"},
    "cli": {"api", "doctor", "progress_bars", "tasks"}
    | BASE
    | {"data", "models", "plan", "extraction", "methods", "results", "executors"},
    "__main__": {"cli"},
}
TASK_MODULES_MAY = {"errors", "config", "data", "tasks"}
WITHOUT_TORCH = {
    "errors",
    "progress",
    "files",
    "config",
    "data",
    "metrics",
    "results",
    "plan",
    "cli",
}


def imported(file: Path) -> set[str]:
    """The names of all modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def packages_of(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("ssl4eo_bench.")} - {"version"}


def package_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_package_imports_only_what_it_may(file: Path) -> None:
    if file == PACKAGE / "__init__.py":
        return  # its names are imported when they are used; a test below watches what it loads
    foreign = packages_of(imported(file)) - {package_of(file)} - ALLOWED[package_of(file)]
    assert not foreign, f"{file.relative_to(ROOT)} imports {foreign}"


def test_no_function_of_the_api_has_the_name_of_a_module() -> None:
    # Importing a module would put it in the function's place: `ssl4eo_bench.features` was a package once.
    assert not {package_of(file) for file in FILES if file.name != "__init__.py" or file.parent != PACKAGE} & set(
        ssl4eo_bench.__all__
    )


def test_no_two_modules_share_a_name() -> None:
    names = Counter(file.name for file in FILES if file.name != "__init__.py")
    assert [name for name, count in names.items() if count > 1] == []


def test_the_arrows_have_no_circle() -> None:
    TopologicalSorter(ALLOWED).prepare()
    modules = {".".join(("ssl4eo_bench", *file.relative_to(PACKAGE).with_suffix("").parts)): file for file in FILES}
    graph = {name: imported(file) & (set(modules) - {name}) for name, file in modules.items()}
    TopologicalSorter(graph).prepare()  # also of imports inside functions


@pytest.mark.parametrize("file", sorted((ROOT / "tasks").glob("*.py")), ids=lambda file: file.name)
def test_tasks_know_only_specs_and_readers(file: Path) -> None:
    names = imported(file)
    assert packages_of(names) <= TASK_MODULES_MAY
    assert not {name.split(".")[0] for name in names} & {"torch", "timm", "openvino"}


def test_torch_free_packages_do_not_name_torch() -> None:
    for file in PACKAGE.rglob("*.py"):
        if file.parent != PACKAGE or file.stem != "__init__":
            heavy = {name.split(".")[0] for name in imported(file)} & {"torch", "timm", "openvino"}
            assert package_of(file) not in WITHOUT_TORCH or not heavy, f"{file} imports {heavy}"


def test_nothing_in_the_package_names_a_dataset() -> None:
    names = {file.stem for file in (ROOT / "tasks").glob("*.py")} | {"bigearthnet", "so2sat", "dfc2020"}
    for file in PACKAGE.rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        words = {node.id.lower() for node in ast.walk(tree) if isinstance(node, ast.Name)}
        words |= {
            node.value.lower()
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value
        }
        assert not words & names, f"{file.relative_to(ROOT)} names {words & names}"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["list", "tasks"],
        ["list", "checkpoints"],
        ["list", "protocols"],
        ["tables"],
        ["leaderboard"],
        ["leaderboard", "--format", "html"],
        ["export", "nothing", "--out", "index.yaml"],
        ["report"],
        ["compare", "--help"],
        ["compare", "bandstats", "resnet18.random"],
        ["check"],
        ["list", "runs"],
        ["data", "status"],
        ["doctor", "--help"],
        ["data", "download", "--help"],
        ["data", "download", "nothing"],
        ["features", "--help"],
        ["features", "--task", "nothing", "--checkpoint", "bandstats", "--out", "features.npz"],
    ],
    ids=" ".join,
)
def test_commands_that_compute_nothing_leave_torch_alone(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    code = (
        "import sys; from ssl4eo_bench.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'timm', 'openvino', 'sklearn'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["check"], ["tables"], ["leaderboard"], ["list", "runs"], ["show", "eurosat-rgb-v1/linear-v2/bandstats/seed0"]],
    ids=" ".join,
)
def test_results_are_read_where_nothing_that_computes_is_installed(
    arguments: list[str], results: Path, tmp_path: Path
) -> None:
    before = {file: file.read_bytes() for file in results.rglob("*") if file.is_file()}
    path = without({"torch", "timm", "rasterio", "h5py", "openvino", "sklearn"}, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "ssl4eo_bench", *arguments],
        cwd=results.parent,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert {file: file.read_bytes() for file in before} == before
