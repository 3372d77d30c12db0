"""Fine-tuning: the whole network is trained on, from the head of the linear probe; rate and epoch are chosen on val.

Starting from the solved head instead of a random one keeps the first steps from spoiling the backbone (LP-FT: Kumar et
al., ICLR 2022). After every epoch the state is written whole, and a killed run goes on behind the last one with the
same numbers: whatever is random is drawn anew for each epoch, from the seed, the rate and the epoch's number.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from ssl4eo_bench.errors import CacheError, TrainingError
from ssl4eo_bench.progress import Advance, Progress
from ssl4eo_bench.protocols.augmentation import augment
from ssl4eo_bench.protocols.linear import LinearProbe, to_probabilities
from ssl4eo_bench.spec.canonical import digest
from ssl4eo_bench.spec.protocols import Finetune
from ssl4eo_bench.spec.tasks import Groups, Kind
from ssl4eo_bench.storage import replacing

Read = Callable[[np.ndarray], Iterable[Groups]]
"""Gives the stored pixels of these rows of the training samples, in batches of the protocol's size."""


class Classifier(nn.Module):
    """A network and the linear head solved on its frozen features, to be trained on together.

    The network, as `backbones.features` makes it, takes stored groups and has `preprocess`, `backbone`, and `feature`,
    which gives what a head sees, `[N, D]`, of scaled inputs `[N, C, S, S]`.
    """

    def __init__(self, network: nn.Module, probe: LinearProbe) -> None:
        super().__init__()
        self.network = network
        solved, standardisation = probe.head.weights, probe.standardisation
        weights = solved[:, :-1] / standardisation.scale
        self.head = nn.Linear(weights.shape[1], len(weights))
        with torch.no_grad():
            self.head.weight.copy_(weights)
            self.head.bias.copy_(solved[:, -1] - weights @ standardisation.mean)
        self.requires_grad_(requires_grad=True)

    def train(self, mode: bool = True) -> "Classifier":
        """As usual, but BatchNorm keeps its statistics.

        The head was solved on features with these. With the statistics of a batch it starts from a loss several times
        as large, and results depend on the size of batches.
        """
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[N, C]` of scaled inputs."""
        logits: Tensor = self.head(self.network.feature(images))  # type: ignore[operator]
        return logits


@dataclass(frozen=True)
class Epoch:
    """One epoch: its rate, its number from 1, the mean training loss, and the main metric on `val` after it."""

    rate: float
    epoch: int
    loss: float
    val: float


def best_of(history: Sequence[Epoch]) -> Epoch:
    """The epoch with the best `val`, the first of them on ties."""
    return max(history, key=lambda epoch: epoch.val)


@dataclass
class State:
    """Everything a run needs to go on after an epoch.

    Attributes:
        history: the epochs that are done.
        best: parameters and buffers after the epoch with the best `val`.
        model: those after the last epoch.
        optimiser: its moments then.
    """

    history: list[Epoch] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    model: dict[str, Tensor] = field(default_factory=dict)
    optimiser: dict[str, Any] = field(default_factory=dict)

    def write(self, file: Path) -> None:
        """Write it whole, or leave the last one."""
        content = vars(self) | {"history": [asdict(epoch) for epoch in self.history]}
        with replacing(file) as temporary:
            torch.save(content, temporary)

    @classmethod
    def read(cls, file: Path) -> "State":
        """What was written, or a fresh state.

        Raises:
            CacheError: if the file is not what was written.
        """
        if not file.is_file():
            return cls()
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
            return cls(**content | {"history": [Epoch(**epoch) for epoch in content["history"]]})
        except (RuntimeError, OSError, EOFError, UnpicklingError, TypeError, KeyError) as error:
            raise CacheError(f"{file} cannot be read; remove it to start the fine-tuning anew.") from error


@dataclass
class Finetuning:
    """One fine-tuning.

    Attributes:
        protocol: its settings.
        start: the classifier before the first step.
        read: gives training images.
        targets: of all training samples, `[N]`, or `[N, C]` for multilabel.
        validate: gives the main metric of a classifier on `val`.
        file: where the state is kept.
        seed: of order and augmentation.
        device: where to train.
        progress: shows batches.
        at_once: images of a batch that go through the network together; halved when they do not fit into memory, with
            the gradients of the parts added up.
    """

    protocol: Finetune
    start: Classifier
    read: Read
    targets: np.ndarray
    validate: Callable[[Classifier], float]
    file: Path
    seed: int
    device: torch.device
    progress: Progress
    at_once: int = 1 << 30

    def run(self) -> State:
        """Train with every rate, from where a killed run was, and return the last state.

        Raises:
            TrainingError: if the loss is no number; the state after the epoch before is kept.
        """
        state = State.read(self.file)
        total = len(self.protocol.rates) * self.protocol.epochs * self._steps
        with self.progress.stage("fine-tuning", total=total, unit="batches") as advance:
            for rate in self.protocol.rates:
                done = [epoch for epoch in state.history if epoch.rate == rate]
                advance(len(done) * self._steps)
                if not state.history or state.history[-1].rate <= rate:
                    self._train(rate, done, state, advance)
                advance((self.protocol.epochs - len(done)) * self._steps)  # those it stopped before
        return state

    @property
    def _steps(self) -> int:
        """Batches of an epoch; one that is not full is left out, unless there is no other."""
        return max(1, len(self.targets) // self.protocol.batch)

    def _train(self, rate: float, done: list[Epoch], state: State, advance: Advance) -> None:
        """Train with one rate, behind the epochs that are done."""
        model = deepcopy(self.start).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = torch.optim.AdamW(_parameter_groups(model, self.protocol), lr=rate)
        if done:
            model.load_state_dict(state.model)
            optimiser.load_state_dict(state.optimiser)
        while len(done) < self.protocol.epochs and not _given_up(done, self.protocol.patience):
            number = len(done) + 1
            loss = self._epoch(model.train(), optimiser, rate, number, advance)
            done.append(Epoch(rate, number, loss, self.validate(model.eval())))
            state.history.append(done[-1])
            state.model, state.optimiser = model.state_dict(), optimiser.state_dict()
            if best_of(state.history) is done[-1]:
                state.best = {name: tensor.detach().cpu().clone() for name, tensor in state.model.items()}
            state.write(self.file)

    def _epoch(self, model: Classifier, optimiser: Optimizer, rate: float, number: int, advance: Advance) -> float:
        """One pass over the training samples in random order; the mean loss."""
        drawn = int(digest([self.seed, rate, number])[:15], 16)
        generator = torch.Generator().manual_seed(drawn)
        order = torch.randperm(len(self.targets), generator=generator).numpy()[: self._steps * self.protocol.batch]
        losses = []
        with torch.random.fork_rng():
            torch.manual_seed(drawn)  # dropout and the like
            for step, groups in enumerate(self.read(order)):
                rows = order[step * self.protocol.batch :][: self.protocol.batch]
                factor = _schedule(number - 1 + step / self._steps, self.protocol)
                for group in optimiser.param_groups:
                    group["lr"] = rate * factor * group["lr_scale"]
                loss = self._step(model, optimiser, groups, self.targets[rows], generator)
                if not math.isfinite(loss):
                    raise TrainingError(
                        f"the loss is no number in epoch {number}, batch {step + 1}, at learning rate {rate:g}; the "
                        "checkpoint's weights or scaling are not what its entry says, or it cannot be trained at this "
                        f"rate; the state after the epoch before is kept in {self.file}."
                    )
                losses.append(loss)
                advance(1)
        return float(np.mean(losses))

    def _step(
        self,
        model: Classifier,
        optimiser: Optimizer,
        groups: Groups,
        targets: np.ndarray,
        generator: torch.Generator,
    ) -> float:
        """One update; the loss before it. Nothing is updated where that is no number."""
        with torch.no_grad():
            tensors = (torch.from_numpy(group).to(self.device) for group in groups)
            images = model.network.preprocess(*tensors)  # type: ignore[operator]
            images = augment(images, self.protocol.smallest_crop, generator)
        expected = torch.from_numpy(targets).to(self.device)
        while True:
            optimiser.zero_grad()
            try:
                loss = 0.0
                for first in range(0, len(images), self.at_once):
                    part = slice(first, first + self.at_once)
                    loss += self._backward(model, images[part], expected[part], len(images))
            except torch.OutOfMemoryError:
                if min(self.at_once, len(images)) == 1:
                    raise
                self.at_once = min(self.at_once, len(images)) // 2
            else:
                break
        if math.isfinite(loss):
            optimiser.step()
        return loss

    def _backward(self, model: Classifier, images: Tensor, targets: Tensor, count: int) -> float:
        """Add the gradient of a part of a batch of `count` images; its share of the loss."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            logits = model(images.contiguous(memory_format=torch.channels_last)).float()
        if targets.ndim == 1:
            loss = functional.cross_entropy(logits, targets, reduction="sum") / count
        else:
            loss = functional.binary_cross_entropy_with_logits(logits, targets.float(), reduction="sum")
            loss /= count * targets.shape[1]
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())


def _parameter_groups(model: Classifier, protocol: Finetune) -> list[dict[str, Any]]:
    """Layers nearer to the input get smaller rates, by timm's grouping of the network; biases and norms no decay."""
    from timm import optim  # brings timm: not where only the head is needed

    backbone = optim.param_groups_layer_decay(  # type: ignore[attr-defined]
        cast(nn.Module, model.network.backbone), weight_decay=protocol.weight_decay, layer_decay=protocol.layer_decay
    )
    head = [
        {"params": [model.head.weight], "weight_decay": protocol.weight_decay, "lr_scale": 1.0},
        {"params": [model.head.bias], "weight_decay": 0.0, "lr_scale": 1.0},
    ]
    return [*backbone, *head]


def _schedule(epoch: float, protocol: Finetune) -> float:
    """The share of the rate at a point in time: a linear rise, then half a cosine to zero."""
    if epoch < protocol.warmup:
        return (epoch + 1e-3) / protocol.warmup
    return 0.5 * (1 + math.cos(math.pi * (epoch - protocol.warmup) / (protocol.epochs - protocol.warmup)))


def _given_up(done: list[Epoch], patience: int) -> bool:
    best = max(range(len(done)), key=lambda number: done[number].val, default=0)
    return len(done) - 1 - best >= patience


@dataclass(frozen=True)
class TunedHead:
    """The head after fine-tuning, for features of the tuned backbone.

    Attributes:
        kind: of the task.
        weights: `[C, D]`.
        intercept: `[C]`.
        start: the linear probe it started from.
        history: every epoch of every rate.
        thresholds: for multilabel, the score for each class that gives the best F1 on `val`.
    """

    kind: Kind
    weights: np.ndarray
    intercept: np.ndarray
    start: LinearProbe | None = None
    history: tuple[Epoch, ...] = ()
    thresholds: np.ndarray | None = None

    @classmethod
    def of(
        cls, model: Classifier, kind: Kind, *, start: LinearProbe | None = None, history: tuple[Epoch, ...] = ()
    ) -> "TunedHead":
        """The head of a trained classifier."""
        weights, intercept = (tensor.detach().cpu().numpy().copy() for tensor in (model.head.weight, model.head.bias))
        return cls(kind, weights, intercept, start, history)

    @property
    def chosen(self) -> Epoch:
        """The epoch with the best `val`, the first of them on ties."""
        return best_of(self.history)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Where the choice lies on an edge of what was tried."""
        rates = sorted({epoch.rate for epoch in self.history})
        if len(rates) > 1 and self.chosen.rate in (rates[0], rates[-1]):
            return (f"the best learning rate on val, {self.chosen.rate:g}, lies on the edge of the grid",)
        return ()

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Logits `[N, C]` of features `[N, D]`."""
        found: np.ndarray = features.astype(np.float32, copy=False) @ self.weights.T + self.intercept
        return found

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Class probabilities `[N, C]` float64 of features `[N, D]`."""
        return to_probabilities(self.logits(features), self.kind)
