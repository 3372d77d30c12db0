"""Recipes of published numbers: the network is trained as they say, and what it scores is looked at both ways.

Scores of val and test are kept at every look at val. The right numbers are those of the epoch that is best on val. When
all of that is done, test labels are opened, and the ways of the published numbers are taken on the kept scores.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ssl4eo_bench.config.recipe import Recipe
from ssl4eo_bench.config.task import SplitName
from ssl4eo_bench.files.atomic import replacing
from ssl4eo_bench.labels.images import Images, ImageScores, Rows, labelled
from ssl4eo_bench.methods.finetune import ComputedFeatures, ImageCourse, Tuning
from ssl4eo_bench.methods.linear import main_metric, to_probabilities
from ssl4eo_bench.methods.probe import Probe
from ssl4eo_bench.methods.tuned import Tuned
from ssl4eo_bench.metrics.batched import batch_averaged, shuffled
from ssl4eo_bench.metrics.evaluation import tune_thresholds
from ssl4eo_bench.models.pooled import BackboneFeatures, feature_module
from ssl4eo_bench.models.preprocess import Preprocess
from ssl4eo_bench.models.runtime import Runner
from ssl4eo_bench.training.loop import Plan
from ssl4eo_bench.training.recipe import WHOLE, RecipeClassifier, recipe_plan


@dataclass(frozen=True)
class Reported:
    """What the published code would have reported of a training, by the task's main metric on test.

    Attributes:
        batch: samples that it computes one metric of.
        batch_averaged: the mean over batches, at the epoch that is best on val.
        best_test_epoch: the epoch that is best on test itself, and
        best_test: its metric.
        best_test_batch_averaged: the best mean over batches of any epoch: both together.
    """

    batch: int
    batch_averaged: float
    best_test_epoch: int
    best_test: float
    best_test_batch_averaged: float


@dataclass(frozen=True)
class RecipeScores(ImageScores):
    """The scores of the test split at the chosen epoch, and at every other one.

    Attributes:
        epochs: logits `[N, C]` by epoch.
    """

    epochs: dict[int, np.ndarray]

    def reported(self) -> Reported:
        """What the published code would have reported of the same training."""
        kind, targets, recipe = self.job.task.kind, self._targets, self.job.spec.protocol
        assert isinstance(recipe, Recipe)
        assert isinstance(self.probe, Tuned)

        def metric(logits: np.ndarray, of: np.ndarray) -> float:
            return main_metric(kind, of)(logits)

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

        whole = {epoch: metric(logits, targets) for epoch, logits in self.epochs.items()}
        batched = {epoch: averaged(logits) for epoch, logits in self.epochs.items()}
        best = max(whole, key=lambda epoch: whole[epoch])
        return Reported(
            batch=recipe.scored_batch,
            batch_averaged=batched[self.probe.chosen.epoch],
            best_test_epoch=best,
            best_test=whole[best],
            best_test_batch_averaged=max(batched.values()),
        )


class RecipeImages(Images):
    """The stages behind a recipe: features are the logits that were kept at the chosen epoch."""

    def __init__(self, tuning: Tuning, chosen: int) -> None:
        super().__init__(tuning.job, tuning.devices, tuning.cache_dir)
        self._tuning = tuning
        self._chosen = chosen

    def features(self, split: SplitName) -> ComputedFeatures:
        """The logits of a split; leaves its labels closed."""
        kept = _kept(self._tuning, self._chosen)
        return ComputedFeatures(kept[split], len(kept[split]), (str(kept["runner"]),), ())

    def score(self, probe: Probe) -> RecipeScores:
        """The scores of the test split; leaves its labels closed."""
        assert isinstance(probe, Tuned)
        found = self.features("test")
        epochs = {epoch.epoch: _kept(self._tuning, epoch.epoch)["test"] for epoch in probe.history}
        scores = probe.probabilities(found.values)
        return RecipeScores(self._job, probe, found.values, scores, found, epochs)


@dataclass(frozen=True)
class RecipeCourse(ImageCourse):
    """Labels of whole images; the logits of val and test are kept at every look at val."""

    @property
    def plan(self) -> Plan:
        """How to train."""
        recipe, side = self.tuning.job.spec.protocol, self.tuning.job.spec.checkpoint.image_size
        assert isinstance(recipe, Recipe)
        assert side != "native"  # it has a network
        return recipe_plan(recipe, side)

    def validate(self, run: Runner, epoch: int) -> float:
        """The main metric on `val`."""
        splits = {split: self.tuning.logits(split, run) for split in ("val", "test")}
        with replacing(_file(self.tuning, epoch)) as temporary, temporary.open("wb") as opened:
            np.savez(opened, runner=np.array(run.name), **splits)  # type: ignore[arg-type]
        return main_metric(self.tuning.job.task.kind, self.val)(splits["val"])


def follow(tuning: Tuning) -> tuple[RecipeImages, Tuned, Rows, Rows]:
    """Train by the recipe of a job.

    Returns:
        The stages behind it, how it was trained, and the rows of train (without features) and val (logits).

    Raises:
        SpecError: if the checkpoint has no network.
        TrainingError: if the loss is no number.
    """
    job, kind = tuning.job, tuning.job.task.kind
    train, targets = labelled(job, "train")
    ids = [job.samples["train"].ids[row] for row in train]
    course = RecipeCourse(tuning, ids, targets, job.samples["val"].targets())
    tuned = Tuned(kind, None, tuple(tuning.train(course, _model(tuning)).history))
    stages = RecipeImages(tuning, tuned.chosen.epoch)
    val = stages.rows("val")
    if kind == "multilabel":
        tuned = replace(tuned, thresholds=tune_thresholds(to_probabilities(val.features, kind), val.targets))
    nothing = np.empty((len(ids), 0), dtype=np.float32)
    return stages, tuned, Rows(nothing, targets, ids, ComputedFeatures(nothing, 0, (), ())), val


def _model(tuning: Tuning) -> RecipeClassifier:
    job, recipe, side = tuning.job, tuning.job.spec.protocol, tuning.job.spec.checkpoint.image_size
    assert isinstance(recipe, Recipe)
    assert side != "native"
    network = tuning.network(feature_module, BackboneFeatures)
    example = tuning.example()
    with torch.inference_mode():
        width = int(network.eval()(*(torch.from_numpy(group) for group in example)).shape[1])
    whole = job.spec.inputs.model_copy(update={"image_size": round(side * WHOLE)})
    sizes = [(group.shape[2], group.shape[3]) for group in example]
    network.preprocess = Preprocess(whole, job.task.groups(whole.sources), sizes)
    generator = torch.Generator().manual_seed(job.spec.seed)
    return RecipeClassifier(network, width, len(job.task.classes), side, recipe, generator)


def _file(tuning: Tuning, epoch: int) -> Path:
    """Where the logits of val and test at an epoch are kept."""
    return tuning.state.with_name(f"{tuning.state.stem}-{epoch}.npz")


def _kept(tuning: Tuning, epoch: int) -> dict[str, np.ndarray]:
    """The logits at an epoch, by split, and the name of their runner."""
    with np.load(_file(tuning, epoch)) as stored:
        return dict(stored)
