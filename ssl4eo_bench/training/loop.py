"""Training by gradient steps, with every rate of a plan; rate and epoch are chosen on val.

After every epoch the state is written whole, and a killed run goes on behind the last one with the same numbers:
whatever is random is drawn anew for each epoch, from the seed, the rate and the epoch's number.
"""

import hashlib
import io
import math
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import Optimizer

from ssl4eo_bench import progress
from ssl4eo_bench.config.canonical import digest
from ssl4eo_bench.config.task import IGNORED, Groups
from ssl4eo_bench.errors import CacheError, TrainingError
from ssl4eo_bench.files.atomic import replacing
from ssl4eo_bench.progress import Advance
from ssl4eo_bench.training.distributed import Team
from ssl4eo_bench.training.tunable import Tunable

SHA256_BYTES = 32

Read = Callable[[np.ndarray, int], Iterable[tuple[Groups, np.ndarray]]]
"""Gives stored pixels and targets of these rows of the training samples, in batches of so many.

Targets are `[N]` for multiclass, `[N, C]` for multilabel, and label maps `[N, S, S]` for segmentation.
"""


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
        """Write it whole, its sha256 behind it, or leave the last one."""
        content = vars(self) | {"history": [asdict(epoch) for epoch in self.history]}
        # Into an opened file: for one that PyTorch opens, a full disk would be a RuntimeError.
        with replacing(file) as temporary, temporary.open("w+b") as opened:
            torch.save(content, opened)
            opened.seek(0)
            opened.write(hashlib.file_digest(opened, "sha256").digest())

    @classmethod
    def read(cls, file: Path) -> "State":
        """What was written, or a fresh state.

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
        except (RuntimeError, OSError, EOFError, UnpicklingError, TypeError, KeyError) as error:
            raise foreign from error


@dataclass(frozen=True)
class Plan:
    """How to train.

    Attributes:
        rates: learning rates, ascending; each trains anew from the start.
        epochs: at most, of each rate.
        batch: images of one step.
        optimiser: made for a model, whose groups of parameters have a `lr_scale`.
        schedule: the share of the rate at a point in time, in epochs.
        draw: transforms `[N, 2, 3]` for a batch of N images.
        augment: makes of scaled inputs and targets and their transforms what is trained on.
        patience: epochs without improvement on `val` after which a rate is given up.
        looks: the epochs after which `val` is looked at, ascending, up to the last that is trained; none for all.
        keep_last: what is left of an epoch is a smaller batch, if there is an image of it for each process; otherwise
            it is left out.
    """

    rates: tuple[float, ...]
    epochs: int
    batch: int
    optimiser: Callable[[Tunable], Optimizer]
    schedule: Callable[[float], float]
    draw: Callable[[int, torch.Generator], Tensor]
    augment: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    patience: int = 1 << 30
    looks: tuple[int, ...] = ()
    keep_last: bool = False


@dataclass
class Training:
    """One training.

    Attributes:
        plan: how to train.
        start: what is trained, before the first step.
        count: of training samples.
        read: gives them.
        validate: gives the main metric on `val` of what has been trained for so many epochs.
        file: where the state is kept.
        seed: of order and augmentation.
        team: that this process belongs to; the first one looks at `val` and writes the state.
        bfloat16: whether convolutions and matrix products round their inputs to it.
        at_once: images of a batch that go through the network together; halved when they do not fit into memory, with
            the gradients of the parts added up.
    """

    plan: Plan
    start: Tunable
    count: int
    read: Read
    validate: Callable[[Tunable, int], float]
    file: Path
    seed: int
    team: Team
    bfloat16: bool = False
    at_once: int = 1 << 30

    def run(self) -> State:
        """Train with every rate, from where a killed run was, and return the last state.

        Raises:
            TrainingError: if the loss is no number; the state after the epoch before is kept.
        """
        state = State.read(self.file)
        total = len(self.plan.rates) * self._looks[-1] * self._steps
        with progress.stage("training", total=total, unit="batches") as advance:
            for rate in self.plan.rates:
                done = [epoch for epoch in state.history if epoch.rate == rate]
                advance(_last(done) * self._steps)
                if not state.history or state.history[-1].rate <= rate:
                    self._train(rate, done, state, advance)
                advance((self._looks[-1] - _last(done)) * self._steps)  # those it stopped before
        return state

    @property
    def _looks(self) -> tuple[int, ...]:
        """The epochs after which `val` is looked at."""
        return self.plan.looks or tuple(range(1, self.plan.epochs + 1))

    @property
    def _steps(self) -> int:
        """Batches of an epoch; one that is not full is left out, unless it is to be kept or there is no other."""
        full, rest = divmod(self.count, self._batch)
        return full + (self.plan.keep_last and rest >= self.team.size)

    @property
    def _batch(self) -> int:
        """Samples of a batch, of all processes together."""
        return min(self.count, self.plan.batch)

    def _train(self, rate: float, done: list[Epoch], state: State, advance: Advance) -> None:
        """Train with one rate, behind the epochs that are done."""
        model = deepcopy(self.start).to(self.team.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = self.plan.optimiser(model)
        if done:
            model.load_state_dict(state.model)
            optimiser.load_state_dict(state.optimiser)
        while len(done) < len(self._looks) and not _given_up(done, self.plan.patience):
            numbers = range(_last(done) + 1, self._looks[len(done)] + 1)
            losses = [self._epoch(model.train(), optimiser, rate, number, advance) for number in numbers]
            value = self.team.told(lambda last=numbers[-1]: self.validate(model.eval(), last))  # type: ignore[misc]
            done.append(Epoch(rate, numbers[-1], float(np.mean(losses)), value))
            state.history.append(done[-1])
            state.model, state.optimiser = model.state_dict(), optimiser.state_dict()
            if best_of(state.history) is done[-1]:
                state.best = {name: tensor.detach().cpu().clone() for name, tensor in state.model.items()}
            if self.team.rank == 0:
                state.write(self.file)

    def _epoch(self, model: Tunable, optimiser: Optimizer, rate: float, number: int, advance: Advance) -> float:
        """One pass over the training samples in random order; the mean loss."""
        drawn = int(digest([self.seed, rate, number])[:15], 16)
        generator = torch.Generator().manual_seed(drawn)
        order = torch.randperm(self.count, generator=generator).numpy()[: self._steps * self._batch]
        losses = []
        with torch.random.fork_rng():
            torch.manual_seed(drawn)  # dropout and the like
            full = len(order) // self._batch
            own = self.team.share(order[: full * self._batch].reshape(full, -1).T).T  # its part of each batch
            rows = np.concatenate([own.ravel(), self.team.share(order[full * self._batch :])])
            for step, (groups, targets) in enumerate(self.read(rows, own.shape[1])):
                factor = self.plan.schedule(number - 1 + step / self._steps)
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
        model: Tunable,
        optimiser: Optimizer,
        groups: Groups,
        targets: np.ndarray,
        generator: torch.Generator,
    ) -> float:
        """One update; the loss before it. Nothing is updated where that is no number."""
        with torch.no_grad():
            tensors = (torch.from_numpy(group).to(self.team.device) for group in groups)
            images = model.network.preprocess(*tensors)  # type: ignore[operator]
            views = self.team.share(self.plan.draw(int(self.team.summed(len(targets))), generator))
            images, expected = self.plan.augment(images, torch.from_numpy(targets).to(self.team.device), views)
        terms = max(1.0, self.team.summed(float((expected != IGNORED).sum())))
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
        loss = self.team.summed(loss)
        if math.isfinite(loss):
            self.team.add_gradients(model)
            optimiser.step()
        return loss

    def _backward(self, model: Tunable, images: Tensor, targets: Tensor, terms: float) -> float:
        """Add the gradient of a part of a batch whose loss is a mean of so many terms; the part's share of it."""
        with torch.autocast(self.team.device.type, torch.bfloat16, enabled=self.bfloat16):
            logits = model(images.contiguous(memory_format=torch.channels_last)).float()
        loss = _summed_loss(logits, targets) / terms
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())


def _summed_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """The sum of cross-entropies over samples `[N]`, sample–class pairs `[N, C]` or labelled pixels `[N, S, S]`."""
    if targets.ndim == 2:
        return functional.binary_cross_entropy_with_logits(logits, targets.float(), reduction="sum")
    if targets.ndim == 3:
        logits = functional.interpolate(logits, size=targets.shape[-2:], mode="bilinear", align_corners=False)
    return functional.cross_entropy(logits, targets.long(), ignore_index=IGNORED, reduction="sum")


def warmed_cosine(warmup: int, epochs: int) -> Callable[[float], float]:
    """A linear rise over the first epochs, then half a cosine to zero."""

    def share(epoch: float) -> float:
        if epoch < warmup:
            return (epoch + 1e-3) / warmup
        return 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup)))

    return share


def _last(done: Sequence[Epoch]) -> int:
    """The number of the last epoch that is done."""
    return done[-1].epoch if done else 0


def _given_up(done: list[Epoch], patience: int) -> bool:
    best = max(range(len(done)), key=lambda number: done[number].val, default=0)
    return len(done) - 1 - best >= patience
