"""Recipes of published numbers: the network is trained as they say, and its scores are evaluated in both ways.

The logits of val and test are kept for every epoch that is evaluated. The right numbers are those of the epoch that is
best on val. After that choice test labels are opened, and the kept logits are evaluated as the published code does.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ssl4eo_bench.config.recipe import Recipe
from ssl4eo_bench.config.records import ReferenceResult, Selection
from ssl4eo_bench.config.task import SplitName
from ssl4eo_bench.errors import CacheError
from ssl4eo_bench.extraction.problem import Problem
from ssl4eo_bench.extraction.store import Features, Origin
from ssl4eo_bench.files.npz_files import read_arrays, write_arrays
from ssl4eo_bench.labels import labels_of
from ssl4eo_bench.labels.image_labels import ImageLabels, network_logits
from ssl4eo_bench.methods.network_training import NetworkTraining
from ssl4eo_bench.methods.predictor import Predictor
from ssl4eo_bench.metrics.batched import batch_averaged, shuffled
from ssl4eo_bench.models.pooled import BackboneFeatures, feature_module
from ssl4eo_bench.models.preprocess import Preprocess
from ssl4eo_bench.models.runtime import Runner
from ssl4eo_bench.training.loop import best_of
from ssl4eo_bench.training.recipe_classifier import WHOLE, RecipeClassifier, recipe_config


def fit_recipe(problem: Problem, recipe: Recipe) -> Predictor:
    """Train by a recipe."""
    job = problem.job
    labels, side = labels_of(job.task.kind), job.spec.checkpoint.image_size
    assert isinstance(labels, ImageLabels)  # no recipe is for label maps
    assert side != "native"  # there is a network
    rows, targets = labels.labelled(problem, "train")
    val = job.samples["val"].targets()
    ids = [job.samples["train"].ids[row] for row in rows]
    kept = KeptLogits(problem, labels)
    state = NetworkTraining(
        problem,
        partial(recipe_config, recipe, side, labels.training_loss),
        ids,
        partial(np.take, targets, axis=0),
        partial(kept.keep, val),
    ).train(_model(problem, recipe, side))
    best = best_of(state.history)
    on_val = kept.read(best.epoch, "val")
    scorer = labels.scorer(problem, partial(kept.read, best.epoch), labels.probabilities, on_val.values, val)
    choice = Selection(metric=job.task.main_metric, rate=best.rate, epoch=best.epoch, history=tuple(state.history))
    origins = (Origin(0, (), ()), on_val.origin)
    return Predictor(scorer, choice, (), ids, origins, partial(_reference, kept, recipe, best.epoch))


@dataclass(frozen=True)
class KeptLogits:
    """The logits of val and test for every epoch that is evaluated, in files."""

    problem: Problem
    labels: ImageLabels

    def keep(self, val: np.ndarray, run: Runner, epoch: int) -> float:
        """Compute and keep the logits of an epoch; return its main metric on `val`, which holds the targets."""
        splits = {split: network_logits(self.problem, split, run) for split in ("val", "test")}
        write_arrays(self._file(epoch), {"runner": np.array(run.name), **splits})
        return self.labels.main_metric(splits["val"], val)

    def read(self, epoch: int, split: SplitName) -> Features:
        """Return the logits of a split at an epoch.

        Raises:
            CacheError: if they are not what was written.
        """
        stored = read_arrays(self._file(epoch))
        if stored is None:
            raise CacheError(f"{self._file(epoch)} is damaged or gone; train anew with --force.")
        return Features(stored[split], Origin(len(stored[split]), (str(stored["runner"]),), ()))

    def _file(self, epoch: int) -> Path:
        state = self.problem.state_file()
        return state.with_name(f"{state.stem}-{epoch}.npz")


def _reference(kept: KeptLogits, recipe: Recipe, chosen: int) -> ReferenceResult:
    """Return what the published code would have reported of a training of which an epoch was chosen on `val`."""
    metric, targets = kept.labels.main_metric, kept.problem.job.samples["test"].targets()
    order = shuffled(len(targets)) if recipe.shuffles_scored else np.arange(len(targets))

    def averaged(logits: np.ndarray) -> float:
        return batch_averaged(
            metric,
            logits[order],
            targets[order],
            recipe.scored_batch,
            drop_last=bool(recipe.drops_scored),
            weighted=bool(recipe.weighted),
        )

    logits = {epoch: kept.read(epoch, "test").values for epoch in recipe.scored_epochs}
    whole = {epoch: metric(values, targets) for epoch, values in logits.items()}
    batched = {epoch: averaged(values) for epoch, values in logits.items()}
    best = max(whole, key=lambda epoch: whole[epoch])
    return ReferenceResult(
        batch=recipe.scored_batch,
        batch_averaged=batched[chosen],
        best_test_epoch=best,
        best_test=whole[best],
        best_test_batch_averaged=max(batched.values()),
    )


def _model(problem: Problem, recipe: Recipe, side: int) -> RecipeClassifier:
    """Return the network with a random head; it takes whole images, which are larger than crops."""
    job, example = problem.job, problem.example()
    network = problem.network(feature_module, BackboneFeatures)
    with torch.inference_mode():
        width = int(network.eval()(*(torch.from_numpy(group) for group in example)).shape[1])
    whole = job.spec.inputs.model_copy(update={"image_size": round(side * WHOLE)})
    sizes = [(group.shape[2], group.shape[3]) for group in example]
    network.preprocess = Preprocess(whole, job.task.groups(whole.sources), sizes)
    return RecipeClassifier(network, width, len(job.task.classes), side, recipe, job.spec.seed)
