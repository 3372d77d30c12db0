"""How a checkpoint wants its pixels scaled. Statistics are always keyed by band name, never by position.

The numbers are in digital numbers (reflectance × 10000) for Sentinel-2 bands and in decibel for Sentinel-1 bands.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from ssl4eo_bench.config.bands import Sensor, canonical_band
from ssl4eo_bench.config.canonical import LISTED, Frozen, OneOf
from ssl4eo_bench.errors import SpecError


def _by_band(value: object) -> object:
    if not isinstance(value, dict):
        raise ValueError("statistics must be keyed by band name, like {B04: 0.5, B03: 0.5}")
    return _folded(value)


def _folded(value: object) -> object:
    """What is keyed by band, by canonical names."""
    if not isinstance(value, dict):
        return value
    try:
        folded = [(canonical_band(str(name)), item) for name, item in value.items()]
    except SpecError as error:
        raise ValueError(str(error)) from None
    if len(dict(folded)) != len(folded):
        raise ValueError("statistics name a band twice, in two spellings")
    return dict(folded)


def _number(value: object) -> object:
    """YAML and JSON write 10000 for 10000.0: the same number must give the same digest."""
    return float(value) if type(value) is int else value


Number = Annotated[float, BeforeValidator(_number)]
ByBand = Annotated[dict[str, Number], BeforeValidator(_by_band)]
Range = Annotated[tuple[Number, Number], LISTED]


class Divide(Frozen):
    """`x / divide`, unclipped: what most SSL4EO-S12 weights are used with (`divide: 10000`)."""

    divide: Annotated[Number, Field(gt=0)]


class ZScore(Frozen):
    """`(x - mean) / std`, by band."""

    mean: ByBand
    std: ByBand


class ClippedZScore(Frozen):
    """`floor(255 · clip((x - mean + k · std) / (2k · std), 0, 1)) / 255` with k = `clip_std`, by band.

    With k = 2 these are the 8-bit images that SSL4EO-S12's radar and SoftCon's networks were pretrained on.
    """

    clip_std: Annotated[Number, Field(gt=0)]
    mean: ByBand
    std: ByBand


class Stretch(Frozen):
    """Clip to `stretch`, map to 0–1, then `(x - mean) / std`: how ImageNet weights see a satellite image.

    The range is one for all bands, or one for each by name. A task in bytes is a display image that was stretched
    already: it is divided by 255 instead.
    """

    stretch: Annotated[Range | dict[str, Range], BeforeValidator(_folded)]
    mean: ByBand
    std: ByBand

    @model_validator(mode="after")
    def _is_a_range(self) -> "Stretch":
        ranges = self.stretch.values() if isinstance(self.stretch, dict) else [self.stretch]
        if not all(low < high for low, high in ranges):
            raise ValueError("stretch must be [low, high] with low < high")
        return self

    def range_of(self, band: str) -> tuple[float, float]:
        """The range of a band."""
        return self.stretch[band] if isinstance(self.stretch, dict) else self.stretch


class Quantise(Frozen):
    """`floor(255 · clip(x / uint8, 0, 1)) / 255`: the 8-bit images that SSL4EO-S12 was pretrained on.

    The released code has no clip and wraps bright pixels around; that fault is not reproduced.
    """

    uint8: Annotated[Number, Field(gt=0)]


class Raw(Frozen):
    """The values as they are, in digital numbers, decibel or bytes: for statistics of raw pixels."""

    raw: Literal[True]


_ONE: dict[str, type[Frozen]] = {
    "divide": Divide,
    "stretch": Stretch,
    "uint8": Quantise,
    "raw": Raw,
    "clip_std": ClippedZScore,
    "mean": ZScore,
}

OneScaling = Annotated[Divide | ZScore | ClippedZScore | Stretch | Quantise | Raw, OneOf(**_ONE)]
"""One rule for all bands, with other statistics for each perhaps."""


class BySensor(Frozen):
    """A scaling for each sensor, of a checkpoint that wants bands of both."""

    by_sensor: Annotated[dict[Sensor, OneScaling], Field(min_length=1)]


Scaling = Annotated[
    Divide | ZScore | ClippedZScore | Stretch | Quantise | Raw | BySensor, OneOf(**_ONE, by_sensor=BySensor)
]


def scaling_of(scaling: Scaling, sensor: Sensor) -> OneScaling:
    """The scaling of a sensor's bands."""
    return scaling.by_sensor[sensor] if isinstance(scaling, BySensor) else scaling


def is_for_one_unit(scaling: OneScaling) -> bool:
    """Whether a number in it is for all bands alike, which digital numbers and decibel cannot share."""
    return isinstance(scaling, Divide | Quantise) or (
        isinstance(scaling, Stretch) and not isinstance(scaling.stretch, dict)
    )


def statistics(scaling: OneScaling) -> dict[str, dict[str, Any]]:
    """Everything a scaling keys by band: by what it is, then by band."""
    found = {name: getattr(scaling, name) for name in ("stretch", "mean", "std") if hasattr(scaling, name)}
    return {name: values for name, values in found.items() if isinstance(values, dict)}
