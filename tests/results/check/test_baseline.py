"""What results are compared with."""

import shutil
from pathlib import Path

import pytest

from ssl4eo_bench.errors import ResultError
from ssl4eo_bench.results.check.baseline import baseline_of
from ssl4eo_bench.results.files import result_files
from tests.conftest import Git
from tests.results.check.conftest import only, report_on

RUN = "runs/eurosat-rgb-v1/linear-v2/tf_efficientnet_lite0.in1k/seed0.json"
OTHER = "runs/eurosat-rgb-v1/linear-v2/resnet18.random/seed0.json"


def contents(results: Path) -> dict[str, bytes]:
    return {file.relative_to(results).as_posix(): file.read_bytes() for file in result_files(results)}


def test_the_last_commit_is_the_default(committed: Path, git: Git) -> None:
    before = contents(committed)
    tolerances = (committed / "tolerances.yaml").read_bytes()
    shutil.rmtree(committed / "runs")
    baseline = baseline_of(committed, None)
    assert baseline is not None
    assert baseline.name == f"HEAD ({git('rev-parse', 'HEAD')[:10]})"
    assert baseline.runs == before
    assert baseline.tolerances == tolerances
    assert baseline_of(committed, "HEAD") == baseline


def test_a_directory_can_be_the_base(results: Path, tmp_path: Path) -> None:
    baseline = baseline_of(results, str(results))
    assert baseline is not None
    assert (baseline.name, baseline.runs) == (str(results), contents(results))
    assert baseline.tolerances == (results / "tolerances.yaml").read_bytes()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResultError, match=r"empty holds no results: there is no runs/ in it"):
        baseline_of(results, str(tmp_path / "empty"))


def test_results_are_compared_with_a_directory(results: Path, tmp_path: Path) -> None:
    before = shutil.copytree(results, tmp_path / "before")
    (results / OTHER).unlink()
    assert only_removed(results, str(before)) == OTHER


def only_removed(results: Path, against: str) -> str:
    (removed,) = (one.file for one in report_on(results, against).findings if one.what.startswith("was removed"))
    return removed


def test_a_branch_is_compared_from_where_this_history_left_it(committed: Path, git: Git) -> None:
    """What was merged there since is missing here, and nobody removed it."""
    fork = git("rev-parse", "HEAD")
    git("checkout", "--quiet", "-b", "mine")
    git("commit", "--quiet", "--allow-empty", "--message", "mine")
    git("checkout", "--quiet", "main")
    there = committed / "runs/eurosat-rgb-v1/linear-v2/new/seed0.json"
    there.parent.mkdir()
    shutil.copyfile(committed / RUN, there)
    git("add", ".")
    git("commit", "--quiet", "--message", "theirs")
    git("checkout", "--quiet", "mine")
    baseline = baseline_of(committed, "main")
    assert baseline is not None
    assert baseline.name == f"main ({fork[:10]}, where this history left it)"
    assert report_on(committed, "main").findings == ()
    git("checkout", "--quiet", "main")
    shutil.rmtree(there.parent)
    found = [finding.file for finding in report_on(committed, "main").findings]
    assert found == []  # what is damaged there (it lies in the wrong place) may go


def test_an_older_commit_is_a_base_too(committed: Path, git: Git) -> None:
    git("rm", "--quiet", f"results/{RUN}")
    git("commit", "--quiet", "--message", "removed")
    assert only_removed(committed, "HEAD~1") == RUN
    assert not [one for one in report_on(committed).findings if one.what.startswith("was removed")]


def test_results_that_were_not_committed_have_an_empty_base(results: Path, git: Git) -> None:
    git("init", "--quiet")
    assert baseline_of(results, None) is None  # there is no commit
    git("commit", "--quiet", "--allow-empty", "--message", "nothing")
    baseline = baseline_of(results, None)
    assert baseline is not None
    assert (baseline.runs, baseline.tolerances) == ({}, None)


def test_without_a_repository_there_is_no_base(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert baseline_of(results, None) is None
    with pytest.raises(ResultError, match=r"--against main is no folder, and \S+ is in no git repository"):
        baseline_of(results, "main")
    monkeypatch.setenv("PATH", str(tmp_path))  # nor without git
    assert baseline_of(results, None) is None


@pytest.mark.parametrize("name", ["nothing", "-n", "HEAD:results", "HEAD~1"])
def test_what_is_no_commit_is_refused(committed: Path, name: str) -> None:
    with pytest.raises(ResultError, match="is neither a folder nor a commit; fetch it, or name another"):
        baseline_of(committed, name)


def test_nothing_is_no_name(committed: Path) -> None:
    with pytest.raises(ResultError, match="--against is empty"):
        baseline_of(committed, "")
    with pytest.raises(ResultError, match="nowhere does not exist"):
        baseline_of(committed / "nowhere", None)


def test_a_repository_that_git_refuses_is_no_reason_to_compare_with_nothing(committed: Path, git: Git) -> None:
    (committed.parent / ".git" / "config").write_text("[", encoding="utf-8")
    with pytest.raises(ResultError, match=r"git cannot read the repository of \S+ \(.*config.*\); see to that first"):
        baseline_of(committed, None)


def test_names_beyond_ascii_are_read(committed: Path, git: Git) -> None:
    place = "runs/grün mit\nZeile/ö.json"
    (committed / place).parent.mkdir()
    (committed / place).write_bytes(b"\x00\xff\n")
    git("add", ".")
    git("commit", "--quiet", "--message", "names")
    baseline = baseline_of(committed, None)
    assert baseline is not None
    assert baseline.runs[place] == b"\x00\xff\n"
    assert only(report_on(committed)).file == place


def program(tmp_path: Path) -> tuple[Path, Path]:
    """A program that a hostile configuration names, and the file that it leaves behind."""
    trace, script = tmp_path / "trace", tmp_path / "program"
    script.write_text(f"#!/bin/sh\ntouch {trace}\n", encoding="utf-8")
    script.chmod(0o755)
    return script, trace


def test_objects_that_are_not_there_are_not_fetched(committed: Path, git: Git, tmp_path: Path) -> None:
    script, trace = program(tmp_path)
    blob = git("rev-parse", f"HEAD:results/{RUN}")
    (tmp_path / "repository" / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    git("config", "extensions.partialClone", "origin")
    git("config", "remote.origin.url", "ssh://nowhere/repository")
    git("config", "remote.origin.promisor", "true")
    git("config", "core.sshCommand", str(script))
    with pytest.raises(ResultError, match="lacks|failed"):
        baseline_of(committed, None)
    assert not trace.exists()


def test_no_program_of_a_repository_runs(committed: Path, git: Git, tmp_path: Path) -> None:
    script, trace = program(tmp_path)
    signed = git("cat-file", "commit", "HEAD").replace("\n\n", "\ngpgsig -----BEGIN PGP SIGNATURE-----\n =\n\n", 1)
    (tmp_path / "signed").write_text(f"{signed}\n", encoding="utf-8")
    git("reset", "--quiet", git("hash-object", "-t", "commit", "-w", str(tmp_path / "signed")))
    git("config", "log.showSignature", "true")
    for name in ("gpg.program", "core.fsmonitor", "core.pager", "pager.log", "diff.external"):
        git("config", name, str(script))
    git("config", "log.showRoot", "false")
    baseline = baseline_of(committed, None)
    assert baseline is not None
    assert baseline.first([RUN])[RUN] == (committed / RUN).read_bytes()
    assert not trace.exists()


def test_results_cannot_be_the_repository_of_their_own_past(committed: Path, git: Git, tmp_path: Path) -> None:
    git("clone", "--quiet", "--bare", ".", str(tmp_path / "bare"))
    shutil.copytree(tmp_path / "bare", committed, dirs_exist_ok=True)
    with pytest.raises(ResultError, match="cannot use bare repository"):
        baseline_of(committed, None)


def test_a_place_cannot_shift_the_contents_of_others(committed: Path, git: Git) -> None:
    """Names of objects are read line by line."""
    strange = committed / RUN.replace("seed0", "seed0\nHEAD")
    strange.write_text("forged", encoding="utf-8")
    git("add", ".")
    git("commit", "--quiet", "--message", "strange")
    baseline = baseline_of(committed, None)
    assert baseline is not None
    place = strange.relative_to(committed).as_posix()
    found = baseline.first([place, RUN])
    assert (found[place], found[RUN]) == (b"forged", (committed / RUN).read_bytes())
