"""Image files of the user, one for each sample: what is in them, and the source that reads them."""

import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import ValidationError

from ssl4eo_bench import progress
from ssl4eo_bench.config.bands import Band, Unit, canonical_band, sensor_of
from ssl4eo_bench.config.canonical import Frozen, first_fault
from ssl4eo_bench.config.inputs import DisplayStretch
from ssl4eo_bench.config.task import Groups, Kind, SplitName
from ssl4eo_bench.data.images import decode_geotiff, geotiff_layout
from ssl4eo_bench.data.trees import read_file
from ssl4eo_bench.errors import DamagedFileError, DataError, SpecError, WriteError
from ssl4eo_bench.files.atomic import write_text
from ssl4eo_bench.files.cached_items import mark_used
from ssl4eo_bench.files.reading import read_bytes, reading

SKIPPED = "skip"
"""Stands for a band of the files that is not read."""

RGB = ("B04", "B03", "B02")
"""The bands of files with three of them in 8 bits, where nobody says others."""

UNITS: dict[str, Unit] = {"uint8": "byte", "uint16": "dn", "int16": "dn"}
"""The unit of pixels of a type, where nobody says another."""

MODES = {"L": (1, "uint8"), "RGB": (3, "uint8"), "RGBA": (4, "uint8"), "I;16": (1, "uint16")}
"""What Pillow calls images that can be read: bands, and type."""

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""What TIFF files begin with, and BigTIFF files."""

FORMATS = ("PNG", "JPEG")

CURE = "save it as 8-bit PNG or JPEG of one, three or four bands, or as GeoTIFF"


class ImageFormat(Frozen):
    """What a user says of image files.

    Attributes:
        bands: the name of each band in the order of the files, `skip` for one that is not read; none for `RGB`.
        unit: of the pixels; none for that of `UNITS`. VV and VH are in decibel whatever it is.
        stretch: the digital numbers that the bytes 0 and 255 stand for, if the unit is `byte` and that is known.
    """

    bands: tuple[str, ...] = ()
    unit: Unit | None = None
    stretch: tuple[float, float] | None = None

    @classmethod
    def of(
        cls, bands: str | Sequence[str] = (), unit: Unit | None = None, stretch: Sequence[float] | None = None
    ) -> "ImageFormat":
        """What a user says.

        Raises:
            SpecError: if it is no such thing.
        """
        try:
            return cls(
                bands=(bands,) if isinstance(bands, str) else tuple(bands),
                unit=unit,
                stretch=None if stretch is None else tuple(stretch),  # type: ignore[arg-type]
            )
        except ValidationError as error:
            raise SpecError(
                f"what is said of the images is not possible ({first_fault(error)}); see docs/own_data.md."
            ) from None


NOTHING_SAID = ImageFormat()


class Layout(NamedTuple):
    """The shape `(C, H, W)` of the pixels of a file, and their type."""

    shape: tuple[int, int, int]
    dtype: str

    def __str__(self) -> str:
        bands, height, width = self.shape
        return f"{bands} bands of {height} × {width} pixels in {self.dtype}"


class ImageFile(NamedTuple):
    """A file, the sha256 of its bytes, and the layout of its pixels."""

    path: Path
    sha256: str
    layout: Layout

    @classmethod
    def of(cls, path: Path) -> "ImageFile":
        """The file at a path.

        Raises:
            DamagedFileError: if it is no image that can be read.
        """
        content = _content(path)
        return cls(path, hashlib.sha256(content).hexdigest(), _layout(content, path))

    def pixels(self) -> np.ndarray:
        """Its pixels `[C, H, W]`.

        Raises:
            DamagedFileError: if it is cut off, or its bytes have changed.
        """
        content = _content(self.path)
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise DamagedFileError(
                f"{self.path} has changed since it was read first; run the same command again (if that does not help, "
                "after a `touch` of the file)."
            )
        if content.startswith(TIFF):
            return decode_geotiff(content, shape=self.layout.shape, dtype=self.layout.dtype, where=str(self.path))
        from PIL import Image

        with (
            reading(f"{self.path} is cut off or damaged", cure=CURE),
            Image.open(io.BytesIO(content), formats=FORMATS) as image,
        ):
            return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)


def _content(path: Path) -> bytes:
    return read_file(path, cure="put it there again, or remove it from the data")


def _layout(content: bytes, path: Path) -> Layout:
    if content.startswith(TIFF):
        return Layout(*geotiff_layout(content, str(path)))
    from PIL import Image

    with (
        reading(f"{path} is no PNG, JPEG or GeoTIFF", cure=CURE),
        Image.open(io.BytesIO(content), formats=FORMATS) as image,
    ):
        deep = image.format == "PNG" and content[24] == 16  # of more bands than one, Pillow drops the lower 8 bits
        if image.mode not in MODES or (deep and image.mode != "I;16"):
            raise DamagedFileError(f"{path} has {'16 bits' if deep else f'the mode {image.mode}'}; {CURE}.")
        bands, dtype = MODES[image.mode]
        return Layout((bands, image.height, image.width), dtype)


def read_layouts(paths: Sequence[Path], what: str, index: Path | None) -> list[ImageFile]:
    """Hash files and look what is in them; an index remembers this for the next time. `what` is the title of progress.

    Raises:
        DataError: if one is absent or no image, or has another layout than most, or is not square.
    """
    if absent := [path for path in paths if not path.is_file()]:
        count = f"{len(absent):,} of {len(paths):,}"
        raise DataError(f"{count} files are not there, such as {absent[0]}; correct their paths.")
    files, known = [], _known(index)

    def look(path: Path) -> tuple[str, ImageFile]:
        status = path.stat()
        stamp = f"{status.st_size}:{status.st_mtime_ns}"
        before, sha256, layout = known.get(str(path), NOTHING_KNOWN)
        return stamp, ImageFile(path, sha256, layout) if stamp == before else ImageFile.of(path)

    with progress.stage(what, total=len(paths), unit="files") as advance, ThreadPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(look, paths):
            files.append(found)
            advance(1)
    _remember(index, files, known)
    return _alike([file for _, file in files])


Known = dict[str, tuple[str, str, Layout]]
"""Size and time of last change of files, their sha256 and layout, by their path."""

NOTHING_KNOWN = ("", "", Layout((0, 0, 0), ""))


def _known(index: Path | None) -> Known:
    """What an index remembers; nothing if there is none, or it is damaged."""
    with suppress(OSError, ValueError, TypeError):
        if index:
            rows = json.loads(read_bytes(index))
            mark_used(index)
            return {path: (stamp, sha256, Layout(tuple(shape), dtype)) for path, stamp, sha256, shape, dtype in rows}
    return {}


def _remember(index: Path | None, files: Sequence[tuple[str, ImageFile]], known: Known) -> None:
    """Write an index if something has changed, and it can be written."""
    now = {str(file.path): (stamp, file.sha256, file.layout) for stamp, file in files}
    if index and now != known:
        with suppress(WriteError):
            rows = [[path, stamp, sha256, *layout] for path, (stamp, sha256, layout) in now.items()]
            write_text(index, json.dumps(rows))


def _alike(files: list[ImageFile]) -> list[ImageFile]:
    """The files, if all have the same square layout."""
    ((usual, count),) = Counter(file.layout for file in files).most_common(1)
    if other := next((file for file in files if file.layout != usual), None):
        raise DataError(
            f"{other.path} has {other.layout}, but {count:,} of {len(files):,} files have {usual}; all files of a task "
            "have the same: resize, cut or convert the others."
        )
    if usual.shape[1] != usual.shape[2]:
        raise DataError(f"{files[0].path} has {usual}, but images have to be square; cut or resize them.")
    return files


class StoredBands(NamedTuple):
    """The bands that are read of each file: the position of each by its name; their unit; how bytes were made."""

    positions: dict[str, int]
    unit: Unit
    display: DisplayStretch | None

    @classmethod
    def of(cls, layout: Layout, said: ImageFormat) -> "StoredBands":
        """The bands of files of a layout, of which a user says something.

        Raises:
            SpecError: if that is not enough, or does not fit the files.
        """
        count = layout.shape[0]
        if not (said.bands or (count == len(RGB) and layout.dtype == "uint8")):
            raise SpecError(
                f"the files have {layout}, whose bands nobody knows but you; name them in the order of the files, such "
                "as --data-bands B02 B03 B04 B08 (or red=665nm for a band of another sensor)."
            )
        names = [name if name == SKIPPED else canonical_band(name) for name in said.bands or RGB]
        if len(names) != count:
            raise SpecError(
                f"the files have {layout}, but --data-bands names {len(names)} ({', '.join(names)}); name each band in "
                f"the order of the files, and write {SKIPPED} for one that is not to be read."
            )
        positions = {name: position for position, name in enumerate(names) if name != SKIPPED}
        if len(positions) < count - names.count(SKIPPED) or not positions:
            raise SpecError(f"--data-bands {' '.join(names)} names a band twice, or none; name each once.")
        unit = said.unit or UNITS.get(layout.dtype) or (all(map(_is_radar, positions)) and "db")
        if not unit:
            raise SpecError(f"the files have {layout}, in a unit that nobody knows but you; add --data-unit.")
        if said.stretch and (unit != "byte" or said.stretch[0] >= said.stretch[1]):
            raise SpecError("--data-stretch LOW HIGH is of pixels in byte, and LOW is below HIGH; correct it.")
        display = DisplayStretch(dn_range=said.stretch, byte_range=(0.0, 255.0)) if said.stretch else None
        return cls(positions, unit, display)

    def bands(self) -> tuple[Band, ...]:
        """The bands, in the order of the files. What a pixel measures on the ground is not known: it counts as 10 m."""
        units = {name: "db" if _is_radar(name) else self.unit for name in self.positions}
        return tuple(
            Band.model_validate({"name": name, "unit": unit, "resolution": 10}) for name, unit in units.items()
        )


def _is_radar(band: str) -> bool:
    return sensor_of(band) == "Sentinel-1"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ImageFiles:
    """The files of a task, opened for reading.

    Attributes:
        files: by the id of their sample.
        labels: the class numbers of each sample, by its id.
        splits: the ids of each split.
        positions: of the bands in the files.
        kind: of the labels.
        classes: how many there are.
    """

    files: Mapping[str, ImageFile]
    labels: Mapping[str, tuple[int, ...]]
    splits: Mapping[SplitName, list[str]]
    positions: Mapping[str, int]
    kind: Kind
    classes: int

    def ids(self, split: SplitName) -> list[str]:
        """The ids of a split."""
        return list(self.splits[split])

    def absent(self, ids: Sequence[str]) -> list[str]:
        """Those that have no file any more."""
        return [id_ for id_ in ids if not self.files[id_].path.is_file()]

    def targets(self, ids: Sequence[str]) -> np.ndarray:
        """Class numbers `[N]`, or indicators `[N, C]`."""
        if self.kind == "multiclass":
            return np.array([self.labels[id_][0] for id_ in ids], dtype=np.int64)
        indicators = np.zeros((len(ids), self.classes), dtype=np.uint8)
        for row, id_ in enumerate(ids):
            indicators[row, list(self.labels[id_])] = 1
        return indicators

    def read(self, ids: Sequence[str], bands: Sequence[str]) -> Groups:
        """Stored pixels, an array `[N, C, S, S]` for each sensor."""
        of_sensor: dict[str, list[int]] = {}
        for name, position in self.positions.items():
            of_sensor.setdefault(sensor_of(name), []).extend([position] if name in bands else [])
        pixels = np.stack([self.files[id_].pixels() for id_ in ids])
        return tuple(pixels[:, chosen] for chosen in of_sensor.values() if chosen)

    def fingerprint(self, ids: Sequence[str]) -> str:
        """The digest of the bytes of these samples' files."""
        return hashlib.sha256("\n".join(self.files[id_].sha256 for id_ in ids).encode()).hexdigest()
