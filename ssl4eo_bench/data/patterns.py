"""Spatial patterns of land covers, such as fields, rows and roofs: what tells one scene from another but its colour."""

from collections.abc import Callable
from functools import partial
from typing import Literal, TypeAlias

import numpy as np

Pattern = Literal[
    "blocks",
    "clearings",
    "creeks",
    "crowns",
    "fields",
    "flats",
    "grid",
    "halls",
    "hedges",
    "houses",
    "patches",
    "plots",
    "river",
    "road",
    "rows",
    "saplings",
    "smooth",
    "swell",
    "tanks",
    "thicket",
    "waves",
]
Rng: TypeAlias = "np.random.Generator"  # a text, as loading numpy.random takes a twentieth of `list tasks`


def draw_pattern(name: Pattern, size: int, rng: Rng) -> np.ndarray:
    """A pattern `[size, size]` of mean 0 and standard deviation 1."""
    return _standardised(_DRAWN[name](size, rng))


def _standardised(field: np.ndarray) -> np.ndarray:
    standardised: np.ndarray = (field - field.mean()) / max(float(field.std()), 1e-9)
    return standardised


def _nearest(size: int, rng: Rng, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each pixel the distances to the two nearest of some random centres, and the number of the nearest."""
    from scipy.spatial import cKDTree  # would take a fifth of `list tasks`

    centres = rng.uniform(0, size, (count, 2))
    places = np.moveaxis(np.mgrid[:size, :size], 0, -1)
    distances, numbers = cKDTree(centres).query(places, k=2)
    return np.moveaxis(distances, -1, 0), numbers[..., 0]


def _fields(size: int, rng: Rng, *, side: float = 26.0, hedges: bool = False) -> np.ndarray:
    """Fields: each pixel has the brightness of the nearest of random centres, with dark hedges between them."""
    count = max(3, round((size / side) ** 2 * rng.uniform(0.7, 1.4)))
    (near, far), number = _nearest(size, rng, count)
    if hedges:
        return np.where(far - near < rng.uniform(2.0, 3.5), -2.0, 0.3 * rng.standard_normal(count)[number])
    brightness: np.ndarray = rng.standard_normal(count)[number]
    return brightness


def _crowns(size: int, rng: Rng, *, side: float) -> np.ndarray:
    """Crowns of trees: bright in their middle, dark between them."""
    (near, far), _ = _nearest(size, rng, max(4, round((size / side) ** 2)))
    crowns: np.ndarray = np.minimum(far - near, side / 2)
    return crowns


def _clearings(size: int, rng: Rng) -> np.ndarray:
    """Trees with bright clearings of straight outline."""
    return np.where(_fields(size, rng, side=14.0) > 1.0, 4.0, 0.5 * _crowns(size, rng, side=5.0))


def _turned(size: int, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """The coordinates of each pixel in axes that are turned and shifted at random."""
    angle = rng.uniform(0, np.pi)
    y, x = np.mgrid[:size, :size] + rng.uniform(0, size, 2)[:, None, None]
    return np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x


def _rows(size: int, rng: Rng) -> np.ndarray:
    """Rows of trees or vines."""
    along, _ = _turned(size, rng)
    return np.sin(2 * np.pi * along / rng.uniform(4, 7))


def _grid(size: int, rng: Rng) -> np.ndarray:
    """Single trees on a square grid."""
    period = rng.uniform(6, 9)
    along, across = (np.cos(2 * np.pi * axis / period) for axis in _turned(size, rng))
    return -np.maximum(along + across - 0.5, 0.0)


def _saplings(size: int, rng: Rng) -> np.ndarray:
    """Single trees that stand anywhere."""
    (near, _), _ = _nearest(size, rng, round((size / rng.uniform(9, 13)) ** 2))
    saplings: np.ndarray = -np.maximum(3.0 - near, 0.0)
    return saplings


def _tanks(size: int, rng: Rng) -> np.ndarray:
    """Round tanks and silos, and pipes between them."""
    (near, far), _ = _nearest(size, rng, max(4, round((size / rng.uniform(9, 13)) ** 2)))
    return np.where(near < 3.5, 2.0, np.where(far - near < 1.0, -1.0, 0.0))


def _waves(size: int, rng: Rng, *, period: tuple[float, float]) -> np.ndarray:
    """Dunes or swell: long crests that bend."""
    along, _ = _turned(size, rng)
    return np.sin(2 * np.pi * along / rng.uniform(*period) + 1.5 * _blurred(size, rng, size / 8))


def _creeks(size: int, rng: Rng) -> np.ndarray:
    """Creeks that wind through marshes."""
    creeks: np.ndarray = np.abs(_blurred(size, rng, 5.0)) < rng.uniform(0.12, 0.25)
    return np.where(creeks, -1.0, 0.0)


def _patches(size: int, rng: Rng, *, side: float) -> np.ndarray:
    """Patches of two kinds with round outlines."""
    height = _blurred(size, rng, side)
    return np.sign(height - rng.uniform(-0.5, 0.5))


def _blurred(size: int, rng: Rng, side: float) -> np.ndarray:
    """A random field `[size, size]` without detail below `side` pixels; mean 0, standard deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    white = np.fft.rfft2(rng.standard_normal((size, size)))
    return _standardised(np.fft.irfft2(np.exp(-2 * (np.pi * side * frequency) ** 2) * white, s=(size, size)))


def _roofs(size: int, rng: Rng, *, sides: tuple[int, int], streets: tuple[int, int]) -> np.ndarray:
    """Bright and dark rectangles between streets."""
    image = np.full((size, size), -0.3)
    for _ in range(size * size // (2 * sides[0] * sides[1])):
        top, left = rng.integers(0, size, 2)
        height, width = rng.integers(*sides, 2)
        image[top : top + height, left : left + width] = rng.standard_normal() + 0.5
    step = rng.integers(*streets)
    image[rng.integers(step) :: step] = -1.5
    image[:, rng.integers(step) :: 2 * step] = -1.5
    return image


def _line(size: int, rng: Rng, *, half_width: tuple[float, float], brightness: float) -> np.ndarray:
    """A line that crosses the scene in a gentle bend."""
    along = np.arange(size)
    bend = rng.uniform(-8, 8) * np.sin(2 * np.pi * along / size + rng.uniform(0, 2 * np.pi))
    centre = size * rng.uniform(0.3, 0.7) + bend + rng.uniform(-0.4, 0.4) * (along - size / 2)
    band = brightness * (np.abs(np.arange(size)[:, None] - centre[None, :]) < rng.uniform(*half_width))
    return band.T if rng.random() < 0.5 else band


_DRAWN: dict[str, Callable[[int, Rng], np.ndarray]] = {
    "blocks": partial(_roofs, sides=(4, 8), streets=(14, 20)),
    "clearings": _clearings,
    "creeks": _creeks,
    "crowns": partial(_crowns, side=7.0),
    "fields": _fields,
    "flats": partial(_patches, side=8.0),
    "grid": _grid,
    "halls": partial(_roofs, sides=(7, 16), streets=(24, 34)),
    "hedges": partial(_fields, hedges=True),
    "houses": partial(_roofs, sides=(2, 4), streets=(8, 12)),
    "patches": partial(_patches, side=4.0),
    "plots": partial(_fields, side=10.0),
    "river": partial(_line, half_width=(4.0, 9.0), brightness=-1.0),
    "road": partial(_line, half_width=(0.8, 2.0), brightness=1.0),
    "rows": _rows,
    "saplings": _saplings,
    "swell": partial(_waves, period=(3.0, 6.0)),
    "tanks": _tanks,
    "thicket": partial(_crowns, side=3.5),
    "waves": partial(_waves, period=(10.0, 16.0)),
}
