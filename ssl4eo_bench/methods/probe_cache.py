"""The probe cache: a fit depends on its arrays and settings alone, so it is done once.

Another seed on the same features finds the probe on disk. The name of a file is the digest of everything that the fit
was given. A file that cannot be read is written again.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssl4eo_bench.config.canonical import digest
from ssl4eo_bench.config.records import PathPoint
from ssl4eo_bench.files.cached_items import mark_used
from ssl4eo_bench.files.npz_files import read_arrays, write_arrays
from ssl4eo_bench.solver.path import Head
from ssl4eo_bench.solver.standardisation import ROWS, Standardisation
from ssl4eo_bench.version import __version__

FOLDER = "probes"
NUMBERS = ("C", "gradient", "iterations", "converged", "explained")
"""Of a head."""


def place(cache_dir: Path, given: dict[str, object], arrays: Sequence[np.ndarray]) -> Path:
    """Return the file of the probe that is fitted to arrays with these settings, by this code."""
    code = {"package": __version__, "torch": str(torch.__version__)}
    return cache_dir / FOLDER / f"{digest(given | code | {'arrays': [_identity(array) for array in arrays]})}.npz"


def write(file: Path, head: Head, path: Sequence[PathPoint], error: float, warnings: Sequence[str]) -> None:
    """Write the parts of a linear probe."""
    about = {
        "head": {name: getattr(head, name) for name in NUMBERS},
        "path": [point.model_dump() for point in path],
        "error": error,
        "warnings": list(warnings),
    }
    tensors = {"weights": head.weights, "mean": head.standardisation.mean, "scale": head.standardisation.scale}
    arrays = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
    write_arrays(file, {"about": np.array(json.dumps(about)), **arrays})


def read(file: Path, device: str) -> dict[str, Any] | None:
    """Return the parts of a linear probe, by name; none if the file is absent or damaged.

    The archive has a checksum for each array.
    """
    stored = read_arrays(file)
    if stored is None:
        return None
    mark_used(file)
    about = json.loads(str(stored["about"]))
    weights, mean, scale = (torch.from_numpy(stored[name]).to(device) for name in ("weights", "mean", "scale"))
    return {
        "head": Head(Standardisation(mean, scale), weights=weights, **about["head"]),
        "path": tuple(PathPoint(**point) for point in about["path"]),
        "error": about["error"],
        "warnings": tuple(about["warnings"]),
    }


def _identity(array: np.ndarray) -> list[str]:
    sha256 = hashlib.sha256()
    for start in range(0, len(array), ROWS):  # a memory map is not copied as a whole
        sha256.update(np.ascontiguousarray(array[start : start + ROWS]).data)
    return [str(array.dtype), str(array.shape), sha256.hexdigest()]
