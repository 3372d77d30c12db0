"""Training by gradient steps with every learning rate of a configuration; rate and epoch are chosen on val.

The state is written after every epoch, whole, and a killed run goes on behind the last epoch with the same numbers:
everything random is drawn anew for each epoch, from the seed, the learning rate and the number of the epoch.
"""

import hashlib
import io
import math
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.optim import Optimizer

from ssl4eo_bench import progress
from ssl4eo_bench.config.canonical import digest
from ssl4eo_bench.config.records import Epoch
from ssl4eo_bench.config.task import IGNORED, Groups
from ssl4eo_bench.errors import CacheError, TrainingError
from ssl4eo_bench.files.atomic import replacing
from ssl4eo_bench.models.runtime import channels_last
from ssl4eo_bench.progress import Advance, Silent, shown_on
from ssl4eo_bench.training.distributed import ProcessGroup
from ssl4eo_bench.training.trainable import Trainable

SHA256_BYTES = 32

Read = Callable[[np.ndarray, int], Iterable[tuple[Groups, np.ndarray]]]
"""Yields stored pixels and targets of these training samples, by their numbers, in batches of a size.

Targets are `[N]` for multiclass, `[N, C]` for multilabel, and label maps `[N, S, S]` for segmentation.
"""


def best_of(history: Sequence[Epoch]) -> Epoch:
    """Return the epoch with the best `val`, the first of them on ties."""
    return max(history, key=lambda epoch: epoch.val)


@dataclass
class State:
    """What a training needs to go on after an epoch.

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
        """Write the state with its sha256 behind it, whole, or leave the file as it was."""
        content = vars(self) | {"history": [epoch.model_dump() for epoch in self.history]}
        # Into an opened file: PyTorch then raises errors of the operating system, or what stands behind its own.
        with replacing(file) as temporary, temporary.open("w+b") as opened:
            torch.save(content, opened)
            opened.seek(0)
            opened.write(hashlib.file_digest(opened, "sha256").digest())

    @classmethod
    def read(cls, file: Path) -> "State":
        """Return the state in a file, or a new one where there is no file.

        Raises:
            CacheError: if the file is not what was written; nothing of it has been loaded then.
        """
        if not file.is_file():
            return cls()
        foreign = CacheError(
            f"{file} is damaged, or was not left by this version; remove it to start the fine-tuning anew."
        )
        try:
            with file.open("rb") as opened:
                payload = opened.read(max(0, file.stat().st_size - SHA256_BYTES))
                checksum = opened.read()
            if hashlib.sha256(payload).digest() != checksum:
                raise foreign
            content = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
            return cls(**content | {"history": [Epoch(**epoch) for epoch in content["history"]]})
        except (RuntimeError, OSError, EOFError, UnpicklingError, TypeError, KeyError, ValidationError) as error:
            raise foreign from error


@dataclass(frozen=True)
class TrainingConfig:
    """How to train.

    Attributes:
        learning_rates: ascending; each trains from the start.
        epochs: at most, for each learning rate.
        batch: images of one step.
        optimiser: returns the optimiser of a model; its groups of parameters have a `lr_scale`.
        schedule: returns the share of the learning rate at a point in time, in epochs.
        draw: returns transforms `[N, 2, 3]` for a batch of N images.
        augment: returns what is trained on, from scaled inputs, targets and their transforms.
        loss: returns the sum of the losses of logits and targets.
        patience: epochs without improvement on `val` after which a learning rate is given up.
        evaluated_epochs: the epochs after which `val` is evaluated, ascending, up to the last one; empty for all.
        keep_last: whether the rest of an epoch is a smaller batch, if it has an image for each process; otherwise it
            is left out.
    """

    learning_rates: tuple[float, ...]
    epochs: int
    batch: int
    optimiser: Callable[[Trainable], Optimizer]
    schedule: Callable[[float], float]
    draw: Callable[[int, torch.Generator], Tensor]
    augment: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    loss: Callable[[Tensor, Tensor], Tensor]
    patience: int = 1 << 30
    evaluated_epochs: tuple[int, ...] = ()
    keep_last: bool = False


@dataclass
class Training:
    """One training.

    Attributes:
        start: the model before the first step.
        count: number of training samples.
        validate: returns the main metric on `val` of a model after so many epochs.
        file: where the state is kept.
        seed: of order and augmentation.
        group: of processes; the first one evaluates `val` and writes the state.
        bfloat16: whether convolutions and matrix products round their inputs to it.
        at_once: images of a batch that go through the network together. It is halved when they do not fit into memory;
            the gradients of the parts are added up.
    """

    config: TrainingConfig
    start: Trainable
    count: int
    read: Read
    validate: Callable[[Trainable, int], float]
    file: Path
    seed: int
    group: ProcessGroup
    bfloat16: bool = False
    at_once: int = 1 << 30

    def run(self) -> State:
        """Train with every learning rate, from where a killed run stopped, and return the last state.

        Raises:
            TrainingError: if the loss is not finite; the state after the epoch before is kept.
        """
        state = State.read(self.file)
        last = self._evaluated[-1]
        total = len(self.config.learning_rates) * last * self._steps
        with progress.stage("training", total=total, unit="batches") as advance:
            for rate in self.config.learning_rates:
                done = [epoch for epoch in state.history if epoch.rate == rate]
                advance(_last(done) * self._steps)
                if not state.history or state.history[-1].rate <= rate:
                    self._train(rate, done, state, advance)
                advance((last - _last(done)) * self._steps)  # the epochs that were given up
        return state

    @property
    def _evaluated(self) -> tuple[int, ...]:
        """The epochs after which `val` is evaluated."""
        return self.config.evaluated_epochs or tuple(range(1, self.config.epochs + 1))

    @property
    def _steps(self) -> int:
        """The number of batches of an epoch."""
        full, rest = divmod(self.count, self._batch)
        return full + (self.config.keep_last and rest >= self.group.size)

    @property
    def _batch(self) -> int:
        """Samples of a batch, of all processes together."""
        return min(self.count, self.config.batch)

    def _train(self, rate: float, done: list[Epoch], state: State, advance: Advance) -> None:
        """Train with one learning rate, behind the epochs that are done."""
        model = channels_last(deepcopy(self.start).to(self.group.device))
        optimiser = self.config.optimiser(model)
        if done:
            model.load_state_dict(state.model)
            optimiser.load_state_dict(state.optimiser)
        while len(done) < len(self._evaluated) and not _given_up(done, self.config.patience):
            numbers = range(_last(done) + 1, self._evaluated[len(done)] + 1)
            losses = [self._epoch(model.train(), optimiser, rate, number, advance) for number in numbers]
            val = self.group.broadcast(lambda last=numbers[-1]: self._validated(model.eval(), last))  # type: ignore[misc]
            done.append(Epoch(rate=rate, epoch=numbers[-1], loss=float(np.mean(losses)), val=val))
            state.history.append(done[-1])
            state.model, state.optimiser = model.state_dict(), optimiser.state_dict()
            if best_of(state.history) is done[-1]:
                state.best = {name: tensor.detach().cpu().clone() for name, tensor in state.model.items()}
            if self.group.rank == 0:
                state.write(self.file)

    def _validated(self, model: Trainable, epoch: int) -> float:
        with shown_on(Silent()):  # the stage of the training is shown
            return self.validate(model, epoch)

    def _epoch(self, model: Trainable, optimiser: Optimizer, rate: float, number: int, advance: Advance) -> float:
        """Pass over the training samples in random order and return the mean loss."""
        drawn = int(digest([self.seed, rate, number])[:15], 16)
        generator = torch.Generator().manual_seed(drawn)
        order = torch.randperm(self.count, generator=generator).numpy()[: self._steps * self._batch]
        losses = []
        with torch.random.fork_rng():
            torch.manual_seed(drawn)  # for dropout and the like
            full = len(order) // self._batch
            shares = self.group.shard(order[: full * self._batch].reshape(full, -1).T).T  # of each full batch
            rows = np.concatenate([shares.ravel(), self.group.shard(order[full * self._batch :])])
            for step, (groups, targets) in enumerate(self.read(rows, shares.shape[1])):
                factor = self.config.schedule(number - 1 + step / self._steps)
                for group in optimiser.param_groups:
                    group["lr"] = rate * factor * group["lr_scale"]
                loss = self._step(model, optimiser, groups, targets, generator)
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
        model: Trainable,
        optimiser: Optimizer,
        groups: Groups,
        targets: np.ndarray,
        generator: torch.Generator,
    ) -> float:
        """Update once and return the loss before; nothing is updated where that is not finite."""
        with torch.no_grad():
            tensors = (torch.from_numpy(group).to(self.group.device) for group in groups)
            images = model.network.preprocess(*tensors)  # type: ignore[operator]
            views = self.group.shard(self.config.draw(int(self.group.all_reduce(len(targets))), generator))
            images, expected = self.config.augment(images, torch.from_numpy(targets).to(self.group.device), views)
        terms = max(1.0, self.group.all_reduce(float((expected != IGNORED).sum())))
        while True:
            optimiser.zero_grad()
            try:
                loss = 0.0
                for first in range(0, len(images), self.at_once):
                    part = slice(first, first + self.at_once)
                    loss += self._backward(model, images[part], expected[part], terms)
            except torch.OutOfMemoryError:
                if min(self.at_once, len(images)) == 1:
                    raise
                self.at_once = min(self.at_once, len(images)) // 2
            else:
                break
        loss = self.group.all_reduce(loss)
        if math.isfinite(loss):
            self.group.all_reduce_gradients(model)
            optimiser.step()
        return loss

    def _backward(self, model: Trainable, images: Tensor, targets: Tensor, terms: float) -> float:
        """Add the gradient of a part of a batch with so many loss terms in all; return the part's share of the loss."""
        with torch.autocast(self.group.device.type, torch.bfloat16, enabled=self.bfloat16):
            logits = model(images.contiguous(memory_format=torch.channels_last)).float()
        loss = self.config.loss(logits, targets) / terms
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())


def warmed_cosine(warmup: int, epochs: int) -> Callable[[float], float]:
    """Return a schedule: a linear rise over the first epochs, then half a cosine to zero."""

    def share(epoch: float) -> float:
        if epoch < warmup:
            return (epoch + 1e-3) / warmup
        return 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup)))

    return share


def _last(done: Sequence[Epoch]) -> int:
    """Return the number of the last epoch that is done."""
    return done[-1].epoch if done else 0


def _given_up(done: list[Epoch], patience: int) -> bool:
    best = max(range(len(done)), key=lambda number: done[number].val, default=0)
    return len(done) - 1 - best >= patience
