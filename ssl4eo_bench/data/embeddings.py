"""Files with the features of a split for other tools: ids, features, targets and a description."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from ssl4eo_bench.errors import SpecError, WriteError
from ssl4eo_bench.files.atomic import replacing
from ssl4eo_bench.files.places import nearest_folder

GROUP_ROWS = 8192
"""The rows of a row group: 64 MB of features of ResNet-50."""


@dataclass(frozen=True)
class Embeddings:
    """The features of one split.

    Attributes:
        features: `[N, D]` float32 in the order of `ids`.
        targets: class numbers `[N]` int64, indicators `[N, C]` uint8, or None.
        about: the origin of the features, as JSON can hold it.
    """

    ids: tuple[str, ...]
    features: np.ndarray = field(repr=False)
    targets: np.ndarray | None = field(repr=False)
    classes: tuple[str, ...]
    about: dict[str, Any]


def require_place(file: Path, *, force: bool) -> None:
    """Refuse a place for embeddings before they are computed, which may take hours; `force` replaces a file.

    Raises:
        SpecError: if the ending is not the one of a known format.
        WriteError: if the file exists or cannot be made.
    """
    if file.suffix not in WRITERS:
        raise SpecError(f"--out {file} ends neither in .npz nor in .parquet; the ending says what is written.")
    if file.is_dir():
        raise WriteError(f"{file} is a directory; name a file with --out.")
    if file.exists() and not force:
        raise WriteError(f"{file} exists; name another file with --out, or replace it with --force.")
    there = nearest_folder(file.parent)
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise WriteError(f"{file} cannot be written, since no file can be made in {there}; name another with --out.")


def write_embeddings(file: Path, embeddings: Embeddings) -> None:
    """Write embeddings to a file whole or not at all, in the format of its ending.

    Raises:
        WriteError: if the disk is full or the folder cannot be written.
    """
    with replacing(file) as temporary, temporary.open("wb") as opened:
        WRITERS[file.suffix](opened, embeddings)


def _write_npz(opened: IO[bytes], embeddings: Embeddings) -> None:
    arrays = {
        "ids": np.array(embeddings.ids),
        "features": embeddings.features,
        "classes": np.array(embeddings.classes),
        "about": np.array(json.dumps(embeddings.about)),
    }
    if embeddings.targets is not None:
        arrays["targets"] = embeddings.targets
    np.savez(opened, **arrays)  # type: ignore[arg-type]


def _write_parquet(opened: IO[bytes], embeddings: Embeddings) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    columns = {"id": pa.array(embeddings.ids, pa.string())}
    if embeddings.targets is not None:
        columns["target"] = _target_column(embeddings.targets)
    width = embeddings.features.shape[1]
    columns["features"] = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.features.ravel()), width)
    metadata = {
        "ssl4eo_bench.about": json.dumps(embeddings.about),
        "ssl4eo_bench.classes": json.dumps(embeddings.classes),
    }
    rows = pa.table(columns).replace_schema_metadata(metadata)
    # No dictionary, since almost no two features are equal.
    parquet.write_table(rows, opened, row_group_size=GROUP_ROWS, use_dictionary=False)


def _target_column(targets: np.ndarray) -> Any:
    import pyarrow as pa

    if targets.ndim == 1:
        return pa.array(targets)
    starts = np.arange(len(targets) + 1, dtype=np.int32) * targets.shape[1]
    return pa.ListArray.from_arrays(pa.array(starts), pa.array(targets.ravel()))


WRITERS: dict[str, Callable[[IO[bytes], Embeddings], None]] = {".npz": _write_npz, ".parquet": _write_parquet}
"""The function that writes a file, by its ending."""
