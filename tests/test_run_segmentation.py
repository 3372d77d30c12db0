"""Runs on label maps from end to end, on the embedded sample with radar images, which is the quickest to make."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl4eo_bench.config.protocols import PIXELS, Linear
from ssl4eo_bench.methods.linear import fit_probe
from ssl4eo_bench.results.files import RunResult, read_result
from ssl4eo_bench.tasks.dfc2020 import DFC2020

pytestmark = pytest.mark.usefixtures("without_openvino")

Command = Callable[..., tuple[int, str, str]]

ENTRY = (
    "checkpoints:\n  radar.random:\n    arch: test_resnet\n    weights: {random: true}\n    bands: [VV, VH]\n"
    "    image_size: 64\n    scaling: {mean: {VV: -12.0, VH: -18.0}, std: {VV: 5.0, VH: 5.0}}\n"
)
TASK = "dfc2020-cobench-s1"


@pytest.fixture
def radar(tmp_path: Path) -> Path:
    """A catalogue with a random network for radar images."""
    file = tmp_path / "radar.yaml"
    file.write_text(ENTRY)
    return file


def run(command: Command, *options: object, checkpoint: str = "bandstats") -> RunResult:
    arguments = ("--task", TASK, "--protocol", "linear", "--sample", "--limit", 6, "--checkpoint", checkpoint)
    code, out, err = command("run", *arguments, "--json", *options)
    assert code == 0, err
    return read_result(Path(json.loads(out)[0]["file"]))


def numbers(result: RunResult) -> dict[str, Any]:
    """Everything but where and how fast it was made."""
    return result.model_dump(exclude={"provenance"})


def test_a_result_holds_the_metrics_of_all_labelled_pixels(command: Command, tmp_path: Path, radar: Path) -> None:
    result = run(command, "--checkpoints", radar, checkpoint="radar.random")
    names = {"accuracy", "balanced_accuracy", "ece", "macro_f1", "macro_map", "micro_f1", "micro_map", "miou"}
    assert set(result.metrics["test"]) == set(result.metrics["val"]) == names
    for name, metric in result.metrics["test"].items():
        if name != "ece":
            assert metric.low is not None
            assert metric.high is not None
            assert 0 <= metric.low <= metric.value <= metric.high <= 1
    assert result.resampled is not None
    assert (result.resampled.units, result.resampled.units_are) == (6, "tiles")
    assert result.metrics["test"]["miou"].value > 0.12  # a guess gets 0.07
    assert result.selection.metric == "miou"
    assert result.spec.protocol == Linear(pixels=PIXELS)
    assert result.provenance.features_computed == 18
    stored = np.load(tmp_path / "cache" / "scores" / f"{result.digest}.npz")
    assert stored["confusions"].shape == (6, 8, 8)
    assert list(stored["ids"]) == sorted(stored["ids"])
    np.testing.assert_array_equal(stored["confusions"].sum(0), result.confusion)
    assert [c.support for c in result.classes] == stored["confusions"].sum((0, 2)).tolist()
    assert 0.9 * 6 * 256**2 < stored["confusions"].sum() < 6 * 256**2
    ious = [c.iou for c in result.classes if c.iou is not None]
    assert result.metrics["test"]["miou"].value == pytest.approx(np.mean(ious))


def test_what_is_shown(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl4eo_bench.progress_bars.PAUSE", 0.0)
    arguments = ("--task", TASK, "--protocol", "linear", "--sample", "--checkpoint", "bandstats")
    code, out, err = command("run", *arguments)
    assert code == 0, err
    assert "label maps bandstats · test" in err
    assert f"{TASK}-v2 · linear-v2: test in percent, mIoU with 95 % interval" in out
    result = read_result(Path(f"results/runs/{TASK}-v2/linear-v2/bandstats/seed0-sample.json"))
    header, row = Path(f"results/tables/{TASK}-v2.linear-v2.sample.csv").read_text().splitlines()
    assert header.startswith("checkpoint,seed,fraction,train_samples,miou,miou_low,miou_high,")
    assert {"micro_map", "macro_f1"} <= set(header.split(","))
    assert float(row.split(",")[4]) == result.metrics["test"]["miou"].value
    _, out, _ = command("show", result.digest[:12])
    assert "IoU" in out
    assert f"{100 * (result.classes[7].iou or 0):.1f}" in out


def test_two_runs_give_the_same_bits_and_a_cached_one_as_well(command: Command, tmp_path: Path, radar: Path) -> None:
    results = []
    for number, again in ((1, ""), (2, ""), (2, "again")):
        folder = tmp_path / f"cache{number}"
        folder.mkdir(exist_ok=True)
        if not (folder / "samples").exists():
            (folder / "samples").symlink_to(tmp_path / "cache" / "samples")
        place = ("--cache-dir", folder, "--results", tmp_path / f"results{number}{again}", "--checkpoints", radar)
        results.append(run(command, *place, "--seed", 3, checkpoint="radar.random"))
    assert numbers(results[0]) == numbers(results[1]) == numbers(results[2])
    assert [result.provenance.features_computed for result in results] == [18, 18, 6]  # test tiles are not cached
    assert len({result.provenance.weights_sha256 for result in results}) == 1


def test_test_labels_are_opened_after_the_choice(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    targets, fit = DFC2020.targets, fit_probe

    def logged_targets(source: DFC2020, ids: Any) -> np.ndarray:
        order.append(f"labels {ids[0]}")
        labels: np.ndarray = targets(source, ids)
        return labels

    def logged_fit(*arguments: Any, **options: Any) -> Any:
        fitted = fit(*arguments, **options)
        order.append("chosen")
        return fitted

    monkeypatch.setattr(DFC2020, "targets", logged_targets)
    monkeypatch.setattr("ssl4eo_bench.methods.linear.fit_probe", logged_fit)
    run(command)
    assert order == [
        "labels ROIs0000_test_p0",
        "labels ROIs0000_test_p16",
        "chosen",
        "labels ROIs0000_test_p24",
    ]


def test_a_fraction_is_of_the_tiles(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []

    def logged_fit(protocol: Any, labels: Any, train: Any, val: Any, **options: Any) -> Any:
        rows.extend((len(train.features), len(train.targets), len(val[1])))
        return fit_probe(protocol, labels, train, val, **options)

    monkeypatch.setattr("ssl4eo_bench.methods.linear.fit_probe", logged_fit)
    monkeypatch.setattr(
        "ssl4eo_bench.labels.pixel_maps.nested_subset", lambda *_: np.array([1, 4])
    )  # six tiles lack classes
    result = run(command, "--fraction", 0.4)
    assert rows == [2 * PIXELS, 2 * PIXELS, 6 * PIXELS]
    assert result.subset is not None
    assert result.subset.count == 2
    assert result.counts["train"] == 6


def hide(monkeypatch: pytest.MonkeyPatch, *hidden: str) -> None:
    """Let the labels of some tiles be ignored."""
    targets = DFC2020.targets

    def some(source: DFC2020, ids: Any) -> np.ndarray:
        labels: np.ndarray = targets(source, ids)
        labels[[id_.endswith(hidden) for id_ in ids]] = 255
        return labels

    monkeypatch.setattr(DFC2020, "targets", some)


def test_a_tile_without_labels_is_left_out_of_the_fit(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []

    def logged_fit(protocol: Any, labels: Any, train: Any, val: Any, **options: Any) -> Any:
        rows.extend((len(train.features), len(train.targets), len(val[1])))
        assert train.targets.max() < train.classes
        return fit_probe(protocol, labels, train, val, **options)

    hide(monkeypatch, "test_p0")
    monkeypatch.setattr("ssl4eo_bench.methods.linear.fit_probe", logged_fit)
    run(command)
    assert rows == [5 * PIXELS, 5 * PIXELS, 6 * PIXELS]


def test_a_split_without_labels_is_refused(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, *(f"_p{number}" for number in range(16)))
    arguments = ("--task", TASK, "--protocol", "linear", "--sample", "--checkpoint", "bandstats", "--quiet")
    code, _, err = command("run", *arguments)
    assert code == 2
    assert f"no pixel of the 16 train tiles of task '{TASK}' has a label" in err


def test_features_that_are_not_finite_on_test_are_refused(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    read = DFC2020.read

    def overflowing(source: DFC2020, ids: Any, bands: Any) -> tuple[np.ndarray, ...]:
        (pixels,) = read(source, ids, bands)
        return (np.where(ids[0] == "ROIs0000_test_p24", np.float32(3e38), pixels),)

    monkeypatch.setattr(DFC2020, "read", overflowing)
    arguments = ("--task", TASK, "--protocol", "linear", "--sample", "--checkpoint", "bandstats", "--quiet")
    code, _, err = command("run", *arguments)
    assert code == 2
    assert "checkpoint 'bandstats' gives features that are not finite" in err
