"""What is done with a backbone: each method has one function that fits it to a problem.

A new method is one module here with a function `fit`, its settings in `config/protocols.py`, and one case in `fit`.
"""

from typing import Any

from ssl4eo_bench.config.protocols import Finetune, Knn, Linear
from ssl4eo_bench.config.recipe import Recipe
from ssl4eo_bench.config.task import SplitName
from ssl4eo_bench.extraction.problem import Problem
from ssl4eo_bench.extraction.store import Extraction
from ssl4eo_bench.labels import labels_of
from ssl4eo_bench.methods.knn import fit_knn
from ssl4eo_bench.methods.linear import fit_linear
from ssl4eo_bench.methods.predictor import Predictor


def extractions(problem: Problem) -> "dict[SplitName, Extraction[Any]]":
    """Return what the features that a method reads are computed from, by split; none of them are computed.

    It is empty for a method without features, and for embeddings, which are read from files.
    """
    spec = problem.job.spec
    if isinstance(spec.protocol, Recipe) or spec.checkpoint.is_embeddings:
        return {}
    labels, splits = labels_of(spec.task.kind), list[SplitName](("train", "val"))
    if not isinstance(spec.protocol, Finetune) and spec.task.kind != "segmentation":
        splits.append("test")
    return {split: labels.extraction(problem, split) for split in splits}


def fit(problem: Problem) -> Predictor:
    """Fit the method that a job asks for, or say why that cannot be done; the labels of `test` stay closed."""
    protocol = problem.job.spec.protocol
    match protocol:
        case Linear():
            return fit_linear(problem, protocol)
        case Knn():
            return fit_knn(problem, protocol)
        case Finetune():
            from ssl4eo_bench.methods.finetune import fit_finetune  # imports timm: not where features are cached

            return fit_finetune(problem, protocol)
        case Recipe():
            from ssl4eo_bench.methods.recipes import fit_recipe

            return fit_recipe(problem, protocol)
