"""Classification by the nearest training samples; exact, in blocks of queries."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ssl4eo_bench.metrics.evaluation import tune_thresholds
from ssl4eo_bench.progress import Progress
from ssl4eo_bench.spec.protocols import Knn
from ssl4eo_bench.spec.tasks import Kind

QUERIES = 256
"""Samples compared at once; their similarities to 270,000 training samples take 280 MB."""

LEVELS = 2.0**32
"""Of a score: where all neighbours agree it is 1 whatever they weigh, and not 1 give or take the rounding of a sum, by
which average precision would order samples."""


@dataclass(frozen=True)
class KnnProbe:
    """Training samples that vote.

    Attributes:
        protocol: its settings.
        directions: of the training features, `[N, D]` float32 of length 1.
        votes: what each of them votes for, `[N, C]` float64.
        progress: shows samples being compared.
        thresholds: for multilabel, the score for each class that gives the best F1 on `val`.
        warnings: what a reader of the result should know.
    """

    protocol: Knn
    directions: Tensor
    votes: Tensor
    progress: Progress
    thresholds: np.ndarray | None = None
    warnings: tuple[str, ...] = ()

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Each class's share of the votes, `[M, C]` float64, for features `[M, D]`."""
        found = []
        with self.progress.stage("nearest neighbours", total=len(features), unit="samples") as advance:
            for start in range(0, len(features), QUERIES):
                queries = _directions(features[start : start + QUERIES], self.directions.device)
                found.append(self._shares(queries).cpu().numpy())
                advance(len(queries))
        return np.concatenate(found)

    def _shares(self, queries: Tensor) -> Tensor:
        neighbours = min(self.protocol.k, len(self.directions))
        similarities, rows = (queries @ self.directions.T).topk(neighbours, dim=1)
        # Relative to the nearest: the common factor cancels, and none overflows.
        weights = ((similarities - similarities[:, :1]).double() / self.protocol.temperature).exp()
        shares = torch.einsum("mk,mkc->mc", weights / weights.sum(1, keepdim=True), self.votes[rows])
        return torch.round(shares * LEVELS) / LEVELS


def fit_knn(
    protocol: Knn,
    kind: Kind,
    classes: int,
    train: tuple[np.ndarray, np.ndarray],
    val: tuple[np.ndarray, np.ndarray],
    *,
    device: str,
    progress: Progress,
) -> KnnProbe:
    """Keep the training samples.

    Args:
        protocol: its settings.
        kind: multilabel or multiclass.
        classes: number of classes, also those without training samples.
        train: features `[N, D]`, float32 or float16, and targets, `[N]` or `[N, C]`.
        val: the same of the validation split, on which thresholds are tuned.
        device: where to compare.
        progress: shows samples being compared.
    """
    indicators = train[1] if kind == "multilabel" else np.eye(classes)[train[1]]
    place = torch.device(device)
    votes = torch.from_numpy(indicators).to(place).double()
    probe = KnnProbe(protocol, _directions(train[0], place), votes, progress)
    if kind != "multilabel":
        return probe
    return replace(probe, thresholds=tune_thresholds(probe.probabilities(val[0]), val[1]))


def _directions(features: np.ndarray, device: torch.device) -> Tensor:
    return functional.normalize(torch.from_numpy(features).to(device).float(), dim=1)
