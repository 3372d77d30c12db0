"""The training loop: parts of a batch, rates by layer, the schedule, and giving a rate up."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from ssl4eo_bench.config.protocols import Finetune
from ssl4eo_bench.config.records import Epoch
from ssl4eo_bench.config.task import Kind
from ssl4eo_bench.errors import CacheError, WriteError
from ssl4eo_bench.files.atomic import replacing
from ssl4eo_bench.labels import labels_of
from ssl4eo_bench.methods.finetune import finetune_config
from ssl4eo_bench.models.timm_model import TimmBackbone
from ssl4eo_bench.solver.path import Head
from ssl4eo_bench.solver.standardisation import Standardisation
from ssl4eo_bench.training import loop
from ssl4eo_bench.training.distributed import ProcessGroup
from ssl4eo_bench.training.loop import State, Training
from ssl4eo_bench.training.trainable import Classifier

SETTINGS = Finetune(rates=(1e-3,), epochs=2, warmup=1, batch=8)


class Network(nn.Module):
    """A tiny ViT on pixels that need no scaling; it has no BatchNorm, which sees how a batch is split."""

    def __init__(self) -> None:
        super().__init__()
        self.preprocess = nn.Identity()
        self.backbone = TimmBackbone(timm.create_model("test_vit", num_classes=0, img_size=32))
        self.width = int(self.backbone.network.num_features)

    def feature(self, images: Tensor) -> Tensor:
        """Of scaled inputs."""
        features: Tensor = self.backbone(images)
        return features


def start(classes: int = 3) -> Classifier:
    torch.manual_seed(0)
    network = Network()
    width = network.width
    standardisation = Standardisation(torch.randn(width), torch.rand(width) + 0.5)
    head = Head(standardisation, 1.0, torch.randn(classes, width + 1), 0.0, 1, converged=True, explained=1.0)
    return Classifier(network, *head.unstandardised())


def tuning(
    file: Path, protocol: Finetune = SETTINGS, values: tuple[float, ...] = (), kind: Kind = "multiclass", **options: Any
) -> Training:
    """A fine-tuning on random pixels, whose epochs get these values on val."""
    rng = np.random.default_rng(0)
    pixels, targets = rng.normal(size=(20, 3, 32, 32)).astype(np.float32), rng.integers(0, 3, 20)

    def read(rows: np.ndarray, size: int) -> Iterator[tuple[tuple[np.ndarray, ...], np.ndarray]]:
        for first in range(0, len(rows), size):
            batch = rows[first : first + size]
            yield (pixels[batch],), targets[batch]

    given = iter(values or np.linspace(0, 1, 1000))
    return Training(
        config=finetune_config(protocol, labels_of(kind)),
        start=start(),
        count=len(targets),
        read=read,
        validate=lambda _, __: float(next(given)),
        file=file,
        seed=0,
        group=ProcessGroup.single("cpu"),
        **options,
    )


def test_it_starts_from_the_standardised_head() -> None:
    torch.manual_seed(1)
    model, images = start().eval(), torch.randn(5, 3, 32, 32)
    torch.manual_seed(0)
    network = Network()
    width = network.width
    mean, scale, weights = torch.randn(width), torch.rand(width) + 0.5, torch.randn(3, width + 1)
    expected = (network.eval().feature(images) - mean) / scale @ weights[:, :-1].T + weights[:, -1]
    torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("several", [False, True], ids=["multiclass", "multilabel"])
def test_a_batch_in_parts_gives_the_same_step(tmp_path: Path, several: bool) -> None:
    rng = np.random.default_rng(2)
    pixels, targets = rng.normal(size=(8, 3, 32, 32)).astype(np.float32), rng.integers(0, 3, 8)
    labels = np.eye(3, dtype=np.uint8)[targets] if several else targets
    stepped = []
    for at_once in (100, 3):
        model = start()
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)  # unlike Adam's, its step is as long as the gradient
        run = tuning(tmp_path / "state", kind="multilabel" if several else "multiclass", at_once=at_once)
        loss = run._step(model, optimiser, (pixels,), labels, torch.Generator().manual_seed(0))
        stepped.append((loss, torch.cat([tensor.detach().ravel() for tensor in model.parameters()])))
    assert stepped[0][0] == pytest.approx(stepped[1][0], rel=1e-5)
    torch.testing.assert_close(stepped[0][1], stepped[1][1], rtol=1e-4, atol=1e-5)


def test_in_bfloat16_a_step_is_close_and_parameters_stay_float32(tmp_path: Path) -> None:
    pixels, targets = np.random.default_rng(2).normal(size=(8, 3, 32, 32)).astype(np.float32), np.arange(8) % 3
    gradients = []
    for bfloat16 in (False, True):
        model = start()
        run = tuning(tmp_path / "state", bfloat16=bfloat16)
        run._step(
            model, torch.optim.SGD(model.parameters(), lr=0), (pixels,), targets, torch.Generator().manual_seed(0)
        )
        assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}
        gradients.append(torch.cat([tensor.grad.ravel() for tensor in model.parameters() if tensor.grad is not None]))
    distance = float((gradients[1] - gradients[0]).norm() / gradients[0].norm())
    assert 1e-6 < distance < 0.05


def test_a_batch_that_does_not_fit_is_halved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = Classifier.forward

    def small(self: Classifier, images: Tensor) -> Tensor:
        if len(images) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, images)

    monkeypatch.setattr(Classifier, "forward", small)
    run = tuning(tmp_path / "state")
    assert len(run.run().history) == 2
    assert run.at_once == 2


def test_rates_fall_towards_the_input() -> None:
    groups = start().groups(SETTINGS.weight_decay, SETTINGS.layer_decay)
    scales = [group["lr_scale"] for group in groups]
    assert scales[-2:] == [1.0, 1.0]  # the head
    assert min(scales) < 0.75**2
    assert sum(len(group["params"]) for group in groups) == len(list(start().parameters()))
    assert all(group["weight_decay"] == 0 for group in groups for tensor in group["params"] if tensor.ndim == 1)


def test_the_rate_rises_and_falls() -> None:
    protocol = Finetune()
    schedule = finetune_config(protocol, labels_of("multiclass")).schedule
    factors = [schedule(epoch) for epoch in np.linspace(0, protocol.epochs, 301)]
    assert 0 < factors[0] < 0.01
    assert max(factors) == pytest.approx(1)
    assert factors.index(max(factors)) == 300 * protocol.warmup // protocol.epochs
    assert factors[-1] == pytest.approx(0)


def test_a_rate_that_does_not_improve_is_given_up(tmp_path: Path) -> None:
    protocol = Finetune(rates=(1e-4, 1e-3), epochs=9, warmup=1, batch=8, patience=2)
    state = tuning(tmp_path / "state", protocol, (0.5, 0.6, 0.6, 0.6, 0.1, 0.2, 0.1, 0.1)).run()
    assert [(epoch.rate, epoch.epoch) for epoch in state.history] == [
        *((1e-4, number) for number in (1, 2, 3, 4)),
        *((1e-3, number) for number in (1, 2, 3, 4)),
    ]
    assert loop.best_of(state.history) == Epoch(rate=1e-4, epoch=2, loss=state.history[1].loss, val=0.6)


def test_the_best_epoch_is_kept_not_the_last(tmp_path: Path) -> None:
    state = tuning(tmp_path / "state", values=(0.9, 0.1)).run()
    assert any(not torch.equal(tensor, state.model[name]) for name, tensor in state.best.items())
    one = SETTINGS.model_copy(update={"patience": 0})  # gives up after the first epoch
    first = tuning(tmp_path / "first", one, values=(0.9, 0.1)).run()
    assert len(first.history) == 1
    assert all(torch.equal(tensor, first.best[name]) for name, tensor in state.best.items())


def test_a_finished_state_is_read_and_nothing_is_trained(tmp_path: Path) -> None:
    done = tuning(tmp_path / "state").run()
    again = tuning(tmp_path / "state", values=(-1.0,)).run()
    assert again.history == done.history == State.read(tmp_path / "state").history


@pytest.mark.parametrize("rates", [(), (0.0, 1e-3), (1e-3, 1e-4)])
def test_a_grid_that_is_none_is_refused(rates: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError, match="at least one, above 0, and ascending"):
        Finetune(rates=rates)


def damaged_states(whole: bytes) -> Iterator[bytes]:
    yield from (b"", b"no state", b"x" * 100, whole[: len(whole) // 2], whole[:-1], whole + b"x")
    yield whole[:-32]  # as earlier versions left it
    for place in np.random.default_rng(0).integers(0, len(whole), 200):
        yield whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :]


def test_a_state_that_was_damaged_is_refused_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "state"
    tensors = {"w": torch.randn(30, 10)}
    State(
        [Epoch(rate=1e-3, epoch=1, loss=0.5, val=0.6)], tensors, tensors, {"state": {0: {"step": torch.tensor(3.0)}}}
    ).write(file)
    whole = file.read_bytes()
    assert torch.equal(State.read(file).best["w"], tensors["w"])
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a damaged file was loaded"))
    for content in damaged_states(whole):
        file.write_bytes(content)
        with pytest.raises(CacheError, match="damaged, or was not left by this version; remove it to start the fine-"):
            State.read(file)


def test_a_full_disk_is_told_and_the_last_state_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "state"
    State([Epoch(rate=1e-3, epoch=1, loss=0.5, val=0.6)], {"w": torch.randn(3)}).write(file)
    before = file.read_bytes()

    @contextmanager
    def full(path: Path) -> Iterator[Path]:
        with replacing(path) as temporary:
            temporary.unlink()
            temporary.symlink_to("/dev/full")
            yield temporary

    monkeypatch.setattr(loop, "replacing", full)
    with pytest.raises(WriteError, match="No space left on device"):
        State([], {"w": torch.randn(1000, 1000)}).write(file)
    assert file.read_bytes() == before
