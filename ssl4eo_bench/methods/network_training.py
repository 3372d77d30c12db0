"""Training a network on a problem, on one device or several, and running what was trained."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from ssl4eo_bench import progress
from ssl4eo_bench.config.task import Groups
from ssl4eo_bench.extraction.problem import Problem
from ssl4eo_bench.labels import labels_of
from ssl4eo_bench.models.runtime import Runner, TorchRunner, keep_float32, make_runner
from ssl4eo_bench.training.distributed import ProcessGroup, launch
from ssl4eo_bench.training.loop import State, Training, TrainingConfig
from ssl4eo_bench.training.trainable import Logits, Trainable

WORTH_COMPILING = 2000
"""Samples from which on a compiled runner saves more time than compiling takes."""


@dataclass(frozen=True)
class NetworkTraining:
    """The training of a network on a problem. It can be sent to other processes.

    Attributes:
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
        """Train a model, which has the parameters of the best epoch afterwards, and return the last state."""
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
        return runner_of(self.problem, module)


def _train_in_group(task: NetworkTraining, model: Trainable, group: ProcessGroup) -> None:
    task.training(model, group).run()


def runner_of(problem: Problem, module: Logits) -> Runner:
    """Return the fastest runner for a trained module and batches of stored groups."""
    frozen = module.cpu().eval().requires_grad_(requires_grad=False)
    batch = labels_of(problem.job.task.kind).batch(problem)
    full = tuple(np.repeat(group, batch, axis=0) for group in problem.example())
    precision = problem.job.spec.checkpoint.precision
    return make_runner(frozen, full, problem.context.device, progress.note, precision=precision)
