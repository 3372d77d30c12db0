"""How a checkpoint wants its pixels scaled. Statistics are always keyed by band name, never by position.

The numbers are in digital numbers (reflectance × 10000) for Sentinel-2 bands and in decibel for Sentinel-1 bands.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.spec.bands import canonical_band
from ssl4eo_bench.spec.canonical import Frozen, OneOf


def _by_band(value: object) -> object:
    if not isinstance(value, dict):
        raise ValueError("statistics must be keyed by band name, like {B04: 0.5, B03: 0.5}")
    try:
        folded = [(canonical_band(str(name)), _number(number)) for name, number in value.items()]
    except SpecError as error:
        raise ValueError(str(error)) from None
    if len(dict(folded)) != len(folded):
        raise ValueError("statistics name a band twice, in two spellings")
    return dict(folded)


def _number(value: object) -> object:
    """YAML and JSON write 10000 for 10000.0: the same number must give the same digest."""
    return float(value) if type(value) is int else value


Number = Annotated[float, BeforeValidator(_number)]
ByBand = Annotated[dict[str, float], BeforeValidator(_by_band)]
Range = Annotated[
    tuple[Number, Number], BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
]


class Divide(Frozen):
    """`x / divide`, unclipped: what most SSL4EO-S12 weights are used with (`divide: 10000`)."""

    divide: Annotated[Number, Field(gt=0)]


class ZScore(Frozen):
    """`(x - mean) / std`, by band."""

    mean: ByBand
    std: ByBand


class Stretch(Frozen):
    """Clip to `stretch`, map to 0–1, then `(x - mean) / std`: how ImageNet weights see a satellite image.

    A task in bytes is a display image that was stretched already: it is divided by 255 instead.
    """

    stretch: Range
    mean: ByBand
    std: ByBand

    @model_validator(mode="after")
    def _is_a_range(self) -> "Stretch":
        if not self.stretch[0] < self.stretch[1]:
            raise ValueError("stretch must be [low, high] with low < high")
        return self


class Quantise(Frozen):
    """`floor(255 · clip(x / uint8, 0, 1)) / 255`: the 8-bit images that SSL4EO-S12 was pretrained on.

    The released code has no clip and wraps bright pixels around; that fault is not reproduced.
    """

    uint8: Annotated[Number, Field(gt=0)]


class Raw(Frozen):
    """The values as they are, in digital numbers, decibel or bytes: for statistics of raw pixels."""

    raw: Literal[True]


Scaling = Annotated[
    Divide | ZScore | Stretch | Quantise | Raw,
    OneOf(divide=Divide, stretch=Stretch, uint8=Quantise, raw=Raw, mean=ZScore),
]
