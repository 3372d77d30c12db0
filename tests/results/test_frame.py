from collections.abc import Callable
from pathlib import Path

import pytest

from ssl4eo_bench.errors import ResultError
from ssl4eo_bench.results.files import RunFilter, RunResult, write_result
from ssl4eo_bench.results.frame import distinct, frame_of, load_results, publishable, select

Make = Callable[..., RunResult]


def test_a_directory_is_a_frame_with_a_row_for_each_run(tmp_path: Path, make_result: Make) -> None:
    runs = [make_result(accuracy=1 / 3), make_result("dfc2020", fraction=0.1), make_result(sample=True)]
    for run in runs:
        write_result(tmp_path, run)
    frame = load_results(str(tmp_path)).set_index("digest").loc[[run.digest for run in runs]]
    assert frame["task"].tolist() == ["eurosat-v1", "dfc2020-v2", "eurosat-v1"]
    assert frame["fraction"].tolist() == [1.0, 0.1, 1.0]
    assert frame["train_samples"].tolist() == [16200, 10, runs[2].counts["train"]]
    assert frame["marks"].tolist() == ["", "", "sample"]
    assert frame["official"].tolist() == [True, True, False]
    assert frame["accuracy"].iloc[0] == 1 / 3  # in full precision
    assert frame["accuracy_low"].iloc[0] == 1 / 3 - 0.02
    assert frame["accuracy"].isna().tolist() == [False, True, False]
    assert frame["miou"].isna().tolist() == [True, False, True]
    assert not {"result"} & set(frame)
    with pytest.raises(ResultError, match="does not exist"):
        load_results(tmp_path / "nowhere")


def test_runs_are_chosen(make_result: Make) -> None:
    runs = [make_result(seed=seed, sample=sample) for seed in (0, 1) for sample in (False, True)]
    frame = frame_of([*runs, make_result("eurosat-rgb", dirty=True)])
    assert publishable(frame, sample=False)["result"].tolist() == [runs[0], runs[2]]
    assert publishable(frame, sample=True)["result"].tolist() == [runs[1], runs[3]]
    assert select(frame, RunFilter(tasks=["eurosat"], seeds=[1]))["result"].tolist() == runs[2:]
    empty = frame_of([])
    assert publishable(empty, sample=False).empty
    assert publishable(empty, sample=True).empty
    assert select(empty, RunFilter(tasks=["eurosat"])).empty


def test_runs_that_no_seed_can_change_are_one(make_result: Make) -> None:
    fixed = [make_result(checkpoint="bandstats", seed=seed) for seed in (2, 1)]
    drawn = [make_result(seed=seed) for seed in (2, 1)]
    subsets = [make_result(checkpoint="bandstats", seed=seed, fraction=0.1) for seed in (2, 1)]
    assert distinct(frame_of([*fixed, *drawn, *subsets]))["result"].tolist() == [fixed[1], *drawn, *subsets]
