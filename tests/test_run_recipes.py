"""The published recipes from end to end on the embedded sample."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl4eo_bench import plan
from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.protocols import ON_SAMPLES, Finetune, settings
from ssl4eo_bench.data.splits import OpenSplit
from ssl4eo_bench.models import pooled
from ssl4eo_bench.results.files import RunResult, read_result
from ssl4eo_bench.training.loop import Training

pytestmark = pytest.mark.usefixtures("without_openvino")

Command = Callable[..., tuple[int, str, str]]

ENTRY = (
    "checkpoints:\n  tiny.moco:\n    arch: test_resnet\n    weights: {random: true}\n    bands: [B04, B03, B02]\n"
    "    image_size: 48\n    scaling: {divide: 10000}\n    pretraining: {method: MoCo-v2, data: none}\n"
)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes of six epochs, scored every second one."""

    def shortened(*given: Any, **options: Any) -> Any:
        return settings(*given, **options).model_copy(
            update={"epochs": 6, "every": 2, "batch": 32, "rate": 0.5, "scored_batch": 50}
        )

    monkeypatch.setattr(plan, "settings", shortened)


def arguments(
    tmp_path: Path, *options: object, task: str = "eurosat-rgb", protocol: str = "linear-ssl4eo"
) -> list[str]:
    file = tmp_path / "tiny.yaml"
    file.write_text(ENTRY)
    what = ("run", "--task", task, "--protocol", protocol, "--sample", "--json", "--checkpoint", "tiny.moco")
    return [str(word) for word in (*what, "--checkpoints", file, *options)]


def run(command: Command, tmp_path: Path, *options: object, **what: str) -> RunResult:
    code, out, err = command(*arguments(tmp_path, *options, **what))
    assert code == 0, err
    return read_result(Path(json.loads(out)[0]["file"]))


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("protocol", ["linear-ssl4eo", "finetune-ssl4eo"])
@pytest.mark.parametrize("task", ["eurosat-rgb", "bigearthnet"])
def test_the_right_number_stands_beside_the_published_ways(
    command: Command, tmp_path: Path, task: str, protocol: str
) -> None:
    result = run(command, tmp_path, task=task, protocol=protocol)
    history, found = result.selection.history or (), result.reference
    assert [epoch.epoch for epoch in history] == [2, 4, 6]
    best = max(history, key=lambda epoch: epoch.val)
    assert (result.selection.rate, result.selection.epoch) == (0.5, best.epoch)
    metric = result.selection.metric
    assert result.metrics["val"][metric].value == pytest.approx(best.val, abs=1e-9)
    assert found is not None
    right = result.metrics["test"][metric].value
    assert found.best_test >= right
    assert found.best_test_batch_averaged >= found.batch_averaged
    assert found.batch_averaged != right  # twenty of the 120 samples are left out
    assert (found.best_test_epoch == best.epoch) == (found.best_test == pytest.approx(right, abs=1e-9))
    assert list((tmp_path / "cache" / "finetuning").iterdir()) == []
    assert not Path("results/leaderboard.sample.csv").exists()
    (table,) = Path("results/tables").glob(f"{task}-v1.{protocol}-v2.sample.csv")
    assert "tiny.moco" in table.read_text()
    _, out, _ = command("show", result.digest[:12])
    assert "as the published code would report" in out


@pytest.mark.usefixtures("short")
def test_a_stopped_recipe_goes_on_with_the_same_numbers(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(command, tmp_path, "--results", tmp_path / "whole")
    step, steps = Training._step, 0

    def interrupted(self: Training, *given: Any) -> float:
        nonlocal steps
        steps += 1
        if steps == 20:  # 7 batches an epoch: in the third, which is not scored
            raise KeyboardInterrupt
        return step(self, *given)

    monkeypatch.setattr(Training, "_step", interrupted)
    code, _, _ = command(*arguments(tmp_path, "--results", tmp_path / "parts"))
    assert code == 130
    parts = run(command, tmp_path, "--results", tmp_path / "parts")
    assert parts.model_dump(exclude={"provenance"}) == whole.model_dump(exclude={"provenance"})


@pytest.mark.usefixtures("short")
def test_test_labels_are_opened_when_the_training_is_over(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    targets, train = OpenSplit.targets, Training.run

    def logged_targets(samples: OpenSplit) -> np.ndarray:
        order.append(samples.ids[0])
        return targets(samples)

    def logged_run(self: Training) -> Any:
        state = train(self)
        order.append("trained")
        return state

    monkeypatch.setattr(OpenSplit, "targets", logged_targets)
    monkeypatch.setattr(Training, "run", logged_run)
    run(command, tmp_path)
    assert order.index("trained") < order.index("AnnualCrop_37")  # the first id of test
    assert set(order[: order.index("trained")]) == {"AnnualCrop_1", "AnnualCrop_25"}


def test_a_method_without_a_recipe_is_told(command: Command) -> None:
    what = ("run", "--task", "eurosat-rgb", "--sample", "--checkpoint", "resnet18.random")
    code, _, err = command(*what, "--protocol", "linear-ssl4eo")
    assert code == 2
    assert "has recipes for the pretraining methods MoCo-v2, MoCo-v3, DINO, MAE, data2vec" in err
    assert "or --protocol linear" in err
    what = ("run", "--task", "dfc2020", "--sample", "--checkpoint", "resnet50.random")
    code, _, err = command(*what, "--protocol", "finetune-ssl4eo")
    assert code == 2
    assert "has no recipe for task 'dfc2020'; take --protocol finetune" in err
    code, _, err = command(*what, "--protocol", "linear", "--drift")
    assert code == 2
    assert "--drift is for protocol 'linear-ssl4eo'" in err


def test_every_task_that_has_recipes_has_them_for_all_five_methods() -> None:
    for task in catalogue.tasks().values():
        known = [(recipe.name, recipe.method, recipe.arch) for recipe in task.recipes]
        assert len(set(known)) == len(known)
        assert len({(name, method) for name, method, arch in known if arch is None}) in (0, 10)


@pytest.mark.parametrize("protocol", ["linear", "finetune"])
def test_a_frozen_network_is_unchanged_after_linear_and_changed_after_finetune(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    built, build = [], pooled.build  # type: ignore[attr-defined]

    def recorded(*given: Any, **options: Any) -> Any:
        backbone = build(*given, **options)
        built.append((backbone, {name: tensor.clone() for name, tensor in backbone.state_dict().items()}))
        return backbone

    monkeypatch.setattr(pooled, "build", recorded)
    monkeypatch.setitem(ON_SAMPLES, "finetune", Finetune(rates=(1e-3,), epochs=1, warmup=0, batch=32))
    run(command, tmp_path, protocol=protocol)
    backbone, before = built[-1]
    moved = {name for name, tensor in backbone.state_dict().items() if not np.array_equal(tensor, before[name])}
    assert bool(moved) == (protocol == "finetune")
    assert not any("running" in name for name in moved)  # BatchNorm keeps its statistics in both
