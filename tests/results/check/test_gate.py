"""What the gate catches: each fault alone, with digests, checksums and generated files that fit unless said otherwise."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.task import Task
from ssl4eo_bench.errors import ResultError
from ssl4eo_bench.results.check.gate import check
from ssl4eo_bench.results.files import RunResult, result_files, write_result
from tests.conftest import Git
from tests.results.check.conftest import BASELINE, HERE, RUN, TABLE, only, report_on
from tests.results.forging import Change, forge, regenerate
from tests.results.test_schema import FROZEN

Make = Callable[..., RunResult]

SAMPLE = "runs/eurosat-rgb-v1/linear-v1/bandstats/seed0-sample.json"


def metric(raw: dict[str, Any], name: str = "micro_map") -> dict[str, Any]:
    found: dict[str, Any] = raw["metrics"]["test"][name]
    return found


def shift(by: float) -> Change:
    """Moves micro-mAP on test with its interval."""

    def change(raw: dict[str, Any]) -> None:
        metric(raw).update({part: value + by for part, value in metric(raw).items()})

    return change


def moved_val(by: float) -> Change:
    def change(raw: dict[str, Any]) -> None:
        raw["metrics"]["val"]["accuracy"]["value"] += by

    return change


def forged(results: Path, change: Change, *, to: str = RUN) -> None:
    """Change a result, in its place or for another one, and everything that is generated from it."""
    forge(results / RUN, change, to=results / to)
    regenerate(results)


def findings(results: Path) -> list[tuple[str, str]]:
    """Files and what is wrong with them, since the last commit."""
    return [(one.file, one.what) for one in report_on(results).findings]


def test_nothing_is_wrong_with_the_results_of_this_repository(committed: Path) -> None:
    report = report_on(committed)
    assert (report.findings, report.notes) == ((), ())
    assert {"leaderboard.csv", "leaderboard.md", "tables/eurosat-rgb-v1.linear-v2.csv"} <= set(report.generated)
    assert "runs/eurosat-rgb-v1/linear-v2/tf_efficientnet_lite0.in1k/seed0.json" in report.results


def test_nothing_is_wrong_with_honest_results(board: Path) -> None:
    for place in (".lock", "runs/.gitkeep", "tables/.gitkeep"):  # nobody minds hidden files
        (board / place).touch()
    assert findings(board) == []


# What is wrong, in a result that is forged like this. Nothing is compared with what was before.
FAULTS: dict[str, Change] = {
    "has 16,201 train samples, but the official split has 16,200": lambda raw: (
        raw["counts"].update(train=16201),
        raw["spec"]["task"]["splits"]["train"].update(count=16201),
    ),
    "has a test micro_map of 0.0800, at most 0.0900, which is below chance (0.1000)": lambda raw: metric(raw).update(
        value=0.08, low=0.07, high=0.09
    ),
    "has no confusion matrix, and every multiclass result has one": lambda raw: raw.pop("confusion"),
    "has other settings than version 2 of protocol 'linear' on multiclass tasks": lambda raw: raw["spec"][
        "protocol"
    ].update(tolerance=0.5),
    "has chosen C 77, which is not on its path": lambda raw: raw["selection"].update(C=77.0),
    "has chosen rate 0.1 and epoch 3, which are not in its history": lambda raw: raw["selection"].update(
        rate=0.1, epoch=3, history=[{"rate": 0.1, "epoch": 2, "loss": 1.0, "val": 0.5}]
    ),
    "has 9 values that are no numbers in 99,999 samples of 5,400 on test": lambda raw: raw.update(
        not_finite={"test": {"values": 9, "samples": 99_999, "names": []}}
    ),
}


@pytest.mark.parametrize("what", FAULTS)
def test_what_no_run_gives_is_found(board: Path, what: str) -> None:
    (board / BASELINE).unlink()
    forged(board, FAULTS[what])
    finding = only(check(board, None))
    assert (finding.file, finding.what) == (RUN, what)


# What changed since the last commit, in a result that is forged like this.
CHANGES: dict[str, Change] = {
    r"moved: test micro_map from (\S+ \(\S+–\S+\)) to (\S+ \(\S+–\S+\)) \(tolerance 0\)$": shift(-0.001),
    r"moved: val accuracy from 0.30000 to 0.30060 \(tolerance 0.0005\)$": moved_val(0.0006),
    r"moved: test micro_map .*": lambda raw: metric(raw).update(low=metric(raw)["low"] - 0.01),  # a bound alone
    r"is another experiment under the same name": lambda raw: raw["spec"]["checkpoint"].update(image_size=100),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_may_not_change_is_found(board: Path, what: str) -> None:
    forged(board, CHANGES[what])
    finding = only(report_on(board))
    assert (finding.file, bool(re.match(what, finding.what))) == (RUN, True), finding.what
    assert "raise the version of the task or the protocol" in finding.cure


def test_a_metric_that_is_gone_is_found(board: Path) -> None:
    for place in (RUN, BASELINE):  # a table has the same columns for every run
        forge(board / place, lambda raw: raw["metrics"]["test"].pop("ece"))
    regenerate(board)
    assert findings(board) == [
        (BASELINE, "moved: test ece is gone"),
        (RUN, "moved: test ece is gone"),
    ]


def test_replicates_that_are_gone_are_found(board: Path) -> None:
    """Only files of schema 1 may have none."""
    forge(board / RUN, lambda raw: raw.pop("resampled"))
    assert "has no replicates" in only(report_on(board)).what
    forged(board, lambda raw: raw.update(schema_version=1))
    assert "moved: its replicates are gone, or draw other units" in only(report_on(board)).what


def test_a_removed_run_is_found(board: Path) -> None:
    (board / RUN).unlink()
    regenerate(board)
    finding = only(report_on(board))
    assert finding.file == RUN
    assert finding.what.startswith("was removed; HEAD (")


def test_an_official_run_may_not_become_an_unofficial_one(board: Path) -> None:
    forged(board, lambda raw: raw["provenance"].update(dirty=True))
    assert findings(board) == [
        (RUN, "is not official (run from changed code), but lies among official results"),
        (RUN, "was official, and comes from changed code now"),
    ]


def test_what_was_wrong_before_may_go(board: Path, git: Git) -> None:
    (board / SAMPLE).parent.mkdir(parents=True)
    shutil.copyfile(FROZEN / SAMPLE, board / SAMPLE)
    (board / BASELINE).write_text("{", encoding="utf-8")
    git("add", ".")
    git("commit", "--quiet", "--message", "a sample, and a damaged file")
    (board / SAMPLE).unlink()
    (board / BASELINE).unlink()
    regenerate(board)
    assert findings(board) == []


def rename(results: Path, name: str, change: Change = lambda raw: None, *, was: str = RUN) -> str:
    """Move a result to another name of its checkpoint, and change it; gives its new place."""

    def both(raw: dict[str, Any]) -> None:
        raw["spec"]["checkpoint"]["name"] = name
        change(raw)

    place = f"{HERE}/{name}/seed0.json"
    forge(results / was, both, to=results / place)
    (results / was).unlink()
    regenerate(results)
    return place


def test_a_new_name_with_the_same_numbers_passes(board: Path) -> None:
    rename(board, "lite0.renamed")
    assert findings(board) == []


def test_a_new_name_brings_no_new_numbers(board: Path, honest: Make) -> None:
    better = honest(skill=3.0, of=9)
    checkpoint = better.spec.checkpoint.model_copy(update={"name": "lite0.renamed"})
    (board / RUN).unlink()
    write_result(board, better.model_copy(update={"spec": better.spec.model_copy(update={"checkpoint": checkpoint})}))
    regenerate(board)
    finding = only(report_on(board))
    assert finding.file == f"{HERE}/lite0.renamed/seed0.json"
    assert finding.what.startswith("moved: test ")
    assert finding.what.endswith(f"(it was {RUN})")


def test_small_steps_do_not_add_up_over_names(board: Path, git: Git) -> None:
    place = RUN
    for step in (1, 2, 3):
        place = rename(board, f"lite0.step{step}", moved_val(0.0004), was=place)
        found = report_on(board).findings
        if step == 1:
            assert found == ()
        else:
            assert [(one.file, "step by step since" in one.what) for one in found] == [(place, True)]
        git("add", "--all", ".")
        git("commit", "--quiet", "--message", f"step {step}")


def test_small_steps_do_not_add_up_after_a_merge_that_adds_the_file(board: Path, git: Git, honest: Make) -> None:
    """Neither parent of the merge has the file, so that no other commit adds it."""
    git("checkout", "--quiet", "-b", "side")
    git("commit", "--quiet", "--allow-empty", "--message", "side")
    git("checkout", "--quiet", "main")
    git("commit", "--quiet", "--allow-empty", "--message", "main")
    git("merge", "--no-ff", "--no-commit", "side")
    file = write_result(board, honest("resnet18.random", skill=0.5))
    regenerate(board)
    git("add", ".")
    git("commit", "--quiet", "--message", "merge")
    for step in (1, 2):
        forge(file, moved_val(0.0004))
        regenerate(board)
        if step == 1:
            assert findings(board) == []
        else:
            assert "step by step since it was first committed" in only(report_on(board)).what
        git("commit", "--quiet", "--all", "--message", f"step {step}")
    assert findings(board) == []  # what was let in is told on its way in


@pytest.mark.parametrize("before", [None, "accuracy: 2", "accuracy: 0.0005"], ids=["none", "invalid", "lower"])
def test_a_change_brings_no_tolerances_of_its_own(board: Path, git: Git, before: str | None) -> None:
    tolerances = board / "tolerances.yaml"
    tolerances.unlink()
    if before:
        tolerances.write_text(before, encoding="utf-8")
    git("add", "--all", ".")
    git("commit", "--quiet", "--message", "before")
    tolerances.write_text("accuracy: 0.09\n", encoding="utf-8")
    forged(board, moved_val(0.05))
    allowed = "0.0005" if before == "accuracy: 0.0005" else "0"
    assert f"moved: val accuracy from 0.30000 to 0.35000 (tolerance {allowed})" in only(report_on(board)).what


def test_a_result_further_down_than_its_place_is_found(board: Path, honest: Make) -> None:
    result = honest("resnet18.random", skill=0.5)
    write_result(board / "runs" / "more", result)
    regenerate(board)
    assert findings(board) == [(f"runs/more/{result.spec.path}", f"belongs at {result.spec.path}")]


@pytest.mark.parametrize("changes", [{"units": 3}, {"units_are": "moons"}])
def test_results_of_one_task_draw_the_same_units(board: Path, honest: Make, changes: dict[str, Any]) -> None:
    write_result(board, honest("resnet18.random", skill=0.5))
    regenerate(board)
    forged(board, lambda raw: raw["resampled"].update(changes))
    units, units_are = changes.get("units", 5400), changes.get("units_are", "samples")
    told = f"draws {units:,} {units_are}, but other results of its task draw 5,400 samples"
    assert [(one.file, one.what) for one in report_on(board, "HEAD").findings if "draws" in one.what] == [(RUN, told)]


def test_seeds_that_cannot_matter_give_the_same_numbers(board: Path, honest: Make) -> None:
    write_result(board, honest(seed=1))
    regenerate(board)
    assert findings(board) == []
    write_result(board, honest(seed=1, of=1))
    regenerate(board)
    finding = only(report_on(board))
    assert finding.file == RUN.replace("seed0", "seed1")
    assert finding.what.startswith(f"differs from {RUN}, though no seed can change this run: test ")


def test_seeds_that_matter_may_give_others(board: Path, honest: Make) -> None:
    for seed in (0, 1):
        write_result(board, honest("resnet18.random", skill=0.5, seed=seed, of=seed))
    regenerate(board)
    assert findings(board) == []


def test_two_files_of_one_digest_are_found(board: Path) -> None:
    other = f"{HERE}/twin/seed0.json"
    forged(board, lambda raw: raw["spec"]["checkpoint"].update(name="twin"), to=other)
    assert findings(board) == [(other, f"is the same experiment as {RUN} (equal digests)")]


def test_generated_files_that_are_stale_missing_or_come_from_nowhere_are_found(board: Path) -> None:
    (board / TABLE).write_text((board / TABLE).read_text(encoding="utf-8").replace("0.", "0.1", 1), encoding="utf-8")
    (board / "leaderboard.csv").unlink()
    for place in ("tables/paper-v1.mine-v2.csv", "leaderboard.tsv"):
        (board / place).write_text("mine", encoding="utf-8")
    report = report_on(board)
    found = {finding.file: finding.what for finding in report.findings}
    assert found == {
        TABLE: "is not what the result files give",
        "leaderboard.csv": "is missing",
        "leaderboard.tsv": "is given by no result file",
        "tables/paper-v1.mine-v2.csv": "is given by no result file",
    }
    assert set(found) <= set(report.generated)


UNOFFICIAL: dict[str, tuple[str, Change]] = {
    "sample": ("seed0-sample", lambda raw: raw["spec"].update(sample=True)),
    "partial": ("seed0-partial", lambda raw: raw["spec"].update(partial=True)),
    "limit6000": ("seed0-limit6000", lambda raw: raw["spec"].update(limit=6000)),
    "run from changed code": ("seed7", lambda raw: (raw["provenance"].update(dirty=True), raw["spec"].update(seed=7))),
}


@pytest.mark.parametrize("why", UNOFFICIAL)
def test_unofficial_runs_among_official_ones_are_found(board: Path, why: str) -> None:
    name, change = UNOFFICIAL[why]
    place = Path(RUN).with_name(f"{name}.json").as_posix()
    forged(board, change, to=place)
    assert (place, f"is not official ({why}), but lies among official results") in findings(board)


def test_a_sample_run_that_says_it_is_none_is_found(board: Path) -> None:
    target = (board / SAMPLE).with_name("seed7.json")
    target.parent.mkdir(parents=True)
    forge(FROZEN / SAMPLE, lambda raw: raw["spec"].update(sample=False, seed=7), to=target)
    report = report_on(board)
    assert "has 240 train samples, but the official split has 16,200" in [finding.what for finding in report.findings]


def test_sample_runs_of_their_own_are_checked_too(tmp_path: Path) -> None:
    shutil.copytree(FROZEN, tmp_path / "results")
    regenerate(tmp_path / "results")
    assert report_on(tmp_path / "results").findings == ()
    file = tmp_path / "results" / SAMPLE
    sample = catalogue.task("eurosat-rgb").sample
    assert sample is not None
    forge(file, lambda raw: raw["spec"]["task"]["splits"]["val"].update(digest="0" * 64))
    assert "other val samples" not in report_on(tmp_path / "results").findings[0].what  # those of an earlier version
    forge(file, lambda raw: raw["spec"].update(sample_version=sample.version))
    assert "other val samples than the official split" in report_on(tmp_path / "results").findings[0].what


@pytest.fixture
def bumped(board: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results directory after which every task went a version further."""
    known = catalogue.task

    def task(name: str) -> Task:
        found = known(name)
        return found.model_copy(update={"version": found.version + 1})

    monkeypatch.setattr(catalogue, "task", task)
    return board


def version_2(results: Path, *, keep: bool = False) -> None:
    """Run everything again in a new version of the task, which gives other numbers."""
    for file in result_files(results):
        place = file.relative_to(results).as_posix().replace("eurosat-v1", "eurosat-v2")
        forge(file, lambda raw: (raw["spec"]["task"].update(version=2), moved_val(-0.01)(raw)), to=results / place)
        if not keep:
            file.unlink()
    regenerate(results)


def test_a_task_from_the_future_is_found(board: Path) -> None:
    version_2(board)
    assert {one.what for one in report_on(board).findings} == {"is of version 2 of its task, which is at version 1"}


@pytest.mark.parametrize("keep", [True, False], ids=["old ones stay", "old ones go"])
def test_an_honest_version_bump_passes(bumped: Path, keep: bool) -> None:
    version_2(bumped, keep=keep)
    assert report_on(bumped).findings == ()


def test_a_version_bump_that_loses_a_run_is_found(bumped: Path) -> None:
    version_2(bumped)
    (bumped / RUN.replace("eurosat-v1", "eurosat-v2")).unlink()
    regenerate(bumped)
    finding = only(report_on(bumped))
    assert (finding.file, finding.what.partition(";")[0]) == (RUN, "was removed")


def test_all_findings_are_told_at_once(board: Path) -> None:
    (board / RUN).write_text("{", encoding="utf-8")
    (board / BASELINE).unlink()
    (board / "runs" / "notes.txt").write_text("mine", encoding="utf-8")
    (board / "runs" / "eurosat-v1" / "folder.json").mkdir()
    (board / "tolerances.yaml").write_text("acuracy: 1", encoding="utf-8")
    report = report_on(board)
    found = {finding.file: finding.what for finding in report.findings}
    assert report.notes == ("tables and leaderboard were not compared, since not all result files are valid",)
    assert list(found) == sorted(found)
    assert set(found) == {
        RUN,
        BASELINE,
        "runs/notes.txt",
        "runs/eurosat-v1/folder.json",
        "tolerances.yaml",
    }
    assert found["runs/notes.txt"] == "is no result file"
    assert found["runs/eurosat-v1/folder.json"] == "cannot be read (Is a directory)"
    assert found["tolerances.yaml"] == "is not valid: key 'acuracy' is not a known key"


def test_results_on_samples_of_their_own_are_told_apart(board: Path) -> None:
    """Where a table would mix samples there is no table to compare."""
    forge(board / RUN, lambda raw: raw["spec"]["task"]["splits"]["val"].update(digest="0" * 64))
    found = [finding.what for finding in report_on(board).findings]
    assert "has other val samples than the official split (their digests differ)" in found
    assert any("was run on other samples than" in what for what in found)


def test_a_task_that_is_not_in_the_catalogue_is_noted(board: Path) -> None:
    for file in result_files(board):
        place = file.relative_to(board).as_posix().replace("eurosat-v1", "mine-v1")
        forge(file, lambda raw: raw["spec"]["task"].update(name="mine"), to=board / place)
        file.unlink()
    regenerate(board)
    report = check(board, None)
    assert report.findings == ()
    assert report.notes[-1] == "split sizes were not compared for tasks that are not in the catalogue: mine"


def test_a_directory_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"holds no result files \(runs/\*\*/\*.json\); name yours with --results"):
        report_on(tmp_path)
    with pytest.raises(ResultError, match=r"nowhere does not exist; name yours with --results"):
        report_on(tmp_path / "nowhere")
