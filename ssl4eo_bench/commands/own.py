"""A weight file of one's own, evaluated without an entry in a catalogue."""

import argparse
import re
from pathlib import Path

from ssl4eo_bench.config.checkpoint import Checkpoint, checkpoint_from
from ssl4eo_bench.config.weights import AUTO
from ssl4eo_bench.config.yaml_text import parse_yaml
from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.files.hashing import file_hash

Arguments = argparse.Namespace

NEEDED = ("arch", "bands", "scaling")
OPTIONAL = ("layout", "feature", "name")
DEFAULT_SIZE = 224


def own_checkpoints(arguments: Arguments) -> tuple[Checkpoint, ...]:
    """The checkpoint that `--weights` and its companions describe, or none.

    Raises:
        SpecError: if there are too few of them, or they do not make a checkpoint.
    """
    given = [option for option in (*NEEDED, *OPTIONAL) if getattr(arguments, option)]
    if not arguments.weights:
        if given:
            raise SpecError(f"--{given[0]} says something about a weight file; name it with --weights FILE.")
        return ()
    file: Path = arguments.weights
    if missing := [f"--{option}" for option in NEEDED if option not in given]:
        raise SpecError(
            f"--weights {file} does not say all: {', '.join(missing)} is needed as well "
            f"(`ssl4eo-bench checkpoint inspect {file}` helps)."
        )
    if not file.is_file():
        raise SpecError(f"--weights {file} is not a file.")
    entry = {
        "name": arguments.name or f"{arguments.arch}.{re.sub('[^A-Za-z0-9_.+-]', '-', file.stem)}",
        "arch": arguments.arch,
        "weights": {
            "path": str(file.resolve()),
            "sha256": file_hash(file),
            "layout": arguments.layout or AUTO,
        },
        "bands": re.split(r"[,\s]+", " ".join(arguments.bands).strip(", ")),
        "image_size": arguments.image_size or DEFAULT_SIZE,
        "scaling": _scaling(arguments.scaling),
        "feature": arguments.feature or "pooled",
        "resize_pos_embed": arguments.resize_pos_embed or None,
    }
    return (checkpoint_from(entry, f"--weights {file}"),)


def _scaling(text: str) -> object:
    """`divide=10000` and `uint8=10000`, or a mapping as in an entry."""
    name, equals, number = text.partition("=")
    try:
        return {name.strip(): float(number)} if equals else parse_yaml(text)
    except ValueError as error:
        why = "" if equals else f" ({error})"
        raise SpecError(
            f"--scaling {text!r} is not known{why}; write divide=10000, uint8=10000, or a mapping as in docs/inputs.md."
        ) from None
