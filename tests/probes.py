"""Probes on plain arrays, as tests fit them."""

from typing import Any

import numpy as np

from ssl4eo_bench.config.protocols import Knn, Linear
from ssl4eo_bench.config.task import Kind
from ssl4eo_bench.labels import labels_of
from ssl4eo_bench.methods.knn import KnnProbe
from ssl4eo_bench.methods.linear import LinearProbe, fit_probe
from ssl4eo_bench.solver.path import Data

Pair = tuple[np.ndarray, np.ndarray]
"""Features and targets."""


def linear(protocol: Linear, kind: Kind, classes: int, train: Pair, val: Pair, **options: Any) -> LinearProbe:
    return fit_probe(protocol, labels_of(kind), Data(*train, classes), val, **{"device": "cpu"} | options)


def knn(protocol: Knn, kind: Kind, classes: int, train: Pair, device: str = "cpu") -> KnnProbe:
    return KnnProbe(protocol, labels_of(kind).loss.indicators(train[1], classes), train[0], device)


def probabilities(kind: Kind, probe: LinearProbe, features: np.ndarray) -> np.ndarray:
    """Of label maps, those of pixels."""
    labels = labels_of("multiclass" if kind == "segmentation" else kind)
    found: np.ndarray = labels.probabilities(probe.head.logits(features))  # type: ignore[attr-defined]
    return found
