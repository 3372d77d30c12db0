"""What the gate catches: each fault alone, in a copy of the results of this repository."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.task import Task
from ssl4eo_bench.errors import ResultError
from ssl4eo_bench.results.files import result_files
from tests.conftest import Git
from tests.results.check.conftest import only, report_on
from tests.results.forging import forge, regenerate
from tests.results.test_schema import FROZEN

RUN = "runs/eurosat-rgb-v1/linear-v2/tf_efficientnet_lite0.in1k/seed0.json"
OTHER = "runs/eurosat-rgb-v1/linear-v2/resnet18.random/seed0.json"
TABLE = "tables/eurosat-rgb-v1.linear-v2.csv"
SAMPLE = "runs/eurosat-rgb-v1/linear-v1/bandstats/seed0-sample.json"


def metric(raw: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = raw["metrics"]["test"][name]
    return found


def shift(name: str, by: float) -> Callable[[dict[str, Any]], None]:
    """Moves a metric with its interval."""

    def change(raw: dict[str, Any]) -> None:
        for part in ("value", "low", "high"):
            metric(raw, name)[part] += by

    return change


def test_nothing_is_wrong_with_the_results_of_this_repository(committed: Path) -> None:
    report = report_on(committed)
    assert report.findings == ()
    assert report.notes == ()
    assert RUN in report.results
    assert {TABLE, "leaderboard.csv", "leaderboard.md"} <= set(report.generated)


def test_a_moved_metric_is_found(committed: Path) -> None:
    forge(committed / RUN, shift("micro_map", -0.001))
    regenerate(committed)
    finding = only(report_on(committed))
    assert finding.file == RUN
    assert finding.what == (
        "moved: test micro_map from 0.98747 (0.98513–0.98984) to 0.98647 (0.98413–0.98884) (tolerance 0.0002)"
    )
    assert "raise the version of the task or the protocol" in finding.cure


def test_small_steps_do_not_add_up(committed: Path, git: Git) -> None:
    """25 steps of 0.00019 passed, each within the tolerance of 0.0002."""
    for step in range(4):
        forge(committed / RUN, shift("micro_map", -0.00015))
        regenerate(committed)
        found = report_on(committed).findings
        if step == 0:
            assert found == ()
        else:
            (finding,) = found
            assert finding.file == RUN
            assert "step by step since it was first committed" in finding.what
        git("commit", "--quiet", "--all", "--message", f"step {step}")
    assert report_on(committed).findings == ()  # what was let in is told on its way in


def test_another_name_is_no_removal(committed: Path) -> None:
    """Equal digests are the same experiment, whatever the checkpoint is called."""
    there = committed / RUN
    target = there.parent.parent / "lite0.renamed" / there.name
    forge(there, lambda raw: raw["spec"]["checkpoint"].update(name="lite0.renamed"), to=target)
    there.unlink()
    regenerate(committed)
    assert report_on(committed).findings == ()


def test_a_removed_run_is_found(committed: Path) -> None:
    (committed / RUN).unlink()
    regenerate(committed)
    finding = only(report_on(committed))
    assert finding.file == RUN
    assert finding.what.startswith("was removed; HEAD (")


def test_an_edited_file_is_found(committed: Path) -> None:
    text = (committed / RUN).read_text(encoding="utf-8")
    (committed / RUN).write_text(text.replace('"threads": 2', '"threads": 4'), encoding="utf-8")
    report = report_on(committed)
    assert only(report).file == RUN
    assert "was edited: its checksum is not that of its content" in only(report).what
    assert report.notes == ("tables and leaderboard were not compared, since not all result files are valid",)


def test_a_count_that_is_not_the_splits_is_found(results: Path) -> None:
    def one_more(raw: dict[str, Any]) -> None:
        raw["counts"]["train"] = raw["spec"]["task"]["splits"]["train"]["count"] = 16201

    shutil.rmtree(results / "runs" / "eurosat-rgb-v1" / "knn-v3")
    for file in result_files(results):
        if file != results / RUN:
            file.unlink()
    forge(results / RUN, one_more)
    regenerate(results)
    finding = only(report_on(results))
    assert (finding.file, finding.what) == (RUN, "has 16,201 train samples, but the official split has 16,200")


def test_a_metric_below_chance_is_found(results: Path) -> None:
    forge(results / RUN, lambda raw: metric(raw, "micro_map").update(value=0.08, low=0.07, high=0.09))
    regenerate(results)
    finding = only(report_on(results))
    assert finding.file == RUN
    assert finding.what == "has a test micro_map of 0.0800, at most 0.0900, which is below chance (0.1000)"


def test_two_files_of_one_digest_are_found(results: Path) -> None:
    other = "runs/eurosat-rgb-v1/linear-v2/twin/seed0.json"
    forge(results / RUN, lambda raw: raw["spec"]["checkpoint"].update(name="twin"), to=results / other)
    regenerate(results)
    finding = only(report_on(results))
    assert (finding.file, finding.what) == (other, f"is the same experiment as {RUN} (equal digests)")


def test_a_second_value_of_a_key_is_found(committed: Path) -> None:
    text = (committed / RUN).read_text(encoding="utf-8")
    (committed / RUN).write_text(text.replace('"seed": 0,', '"seed": 1,\n  "seed": 0,'), encoding="utf-8")
    assert "cannot be read (key 'seed' is given twice)" in only(report_on(committed)).what


def test_a_stale_table_is_found(committed: Path) -> None:
    table = committed / TABLE
    table.write_text(table.read_text(encoding="utf-8").replace("0.94", "0.95", 1), encoding="utf-8")
    finding = only(report_on(committed))
    assert (finding.file, finding.what) == (TABLE, "is not what the result files give")


def test_generated_files_that_are_missing_or_come_from_nowhere_are_found(committed: Path) -> None:
    (committed / "leaderboard.csv").unlink()
    (committed / "tables" / "paper-v1.mine-v2.csv").write_text("mine", encoding="utf-8")
    (committed / "leaderboard.tsv").write_text("mine", encoding="utf-8")
    report = report_on(committed)
    assert {finding.file: finding.what for finding in report.findings} == {
        "leaderboard.csv": "is missing",
        "leaderboard.tsv": "is given by no result file",
        "tables/paper-v1.mine-v2.csv": "is given by no result file",
    }
    assert {finding.file for finding in report.findings} <= set(report.generated)


def add_sample(results: Path) -> None:
    """A result of the sample, as schema 1 wrote it."""
    (results / SAMPLE).parent.mkdir(parents=True)
    shutil.copyfile(FROZEN / SAMPLE, results / SAMPLE)


def test_a_sample_run_among_official_ones_is_found(committed: Path) -> None:
    add_sample(committed)
    regenerate(committed)
    finding = only(report_on(committed))
    assert (finding.file, finding.what) == (SAMPLE, "is not official (sample), but lies among official results")


def test_a_sample_run_that_says_it_is_none_is_found(committed: Path) -> None:
    target = (committed / SAMPLE).with_name("seed7.json")
    target.parent.mkdir(parents=True)
    forge(FROZEN / SAMPLE, lambda raw: raw["spec"].update(sample=False, seed=7), to=target)
    report = report_on(committed)
    assert "has 240 train samples, but the official split has 16,200" in [finding.what for finding in report.findings]


@pytest.mark.parametrize(
    ("change", "name", "why"),
    [
        (lambda raw: raw["spec"].update(partial=True), "seed0-partial", "partial"),
        (lambda raw: raw["spec"].update(limit=6000), "seed0-limit6000", "limit6000"),
        (lambda raw: raw["provenance"].update(dirty=True), "seed7", "run from changed code"),
    ],
    ids=["partial", "limit", "dirty"],
)
def test_other_unofficial_runs_are_found(
    committed: Path, change: Callable[[dict[str, Any]], object], name: str, why: str
) -> None:
    def other(raw: dict[str, Any]) -> None:
        change(raw)
        raw["spec"]["seed"] = 7 if name == "seed7" else 0

    place = Path(RUN).with_name(f"{name}.json").as_posix()
    forge(committed / RUN, other, to=committed / place)
    finding = only(report_on(committed))
    assert (finding.file, finding.what) == (place, f"is not official ({why}), but lies among official results")


def test_sample_runs_of_their_own_are_checked_too(tmp_path: Path) -> None:
    shutil.copytree(FROZEN, tmp_path / "results")
    regenerate(tmp_path / "results")
    assert report_on(tmp_path / "results").findings == ()
    file = tmp_path / "results" / SAMPLE
    forge(file, lambda raw: raw["spec"]["task"]["splits"]["val"].update(digest="0" * 64))
    assert "other val samples than the official split" in report_on(tmp_path / "results").findings[0].what


def test_a_schema_from_the_future_is_found(committed: Path) -> None:
    forge(committed / RUN, lambda raw: raw.update(schema_version=3))
    finding = only(report_on(committed))
    assert (finding.file, finding.cure) == (RUN, "upgrade ssl4eo-bench")
    assert finding.what == "has schema 3, this version reads up to 2"


def test_a_task_from_the_future_is_found(results: Path) -> None:
    version_2(results)
    regenerate(results)
    report = report_on(results)
    assert {finding.what for finding in report.findings} == {"is of version 2 of its task, which is at version 1"}


@pytest.fixture
def bumped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every task is a version further."""
    known = catalogue.task

    def task(name: str) -> Task:
        found = known(name)
        return found.model_copy(update={"version": found.version + 1})

    monkeypatch.setattr(catalogue, "task", task)


def version_2(results: Path, *, keep: bool = False) -> None:
    """Run everything again in a new version of the task, which gives other numbers."""
    for file in result_files(results):
        place = file.relative_to(results).as_posix().replace("eurosat-rgb-v1", "eurosat-rgb-v2")

        def change(raw: dict[str, Any]) -> None:
            raw["spec"]["task"]["version"] = 2
            shift("micro_map", -0.01)(raw)

        forge(file, change, to=results / place)
        if not keep:
            file.unlink()


@pytest.mark.usefixtures("bumped")
@pytest.mark.parametrize("keep", [True, False], ids=["old ones stay", "old ones go"])
def test_an_honest_version_bump_passes(committed: Path, keep: bool) -> None:
    version_2(committed, keep=keep)
    regenerate(committed)
    assert report_on(committed).findings == ()


@pytest.mark.usefixtures("bumped")
def test_a_version_bump_that_loses_a_run_is_found(committed: Path) -> None:
    version_2(committed)
    (committed / RUN.replace("eurosat-rgb-v1", "eurosat-rgb-v2")).unlink()
    regenerate(committed)
    finding = only(report_on(committed))
    assert finding.file == RUN
    assert finding.what.startswith("was removed")


def test_all_findings_are_told_at_once(committed: Path) -> None:
    (committed / RUN).write_text("{", encoding="utf-8")
    (committed / OTHER).unlink()
    (committed / "runs" / "notes.txt").write_text("mine", encoding="utf-8")
    (committed / "runs" / "eurosat-rgb-v1" / "folder.json").mkdir()
    (committed / "tolerances.yaml").write_text("acuracy: 1", encoding="utf-8")
    found = {finding.file: finding.what for finding in report_on(committed).findings}
    assert list(found) == sorted(found)
    assert set(found) == {
        RUN,
        OTHER,
        "runs/notes.txt",
        "runs/eurosat-rgb-v1/folder.json",
        "tolerances.yaml",
    }
    assert found["runs/notes.txt"] == "is no result file"
    assert found["runs/eurosat-rgb-v1/folder.json"] == "cannot be read (Is a directory)"
    assert found["tolerances.yaml"] == "is not valid: key 'acuracy' is not a known key"


def test_results_on_samples_of_their_own_are_told_apart(results: Path) -> None:
    """Where a table would mix samples there is no table to compare."""
    forge(results / RUN, lambda raw: raw["spec"]["task"]["splits"]["val"].update(digest="0" * 64))
    found = [finding.what for finding in report_on(results).findings]
    assert "has other val samples than the official split (their digests differ)" in found
    assert any("was run on other samples than" in what for what in found)


def test_a_task_that_is_not_in_the_catalogue_is_noted(results: Path) -> None:
    for file in result_files(results):
        place = file.relative_to(results).as_posix().replace("eurosat-rgb-v1", "mine-v1")
        forge(file, lambda raw: raw["spec"]["task"].update(name="mine"), to=results / place)
        file.unlink()
    regenerate(results)
    report = report_on(results)
    assert report.findings == ()
    assert report.notes[-1] == "split sizes were not compared for tasks that are not in the catalogue: mine"


def test_a_directory_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"holds no result files \(runs/\*\*/\*.json\); name yours with --results"):
        report_on(tmp_path)
    with pytest.raises(ResultError, match=r"nowhere does not exist; name yours with --results"):
        report_on(tmp_path / "nowhere")


def test_hidden_files_are_nobodys_business(committed: Path) -> None:
    for place in (".lock", "runs/.gitkeep", "tables/.gitkeep"):
        (committed / place).touch()
    assert report_on(committed).findings == ()


class TestChanges:
    def test_what_stays_within_the_tolerance_passes(self, committed: Path) -> None:
        forge(committed / RUN, shift("micro_map", -0.0001))
        regenerate(committed)
        assert report_on(committed).findings == ()

    def test_a_bound_may_move_no_further_than_the_value(self, committed: Path) -> None:
        forge(committed / RUN, lambda raw: metric(raw, "micro_map").update(low=0.9))
        regenerate(committed)
        assert "moved: test micro_map" in only(report_on(committed)).what

    def test_a_metric_that_is_gone_is_found(self, committed: Path) -> None:
        for file in result_files(committed):  # all of them: a table has the same columns for every run
            forge(file, lambda raw: raw["metrics"]["test"].pop("ece"))
        regenerate(committed)
        report = report_on(committed)
        assert {finding.what for finding in report.findings} == {"moved: test ece is gone"}
        assert len(report.findings) == len(report.results)

    def test_a_change_does_not_allow_itself(self, committed: Path) -> None:
        """Neither by raising tolerances nor by removing them."""
        file = committed / "tolerances.yaml"
        file.write_text(file.read_text(encoding="utf-8").replace("0.0002", "0.09"), encoding="utf-8")
        forge(committed / RUN, shift("micro_map", -0.001))
        regenerate(committed)
        assert "tolerance 0.0002" in only(report_on(committed)).what

    def test_without_tolerances_nothing_may_move(self, committed: Path, git: Git) -> None:
        git("rm", "--quiet", "results/tolerances.yaml")
        git("commit", "--quiet", "--message", "none")
        assert report_on(committed).findings == ()
        forge(committed / RUN, shift("micro_map", -1e-9))
        regenerate(committed)
        assert "tolerance 0)" in only(report_on(committed)).what

    def test_another_experiment_under_the_same_name_is_found(self, committed: Path) -> None:
        forge(committed / RUN, lambda raw: raw["spec"]["checkpoint"].update(image_size=100))
        regenerate(committed)
        assert only(report_on(committed)).what.startswith("is another experiment under the same name")

    def test_an_official_run_may_not_become_an_unofficial_one(self, committed: Path) -> None:
        forge(committed / RUN, lambda raw: raw["provenance"].update(dirty=True))
        regenerate(committed)
        found = [finding.what for finding in report_on(committed).findings]
        assert "was official, and comes from changed code now" in found

    def test_what_was_wrong_before_may_go(self, committed: Path, git: Git) -> None:
        add_sample(committed)
        (committed / OTHER).write_text("{", encoding="utf-8")
        git("add", ".")
        git("commit", "--quiet", "--message", "a sample, and a damaged file")
        (committed / SAMPLE).unlink()
        (committed / OTHER).unlink()
        regenerate(committed)
        assert report_on(committed).findings == ()
