"""Results that somebody forged with care: digests, checksums, tables and leaderboard all fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssl4eo_bench.results.check.content import content_faults
from ssl4eo_bench.results.files import RunResult, read_result, write_result
from tests.conftest import Git
from tests.results.check.conftest import only, report_on
from tests.results.forging import Change, forge, regenerate

Make = Callable[..., RunResult]

HERE = "runs/eurosat-v1/linear-v2"
RUN = f"{HERE}/tf_efficientnet_lite0.in1k/seed0.json"


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


def moved_val(by: float) -> Change:
    def change(raw: dict[str, Any]) -> None:
        raw["metrics"]["val"]["accuracy"]["value"] += by

    return change


def test_honest_results_pass(board: Path) -> None:
    assert report_on(board).findings == ()


def test_a_new_name_with_the_same_numbers_passes(board: Path) -> None:
    rename(board, "lite0.renamed")
    assert report_on(board).findings == ()


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
            assert report_on(board).findings == ()
        else:
            assert "step by step since it was first committed" in only(report_on(board)).what
        git("commit", "--quiet", "--all", "--message", f"step {step}")


@pytest.mark.parametrize("before", [None, "accuracy: 2"], ids=["none", "invalid"])
def test_a_change_brings_no_tolerances_of_its_own(board: Path, git: Git, before: str | None) -> None:
    tolerances = board / "tolerances.yaml"
    tolerances.unlink()
    if before:
        tolerances.write_text(before, encoding="utf-8")
    git("add", "--all", ".")
    git("commit", "--quiet", "--message", "before")
    tolerances.write_text("accuracy: 0.09\n", encoding="utf-8")
    forge(board / RUN, moved_val(0.05))
    regenerate(board)
    assert "moved: val accuracy from 0.30000 to 0.35000 (tolerance 0)" in only(report_on(board)).what


def test_without_a_confusion_matrix_nothing_could_be_computed_again(board: Path) -> None:
    forge(board / RUN, lambda raw: raw.pop("confusion"))
    assert only(report_on(board)).what == "has no confusion matrix, and every multiclass result has one"


def test_a_result_further_down_than_its_place_is_found(board: Path, honest: Make) -> None:
    result = honest("resnet18.random", skill=0.5)
    write_result(board / "runs" / "more", result)
    regenerate(board)
    finding = only(report_on(board))
    assert (finding.file, finding.what) == (f"runs/more/{result.spec.path}", f"belongs at {result.spec.path}")


def test_replicates_that_are_gone_are_found(board: Path) -> None:
    """Only files of schema 1 may have none."""
    forge(board / RUN, lambda raw: raw.pop("resampled"))
    assert "has no replicates" in only(report_on(board)).what
    forge(board / RUN, lambda raw: raw.update(schema_version=1))
    regenerate(board)
    assert "moved: its replicates are gone, or draw other units" in only(report_on(board)).what


@pytest.mark.parametrize("changes", [{"units": 3}, {"units_are": "moons"}])
def test_results_of_one_task_draw_the_same_units(board: Path, honest: Make, changes: dict[str, Any]) -> None:
    write_result(board, honest("resnet18.random", skill=0.5))
    regenerate(board)
    forge(board / RUN, lambda raw: raw["resampled"].update(changes))
    regenerate(board)
    units, units_are = changes.get("units", 5400), changes.get("units_are", "samples")
    told = f"draws {units:,} {units_are}, but other results of its task draw 5,400 samples"
    assert [(one.file, one.what) for one in report_on(board, "HEAD").findings if "draws" in one.what] == [(RUN, told)]


FAULTS: dict[str, Change] = {
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
    result = read_result(forge(board / RUN, FAULTS[what]))
    assert [found for found, _ in content_faults(result)] == [what]


def test_seeds_that_cannot_matter_give_the_same_numbers(board: Path, honest: Make) -> None:
    write_result(board, honest(seed=1))
    regenerate(board)
    assert report_on(board).findings == ()
    write_result(board, honest(seed=1, of=1))
    regenerate(board)
    finding = only(report_on(board))
    assert finding.file == RUN.replace("seed0", "seed1")
    assert finding.what.startswith(f"differs from {RUN}, though no seed can change this run: test ")


def test_seeds_that_matter_may_give_others(board: Path, honest: Make) -> None:
    for seed in (0, 1):
        write_result(board, honest("resnet18.random", skill=0.5, seed=seed, of=seed))
    regenerate(board)
    assert report_on(board).findings == ()


def test_settings_are_those_of_the_protocols_version(board: Path) -> None:
    forge(board / RUN, lambda raw: raw["spec"]["protocol"].update(tolerance=0.5))
    regenerate(board)
    found = [finding.what for finding in report_on(board).findings]
    assert "has other settings than version 2 of protocol 'linear' on multiclass tasks" in found
