"""Fine-tuning: the whole network is trained from the head of the linear probe.

Training from the solved head instead of a random one keeps the first steps from spoiling the backbone (LP-FT: Kumar et
al., ICLR 2022).
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ssl4eo_bench.config.protocols import Finetune, linear_settings
from ssl4eo_bench.config.records import Epoch
from ssl4eo_bench.extraction.problem import Problem
from ssl4eo_bench.labels import labels_of
from ssl4eo_bench.labels.base import Labels
from ssl4eo_bench.methods.linear import probed
from ssl4eo_bench.methods.network_training import NetworkTraining, runner_of
from ssl4eo_bench.methods.predictor import Predictor
from ssl4eo_bench.models.backbone import state_sha256
from ssl4eo_bench.models.runtime import Runner
from ssl4eo_bench.training.augmentation import augmented, draw_views
from ssl4eo_bench.training.loop import TrainingConfig, best_of, warmed_cosine
from ssl4eo_bench.training.trainable import Logits


def fit_finetune(problem: Problem, protocol: Finetune) -> Predictor:
    """Train the network of a problem."""
    task = problem.job.task
    labels = labels_of(task.kind)
    train, val = labels.rows(problem, "train"), labels.rows(problem, "val")
    start = probed(problem, linear_settings(protocol, task.kind), train, val)
    model = labels.trainable(problem, start.head)
    state = NetworkTraining(
        problem,
        partial(finetune_config, protocol, labels),
        train.ids,
        labels.target_reader(problem, train),
        partial(_validate, problem, val.targets),
    ).train(model)
    trained = Logits(model)
    sha256 = state_sha256(trained)
    scorer = labels.network_scorer(problem, val.targets, runner_of(problem, trained), sha256)
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


def _validate(problem: Problem, val: np.ndarray, run: Runner, epoch: int) -> float:
    del epoch
    return labels_of(problem.job.task.kind).validate(problem, val, run)


def edge_warnings(history: Sequence[Epoch]) -> tuple[str, ...]:
    """Return a warning where the best learning rate is at an end of the grid."""
    rates, best = sorted({epoch.rate for epoch in history}), best_of(history).rate
    if len(rates) > 1 and best in (rates[0], rates[-1]):
        return (f"the best learning rate on val, {best:g}, lies on the edge of the grid",)
    return ()
