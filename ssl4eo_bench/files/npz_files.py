"""Named arrays in one compressed file, which is written whole, and read whole or not at all."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ssl4eo_bench.files.atomic import replacing

NAMES = "names"
"""The first array has the names of the others: the format has checksums of arrays, but none of its list of them."""


def write_arrays(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as `.npz`.

    Raises:
        WriteError: if the disk is full or the folder cannot be written.
    """
    named = {NAMES: np.array(sorted(arrays)), **arrays}
    with replacing(file) as temporary, temporary.open("wb") as opened:
        np.savez_compressed(opened, **named)  # type: ignore[arg-type]


def read_arrays(file: Path) -> dict[str, np.ndarray] | None:
    """Return all arrays of a file, compared with their checksums; None if the file is absent or damaged."""
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except Exception:  # of zipfile, zlib, struct, NumPy's parser of headers: whatever a flipped bit makes them raise
        return None
    names = arrays.pop(NAMES, None)
    return arrays if names is None or names.tolist() == sorted(arrays) else None  # files of earlier versions have none
