"""Made-up scenes for the sample of So2Sat: what the 17 local climate zones look like to either sensor."""

from collections.abc import Sequence
from functools import cache

import numpy as np

from ssl4eo_bench.config.bands import SENTINEL_2
from ssl4eo_bench.data.patterns import Rng
from ssl4eo_bench.data.synthesis import Cover, blend, land_covers, mosaic, regions


@cache
def _covers() -> dict[str, Cover]:
    """What local climate zones are made of here."""
    return {
        "towers": blend(
            {"Industrial": 1, "Residential": 1}, visible=0.8, infrared=0.75, shortwave=0.8, pattern="halls"
        ),
        "blocks": blend({"Residential": 2, "Industrial": 1}, visible=0.95, infrared=0.85, pattern="blocks"),
        "houses": land_covers()["Residential"],
        "shacks": blend({"Residential": 1, "AnnualCrop": 1}, visible=1.1, shortwave=1.15, pattern="thicket"),
        "halls": land_covers()["Industrial"],
        "plant": blend({"Industrial": 2, "Highway": 1}, visible=0.7, infrared=0.75, pattern="tanks"),
        "paved": blend({"Highway": 1, "Industrial": 1}, infrared=0.85, pattern="road"),
        "trees": land_covers()["Forest"],
        "grass": blend({"Pasture": 1, "HerbaceousVegetation": 1}, pattern="smooth"),
        "scrub": blend({"HerbaceousVegetation": 2, "Forest": 1}, infrared=0.85, pattern="saplings"),
        "crops": blend({"Pasture": 1, "AnnualCrop": 1}, pattern="rows"),
        "rock": blend({"Highway": 1, "Industrial": 1}, visible=1.15, infrared=0.95, pattern="patches"),
        "soil": blend({"AnnualCrop": 1, "HerbaceousVegetation": 1}, visible=1.3, infrared=0.85, shortwave=1.2),
        "water": blend({"SeaLake": 1}, pattern="swell"),
    }


ZONES: dict[str, dict[str, tuple[float, float]]] = {
    # What fills most of it, and which share the others have.
    "Compact high rise": {"towers": (0, 0), "blocks": (0.1, 0.3)},
    "Compact mid rise": {"blocks": (0, 0), "towers": (0.05, 0.2), "trees": (0.0, 0.1)},
    "Compact low rise": {"houses": (0, 0), "blocks": (0.1, 0.3), "trees": (0.0, 0.1)},
    "Open high rise": {"grass": (0, 0), "trees": (0.1, 0.25), "towers": (0.3, 0.5)},
    "Open mid rise": {"grass": (0, 0), "trees": (0.1, 0.25), "blocks": (0.3, 0.5)},
    "Open low rise": {"grass": (0, 0), "trees": (0.1, 0.25), "houses": (0.35, 0.6)},
    "Lightweight low rise": {"shacks": (0, 0), "soil": (0.1, 0.3)},
    "Large low rise": {"halls": (0, 0), "paved": (0.1, 0.4)},
    "Sparsely built": {"grass": (0, 0), "trees": (0.1, 0.3), "houses": (0.1, 0.2)},
    "Heavy industry": {"plant": (0, 0), "paved": (0.1, 0.3), "soil": (0.1, 0.25)},
    "Dense trees": {"trees": (0, 0), "scrub": (0.0, 0.15)},
    "Scattered trees": {"grass": (0, 0), "trees": (0.3, 0.5)},
    "Bush, scrub": {"scrub": (0, 0), "soil": (0.05, 0.2), "trees": (0.0, 0.1)},
    "Low plants": {"crops": (0, 0), "grass": (0.1, 0.4)},
    "Bare rock or paved": {"rock": (0, 0), "paved": (0.1, 0.4)},
    "Bare soil or sand": {"soil": (0, 0), "scrub": (0.0, 0.15)},
    "Water": {"water": (0, 0), "grass": (0.0, 0.15)},
}

BACKSCATTER: dict[str, tuple[float, float]] = {
    # VV and VH in decibel: plausible levels in the C band, not measured ones.
    "towers": (0.0, -9.0),
    "blocks": (-3.0, -11.0),
    "houses": (-5.5, -13.0),
    "shacks": (-7.0, -14.5),
    "halls": (-2.0, -12.5),
    "plant": (1.0, -9.5),
    "paved": (-13.0, -21.0),
    "trees": (-9.0, -14.5),
    "grass": (-12.0, -19.0),
    "scrub": (-11.0, -17.0),
    "crops": (-11.5, -18.5),
    "rock": (-12.0, -20.0),
    "soil": (-14.0, -22.5),
    "water": (-21.0, -28.0),
}
SCENE_SPREAD, LOOKS = 2.0, 6  # standard deviation between scenes in decibel; of the filtered intensities


def zone(name: str, size: int, rng: Rng) -> tuple[list[str], np.ndarray]:
    """The covers of a scene and which of them each pixel shows."""
    shares = [rng.uniform(*share) for share in ZONES[name].values()]
    return list(ZONES[name]), regions(shares, size=size, rng=rng)


def optical(covers: list[str], numbers: np.ndarray, bands: Sequence[str], rng: Rng) -> np.ndarray:
    """Reflectance `[S, S, 10]` of the ten bands of the dataset."""
    pixels = mosaic([_covers()[cover] for cover in covers], numbers, rng=rng)
    return pixels[[SENTINEL_2.index(band) for band in bands]].transpose(1, 2, 0) / 10000.0


def radar(covers: list[str], numbers: np.ndarray, rng: Rng) -> np.ndarray:
    """The eight channels `[S, S, 8]`: speckled complex VH and VV, their intensities, and how the two correlate."""
    levels = np.array([BACKSCATTER[cover] for cover in covers])[numbers] + rng.normal(0.0, SCENE_SPREAD)
    vv, vh = np.moveaxis(10 ** (levels / 10) * rng.gamma(LOOKS, 1 / LOOKS, levels.shape), -1, 0)
    speckle = rng.standard_normal((4, *numbers.shape)) / np.sqrt(2)
    phase = rng.uniform(-np.pi, np.pi, vv.shape)
    between = 0.3 * np.sqrt(vv * vh) * np.exp(1j * phase)
    amplitudes = speckle * np.sqrt([vh, vh, vv, vv])
    # Rounded to four bytes, so that the eight of the official layout compress well.
    return np.stack([*amplitudes, vh, vv, between.real, between.imag], axis=-1).astype(np.float32).astype(np.float64)
