"""From stored samples to features."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from torch import nn

from ssl4eo_bench.config.checkpoint import EMBEDDINGS
from ssl4eo_bench.config.task import Groups, SplitName
from ssl4eo_bench.config.weights import EmbeddingWeights
from ssl4eo_bench.data.embedding_files import read_vectors
from ssl4eo_bench.extraction.problem import Problem
from ssl4eo_bench.extraction.store import FeatureCache, Features, Origin


def threads(device: str) -> int:
    """Return how many batches run at once: on a GPU one is copied while another is computed."""
    return 0 if device == "cpu" else 2


def pooled_features(problem: Problem, split: SplitName) -> Features:
    """Return the features of whole images, from the cache as far as they are there; labels stay closed.

    Those of embeddings are looked up in their files.
    """
    checkpoint = problem.job.spec.checkpoint
    if isinstance(checkpoint.weights, EmbeddingWeights):
        with problem.stopwatch.stage("features"):
            what = f"vectors {checkpoint.name} · {split}"
            vectors = read_vectors(checkpoint.weights.embeddings, problem.job.samples[split].ids, what)
            return Features(vectors, Origin(0, (EMBEDDINGS,), ()))
    backbone, ids = problem.backbone(_pooled_module), problem.job.samples[split].ids

    def read(start: int, stop: int) -> Iterator[Groups]:
        return problem.batches(split, ids[start:stop], size=backbone.batch)

    with problem.stopwatch.stage("features"):
        return cached(problem, split, backbone, read)


def _pooled_module(*arguments: Any, **options: Any) -> nn.Module:
    from ssl4eo_bench.models.pooled import feature_module  # imports timm, which takes seconds: not for cached features

    return feature_module(*arguments, **options)


def cached(
    problem: Problem,
    split: SplitName,
    backbone: Callable[..., np.ndarray],
    read: Callable[[int, int], Iterator[object]],
    changes: dict[str, object] | None = None,
) -> Features:
    """Return the features of a split from the cache, computed as far as they are not there.

    Args:
        problem: with the samples.
        split: of the task.
        backbone: computes the features of a batch.
        read: yields the batches from one sample to another.
        changes: to the key of features of whole images.
    """
    samples = problem.job.samples[split]
    return FeatureCache(problem.context.cache_dir, problem.context.renewed).get(
        problem.feature_key(split).model_copy(update=changes or {}),
        backbone,  # type: ignore[arg-type]
        read,
        threads=threads(problem.context.device),
        ids=samples.ids,
        not_finite=samples.reader.not_finite,
    )
