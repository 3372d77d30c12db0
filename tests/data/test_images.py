import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from ssl4eo_bench.data.images import decode_geotiff, decode_jpeg, write_geotiff, write_jpeg
from ssl4eo_bench.errors import DamagedFileError

SHAPE = (13, 8, 6)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 60000, SHAPE).astype(np.uint16)


def test_a_geotiff_comes_back_exactly(tmp_path: Path, pixels: np.ndarray) -> None:
    write_geotiff(tmp_path / "x.tif", pixels)
    read = decode_geotiff((tmp_path / "x.tif").read_bytes(), shape=SHAPE, dtype="uint16", where="x.tif")
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((12, 8, 6), "uint16", "12 bands of 8 × 6 pixels in uint16"),
        ((13, 6, 8), "uint16", "13 bands of 6 × 8 pixels in uint16"),
        (SHAPE, "uint8", "13 bands of 8 × 6 pixels in uint8"),
        (SHAPE, ("float32", "float64"), "13 bands of 8 × 6 pixels in float32 or float64"),
    ],
)
def test_another_shape_or_type_is_refused(
    tmp_path: Path, pixels: np.ndarray, shape: tuple[int, int, int], dtype: str | tuple[str, ...], expected: str
) -> None:
    write_geotiff(tmp_path / "x.tif", pixels)
    content = (tmp_path / "x.tif").read_bytes()
    assert decode_geotiff(content, shape=SHAPE, dtype=("uint8", "uint16"), where="x.tif").dtype == np.uint16
    message = f"x.tif holds 13 bands of 8 × 6 pixels in uint16, but {expected} is expected"
    with pytest.raises(DamagedFileError, match=message):
        decode_geotiff(content, shape=shape, dtype=dtype, where="x.tif")


@pytest.mark.parametrize("kept", [0, 7, 200, -40])
def test_a_cut_off_geotiff_is_refused_by_name(tmp_path: Path, pixels: np.ndarray, kept: int) -> None:
    write_geotiff(tmp_path / "x.tif", pixels)
    with pytest.raises(DamagedFileError, match="^the file is no GeoTIFF, or a cut-off one"):
        decode_geotiff((tmp_path / "x.tif").read_bytes()[:kept], shape=SHAPE, dtype="uint16", where="the file")


def smooth() -> np.ndarray:
    y, x = np.mgrid[:16, :16]
    return np.stack([8 * x + 40, 8 * y + 60, 4 * x + 4 * y + 50]).astype(np.uint8)


def test_a_jpeg_comes_back_nearly(tmp_path: Path) -> None:
    write_jpeg(tmp_path / "x.jpg", smooth())
    read = decode_jpeg((tmp_path / "x.jpg").read_bytes(), shape=(3, 16, 16), where="x.jpg")
    assert read.dtype == np.uint8
    assert np.abs(read.astype(int) - smooth()).max() < 16


def test_a_grey_or_larger_jpeg_is_refused(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(smooth()[0]).save(tmp_path / "x.jpg")
    with pytest.raises(DamagedFileError, match="holds 1 bands of 16 × 16 pixels"):
        decode_jpeg((tmp_path / "x.jpg").read_bytes(), shape=(3, 16, 16), where="x.jpg")
    write_jpeg(tmp_path / "x.jpg", smooth())
    with pytest.raises(DamagedFileError, match="but 3 bands of 64 × 64 pixels"):
        decode_jpeg((tmp_path / "x.jpg").read_bytes(), shape=(3, 64, 64), where="x.jpg")


@pytest.mark.parametrize("kept", [0, 3, 100, -10])
def test_a_cut_off_jpeg_and_another_format_are_refused_by_name(tmp_path: Path, kept: int) -> None:
    from PIL import Image

    write_jpeg(tmp_path / "x.jpg", smooth())
    Image.fromarray(smooth()[0]).save(tmp_path / "x.png")
    for content in ((tmp_path / "x.jpg").read_bytes()[:kept], (tmp_path / "x.png").read_bytes()):
        with pytest.raises(DamagedFileError, match="^the file is no JPEG, or a cut-off one"):
            decode_jpeg(content, shape=(3, 16, 16), where="the file")


@pytest.fixture
def _restless() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_restless")
def test_threads_read_files_without_a_place_in_silence(tmp_path: Path) -> None:
    file = tmp_path / "tile.tif"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(file, "w", driver="GTiff", count=1, height=4, width=4, dtype="uint8") as opened:
            opened.write(np.ones((1, 4, 4), dtype=np.uint8))
    content = file.read_bytes()
    with warnings.catch_warnings(), ThreadPoolExecutor(8) as pool:
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="another one")
        read = pool.map(lambda _: decode_geotiff(content, shape=(1, 4, 4), dtype="uint8", where=""), range(3000))
        assert all(pixels.all() for pixels in read)
