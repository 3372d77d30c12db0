"""Synthetic Sentinel-2 scenes with the statistics of real ones, for the embedded samples.

`spectra.json` holds statistics of ten land covers, measured on 238 real Sentinel-2 L1C patches. Between patches: the
mean spectrum and its covariance. Within a patch: the standard deviation, the correlation between bands and the
autocorrelation of the pixels. A scene draws its mean spectrum from the first and its texture from the second. The
texture of most land covers follows a spatial pattern such as fields, rows or roofs.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files

import numpy as np

from ssl4eo_bench.config.bands import SENTINEL_2
from ssl4eo_bench.config.inputs import DisplayStretch
from ssl4eo_bench.data.patterns import Pattern, Rng, draw_pattern

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

    These are B01 to B04; B05 to B09, where vegetation is bright; and B10 to B12, where water in soil and leaves is
    dark. The default pattern is that of the part with the largest weight.
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
    return np.tensordot(weights, np.stack(arrays), axes=1)


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

    `numbers` `[size, size]` are those of the land cover of each pixel.
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
        pattern = draw_pattern(cover.pattern, size, rng)[there]
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
    return np.fft.irfft2(_amplitude(size, correlation_length) * white, s=(size, size))


@cache
def _amplitude(size: int, correlation_length: float) -> np.ndarray:
    steps = np.minimum(np.arange(size), size - np.arange(size))
    covariance = np.exp(-np.hypot(steps[:, None], steps[None, :]) / correlation_length)
    return np.sqrt(np.clip(np.fft.rfft2(covariance).real, 0.0, None))
