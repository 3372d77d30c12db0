"""What every kind of labels provides to the methods."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ssl4eo_bench.config.task import SplitName
from ssl4eo_bench.extraction.problem import Problem, batch_size
from ssl4eo_bench.extraction.store import Extraction, Origin
from ssl4eo_bench.metrics.bootstrap import Bootstrap
from ssl4eo_bench.metrics.classification import Evaluation, Thresholds
from ssl4eo_bench.models.runtime import Runner
from ssl4eo_bench.solver.losses import Loss
from ssl4eo_bench.solver.path import Head
from ssl4eo_bench.training.trainable import Trainable


@dataclass(frozen=True)
class Rows:
    """What a head is fitted on or chosen by: features of samples, or of chosen pixels of them.

    Attributes:
        features: `[R, D]`.
        targets: `[R]`, or `[R, C]` for multilabel.
        ids: of the samples.
        origin: of the features.
    """

    features: np.ndarray
    targets: np.ndarray
    ids: Sequence[str]
    origin: Origin


@dataclass(frozen=True)
class Predictions:
    """The predictions for the test split. Its labels are opened by `evaluate` and `arrays`.

    The one returns the metrics with intervals, the other what paired comparisons and figures need of each sample, by
    name.
    """

    origin: Origin
    evaluate: Callable[[Bootstrap], Evaluation]
    arrays: Callable[[], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Scorer:
    """A fitted head or network with what was chosen for it on `val`.

    Attributes:
        thresholds: from which scores on labels are predicted; for multilabel.
        val: the metrics on `val`.
        predict: returns the predictions for the test split; labels stay closed.
    """

    thresholds: Thresholds | None
    val: Evaluation
    predict: Callable[[], Predictions]


class Labels(ABC):
    """One kind of labels: how it is fitted, chosen, trained, predicted and evaluated."""

    loss: Loss
    """The loss that a linear head is fitted by."""

    @abstractmethod
    def main_metric(self, logits: np.ndarray, targets: np.ndarray) -> float:
        """Return the metric that everything is chosen by, from logits `[R, C]` and targets of rows."""

    def mean_loss(self, logits: np.ndarray, targets: np.ndarray) -> float:
        """Return the mean cross-entropy of logits `[R, C]`; by default that of class numbers."""
        return float(functional.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(targets).long()))

    def standard_error(self, logits: np.ndarray, targets: np.ndarray) -> float:
        """Return the standard error of the main metric of logits `[R, C]` if it has plateaus, else 0.

        Accuracy and mIoU only see which class is first, so several heads can have nearly the same value. Average
        precision moves with every score: its best point is better than a near one with a lower loss. Samples, or
        pixels, are taken as independent.
        """
        del logits, targets
        return 0.0

    @abstractmethod
    def training_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the sum of cross-entropies over what has a label."""

    def augmented(self, targets: Tensor, views: Tensor) -> Tensor:
        """Return the targets of images that are shown by transforms `[N, 2, 3]`; those of whole images are the same."""
        del views
        return targets

    @abstractmethod
    def rows(self, problem: Problem, split: SplitName) -> Rows:
        """Return features and targets of a split; of `train` only the fraction that may be used."""

    @abstractmethod
    def extraction(self, problem: Problem, split: SplitName) -> Extraction[Any]:
        """Return what the features of a split are computed from, so that any process can compute some of them."""

    @abstractmethod
    def head_scorer(self, problem: Problem, head: Head, val: Rows) -> Scorer:
        """Return the scorer of a linear head on frozen features, evaluated on the rows of `val`."""

    @abstractmethod
    def trainable(self, problem: Problem, start: Head) -> Trainable:
        """Return the network of a problem with a head that starts from a linear one, to be trained."""

    def target_reader(self, problem: Problem, train: Rows) -> Callable[[np.ndarray], np.ndarray]:
        """Return a function that gives the targets of some training samples by their numbers; it can be pickled."""
        del problem
        return partial(np.take, train.targets, axis=0)

    def batch(self, problem: Problem) -> int:
        """Return how many samples a runner takes at once."""
        return batch_size(problem.context.device)

    @abstractmethod
    def validate(self, problem: Problem, val: np.ndarray, run: Runner) -> float:
        """Return the main metric of a trained network on `val`; `val` holds the targets of its rows."""

    @abstractmethod
    def network_scorer(self, problem: Problem, val: np.ndarray, run: Runner, weights_sha256: str) -> Scorer:
        """Return the scorer of a trained network; `val` holds the targets of its rows."""
