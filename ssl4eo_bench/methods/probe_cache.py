"""The probe cache: a fit is a function of its arrays and settings alone, so one that was done is not done again.

Another seed of the same features finds it on disk. A file is named by the digest of all that the fit was given, and
one that cannot be read is written anew.
"""

import hashlib
import json
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from ssl4eo_bench import __version__, progress
from ssl4eo_bench.config.canonical import digest
from ssl4eo_bench.config.protocols import Linear
from ssl4eo_bench.config.task import Kind
from ssl4eo_bench.files.storage import replacing
from ssl4eo_bench.methods.linear import FIT_VERSION, LinearProbe, PathPoint, fit_linear
from ssl4eo_bench.metrics.evaluation import Thresholds
from ssl4eo_bench.solver.path import Head
from ssl4eo_bench.solver.standardisation import ROWS, Standardisation

FOLDER = "probes"


def fit_once(
    cache_dir: Path,
    protocol: Linear,
    kind: Kind,
    classes: int,
    train: tuple[np.ndarray, np.ndarray],
    val: tuple[np.ndarray, np.ndarray],
    *,
    device: str,
    full_path: bool = False,
) -> LinearProbe:
    """What `fit_linear` gives for the same arguments, from `cache_dir` if it was fitted before."""
    given = {"protocol": protocol.model_dump(), "kind": kind, "classes": classes, "full_path": full_path}
    arrays = [_sha256(array) for array in (*train, *val)]
    code = {"fit": FIT_VERSION, "package": __version__, "torch": str(torch.__version__), "device": device}
    file = cache_dir / FOLDER / f"{digest(given | code | {'arrays': arrays})}.npz"
    found = _read(file, kind, torch.device(device))
    if found is not None:
        progress.note("linear probe: fitted before on the same features, read from the cache")
        return found
    fitted = fit_linear(protocol, kind, classes, train, val, device=device, full_path=full_path)
    _write(file, fitted)
    return fitted


def clear(cache_dir: Path) -> int:
    """Delete all kept probes and return the bytes freed."""
    files = list((cache_dir / FOLDER).glob("*.npz"))
    freed = sum(file.stat().st_size for file in files)
    for file in files:
        file.unlink()
    return freed


def _sha256(array: np.ndarray) -> list[str]:
    sha256 = hashlib.sha256()
    for start in range(0, len(array), ROWS):
        sha256.update(np.ascontiguousarray(array[start : start + ROWS]).data)
    return [str(array.dtype), str(array.shape), sha256.hexdigest()]


def _write(file: Path, probe: LinearProbe) -> None:
    head, standardisation = probe.head, probe.standardisation
    about = {
        "head": {name: getattr(head, name) for name in ("C", "gradient", "iterations", "converged", "explained")},
        "path": [asdict(point) for point in probe.path],
        "error": probe.error,
        "thresholds": probe.thresholds and {"each": probe.thresholds.each.tolist(), "common": probe.thresholds.common},
        "warnings": probe.warnings,
    }
    tensors = {"weights": head.weights, "mean": standardisation.mean, "scale": standardisation.scale}
    arrays = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
    with replacing(file) as temporary, temporary.open("wb") as opened:
        np.savez(opened, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]


def _read(file: Path, kind: Kind, device: torch.device) -> LinearProbe | None:
    """The probe in a file, or nothing if that is absent or damaged; the archive has a checksum for each array."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            weights, mean, scale = (torch.from_numpy(stored[name]).to(device) for name in ("weights", "mean", "scale"))
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    thresholds = about["thresholds"]
    return LinearProbe(
        kind=kind,
        standardisation=Standardisation(mean, scale),
        head=Head(weights=weights, **about["head"]),
        path=tuple(PathPoint(**point) for point in about["path"]),
        error=about["error"],
        thresholds=thresholds and Thresholds(np.array(thresholds["each"]), thresholds["common"]),
        warnings=tuple(about["warnings"]),
    )
