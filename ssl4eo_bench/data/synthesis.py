"""Synthetic Sentinel-2 scenes with the statistics of real ones, for the embedded samples.

`spectra.json` holds statistics of ten land covers, measured on 238 real Sentinel-2 L1C patches. Between patches: the
mean spectrum and its covariance. Within a patch: the standard deviation, the correlation between bands and the
autocorrelation of the pixels. A scene draws its mean spectrum from the first and its texture from the second. The
texture of most land covers follows a spatial pattern such as fields, rows or roofs.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from typing import Literal, TypeAlias

import numpy as np

from ssl4eo_bench.config.bands import SENTINEL_2
from ssl4eo_bench.config.inputs import DisplayStretch

Pattern = Literal["smooth", "fields", "rows", "houses", "halls", "road", "river"]
Rng: TypeAlias = "np.random.Generator"  # a text, as loading numpy.random takes a twentieth of `list tasks`

MINOR_SHARE = (0.02, 0.3)
"""The smallest and the largest share of a scene that a second or later land cover fills."""

LIGHT_SPREAD = 0.3
"""Standard deviation of the logarithm of a scene's brightness: sun, haze and season, independent of the class."""

COMPONENTS = 5
"""The number of principal components of pixels that are drawn; they hold nearly all of the variance."""

PATTERNS: dict[str, Pattern] = {
    "AnnualCrop": "fields",
    "Forest": "smooth",
    "HerbaceousVegetation": "smooth",
    "Highway": "road",
    "Industrial": "halls",
    "Pasture": "fields",
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
    gain = np.repeat((visible, infrared, shortwave), (4, 6, 3))
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
    size = len(numbers)
    pixels = np.empty((len(SENTINEL_2), size, size))
    for number, cover in enumerate(covers):
        there = numbers == number
        pixels[:, there] = _texture(cover, size, rng)[:, there]
    light = np.exp(rng.normal(0.0, LIGHT_SPREAD))
    digital: np.ndarray = np.clip(np.rint(light * pixels), 1, 65535).astype(np.uint16)
    return digital


def scene(covers: Sequence[Cover], *, size: int, rng: Rng) -> np.ndarray:
    """A scene `[13, size, size]` uint16 like an image of one class: the first land cover fills most of it."""
    shares = [1.0, *(rng.uniform(*MINOR_SHARE) for _ in covers[1:])]
    return mosaic(covers, regions(shares, size=size, rng=rng), rng=rng)


def _texture(cover: Cover, size: int, rng: Rng) -> np.ndarray:
    """Pixels `[13, size, size]` of a land cover in digital numbers."""
    mean = rng.multivariate_normal(cover.mean, cover.between_covariance, check_valid="ignore")
    variances, directions = (array[..., -COMPONENTS:] for array in np.linalg.eigh(cover.within_covariance))
    fields = _noise(size, cover.correlation_length, rng, count=COMPONENTS)
    components = np.sqrt(np.clip(variances, 0.0, None))[:, None, None] * fields
    texture: np.ndarray = np.tensordot(directions, components, axes=1)
    if cover.pattern != "smooth":  # a pattern is brighter or darker in all bands
        std = np.sqrt(np.diag(cover.within_covariance))[:, None, None]
        texture = 0.8 * std * _standardised(_PATTERNS[cover.pattern](size, rng)) + 0.6 * texture
    pixels: np.ndarray = mean[:, None, None] + texture
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


def _fields(size: int, rng: Rng) -> np.ndarray:
    """Fields: each pixel has the brightness of the nearest of a few random centres."""
    centres = rng.uniform(0, size, (rng.integers(4, 10), 2))
    y, x = np.mgrid[:size, :size]
    distance = (y[..., None] - centres[:, 0]) ** 2 + (x[..., None] - centres[:, 1]) ** 2
    brightness: np.ndarray = rng.standard_normal(len(centres))[distance.argmin(-1)]
    return brightness


def _rows(size: int, rng: Rng) -> np.ndarray:
    """Fields with rows of trees or vines."""
    angle, period = rng.uniform(0, np.pi), rng.uniform(4, 7)
    y, x = np.mgrid[:size, :size]
    waves: np.ndarray = np.sin(2 * np.pi * (np.cos(angle) * x + np.sin(angle) * y) / period)
    return waves + 0.7 * _fields(size, rng)


def _roofs(size: int, rng: Rng, *, sides: tuple[int, int]) -> np.ndarray:
    """Bright and dark rectangles between streets."""
    image = np.zeros((size, size))
    for _ in range(size * size // (2 * sides[0] * sides[1])):
        top, left = rng.integers(0, size, 2)
        height, width = rng.integers(*sides, 2)
        image[top : top + height, left : left + width] = rng.standard_normal() + 0.5
    image[:: rng.integers(9, 15)] = -1.5
    return image


def _line(size: int, rng: Rng, *, half_width: tuple[float, float], brightness: float) -> np.ndarray:
    """A line that crosses the scene in a gentle bend."""
    along = np.arange(size)
    bend = rng.uniform(-8, 8) * np.sin(2 * np.pi * along / size + rng.uniform(0, 2 * np.pi))
    centre = size * rng.uniform(0.3, 0.7) + bend + rng.uniform(-0.4, 0.4) * (along - size / 2)
    band = brightness * (np.abs(np.arange(size)[:, None] - centre[None, :]) < rng.uniform(*half_width))
    return band.T if rng.random() < 0.5 else band


_PATTERNS: dict[str, Callable[[int, Rng], np.ndarray]] = {
    "fields": _fields,
    "rows": _rows,
    "houses": partial(_roofs, sides=(2, 5)),
    "halls": partial(_roofs, sides=(6, 14)),
    "road": partial(_line, half_width=(0.8, 2.0), brightness=1.0),
    "river": partial(_line, half_width=(4.0, 9.0), brightness=-1.0),
}
