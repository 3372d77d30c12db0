"""What figures of a result need beyond the result: a small file for each, `figures/<digest>.json` beside `runs/`.

It says which result it is of by the checksum of that result, and carries a checksum of its own. It is in no digest, and
a result without one is complete: the report then takes what is in the cache, or leaves out the figures.
"""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import ValidationError

from ssl4eo_bench.config.canonical import digest as digest_of
from ssl4eo_bench.config.canonical import first_fault
from ssl4eo_bench.config.records import FigureData
from ssl4eo_bench.config.task import IGNORED
from ssl4eo_bench.errors import ResultFileError
from ssl4eo_bench.files.atomic import write_text
from ssl4eo_bench.files.reading import read_bytes
from ssl4eo_bench.metrics.calibration import reliability

FOLDER: Final = "figures"
"""Below a results directory."""

VERSION: Final = 1

MOST_PLACES: Final = 1000
"""Samples of which places are kept: they take 4 kB."""

CURE: Final = "remove it, or run its result again with --force"


def figure_file(results: Path, digest: str) -> Path:
    """The place of the figure data of the result with this digest."""
    return results / FOLDER / f"{digest}.json"


def figure_data(arrays: Mapping[str, np.ndarray]) -> FigureData | None:
    """What figures need of the arrays that a run knows of its test samples; none if these hold nothing of that kind."""
    if "scores" not in arrays:
        return None
    places = _packed(arrays["embedding"], arrays["targets"]) if "embedding" in arrays else ""
    return FigureData(reliability=reliability(arrays["scores"], arrays["targets"]), places=places)


def _packed(points: np.ndarray, targets: np.ndarray) -> str:
    """Places `[N, 2]` with classes, as `FigureData` keeps them."""
    some = slice(None, None, -(-len(points) // MOST_PLACES))
    low, high = points.min(axis=0), points.max(axis=0)
    steps, classes = np.rint(255 * (points[some] - low) / np.where(high > low, high - low, 1.0)), targets[some]
    if classes.ndim == 2:
        classes = np.where(classes.sum(axis=1) == 1, classes.argmax(axis=1), IGNORED)  # of samples with one class
    return base64.b64encode(np.column_stack([steps, classes]).astype(np.uint8).tobytes()).decode()


def write_figure_data(results: Path, digest: str, checksum: str, data: FigureData) -> None:
    """Write the figure data of the result with this digest and checksum."""
    write_text(figure_file(results, digest), _as_written(digest, checksum, data))


def _as_written(digest: str, checksum: str, data: FigureData) -> str:
    content: dict[str, Any] = {"schema_version": VERSION, "digest": digest, "result": checksum}
    content |= data.model_dump(mode="json")
    return json.dumps(content | {"checksum": digest_of(content)}, indent=1) + "\n"


def read_figure_data(results: Path, digest: str, checksum: str) -> FigureData | None:
    """The figure data of the result with this digest and checksum, checked; none where there is no file.

    Raises:
        ResultFileError: if it cannot be read, was edited, or is of another run.
    """
    file = figure_file(results, digest)
    try:
        stored = read_bytes(file)
        content = json.loads(stored.decode("utf-8"))
        if (version := content["schema_version"]) != VERSION:
            raise ResultFileError(file, f"has format {version}, this version reads {VERSION}", "upgrade ssl4eo-bench")
        data = FigureData.model_validate_json(json.dumps({name: content[name] for name in FigureData.model_fields}))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise ResultFileError(file, f"is not valid: {first_fault(error)}", CURE) from None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ResultFileError(file, f"cannot be read ({error})", CURE) from error
    if content.get("result") != checksum:
        raise ResultFileError(file, "is of another run of its result", CURE)
    if stored != _as_written(digest, checksum, data).encode():
        raise ResultFileError(file, "was edited: its bytes are not those that were written", CURE)
    return data
