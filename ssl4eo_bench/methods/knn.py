"""Classification by the nearest training samples; exact, in blocks of queries."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ssl4eo_bench import progress
from ssl4eo_bench.config.protocols import Knn
from ssl4eo_bench.config.records import Selection
from ssl4eo_bench.extraction.extract import pooled_features
from ssl4eo_bench.extraction.problem import Problem
from ssl4eo_bench.labels import labels_of
from ssl4eo_bench.labels.image_labels import ImageLabels
from ssl4eo_bench.methods.predictor import Predictor

QUERIES = 256
"""Samples that are compared at once; their similarities to 270,000 training samples take 280 MB."""

ROWS = 8192
"""Features that are scaled to length 1 at once, in float64."""

DOUBT = 1e-6
"""The error of a similarity in float32, relative to the lengths of the factors."""

EQUAL = 1e-13
"""Similarities in float64 that differ by less are equal."""

CANDIDATES = 512
"""The most training samples that are compared in float64 for the last place of a query."""

LEVELS = 2.0**32
"""Steps of a score. Where all neighbours agree it is 1 whatever they weigh; the rounding of a sum would move it, and
average precision would order samples by that."""


@dataclass(frozen=True)
class Directions:
    """Features of length 1, relative to the mean direction of the training samples, in float32.

    With m for the mean, the cosine of q and t is `(q - m)·(t - m) + m·t + m·q - m·m`. The last two terms are the same
    for all neighbours of a query and change neither their order nor their weights, so they are left out. The others
    keep their digits where all features have nearly the same direction, as they do when they share a large offset.

    Attributes:
        features: of the training samples, `[N, D]`.
        mean: `[D]` float64.
        relative: `[N, D]`, `t - m`.
        along: `[N]`, `m·t` without its mean.
        lengths: `[N]`, of `relative`.
    """

    features: np.ndarray
    mean: Tensor
    relative: Tensor
    along: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, features: np.ndarray, device: torch.device) -> "Directions":
        """Return the directions of training features `[N, D]`."""
        starts = range(0, len(features), ROWS)  # read again in each pass, so that they are never all in memory
        mean = sum(_unit(features[at : at + ROWS], device).sum(0) for at in starts) / len(features)
        assert isinstance(mean, Tensor)  # there are training samples
        along = torch.cat([_unit(features[at : at + ROWS], device) @ mean for at in starts])
        relative = torch.empty(features.shape, device=device)
        for at in starts:
            relative[at : at + ROWS] = _unit(features[at : at + ROWS], device) - mean
        return cls(features, mean, relative, (along - along.mean()).float(), relative.norm(dim=1))

    def similarities(self, queries: Tensor) -> Tensor:
        """Return cosine similarities `[M, N]` of queries `[M, D]` of length 1, up to a constant for each query."""
        return torch.addmm(self.along, (queries - self.mean).float(), self.relative.T)

    def doubts(self, queries: Tensor, rows: Tensor | slice) -> Tensor:
        """Return how far the similarities of queries `[M, D]` to training samples may be off."""
        lengths = (queries - self.mean).float().norm(dim=1, keepdim=True)
        doubts: Tensor = DOUBT * (lengths * self.lengths[rows] + self.along[rows].abs())
        return doubts

    def exact(self, query: Tensor, rows: Tensor) -> Tensor:
        """Return the similarities of a query `[D]` to some training samples, in float64."""
        return torch.mv(_unit(self.features[rows.cpu().numpy()], self.mean.device), query)


class KnnProbe:
    """Training samples with features `[N, D]`, each of which votes for the classes that indicators `[N, C]` name."""

    def __init__(self, protocol: Knn, indicators: np.ndarray, features: np.ndarray, device: str) -> None:
        place = torch.device(device)
        self.protocol = protocol
        self.directions = Directions.of(features, place)
        self.votes = torch.from_numpy(indicators).to(place).double()

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the share of the votes for each class, `[M, C]` float64, of features `[M, D]`."""
        found = []
        with progress.stage("nearest neighbours", total=len(features), unit="samples") as advance:
            for start in range(0, len(features), QUERIES):
                queries = _unit(features[start : start + QUERIES], self.votes.device)
                found.append(self._shares(queries).cpu().numpy())
                advance(len(queries))
        return np.concatenate(found)

    def _shares(self, queries: Tensor) -> Tensor:
        """Return shares of the votes `[M, C]` for queries `[M, D]` of length 1."""
        count = len(self.votes)
        neighbours = min(self.protocol.k, count)
        similarities = self.directions.similarities(queries)
        nearest, rows = similarities.topk(min(neighbours + 1, count), dim=1)
        weights = self._weights(nearest[:, :neighbours])
        shares = torch.einsum("mk,mkc->mc", weights / weights.sum(1, keepdim=True), self.votes[rows[:, :neighbours]])
        if neighbours < count:
            doubts = self.directions.doubts(queries, rows[:, neighbours - 1 :]).sum(dim=1)
            unsure = nearest[:, neighbours - 1] - nearest[:, neighbours] <= doubts
            for row in torch.nonzero(unsure).flatten().tolist():
                shares[row] = self._shares_at_the_border(queries[row], similarities[row], nearest[row, neighbours - 1])
        return torch.round(shares * LEVELS) / LEVELS

    def _shares_at_the_border(self, query: Tensor, similarities: Tensor, last: Tensor) -> Tensor:
        """Return shares `[C]` for a query `[D]` where float32 does not decide which samples are its neighbours.

        Float64 decides among those that may be; samples that are as near as the last neighbour share its places.
        """
        doubts = self.directions.doubts(query[None], slice(None))[0]
        reach = similarities + doubts >= last - doubts[similarities == last].max()
        rows = torch.nonzero(reach).flatten()
        if len(rows) <= CANDIDATES:
            found = self.directions.exact(query, rows)
            equal = torch.full_like(found, EQUAL)
        else:  # a network that gives all samples the same features
            found, equal = similarities[rows].double(), doubts[rows].double()
        last = found.topk(self.protocol.k).values[-1]
        nearer = found > last + equal
        level = ~nearer & (found >= last - equal)
        places = (self.protocol.k - nearer.sum()) / level.sum()
        weights = self._weights(found[None])[0] * (nearer.double() + places * level.double())
        return (weights / weights.sum()) @ self.votes[rows]

    def _weights(self, similarities: Tensor) -> Tensor:
        """Return the weights of votes `[M, K]` float64, relative to that of the nearest, so that none overflows."""
        nearest = similarities.max(dim=1, keepdim=True).values
        return ((similarities - nearest).double() / self.protocol.temperature).exp()


def fit_knn(problem: Problem, protocol: Knn) -> Predictor:
    """Keep the training samples of a problem; thresholds of multilabel tasks are chosen on `val`."""
    labels = labels_of(problem.job.task.kind)
    assert isinstance(labels, ImageLabels)  # the settings are refused for label maps
    train, val = labels.rows(problem, "train"), labels.rows(problem, "val")
    indicators = labels.loss.indicators(train.targets, len(problem.job.task.classes))
    probe = KnnProbe(protocol, indicators, train.features, problem.context.device)
    scorer = labels.scorer(problem, partial(pooled_features, problem), probe.probabilities, val.features, val.targets)
    choice = Selection(metric=problem.job.task.main_metric)
    return Predictor(scorer, choice, (), train.ids, (train.origin, val.origin))


def _unit(features: np.ndarray, device: torch.device) -> Tensor:
    """Return features of any number type, of length 1 in float64."""
    return functional.normalize(torch.from_numpy(features).to(device).double(), dim=1)
