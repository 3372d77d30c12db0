"""Decoding images and checking their shape and type against what the task expects."""

import io
import math
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ssl4eo_bench.errors import DamagedFileError
from ssl4eo_bench.files.reading import reading

_GDAL = {
    # Every file is opened once and only for its pixels. Without neighbouring files, side-car files and georeferencing
    # this is twice as fast on small patches, and faster still in large folders.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_GEOREF_SOURCES": "NONE",
}

_FILTERING = threading.Lock()


Decode = Callable[..., np.ndarray]
"""The type of `decode_geotiff`."""


@contextmanager
def geotiff_decoder() -> Iterator[Decode]:
    """A decoder for many GeoTIFFs; GDAL is set up once for all of them."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    def decode(content: bytes, *, shape: tuple[int, int, int], dtype: str | tuple[str, ...], where: str) -> np.ndarray:
        with _opened(content, where) as opened:
            found = (opened.count, opened.height, opened.width)
            _require(found, opened.dtypes[0], shape, (dtype,) if isinstance(dtype, str) else dtype, where)
            pixels: np.ndarray = opened.read()
        return pixels

    _ignore(NotGeoreferencedWarning)
    with rasterio.Env(**_GDAL):
        yield decode


@contextmanager
def _opened(content: bytes, where: str) -> Iterator[Any]:
    """Open a GeoTIFF; whatever fails in the block is said of it."""
    from rasterio.io import MemoryFile

    with reading(f"{where} is no GeoTIFF, or a cut-off one"):
        if not content:  # an empty memory file would be opened for writing
            raise EOFError("it is empty")
        with MemoryFile(content) as memory, memory.open(driver="GTiff") as opened:
            yield opened


def _ignore(category: type[Warning]) -> None:
    """Ignore the warnings of a category from now on in all threads.

    `catch_warnings` would restore the filters of all threads when the first thread leaves it, and `filterwarnings`
    removes a filter for a moment before it inserts it again.
    """
    with _FILTERING:
        whole = (one for one in warnings.filters if one[1] is one[3] is None and issubclass(category, one[2]))
        if next((action for action, *_ in whole), None) != "ignore":  # filters for messages or modules do not count
            warnings.simplefilter("ignore", category)


def decode_geotiff(
    content: bytes, *, shape: tuple[int, int, int], dtype: str | tuple[str, ...], where: str
) -> np.ndarray:
    """The pixels `[C, H, W]` of a GeoTIFF as stored, in `dtype` or in one of several types.

    Raises:
        DamagedFileError: if the content is no GeoTIFF, is cut off, or has another shape or type than expected.
    """
    with geotiff_decoder() as decode:
        return decode(content, shape=shape, dtype=dtype, where=where)


def geotiff_layout(content: bytes, where: str) -> tuple[tuple[int, int, int], str]:
    """Shape `(C, H, W)` and type of the pixels of a GeoTIFF, which are not read.

    Raises:
        DamagedFileError: if the content is no GeoTIFF.
    """
    with geotiff_decoder(), _opened(content, where) as opened:
        return (opened.count, opened.height, opened.width), opened.dtypes[0]


def lonlat(content: bytes) -> tuple[float, float]:
    """Longitude and latitude of the centre of a GeoTIFF in degrees; NaN where it has no place."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.io import MemoryFile
    from rasterio.warp import transform

    _ignore(NotGeoreferencedWarning)
    options = _GDAL | {"GDAL_GEOREF_SOURCES": "INTERNAL"}
    with (
        suppress(Exception),  # a damaged file is told when its pixels are read
        rasterio.Env(**options),
        MemoryFile(content) as memory,
        memory.open(driver="GTiff") as opened,
    ):
        if opened.crs is not None and not opened.transform.is_identity:
            x, y = opened.xy(opened.height / 2, opened.width / 2, offset="ul")
            (longitude,), (latitude,) = transform(opened.crs, "EPSG:4326", [x], [y])
            if abs(longitude) <= 180 and abs(latitude) <= 90:
                return float(longitude), float(latitude)
    return math.nan, math.nan


def decode_jpeg(content: bytes, *, shape: tuple[int, int, int], where: str) -> np.ndarray:
    """The pixels `[C, H, W]` uint8 of a JPEG.

    Raises:
        DamagedFileError: if the content is no JPEG, is cut off, or has another shape than expected.
    """
    from PIL import Image

    with (
        reading(f"{where} is no JPEG, or a cut-off one"),
        Image.open(io.BytesIO(content), formats=["JPEG"]) as image,
    ):
        found = (len(image.getbands()), image.height, image.width)
        _require(found, "uint8", shape, ("uint8",), where)
        pixels = np.frombuffer(image.tobytes(), dtype=np.uint8)
    channels, height, width = shape
    return pixels.reshape(height, width, channels).transpose(2, 0, 1)


def _require(
    found_shape: tuple[int, ...], found_dtype: str, shape: tuple[int, ...], dtypes: tuple[str, ...], where: str
) -> None:
    if found_shape != shape or found_dtype not in dtypes:
        wanted = _described(shape, " or ".join(dtypes))
        raise DamagedFileError(
            f"{where} holds {_described(found_shape, found_dtype)}, but {wanted} is expected; "
            "this is another file, or another release of the dataset."
        )


def _described(shape: tuple[int, ...], dtype: str) -> str:
    return f"{shape[0]} bands of {shape[1]} × {shape[2]} pixels in {dtype}"


def require_band_10(pixels: np.ndarray, position: int, where: str, *, order: str) -> None:
    """Refuse Sentinel-2 L1C pixels `[13, H, W]` in another order of bands than the official one.

    Only B10 does not see the ground: its values stay below about 50, and those of other bands are several hundred.
    `where` the image is, and the official order in words, are for messages.

    Raises:
        DamagedFileError: if the band at `position` is too bright for B10.
    """
    levels = pixels.mean(axis=(1, 2))
    if levels[position] > 0.2 * np.median(levels):
        raise DamagedFileError(
            f"{where} has a band {position + 1} of mean {levels[position]:.0f}, which cannot be B10: its bands are not "
            f"in the official order ({order}); use the official archive."
        )


def write_geotiff(file: Path, pixels: np.ndarray, *, resolution: float = 10.0) -> None:
    """Write pixels `[C, H, W]` as a pixel-interleaved GeoTIFF in UTM zone 32 north; the resolution is in metres."""
    file.parent.mkdir(parents=True, exist_ok=True)
    header = _geotiff_header(pixels.shape, pixels.dtype, resolution)
    file.write_bytes(header + np.ascontiguousarray(np.moveaxis(pixels, 0, -1)).tobytes())


@cache
def _geotiff_header(shape: tuple[int, ...], dtype: np.dtype[Any], resolution: float) -> bytes:
    """All of an uncompressed GeoTIFF but its pixels, which come last: it is the same in thousands of files."""
    from rasterio.io import MemoryFile
    from rasterio.transform import Affine

    count, height, width = shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": dtype}
    place = {"crs": "EPSG:32632", "transform": Affine(resolution, 0.0, 500000.0, 0.0, -resolution, 5400000.0)}
    with MemoryFile() as memory:
        with memory.open(interleave="pixel", **profile, **place) as opened:
            opened.write(np.ones(shape, dtype))  # of zeros, nothing would be written
        return bytes(memory.getbuffer())[: -int(np.prod(shape)) * dtype.itemsize]


def write_jpeg(file: Path, pixels: np.ndarray) -> None:
    """Write pixels `[3, H, W]` uint8 as a JPEG of high quality."""
    from PIL import Image

    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(file, quality=92)
