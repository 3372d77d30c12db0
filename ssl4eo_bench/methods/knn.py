"""Classification by the nearest training samples; exact, in blocks of queries."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ssl4eo_bench import progress
from ssl4eo_bench.config.protocols import Knn
from ssl4eo_bench.config.task import Kind
from ssl4eo_bench.metrics.evaluation import Thresholds, tune_thresholds

QUERIES = 256
"""Samples compared at once; their similarities to 270,000 training samples take 280 MB."""

ROWS = 8192
"""Features that are brought to length 1 at once, in float64."""

DOUBT = 1e-6
"""How far a similarity in float32 may be off, relative to the lengths of what was multiplied."""

EQUAL = 1e-13
"""Similarities in float64 that differ by less are equal."""

CANDIDATES = 512
"""So many training samples, and no more, are told apart in float64 at the last place of a query."""

LEVELS = 2.0**32
"""Of a score: where all neighbours agree it is 1 whatever they weigh, and not 1 give or take the rounding of a sum, by
which average precision would order samples."""


@dataclass(frozen=True)
class Directions:
    """Features of length 1, relative to the mean direction of the training samples, in float32.

    With m for the mean, the cosine of q and t is `(q - m)·(t - m) + m·t + m·q - m·m`. The last two terms are the same
    for all neighbours of a query and leave both their order and their weights alone, so they are left out. The others
    keep their digits where all features point nearly the same way, as they do when they share a large offset.

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
        """Those of training features `[N, D]`."""
        blocks = [features[start : start + ROWS] for start in range(0, len(features), ROWS)]
        mean = sum(_unit(block, device).sum(0) for block in blocks) / len(features)
        assert isinstance(mean, Tensor)  # there are training samples
        along = torch.cat([_unit(block, device) @ mean for block in blocks])
        relative = torch.cat([(_unit(block, device) - mean).float() for block in blocks])
        return cls(features, mean, relative, (along - along.mean()).float(), relative.norm(dim=1))

    def similarities(self, queries: Tensor) -> Tensor:
        """Cosine similarities `[M, N]` of queries `[M, D]` of length 1, up to a constant of each."""
        return torch.addmm(self.along, (queries - self.mean).float(), self.relative.T)

    def doubts(self, queries: Tensor, rows: Tensor | slice) -> Tensor:
        """How far the similarities of queries `[M, D]` to training samples may be off."""
        lengths = (queries - self.mean).float().norm(dim=1, keepdim=True)
        doubts: Tensor = DOUBT * (lengths * self.lengths[rows] + self.along[rows].abs())
        return doubts

    def exact(self, query: Tensor, rows: Tensor) -> Tensor:
        """The similarities of a query `[D]` to some training samples, in float64."""
        return torch.mv(_unit(self.features[rows.cpu().numpy()], self.mean.device), query)


@dataclass(frozen=True)
class KnnProbe:
    """Training samples that vote.

    Attributes:
        protocol: its settings.
        directions: of the training features.
        votes: what each of them votes for, `[N, C]` float64.
        thresholds: for multilabel, chosen on `val`.
        warnings: what a reader of the result should know.
    """

    protocol: Knn
    directions: Directions
    votes: Tensor
    thresholds: Thresholds | None = None
    warnings: tuple[str, ...] = ()

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Each class's share of the votes, `[M, C]` float64, for features `[M, D]`."""
        found = []
        with progress.stage("nearest neighbours", total=len(features), unit="samples") as advance:
            for start in range(0, len(features), QUERIES):
                queries = _unit(features[start : start + QUERIES], self.votes.device)
                found.append(self._shares(queries).cpu().numpy())
                advance(len(queries))
        return np.concatenate(found)

    def _shares(self, queries: Tensor) -> Tensor:
        """Shares of the votes `[M, C]` for queries `[M, D]` of length 1."""
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
        """Shares `[C]` of a query `[D]` where float32 does not tell which samples are its neighbours.

        Those that may be are told apart in float64; those that are as near as the last neighbour share its places.
        """
        doubts = self.directions.doubts(query[None], slice(None))[0]
        reach = similarities + doubts >= last - doubts[similarities == last].max()
        rows = torch.nonzero(reach).flatten()
        if len(rows) <= CANDIDATES:
            found = self.directions.exact(query, rows)
            equal = torch.full_like(found, EQUAL)
        else:  # a network that tells nothing apart
            found, equal = similarities[rows].double(), doubts[rows].double()
        last = found.topk(self.protocol.k).values[-1]
        nearer = found > last + equal
        level = ~nearer & (found >= last - equal)
        places = (self.protocol.k - nearer.sum()) / level.sum()
        weights = self._weights(found[None])[0] * (nearer.double() + places * level.double())
        return (weights / weights.sum()) @ self.votes[rows]

    def _weights(self, similarities: Tensor) -> Tensor:
        """The weights of votes, relative to that of the nearest, so that none overflows: `[M, K]` float64."""
        nearest = similarities.max(dim=1, keepdim=True).values
        return ((similarities - nearest).double() / self.protocol.temperature).exp()


def fit_knn(
    protocol: Knn,
    kind: Kind,
    classes: int,
    train: tuple[np.ndarray, np.ndarray],
    val: tuple[np.ndarray, np.ndarray],
    *,
    device: str,
) -> KnnProbe:
    """Keep the training samples.

    Args:
        protocol: its settings.
        kind: multilabel or multiclass.
        classes: number of classes, also those without training samples.
        train: features `[N, D]`, float32 or float16, and targets, `[N]` or `[N, C]`.
        val: the same of the validation split, on which thresholds are tuned.
        device: where to compare.
    """
    indicators = train[1] if kind == "multilabel" else np.eye(classes)[train[1]]
    place = torch.device(device)
    votes = torch.from_numpy(indicators).to(place).double()
    probe = KnnProbe(protocol, Directions.of(train[0], place), votes)
    if kind != "multilabel":
        return probe
    return replace(probe, thresholds=tune_thresholds(probe.probabilities(val[0]), val[1]))


def _unit(features: np.ndarray, device: torch.device) -> Tensor:
    return functional.normalize(torch.from_numpy(features).to(device).double(), dim=1)
