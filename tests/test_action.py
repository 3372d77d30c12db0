"""The GitHub Action that checks results: its commands do what a runner would have them do."""

import os
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT, Git, without

ACTION = ROOT / ".github" / "actions" / "check" / "action.yml"
WORKFLOW = ROOT / ".github" / "workflows" / "results.yml"
RUN = "runs/eurosat-rgb-v1/linear-v2/tf_efficientnet_lite0.in1k/seed0.json"

pytestmark = pytest.mark.skipif(not ACTION.is_file(), reason="the repository's actions are not here")


def steps() -> dict[str, dict[str, Any]]:
    action = yaml.safe_load(ACTION.read_text(encoding="utf-8"))
    assert action["runs"]["using"] == "composite"
    assert set(action["inputs"]) == {"results", "against"}
    return {step["name"]: step for step in action["runs"]["steps"]}


def test_scripts_take_inputs_from_the_environment_alone() -> None:
    """Text that is pasted into a script could be a command."""
    for step in steps().values():
        assert step["shell"] == "bash"
        assert "${{" not in step["run"]


def test_the_workflow_compares_pull_requests_with_their_base() -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    assert {"results/**", "ssl4eo_bench/**", "tasks/**"} <= set(workflow[True]["pull_request"]["paths"])  # `on`
    checkout, _, check = workflow["jobs"]["check"]["steps"]
    assert checkout["with"]["fetch-depth"] == 0
    assert (ROOT / check["uses"] / "action.yml").resolve() == ACTION.resolve()
    assert steps()["Check"]["env"]["AGAINST"] == "${{ inputs.against || github.event.pull_request.base.sha }}"


def run(folder: Path, step: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A step's script, in `folder`."""
    summary = folder.parent / "summary.md"
    search = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    runner = {"GITHUB_STEP_SUMMARY": str(summary), "PYTHONPATH": str(ROOT), "PATH": search}
    # As runners call it.
    command = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", steps()[step]["run"]]
    return subprocess.run(
        command, cwd=folder, env=os.environ | runner | environment, capture_output=True, text=True, check=False
    )


def test_the_check_tells_the_pull_request(committed: Path, git: Git) -> None:
    folder, summary = committed.parent, committed.parent.parent / "summary.md"
    summary.write_text("before\n", encoding="utf-8")
    done = run(folder, "Check", RESULTS="results", AGAINST="")
    assert done.returncode == 0, done.stderr
    assert "compared with HEAD (" in done.stdout
    assert "all is well" in done.stdout
    git("rm", "--quiet", f"results/{RUN}")
    git("commit", "--quiet", "--message", "removed")
    done = run(folder, "Check", RESULTS="results", AGAINST=git("rev-parse", "HEAD~1"))
    assert done.returncode == 1, done.stderr
    text = summary.read_text(encoding="utf-8")
    assert text.startswith("before\n## Results\n")
    assert f"| `{RUN}` | was removed;" in text
    done = run(folder, "Check", RESULTS="my results", AGAINST="")
    assert done.returncode == 2
    assert "results directory my results does not exist" in done.stderr


def test_what_the_action_installs_is_enough(committed: Path, tmp_path: Path) -> None:
    """All other dependencies of the package cannot be imported."""
    needed = set(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"])
    installed = {word for word in steps()["Install"]["run"].split('"') if word in needed}
    assert installed
    names = {requirement.partition(">")[0].lower() for requirement in needed - installed}
    blocked = {module for module, of in packages_distributions().items() if names & {one.lower() for one in of}}
    assert {"torch", "timm", "rasterio", "h5py", "pyarrow", "PIL"} <= blocked
    path = without(blocked, tmp_path)
    done = run(committed.parent, "Check", RESULTS="results", AGAINST="", PYTHONPATH=path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_module_beside_the_results_is_not_imported(committed: Path) -> None:
    for name in ("yaml.py", "ssl4eo_bench.py", "json.py"):
        (committed.parent / name).write_text("raise SystemExit(0)\n", encoding="utf-8")
    (committed / RUN).unlink()
    done = run(committed.parent, "Check", RESULTS="results", AGAINST="")
    assert done.returncode == 1, done.stdout + done.stderr
    assert all("python -P -m" in line for step in steps().values() for line in step["run"].splitlines() if "-m" in line)
