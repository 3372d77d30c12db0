"""Small folders of images, as users have them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ssl4eo_bench.data.images import write_geotiff

CLASSES = ("field", "forest [b]<b>é&")


def draw(file: Path, level: int, number: int, *, bands: int = 3, size: int = 8, dtype: str = "uint8") -> Path:
    """An image of noise around a level; equal arguments give equal files."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([level, number]).poisson(level, (bands, size, size)).astype(dtype)
    if file.suffix == ".tif":
        write_geotiff(file, pixels)
    else:
        Image.fromarray(pixels.transpose(1, 2, 0).squeeze()).save(file)
    return file


def draw_folder(root: Path, count: int = 10, classes: Sequence[str] = CLASSES, suffix: str = ".png") -> Path:
    """A folder for each class, with so many images."""
    for level, name in enumerate(classes, 1):
        for number in range(count):
            draw(root / name / f"{number:02d}{suffix}", 30 * level, number)
    return root
