"""Labels of whole images: one feature and one score vector for each sample."""

from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch

from ssl4eo_bench import progress
from ssl4eo_bench.config.task import Groups, SplitName
from ssl4eo_bench.data.subsets import nested_subset
from ssl4eo_bench.extraction.extract import pooled_extraction, pooled_features
from ssl4eo_bench.extraction.problem import Problem, batch_size
from ssl4eo_bench.extraction.store import Extraction, Features, Origin, require_finite
from ssl4eo_bench.labels.base import Labels, Predictions, Rows, Scorer
from ssl4eo_bench.metrics.classification import Thresholds, evaluate
from ssl4eo_bench.models.runtime import Runner
from ssl4eo_bench.solver.path import Head
from ssl4eo_bench.training.trainable import Classifier, Trainable

SKETCH = 12
"""Directions in which the two principal ones are looked for."""
PLANE_ROWS = 10_000
"""The most rows that principal components are fitted on and computed for at once."""

Scores = Callable[[np.ndarray], np.ndarray]
"""Returns class probabilities `[N, C]` float64 of features `[N, D]`."""

FeaturesOf = Callable[[SplitName], Features]
"""Returns the features, or the logits, of a split; labels stay closed."""


class ImageLabels(Labels):
    """Labels of whole images: what multiclass and multilabel have in common."""

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return class probabilities float64 of logits, both `[N, C]`."""
        return self.loss.probabilities(torch.from_numpy(logits).double()).numpy()

    def thresholds(self, scores: np.ndarray, targets: np.ndarray) -> Thresholds | None:
        """Return the thresholds of probabilities `[N, C]` that are best on targets; none where they are not needed."""
        del scores, targets
        return None

    def labelled(self, problem: Problem, split: SplitName) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of the samples that may be used, ascending, and their targets; of `train` a fraction."""
        targets, spec = problem.job.samples[split].targets(), problem.job.spec
        if split != "train" or spec.fraction is None:
            return np.arange(len(targets)), targets
        rows = nested_subset(targets, spec.fraction, spec.seed, problem.job.task.classes)
        return rows, targets[rows]

    def rows(self, problem: Problem, split: SplitName) -> Rows:
        """Return the features and labels of a split."""
        found, ids = pooled_features(problem, split), problem.job.samples[split].ids
        rows, targets = self.labelled(problem, split)
        if len(rows) == len(ids):
            return Rows(found.values, targets, ids, found.origin)
        return Rows(found.values[rows], targets, [ids[row] for row in rows], found.origin)

    def extraction(self, problem: Problem, split: SplitName) -> Extraction[Groups]:
        """Return what the features of a split are computed from."""
        return pooled_extraction(problem, split)

    def scorer(
        self, problem: Problem, features_of: FeaturesOf, scores: Scores, val: np.ndarray, targets: np.ndarray
    ) -> Scorer:
        """Return a scorer of features or logits, with thresholds chosen on those of `val`."""
        on_val, names = scores(val), problem.job.task.classes
        thresholds = self.thresholds(on_val, targets)

        def predict() -> Predictions:
            found = features_of("test")
            on_test, truth = scores(found.values), cache(problem.job.samples["test"].targets)
            return Predictions(
                found.origin,
                lambda bootstrap: evaluate(on_test, truth(), names, thresholds, bootstrap=bootstrap),
                lambda: {"scores": on_test, "targets": truth(), "embedding": plane(found.values)},
            )

        return Scorer(thresholds, evaluate(on_val, targets, names, thresholds), predict)

    def head_scorer(self, problem: Problem, head: Head, val: Rows) -> Scorer:
        """Return the scorer of a linear head on frozen features."""

        def scores(features: np.ndarray) -> np.ndarray:
            return self.probabilities(head.logits(features))

        return self.scorer(problem, partial(pooled_features, problem), scores, val.features, val.targets)

    def trainable(self, problem: Problem, start: Head) -> Trainable:
        """Return the network with the linear head."""
        from ssl4eo_bench.models.pooled import BackboneFeatures, feature_module  # imports timm: not for frozen features

        return Classifier(problem.network(feature_module, BackboneFeatures), *start.unstandardised())

    def validate(self, problem: Problem, val: np.ndarray, run: Runner) -> float:
        """Return the main metric on all samples of `val`."""
        return self.main_metric(network_logits(problem, "val", run), val)

    def network_scorer(self, problem: Problem, val: np.ndarray, run: Runner, weights_sha256: str) -> Scorer:
        """Return the scorer of a trained network: its logits take the place of features."""

        def logits_of(split: SplitName) -> Features:
            found = network_logits(problem, split, run)
            require_finite(found, problem.job.spec.checkpoint.name, problem.job.spec.task_slug)
            return Features(found, Origin(len(found), (run.name,), (weights_sha256,)))

        return self.scorer(problem, logits_of, self.probabilities, logits_of("val").values, val)


def network_logits(problem: Problem, split: SplitName, run: Runner) -> np.ndarray:
    """Return logits `[N, C]` of a trained network for a split; labels stay closed."""
    ids, found = problem.job.samples[split].ids, []
    what = f"logits {problem.job.spec.checkpoint.name}, tuned · {split}"
    with progress.stage(what, total=len(ids), unit="images") as advance:
        for groups in problem.batches(split, ids, size=batch_size(problem.context.device)):
            found.append(run(groups))
            advance(len(found[-1]))
    return np.concatenate(found)


def plane(features: np.ndarray) -> np.ndarray:
    """Return the first two principal components `[N, 2]` float32 of features `[N, D]`; zero where there are fewer.

    The axes are fitted on evenly spaced rows, at most `PLANE_ROWS`: a plane needs no more. Each points to where its
    largest entry is positive.
    """
    found = np.zeros((len(features), 2), dtype=np.float32)
    some = torch.from_numpy(features[:: -(-len(features) // PLANE_ROWS)]).float()
    count = min(2, *some.shape, len(some) - 1)
    if count:
        mean = some.mean(dim=0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            _, _, axes = torch.pca_lowrank(some - mean, q=min(SKETCH, *some.shape), center=False)
        axes = axes[:, :count]
        axes = axes * axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)).sign()
        for start in range(0, len(features), PLANE_ROWS):
            rows = torch.from_numpy(features[start : start + PLANE_ROWS]).float()
            found[start : start + PLANE_ROWS, :count] = ((rows - mean) @ axes).numpy()
    return found
