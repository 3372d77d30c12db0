"""From stored samples to features."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from ssl4eo_bench.config.checkpoint import EMBEDDINGS
from ssl4eo_bench.config.task import Groups, SplitName
from ssl4eo_bench.config.weights import EmbeddingWeights
from ssl4eo_bench.data.embedding_files import read_vectors
from ssl4eo_bench.extraction.problem import Problem
from ssl4eo_bench.extraction.store import Batch, Extraction, Extractor, FeatureCache, Features, Origin, Read


def pooled_features(problem: Problem, split: SplitName) -> Features:
    """Return the features of whole images, from the cache as far as they are there; labels stay closed.

    Those of embeddings are looked up in their files.
    """
    checkpoint = problem.job.spec.checkpoint
    with problem.stopwatch.stage("features"):
        if isinstance(checkpoint.weights, EmbeddingWeights):
            what = f"vectors {checkpoint.name} · {split}"
            vectors = read_vectors(checkpoint.weights.embeddings, problem.job.samples[split].ids, what)
            return Features(vectors, Origin(0, (EMBEDDINGS,), ()))
        return cache_of(problem).get(pooled_extraction(problem, split))


def pooled_extraction(problem: Problem, split: SplitName) -> Extraction[Groups]:
    """Return what the features of whole images are computed from."""
    backbones, ids = problem.backbones(_pooled_module), problem.job.samples[split].ids

    def read(start: int, stop: int) -> Iterator[Groups]:
        return problem.batches(split, ids[start:stop], size=backbones[0].batch)

    return extraction(problem, split, backbones, read)


def _pooled_module(*arguments: Any, **options: Any) -> nn.Module:
    from ssl4eo_bench.models.pooled import feature_module  # imports timm, which takes seconds: not for cached features

    return feature_module(*arguments, **options)


def extraction(
    problem: Problem,
    split: SplitName,
    backbones: Sequence[Extractor[Batch]],
    read: Read[Batch],
    changes: dict[str, object] | None = None,
) -> Extraction[Batch]:
    """Return what the features of a split are computed from; `changes` are to the key of features of whole images."""
    samples = problem.job.samples[split]
    return Extraction(
        problem.feature_key(split).model_copy(update=changes or {}),
        backbones,
        read,
        threads=0 if problem.context.device == "cpu" else 2,  # on a GPU one batch is copied while another is computed
        ids=samples.ids,
        not_finite=samples.reader.not_finite,
    )


def cache_of(problem: Problem) -> FeatureCache:
    """Return the cache of a problem's features."""
    return FeatureCache(problem.context.cache_dir, problem.context.renewed)
