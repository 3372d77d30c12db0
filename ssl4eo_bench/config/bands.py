"""Band names, sensors and units: the vocabulary that tasks and checkpoints share.

A band is always named, never a position. Every source spells the names differently (EuroSAT `B8A`, SSL4EO-S12
`B8a`, So2Sat `S2_B02`); they are folded to the canonical names here and nowhere else.

A band of another sensor has its centre wavelength in its name, `red=665nm`: so whatever has the name knows it.
"""

import re
from math import nan
from typing import Literal

from ssl4eo_bench.config.canonical import Frozen
from ssl4eo_bench.errors import SpecError

Sensor = Literal["Sentinel-1", "Sentinel-2", "other"]
Unit = Literal["dn", "reflectance", "db", "byte"]
"""`dn` = reflectance × 10000, `reflectance` in 0–1 (and above, on bright targets), `db` decibel, `byte` a display
image in 0–255."""

SENTINEL_2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
SENTINEL_1 = ("VV", "VH")

SPECTRUM: dict[str, tuple[float, float]] = {
    "B01": (443.0, 20.0),
    "B02": (490.0, 65.0),
    "B03": (560.0, 35.0),
    "B04": (665.0, 30.0),
    "B05": (705.0, 15.0),
    "B06": (740.0, 15.0),
    "B07": (783.0, 20.0),
    "B08": (842.0, 115.0),
    "B8A": (865.0, 20.0),
    "B09": (945.0, 20.0),
    "B10": (1375.0, 30.0),
    "B11": (1610.0, 90.0),
    "B12": (2190.0, 180.0),
    "VV": (55_465_763.4, nan),
    "VH": (55_465_763.4, nan),
}
"""Nominal centre wavelength and bandwidth of each band in nanometres, as in GDAL's table of Sentinel-2.

Models that read wavelengths were trained with the nominal ones. Radar is at 5.405 GHz, and its bandwidth is no
property of a band.
"""

_FINE, _COARSE = ("B02", "B03", "B04", "B08", *SENTINEL_1), ("B01", "B09", "B10")
RESOLUTION = dict.fromkeys(SPECTRUM, 20) | dict.fromkeys(_FINE, 10) | dict.fromkeys(_COARSE, 60)
"""The size of a pixel of each band in metres, as products of the sensor have it."""

SENSORS: dict[Sensor, tuple[str, ...]] = {"Sentinel-2": SENTINEL_2, "Sentinel-1": SENTINEL_1}

_OTHER = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9_.-]*)=(?P<length>\d+(\.\d+)?)(?P<unit>nm|um|µm)")
"""Band names of other sensors, such as `red=665nm` and `swir=1.61um`."""

_SPELLING = re.compile(r"(?:S[12][_-])?(?:B(?P<number>0?\d|1\d)(?P<narrow>A?)|(?P<radar>VV|VH))", re.IGNORECASE)


class Band(Frozen):
    """One band that a task's reader yields: canonical name, unit of the values as read, size of a pixel in metres."""

    name: str
    unit: Unit
    resolution: int


def canonical_band(name: str) -> str:
    """The canonical name of a band in any of the field's spellings, such as `B8a`, `B08A`, `B2` or `S2_B02`.

    That of a band of another sensor has its wavelength in nanometres: `swir=1.61um` is `swir=1610nm`.

    Raises:
        SpecError: if no Sentinel-1 or Sentinel-2 band is written like that, and no band of another sensor.
    """
    if other := _OTHER.fullmatch(name.strip()):
        length = float(other["length"]) * (1 if other["unit"] == "nm" else 1000)
        return f"{other['name']}={round(length, 3):g}nm"
    match = _SPELLING.fullmatch(name.strip())
    if match:
        if match["radar"]:
            return match["radar"].upper()
        number, narrow = int(match["number"]), match["narrow"].upper()
        folded = "B8A" if (number, narrow) == (8, "A") else f"B{number:02d}{narrow}"
        if folded in SENTINEL_2:
            return folded
    if re.fullmatch(r"[^=]+=[\d.]+", name.strip()):
        raise SpecError(
            f"band {name!r} has a wavelength without a unit; write {name.strip()}nm, or um for micrometres."
        )
    raise SpecError(
        f"band {name!r} is not known; known are {', '.join(SENTINEL_2 + SENTINEL_1)}, and bands of other sensors are "
        "written with their wavelength, such as red=665nm."
    )


def sensor_of(band: str) -> Sensor:
    """The sensor that a canonical band name belongs to."""
    if "=" in band:
        return "other"
    return "Sentinel-1" if band in SENTINEL_1 else "Sentinel-2"


def spectrum(band: str) -> tuple[float, float]:
    """Centre wavelength and bandwidth of a band in nanometres; NaN for a bandwidth that is not known."""
    if sensor_of(band) == "other":
        return float(band.partition("=")[2].removesuffix("nm")), nan
    return SPECTRUM[band]
