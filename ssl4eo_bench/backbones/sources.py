"""Whether the weights of a checkpoint are on this machine."""

import importlib.util
from pathlib import Path

from ssl4eo_bench.spec.weights import FileWeights, PackagedWeights, RandomWeights, Weights


def is_here(weights: Weights | None, cache_dir: Path) -> bool:
    """Whether nothing has to be fetched for these weights."""
    if weights is None or isinstance(weights, RandomWeights):
        return True
    if isinstance(weights, FileWeights):
        return Path(weights.path).is_file()
    if isinstance(weights, PackagedWeights):
        try:
            package = importlib.util.find_spec(weights.package)
        except (ImportError, ValueError):
            return False
        return bool(package and package.origin and (Path(package.origin).parent / weights.file).is_file())
    return (cache_dir / "weights" / weights.place).is_file()
