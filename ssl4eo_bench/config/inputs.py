"""The input contract: from the bands a task gives to the tensor a checkpoint wants.

One function, `map_inputs`, decides everything about the input and returns it as a value that is printed, stored in
the result and part of its digest. What it cannot do it refuses: nothing is guessed by position.
"""

from typing import Annotated, Literal

from pydantic import Field, ValidationError

from ssl4eo_bench.config.bands import SENSORS, Band, sensor_of
from ssl4eo_bench.config.canonical import Frozen
from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.scaling import ClippedZScore, Divide, Quantise, Raw, Stretch, ZScore, scaling_of, statistics
from ssl4eo_bench.errors import SpecError

PerImage = Literal["lonlat", "date"]
"""What a task may tell of a sample beside its pixels, and a backbone may read."""

VALID_RANGE: dict[str, tuple[float | None, float | None]] = {
    "dn": (0.0, 65535.0),
    "reflectance": (0.0, 6.5535),
    "db": (None, None),
    "byte": (0.0, 255.0),
}
"""What pixels of a unit can be. Bicubic resizing overshoots at edges; its result is clipped back to this range."""

LARGEST_FILLED_SHARE = 0.25
"""The largest share of channels that may be bands the task lacks: B10 in BigEarthNet; B01, B09 and B10 of 13 in So2Sat.
With more of them zero, a backbone is hardly the one that its name promises."""


class DisplayStretch(Frozen):
    """How a task in bytes was made from digital numbers: `dn_range` was mapped to `byte_range` and rounded."""

    dn_range: tuple[float, float]
    byte_range: tuple[float, float]

    def to_dn(self) -> tuple[float, float]:
        """The gain and offset with which a byte becomes a digital number again."""
        (dn_low, dn_high), (byte_low, byte_high) = self.dn_range, self.byte_range
        gain = (dn_high - dn_low) / (byte_high - byte_low)
        return gain, dn_low - byte_low * gain


class Channel(Frozen):
    """One input channel of a backbone, and how it is computed from the resized band.

    `y = post_gain · q(clip(gain · clip(x, valid) + offset, clip)) + post_offset`, where `q(v) = floor(v · levels) /
    levels` if levels are given. A filled channel has no `source` and is zero.
    """

    band: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*(=[0-9.e+]+nm)?$", max_length=100)]
    source: str | None = None
    valid: tuple[float | None, float | None] = (None, None)
    gain: float = 1.0
    offset: float = 0.0
    clip: tuple[float | None, float | None] = (None, None)
    levels: int | None = None
    post_gain: float = 1.0
    post_offset: float = 0.0

    @property
    def neutral(self) -> float:
        """The stored value that becomes zero, or comes nearest to it: it stands for a pixel without a finite value."""
        value = (_clipped(-self.post_offset / self.post_gain, self.clip) - self.offset) / self.gain
        return _clipped(value, self.valid)

    @property
    def formula(self) -> str:
        """How a stored value becomes the input, such as `clip(x · 0.000364, 0, 1) · 2 - 1`."""
        if not self.source:
            return "0 (not in the task)"
        text = _affine("x", self.gain, self.offset)
        if self.clip != (None, None):
            text = f"clip({text}, {self.clip[0]:g}, {self.clip[1]:g})"
        if self.levels:
            text = f"floor({text} · {self.levels}) / {self.levels}"
        return _affine(text, self.post_gain, self.post_offset)

    @property
    def limits(self) -> tuple[float, float] | None:
        """The inputs that the smallest and the largest stored value give; none where stored values have no limit."""
        low, high = self.valid
        if not self.source or low is None or high is None:
            return None
        first, last = (_clipped(self.gain * x + self.offset, self.clip) for x in (low, high))
        return first * self.post_gain + self.post_offset, last * self.post_gain + self.post_offset


def _affine(text: str, gain: float, offset: float) -> str:
    scaled = text if gain == 1 else f"{text} · {gain:.4g}"
    return scaled if offset == 0 else f"{scaled} {'-' if offset < 0 else '+'} {abs(offset):.4g}"


def _clipped(value: float, bounds: tuple[float | None, float | None]) -> float:
    low, high = bounds
    value = value if low is None else max(value, low)
    return value if high is None else min(value, high)


class InputMapping(Frozen):
    """The whole way from a task's bands to a backbone's input tensor `[B, C, S, S]`.

    Attributes:
        channels: one per input channel, in the order of the backbone; none for embeddings, which read no pixels.
        image_size: side of the input in pixels; `native` leaves every band at its stored size.
        resize: bicubic with antialiasing on float values (Pillow's kernel), the whole image, no crop.
        metadata: what the backbone reads of each image beside pixels and the task tells; none if there is nothing.
    """

    channels: tuple[Channel, ...]
    image_size: int | Literal["native"]
    resize: Literal["bicubic-antialias"] = "bicubic-antialias"
    metadata: tuple[PerImage, ...] | None = None

    def identity(self) -> dict[str, object]:
        """Everything about it that can move a number, for digests."""
        # What is usual stays out, so that digests of earlier versions are those of today.
        return self.model_dump(exclude=None if self.metadata else {"metadata"})

    @property
    def sources(self) -> tuple[str, ...]:
        """The bands to be read, in channel order."""
        return tuple(channel.source for channel in self.channels if channel.source)

    @property
    def bands(self) -> tuple[str, ...]:
        """What each channel stands for, also where the task lacks it."""
        return tuple(channel.band for channel in self.channels)

    @property
    def filled(self) -> tuple[str, ...]:
        """The bands the checkpoint wants and the task lacks: zero after scaling."""
        return tuple(channel.band for channel in self.channels if not channel.source)

    @property
    def summary(self) -> str:
        """Bands, size and values in a line, such as `B04 B03 B02 of 224 × 224, from -1 to 1`."""
        size = "the stored size" if self.image_size == "native" else f"{self.image_size} × {self.image_size}"
        limits = [channel.limits for channel in self.channels if channel.source]
        known = [pair for pair in limits if pair]
        reach = f", from {min(low for low, _ in known):.4g} to {max(high for _, high in known):.6g}" if known else ""
        filled = f"; zero for {', '.join(self.filled)}" if self.filled else ""
        return f"{' '.join(self.sources)} of {size}{reach}{filled}"

    @property
    def is_mostly_there(self) -> bool:
        """Whether no more channels are filled than an official run may have."""
        return len(self.filled) <= LARGEST_FILLED_SHARE * len(self.channels)


def map_inputs(
    bands: tuple[Band, ...],
    checkpoint: Checkpoint,
    display: DisplayStretch | None = None,
    *,
    tells: tuple[PerImage, ...] = (),
    fill_bands: bool = False,
) -> InputMapping:
    """Map the bands of a task to the input of a checkpoint.

    A wanted band of the same sensor that the task lacks (B10 in BigEarthNet; B01, B09, B10 in So2Sat) is filled with
    the value that is zero after scaling; `fill_bands` allows that for more than a quarter of the channels. `display`
    and `tells` are those of the task.

    Raises:
        SpecError: if the task has no band of a sensor of the checkpoint, lacks more than a quarter of the channels, or
            has a unit without conversion to the one that the scaling is written in.
    """
    if checkpoint.is_embeddings:
        return InputMapping(channels=(), image_size=checkpoint.image_size)
    given = {band.name: band for band in bands}
    wanted = checkpoint.bands
    if wanted == "task":
        able = [name for sensor in checkpoint.sensors for name in SENSORS.get(sensor, ())]
        wanted = tuple(name for name in given if sensor_of(name) in checkpoint.sensors) or tuple(able)
    _refuse_other_sensors(wanted, given, checkpoint.name)
    channels = tuple(
        _channel(given[name], checkpoint, display) if name in given else Channel(band=name, source=None)
        for name in wanted
    )
    metadata = tuple(name for name in tells if name in (checkpoint.reads or ()))
    mapping = InputMapping(channels=channels, image_size=checkpoint.image_size, metadata=metadata or None)
    if not (mapping.is_mostly_there or fill_bands):
        raise SpecError(
            f"checkpoint {checkpoint.name!r} wants {len(channels)} bands, and the task lacks {len(mapping.filled)} of "
            f"them ({', '.join(mapping.filled)}): more than a quarter; choose a checkpoint for {', '.join(given)}, or "
            "fill them with zeros by --fill-bands, which keeps the result out of the official tables."
        )
    return mapping


def _refuse_other_sensors(wanted: tuple[str, ...], given: dict[str, Band], checkpoint: str) -> None:
    sensors = {sensor_of(name) for name in given}
    foreign = [name for name in wanted if sensor_of(name) not in sensors]
    if foreign or not set(wanted) & set(given):
        of = " and ".join(sorted("another sensor" if name == "other" else name for name in sensors))
        raise SpecError(
            f"checkpoint {checkpoint!r} wants {', '.join(foreign or wanted)}, which the task does not have: it gives "
            f"{', '.join(given)} ({of}); choose a checkpoint for that sensor "
            "(`ssl4eo-bench list checkpoints` shows the bands of each)."
        )


def _channel(band: Band, checkpoint: Checkpoint, display: DisplayStretch | None) -> Channel:
    scaling = scaling_of(checkpoint.scaling, sensor_of(band.name))
    if missing := [kind for kind, values in statistics(scaling).items() if band.name not in values]:
        raise SpecError(
            f"the scaling of checkpoint {checkpoint.name!r} has no {missing[0]} for band {band.name}; choose another "
            "checkpoint, or give it an entry of its own with the statistics of this band."
        )
    plain = Channel(band=band.name, source=band.name, valid=VALID_RANGE[band.unit])
    if isinstance(scaling, Raw):
        return plain.model_copy(update={"gain": 10000.0 if band.unit == "reflectance" else 1.0})
    if isinstance(scaling, Stretch) and band.unit == "byte":
        low, high, gain, offset = 0.0, 255.0, 1.0, 0.0
    else:
        gain, offset = _to_scaling_unit(band, checkpoint.name, display)
        low, high = scaling.range_of(band.name) if isinstance(scaling, Stretch) else (0.0, 1.0)
    match scaling:
        case Divide(divide=divisor):
            scaled: dict[str, object] = {"gain": gain / divisor, "offset": offset / divisor}
        case Quantise(uint8=top):
            scaled = {"gain": gain / top, "offset": offset / top}
            scaled |= {"clip": (0.0, 1.0), "levels": 255}
        case ZScore(mean=means, std=stds):
            mean, std = means[band.name], stds[band.name]
            scaled = {"gain": gain / std, "offset": (offset - mean) / std}
        case ClippedZScore(clip_std=reach, mean=means, std=stds):
            low, width = means[band.name] - reach * stds[band.name], 2 * reach * stds[band.name]
            scaled = {"gain": gain / width, "offset": (offset - low) / width}
            scaled |= {"clip": (0.0, 1.0), "levels": 255}
        case Stretch(mean=means, std=stds):
            mean, std = means[band.name], stds[band.name]
            scaled = {"gain": gain / (high - low), "offset": (offset - low) / (high - low)}
            scaled |= {"clip": (0.0, 1.0), "post_gain": 1 / std, "post_offset": -mean / std}
    try:
        return Channel.model_validate(plain.model_dump() | scaled)
    except ValidationError:
        raise SpecError(
            f"the scaling of checkpoint {checkpoint.name!r} makes no finite numbers of band {band.name}; correct it."
        ) from None


def _to_scaling_unit(band: Band, checkpoint: str, display: DisplayStretch | None) -> tuple[float, float]:
    """Gain and offset from the band's unit to digital numbers (Sentinel-2) or decibel (Sentinel-1)."""
    target = "db" if sensor_of(band.name) == "Sentinel-1" else "dn"
    if band.unit == target:
        return 1.0, 0.0
    if band.unit == "reflectance" and target == "dn":
        return 10000.0, 0.0
    if band.unit == "byte" and target == "dn" and display:
        return display.to_dn()
    stretch = "say what its bytes stand for (`--data-stretch LOW HIGH`, or `display` of a task), or "
    raise SpecError(
        f"band {band.name} comes in unit {band.unit!r}, which has no conversion to the {target!r} that the scaling of "
        f"checkpoint {checkpoint!r} is written in; {stretch if band.unit == 'byte' else ''}choose another checkpoint."
    )
