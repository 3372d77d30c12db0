"""Weight files of one's own."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.filesize import decimal

from ssl4eo_bench.config.bands import SENTINEL_1, SENTINEL_2
from ssl4eo_bench.console import line
from ssl4eo_bench.errors import WeightsError, shortlist
from ssl4eo_bench.files.hashing import file_hash

if TYPE_CHECKING:
    from ssl4eo_bench.models.inspection import Inspection

Arguments = argparse.Namespace

USUAL_BANDS = {
    13: SENTINEL_2,
    12: tuple(band for band in SENTINEL_2 if band != "B10"),
    3: ("B04", "B03", "B02"),
    2: SENTINEL_1,
}
"""What networks with so many input channels usually see."""

USUAL_SCALING = "{divide: 10000}"
RADAR_SCALING = "{clip_std: 2, mean: {VV: -12.55, VH: -20.19}, std: {VV: 5.26, VH: 5.91}}"
"""As SSL4EO-S12's networks have it."""


def inspect(arguments: Arguments) -> int:
    """Say what is in a weight file, and what of it would be loaded."""
    from ssl4eo_bench.models.inspection import inspect as look_into

    file: Path = arguments.file
    if not file.is_file():
        raise WeightsError(f"{file} is not a file; name a weight file.")
    found = look_into(file, arguments.arch, arguments.layout)
    sha256 = file_hash(file)
    if arguments.json:
        about = {"file": str(file), "bytes": file.stat().st_size, "sha256": sha256, "dicts": found[0].dicts}
        print(json.dumps(about | {"readings": [_as_json(one) for one in found]}, indent=1))
    else:
        line(f"file          {file}, {decimal(file.stat().st_size)}")
        line(f"sha256        {sha256}")
        for key, count in found[0].dicts.items():
            line(f"holds         {count} tensors{f' under {key!r}' if key else ''}")
        for one in found:
            _show(one, file, sha256)
    return 0 if found[0].loads else 1


def _show(found: "Inspection", file: Path, sha256: str) -> None:
    from ssl4eo_bench.models.inspection import beginnings

    reading = found.reading
    line("")
    line(f"layout        {reading.name}{f' under {reading.key!r}' if reading.key else ''}: {reading.layout.about}")
    line(f"architecture  {found.arch or 'not known from names and shapes; name it with --arch'}")
    line(f"input         {found.channels or '?'} channels, {found.image_size} pixels")
    if found.heads:
        line(f"attention     {found.heads} heads in {found.arch}; a file does not tell how many it was trained with")
    if found.arch:
        line(f"would load    {reading.fitting} tensors")
    if reading.ignored:
        beside = ", ".join(
            f"{name} ({count})" for name, count in beginnings(reading.ignored, reading.layout.prefix).items()
        )
        line(f"not needed    {beside}")
    for what in ("missing", "unexpected", "mismatched"):
        if found.arch and (names := getattr(reading, what)):
            named = {"unexpected": "no place for", "mismatched": "other shape"}.get(what, what)
            line(f"{named:13} {shortlist(names, at_most=10)}")
    if found.loads:
        line("an entry for it, to be completed (docs/checkpoints.md):")
        line(_entry(found, file, sha256))
    elif found.arch:
        line("It would be refused: name another --arch, or write its layout out in an entry (docs/checkpoints.md).")


def _entry(found: "Inspection", file: Path, sha256: str) -> str:
    bands = USUAL_BANDS.get(found.channels or 0, ())
    scaling = RADAR_SCALING if bands == SENTINEL_1 else USUAL_SCALING
    layout = found.choice if isinstance(found.choice, str) else json.dumps(found.choice.written())
    order = ", ".join(bands) if bands else f"the {found.channels} band names"
    return f"""checkpoints:
  {found.arch}.mine:
    arch: {found.arch}
    weights: {{path: {json.dumps(str(file.resolve()))}, sha256: {sha256}, layout: {layout}}}
    bands: [{order}]  # in the order it was trained with
    image_size: {found.image_size}
    scaling: {scaling}  # as it was trained with
    feature: pooled"""


def _as_json(found: "Inspection") -> dict[str, Any]:
    reading = found.reading
    return {
        "loads": found.loads,
        "layout": reading.name,
        "key": reading.key,
        "arch": found.arch,
        "channels": found.channels,
        "image_size": found.image_size,
        "heads": found.heads,
        "fitting": reading.fitting,
        "not_needed": reading.ignored,
        "missing": reading.missing,
        "no_place": reading.unexpected,
        "other_shape": reading.mismatched,
    }
