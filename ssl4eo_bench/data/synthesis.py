"""Synthetic Sentinel-2 scenes with the statistics of real ones, for the embedded samples.

`spectra.json` holds statistics of ten land covers, measured on 238 real Sentinel-2 L1C patches. Between patches: the
mean spectrum and its covariance. Within a patch: the standard deviation, the correlation between bands and the
autocorrelation of the pixels. A scene draws its mean spectrum from the first and its texture from the second. The
texture of most land covers follows a spatial pattern such as fields, rows or roofs.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from importlib.resources import files
from typing import Literal, TypeAlias

import numpy as np

from ssl4eo_bench.config.bands import SENTINEL_2
from ssl4eo_bench.config.inputs import DisplayStretch

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

MINOR_SHARE = (0.02, 0.3)
"""The smallest and the largest share of a scene that a second or later land cover fills."""

LIGHT_SPREAD = 0.3
"""Standard deviation of the logarithm of a scene's brightness: sun, haze and season, independent of the class."""

GAIN_SPREAD = 0.35
"""Standard deviation, between scenes, of the logarithm of visible, infrared and shortwave brightness: continents and
seasons differ in haze, moisture, soil and building material."""

CONTRAST_SPREAD = 0.5
"""Standard deviation, between scenes, of the logarithm of the contrast of a texture."""

PARTS = (4, 6, 3)
"""How many bands are visible, infrared and shortwave."""

COMPONENTS = 5
"""The number of principal components of pixels that are drawn; they hold nearly all of the variance."""

PATTERNS: dict[str, Pattern] = {
    "AnnualCrop": "fields",
    "Forest": "crowns",
    "HerbaceousVegetation": "patches",
    "Highway": "road",
    "Industrial": "halls",
    "Pasture": "hedges",
    "PermanentCrop": "rows",
    "Residential": "houses",
    "River": "river",
    "SeaLake": "smooth",
}


@dataclass(frozen=True)
class Cover:
    """The statistics of a land cover in digital numbers; bands in the order of `config.bands.SENTINEL_2`."""

    mean: np.ndarray
    between_covariance: np.ndarray
    within_covariance: np.ndarray
    correlation_length: float
    pattern: Pattern

    @cached_property
    def between(self) -> np.ndarray:
        """The principal components of mean spectra, each times its standard deviation, `[13, 13]`."""
        return _components(self.between_covariance)

    @cached_property
    def within(self) -> np.ndarray:
        """The first principal components of the pixels of a scene, each times its standard deviation, `[13, 5]`."""
        return _components(self.within_covariance)[:, -COMPONENTS:]

    @cached_property
    def contrast(self) -> np.ndarray:
        """The standard deviations of the pixels of a scene, `[13]`."""
        return np.sqrt(np.diag(self.within_covariance))


def _components(covariance: np.ndarray) -> np.ndarray:
    variances, directions = np.linalg.eigh(covariance)
    components: np.ndarray = directions * np.sqrt(np.clip(variances, 0.0, None))
    return components


@cache
def land_covers() -> dict[str, Cover]:
    """The measured land covers by name."""
    raw = json.loads((files("ssl4eo_bench.data") / "spectra.json").read_text(encoding="utf-8"))
    covers = {}
    for name, entry in raw["classes"].items():
        std = np.asarray(entry["within_std"], dtype=float)
        covers[name] = Cover(
            mean=np.asarray(entry["mean"], dtype=float),
            between_covariance=np.asarray(entry["between_cov"], dtype=float),
            within_covariance=np.asarray(entry["within_corr"], dtype=float) * np.outer(std, std),
            correlation_length=-1.0 / float(np.log(np.median(entry["lag1"]))),
            pattern=PATTERNS[name],
        )
    return covers


def blend(
    parts: Mapping[str, float],
    *,
    visible: float = 1.0,
    infrared: float = 1.0,
    shortwave: float = 1.0,
    pattern: Pattern | None = None,
) -> Cover:
    """A new land cover: the weighted mean of measured ones, with a gain for each of three parts of the spectrum.

    Args:
        parts: the weights of measured land covers; they are normalised.
        visible: the gain of B01 to B04.
        infrared: the gain of B05 to B09, where vegetation is bright.
        shortwave: the gain of B10 to B12, where water in soil and leaves is dark.
        pattern: the spatial pattern; by default the one of the part with the largest weight.
    """
    names = list(parts)
    weights = np.array([parts[name] for name in names]) / sum(parts.values())
    measured = [land_covers()[name] for name in names]
    gain = np.repeat((visible, infrared, shortwave), PARTS)
    return Cover(
        mean=gain * _weighted(weights, [cover.mean for cover in measured]),
        between_covariance=np.outer(gain, gain) * _weighted(weights, [cover.between_covariance for cover in measured]),
        within_covariance=np.outer(gain, gain) * _weighted(weights, [cover.within_covariance for cover in measured]),
        correlation_length=float(weights @ [cover.correlation_length for cover in measured]),
        pattern=pattern or measured[int(weights.argmax())].pattern,
    )


def _weighted(weights: np.ndarray, arrays: Sequence[np.ndarray]) -> np.ndarray:
    mean: np.ndarray = np.tensordot(weights, np.stack(arrays), axes=1)
    return mean


def regions(shares: Sequence[float], *, size: int, rng: Rng) -> np.ndarray:
    """A map `[size, size]` of cover numbers: cover k fills the share `shares[k]` of it, in patches with soft outlines.

    Later covers overwrite earlier ones, and the first one fills the rest.
    """
    numbers = np.zeros((size, size), dtype=np.int64)
    for number, share in enumerate(shares[1:], start=1):
        (field,) = _noise(size, size / 4, rng, count=1)
        numbers[field > np.quantile(field, 1 - share)] = number
    return numbers


def mosaic(covers: Sequence[Cover], numbers: np.ndarray, *, rng: Rng) -> np.ndarray:
    """A scene `[13, size, size]` uint16 in digital numbers with 10 m pixels in all bands.

    Args:
        covers: the land covers.
        numbers: the index of the land cover of each pixel, `[size, size]`.
        rng: draws spectra, textures and brightness.
    """
    pixels = np.empty((len(SENTINEL_2), *numbers.shape))
    for number, cover in enumerate(covers):
        there = numbers == number
        pixels[:, there] = _texture(cover, there, rng)
    gains = np.exp(rng.normal(0.0, LIGHT_SPREAD) + rng.normal(0.0, GAIN_SPREAD, len(PARTS)))
    light = np.repeat(gains, PARTS)[:, None, None]
    digital: np.ndarray = np.clip(np.rint(light * pixels), 1, 65535).astype(np.uint16)
    return digital


def scene(covers: Sequence[Cover], *, size: int, rng: Rng) -> np.ndarray:
    """A scene `[13, size, size]` uint16 like an image of one class: the first land cover fills most of it."""
    shares = [1.0, *(rng.uniform(*MINOR_SHARE) for _ in covers[1:])]
    return mosaic(covers, regions(shares, size=size, rng=rng), rng=rng)


def _texture(cover: Cover, there: np.ndarray, rng: Rng) -> np.ndarray:
    """The pixels `[13, N]` of a land cover in digital numbers where `there`, `[size, size]`, is true."""
    size = len(there)
    mean = cover.mean + cover.between @ rng.standard_normal(len(cover.mean))
    texture = cover.within @ _noise(size, cover.correlation_length, rng, count=COMPONENTS)[:, there]
    if cover.pattern != "smooth":  # a pattern is brighter or darker in all bands
        pattern = _standardised(_PATTERNS[cover.pattern](size, rng))[there]
        texture = 0.9 * np.outer(cover.contrast, pattern) + 0.44 * texture
    pixels: np.ndarray = mean[:, None] + np.exp(rng.normal(0.0, CONTRAST_SPREAD)) * texture
    return pixels


def display_image(scene_rgb: np.ndarray, display: DisplayStretch) -> np.ndarray:
    """The display image `[3, H, W]` uint8 of digital numbers `[3, H, W]`."""
    gain, offset = display.to_dn()
    return np.clip(np.rint((scene_rgb.astype(float) - offset) / gain), *display.byte_range).astype(np.uint8)


def _noise(size: int, correlation_length: float, rng: Rng, *, count: int) -> np.ndarray:
    """Gaussian random fields `[count, size, size]` on a torus with autocorrelation exp(-distance / length)."""
    white = np.fft.rfft2(rng.standard_normal((count, size, size)))
    fields: np.ndarray = np.fft.irfft2(_amplitude(size, correlation_length) * white, s=(size, size))
    return fields


@cache
def _amplitude(size: int, correlation_length: float) -> np.ndarray:
    steps = np.minimum(np.arange(size), size - np.arange(size))
    covariance = np.exp(-np.hypot(steps[:, None], steps[None, :]) / correlation_length)
    amplitude: np.ndarray = np.sqrt(np.clip(np.fft.rfft2(covariance).real, 0.0, None))
    return amplitude


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
    rows: np.ndarray = np.sin(2 * np.pi * along / rng.uniform(4, 7))
    return rows


def _grid(size: int, rng: Rng) -> np.ndarray:
    """Single trees on a square grid."""
    period = rng.uniform(6, 9)
    along, across = (np.cos(2 * np.pi * axis / period) for axis in _turned(size, rng))
    grid: np.ndarray = -np.maximum(along + across - 0.5, 0.0)
    return grid


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
    waves: np.ndarray = np.sin(2 * np.pi * along / rng.uniform(*period) + 1.5 * _blurred(size, rng, size / 8))
    return waves


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


_PATTERNS: dict[str, Callable[[int, Rng], np.ndarray]] = {
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
