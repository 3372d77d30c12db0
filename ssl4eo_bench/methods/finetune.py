"""Fine-tuning: the whole network is trained from the head of the linear probe.

Training from the solved head instead of a random one keeps the first steps from spoiling the backbone (LP-FT: Kumar et
al., ICLR 2022).
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ssl4eo_bench import progress
from ssl4eo_bench.config.protocols import Finetune, linear_settings
from ssl4eo_bench.config.records import Epoch
from ssl4eo_bench.config.task import Groups
from ssl4eo_bench.features.problem import Problem
from ssl4eo_bench.labels import labels_of
from ssl4eo_bench.labels.base import Labels
from ssl4eo_bench.methods.linear import probed
from ssl4eo_bench.methods.predictor import Predictor
from ssl4eo_bench.models.backbone import state_sha256
from ssl4eo_bench.models.runtime import Runner, TorchRunner, keep_float32, make_runner
from ssl4eo_bench.training.augmentation import augmented, draw_views
from ssl4eo_bench.training.distributed import ProcessGroup, launch
from ssl4eo_bench.training.loop import State, Training, TrainingConfig, best_of, warmed_cosine
from ssl4eo_bench.training.trainable import Logits, Trainable

WORTH_COMPILING = 2000
"""Samples from which on a compiled runner saves more time than compiling takes."""


def fit_finetune(problem: Problem, protocol: Finetune) -> Predictor:
    """Train the network of a problem.

    Raises:
        SpecError: if the checkpoint has no network.
        TrainingError: if the loss is not finite.
    """
    task = problem.job.task
    labels = labels_of(task.kind)
    train, val = labels.rows(problem, "train"), labels.rows(problem, "val")
    start = probed(problem, linear_settings(protocol, task.kind), train, val)
    model = labels.trainable(problem, start.head)
    state = TrainingTask(
        problem,
        partial(finetune_config, protocol, labels),
        train.ids,
        labels.target_reader(problem, train),
        partial(_validate, problem, val.targets),
    ).train(model)
    trained = Logits(model)
    sha256 = state_sha256(trained)
    scorer = labels.network_scorer(problem, val, runner_of(problem, trained, labels.batch(problem)), sha256)
    best = best_of(state.history)
    choice = start.selection(task.main_metric).model_copy(
        update={"rate": best.rate, "epoch": best.epoch, "history": tuple(state.history)}
    )
    warnings = (*start.warnings, *edge_warnings(state.history))
    return Predictor(scorer, choice, warnings, train.ids, (train.origin, val.origin))


def finetune_config(protocol: Finetune, labels: Labels) -> TrainingConfig:
    """Return how to train by these settings."""

    def augment(images: Tensor, targets: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
        return augmented(images, views), labels.augmented(targets, views)

    return TrainingConfig(
        learning_rates=protocol.rates,
        epochs=protocol.epochs,
        batch=protocol.batch,
        optimiser=lambda model: torch.optim.AdamW(model.groups(protocol.weight_decay, protocol.layer_decay)),
        schedule=warmed_cosine(protocol.warmup, protocol.epochs),
        draw=lambda count, generator: draw_views(count, protocol.smallest_crop, generator),
        augment=augment,
        loss=labels.training_loss,
        patience=protocol.patience,
    )


@dataclass(frozen=True)
class TrainingTask:
    """What is trained on and chosen by. It can be sent to other processes.

    Attributes:
        problem: with the samples.
        config: returns how to train.
        ids: of the training samples.
        targets: returns the targets of training samples by their numbers.
        validate: returns the main metric on `val` of what a runner runs after so many epochs.
    """

    problem: Problem
    config: Callable[[], TrainingConfig]
    ids: Sequence[str]
    targets: Callable[[np.ndarray], np.ndarray]
    validate: Callable[[Runner, int], float]

    def train(self, model: Trainable) -> State:
        """Train a model, which has the parameters of the best epoch afterwards, and return the last state.

        Raises:
            TrainingError: if the loss is not finite.
        """
        context = self.problem.context
        if len(context.devices) > 1:  # they leave the state of a finished training
            launch(context.devices, partial(_train_in_group, self, model))
        state = self.training(model, ProcessGroup.single(context.device)).run()
        model.load_state_dict(state.best)
        return state

    def training(self, model: Trainable, group: ProcessGroup) -> Training:
        """Return the training of a model in a process group."""
        job = self.problem.job
        keep_float32()
        return Training(
            config=self.config(),
            start=model,
            count=len(self.ids),
            read=self._read,
            validate=lambda trained, epoch: self.validate(self._validation_runner(trained), epoch),
            file=self.problem.state_file(),
            seed=job.spec.seed,
            group=group,
            bfloat16=job.spec.checkpoint.precision == "bfloat16",
        )

    def _read(self, rows: np.ndarray, size: int) -> Iterator[tuple[Groups, np.ndarray]]:
        pixels = self.problem.batches("train", [self.ids[row] for row in rows], size=size)
        for first, groups in zip(range(0, len(rows), size), pixels, strict=True):
            yield groups, self.targets(rows[first : first + size])

    def _validation_runner(self, trained: Trainable) -> Runner:
        """Return the fastest runner for one pass over `val`."""
        job, module = self.problem.job, Logits(deepcopy(trained))
        if self.problem.context.device == "cpu" and len(job.samples["val"].ids) < WORTH_COMPILING:
            bfloat16 = job.spec.checkpoint.precision == "bfloat16"
            return TorchRunner(module.eval(), torch.device("cpu"), bfloat16=bfloat16)
        return runner_of(self.problem, module, labels_of(job.task.kind).batch(self.problem))


def _validate(problem: Problem, val: np.ndarray, run: Runner, epoch: int) -> float:
    del epoch
    return labels_of(problem.job.task.kind).validate(problem, val, run)


def _train_in_group(task: TrainingTask, model: Trainable, group: ProcessGroup) -> None:
    task.training(model, group).run()


def runner_of(problem: Problem, module: Logits, batch: int) -> Runner:
    """Return the fastest runner for a trained module and batches of stored groups."""
    frozen = module.cpu().eval().requires_grad_(requires_grad=False)
    full = tuple(np.repeat(group, batch, axis=0) for group in problem.example())
    precision = problem.job.spec.checkpoint.precision
    return make_runner(frozen, full, problem.context.device, progress.note, precision=precision)


def edge_warnings(history: Sequence[Epoch]) -> tuple[str, ...]:
    """Return a warning where the best learning rate is at an end of the grid."""
    rates, best = sorted({epoch.rate for epoch in history}), best_of(history).rate
    if len(rates) > 1 and best in (rates[0], rates[-1]):
        return (f"the best learning rate on val, {best:g}, lies on the edge of the grid",)
    return ()
