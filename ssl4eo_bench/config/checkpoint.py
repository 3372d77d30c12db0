"""A checkpoint: one pretrained backbone, with everything that decides what it computes."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from ssl4eo_bench.config.bands import SENSORS, Sensor, canonical_band, sensor_of
from ssl4eo_bench.config.canonical import LISTED, Frozen, Written, first_fault
from ssl4eo_bench.config.scaling import BySensor, Number, Raw, Scaling, is_for_one_unit, scaling_of, statistics
from ssl4eo_bench.config.weights import (
    OWN,
    EmbeddingWeights,
    HubWeights,
    OwnWeights,
    RandomWeights,
    Sha256,
    Weights,
    weights_identity,
)
from ssl4eo_bench.errors import SpecError

Feature = Annotated[
    str,
    Written(
        r"pooled|cls|avg|cls4|stage:[1-9]\d{0,2}|block:[1-9]\d{0,2}(:cls)?",
        "one of pooled, cls, avg, cls4, stage:N, block:N and block:N:cls, with N from 1",
    ),
]
"""`pooled`: what the architecture feeds its classifier; `cls`: class token after the final norm; `avg`: mean of the
patch tokens; `cls4`: class tokens of the last four blocks, each after the final norm; the others: see `Layer`."""


class Layer(NamedTuple):
    """A layer that a feature is taken from, by its number from 1; its mean over places, or its class token.

    Its kind is `stage` where layers differ in the size of their maps, `block` where they do not, as in ViTs.
    """

    kind: str
    number: int
    is_token: bool


Precision = Literal["float32", "bfloat16"]

DEFAULT_SIZE = 224
"""Side of the input, in pixels, where nobody says another."""

BANDSTATS, EMBEDDINGS = "bandstats", "embeddings"
"""Architectures without a network: statistics of the raw pixels, and vectors in files."""

NO_INPUT: dict[str, Any] = {"bands": (), "image_size": "native", "scaling": {"raw": True}}
"""What stands in a checkpoint of embeddings, since no pixel enters it; an entry need not say so."""

PLUGIN = "python:"
"""What the name of an architecture begins with that is a class in a Python module: `python:module:Class`."""

Reads = Literal["wavelength", "bandwidth", "resolution", "lonlat", "date"]
"""What a backbone may read beside pixels: three facts about each channel, and place and date of each image."""

NAME_MARKS = {":": "the models of timm", "@": "another input size or precision of a checkpoint"}
"""What the suite itself puts into names, and a person therefore must not."""


class Pretraining(Frozen):
    """Where the weights come from; documentation only.

    It went on from weights that `start` had trained; none if they were random, or nobody says.
    """

    method: str
    data: str
    epochs: int | None = None
    start: str | None = None


NO_FOLDER = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?|.*\.", re.IGNORECASE)
"""Names that Windows gives to devices, with any ending, and names that end in a dot."""

BANDS_ARE = "bands must be a list of band names, or `task` for whatever bands the task has"


def _bands(value: object) -> object:
    if value == "task":
        return value
    if not isinstance(value, list | tuple):
        raise ValueError(BANDS_ARE)
    try:
        bands = tuple(canonical_band(str(name)) for name in value)
    except SpecError as error:
        raise ValueError(str(error).removesuffix(".")) from None
    if len(set(bands)) != len(bands):
        raise ValueError("a band is listed twice")
    return bands


def _arch(value: str) -> str:
    if value.startswith(PLUGIN) and not re.fullmatch(r"(\w+\.)*\w+:[\w.<>]+", value.removeprefix(PLUGIN)):
        raise ValueError(f"{value!r} is not written python:module:Class")
    return value


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+@:-]*", value):
        raise ValueError("a checkpoint name is made of letters, digits and _ . + - only")
    if NO_FOLDER.fullmatch(value):
        raise ValueError(
            f"{value!r} cannot be the name of a folder on Windows, and results have one of each checkpoint"
        )
    return value


class Reference(Frozen):
    """Features that the original implementation of a network gives, as the proof of a port.

    Attributes:
        seed: of the images: `torch.Generator().manual_seed(seed)` draws one image `[C, S, S]` of a standard normal.
        features: the first values of its feature.
        tolerance: the largest accepted difference, relative to the largest of these values.
    """

    seed: int
    features: Annotated[tuple[Number, ...], LISTED]
    tolerance: float = 1e-4


class Checkpoint(Frozen):
    """One entry of the catalogue.

    Attributes:
        name: `architecture.tag`, unique in the catalogue.
        arch: timm architecture, `python:module:Class` for a plug-in, `bandstats` for statistics of the raw pixels, or
            `embeddings` for vectors in files.
        options: arguments of the class of a plug-in, by name.
        weights: where the weights, or the vectors, come from; none for `bandstats`.
        bands: wanted bands in the order of the input channels; or `task` for those that the task has, which random
            weights, plug-ins and `bandstats` can take.
        image_size: side of the square input in pixels, or `native` for no resizing.
        scaling: how pixels are scaled before they enter.
        feature: which of the backbone's outputs is the feature.
        resize_pos_embed: resize the position embeddings of the weights to those of `image_size`.
        precision: of the network's convolutions and matrix products, on every device.
        source_sha256: of the source files of a plug-in; filled in when a run is planned.
        reads: what a plug-in reads beside pixels; filled in when a run is planned.
    """

    name: Annotated[str, AfterValidator(_name)]
    arch: Annotated[str, AfterValidator(_arch)]
    options: dict[str, str | int | float | bool] | None = None
    weights: Weights | None = None
    bands: Annotated[tuple[str, ...] | Literal["task"], BeforeValidator(_bands)]
    image_size: Annotated[int, Field(ge=1, le=4096)] | Literal["native"]
    scaling: Scaling
    feature: Feature = "pooled"
    resize_pos_embed: Literal[True] | None = None
    precision: Precision = "float32"
    reference: Reference | None = None
    source_sha256: Sha256 | None = None
    reads: Annotated[tuple[Reads, ...] | None, LISTED] = None
    pretraining: Pretraining | None = None
    licence: str = ""
    citation: str = ""

    @model_validator(mode="before")
    @classmethod
    def _embeddings_need_no_input(cls, entry: Any) -> Any:
        return NO_INPUT | entry if isinstance(entry, dict) and entry.get("arch") == EMBEDDINGS else entry

    @model_validator(mode="after")
    def _scaling_fits_the_sensors(self) -> "Checkpoint":
        if isinstance(self.scaling, BySensor):
            if missing := [sensor for sensor in self.sensors if sensor not in self.scaling.by_sensor]:
                raise ValueError(f"scaling has nothing for {missing[0]}, although bands of it are wanted")
        elif {"Sentinel-1"} < set(self.sensors) and is_for_one_unit(self.scaling):
            raise ValueError(
                "scaling has one number for digital numbers of Sentinel-2 and decibel of Sentinel-1; give each sensor "
                "its own by `{by_sensor: {Sentinel-2: …, Sentinel-1: …}}`"
            )
        return self

    @model_validator(mode="after")
    def _statistics_cover_the_bands(self) -> "Checkpoint":
        for sensor in self.sensors:
            bands = SENSORS.get(sensor, ()) if self.bands == "task" else self.bands
            wanted = [band for band in bands if sensor_of(band) == sensor]
            for kind, values in statistics(scaling_of(self.scaling, sensor)).items():
                if missing := [band for band in wanted if band not in values]:
                    raise ValueError(f"scaling has no {kind} for {', '.join(missing)}; statistics are keyed by band")
                if kind == "std" and not all(value > 0 for value in values.values()):
                    raise ValueError("every std must be above 0")
        return self

    @model_validator(mode="after")
    def _has_what_its_architecture_needs(self) -> "Checkpoint":
        raw = self.image_size == "native" and isinstance(self.scaling, Raw)
        plain = raw and (self.precision, self.feature) == ("float32", "pooled")
        if self.is_embeddings != (self.arch == EMBEDDINGS):
            raise ValueError("`arch: embeddings` and `weights: {embeddings: [{path: …, sha256: …}, …]}` go together")
        if self.is_embeddings:
            if not plain or self.bands or self.resize_pos_embed:
                raise ValueError("embeddings have no bands, image_size, scaling, feature or precision; remove these")
        elif not self.bands:
            raise ValueError(f"bands: {BANDS_ARE}")
        elif not self.has_network:
            if self.weights or not plain:
                raise ValueError(
                    "bandstats has no weights, no feature, no precision, `image_size: native`, `scaling: {raw: true}`"
                )
        elif not self.weights or self.image_size == "native":
            raise ValueError("a backbone needs `weights` and an `image_size` in pixels")
        elif self.bands == "task" and not (self.is_random or self.is_plugin):
            raise ValueError("weights were trained on certain bands; list them instead of `bands: task`")
        return self

    @model_validator(mode="after")
    def _has_nothing_of_another_architecture(self) -> "Checkpoint":
        own = isinstance(self.weights, OwnWeights) or self.loads_itself
        if not self.is_plugin and (self.options or own):
            raise ValueError(f"`options`, `{{own: true}}` and `layout: own` are for `arch: {PLUGIN}module:Class`")
        if isinstance(self.weights, HubWeights) and self.weights.timm.split(".")[0] != self.arch:
            raise ValueError(f"`weights: {{timm: {self.weights.timm}}}` are not of the architecture {self.arch}")
        return self

    @property
    def has_network(self) -> bool:
        """Whether its features come from a network: all but `bandstats` and embeddings."""
        return self.arch not in (BANDSTATS, EMBEDDINGS)

    @property
    def is_embeddings(self) -> bool:
        """Whether its features are vectors in files, made elsewhere."""
        return isinstance(self.weights, EmbeddingWeights)

    @property
    def layer(self) -> Layer | None:
        """The layer that its feature is taken from, if it names one."""
        kind, _, rest = self.feature.partition(":")
        number, _, token = rest.partition(":")
        return Layer(kind, int(number), bool(token)) if number else None

    @property
    def is_plugin(self) -> bool:
        """Whether its network is of a class that the suite does not know."""
        return self.arch.startswith(PLUGIN)

    @property
    def loads_itself(self) -> bool:
        """Whether the class of a plug-in loads the weight file, without the check that all of it fits."""
        return getattr(self.weights, "layout", None) == OWN

    @property
    def sensors(self) -> tuple[Sensor, ...]:
        """The sensors of its bands; where it takes those of the task, the ones that its scaling is for."""
        if self.bands != "task":
            return tuple(dict.fromkeys(sensor_of(band) for band in self.bands))
        if isinstance(self.scaling, BySensor):
            return tuple(self.scaling.by_sensor)
        return (*SENSORS, "other") if isinstance(self.scaling, Raw) else ("Sentinel-2", "other")

    @property
    def is_random(self) -> bool:
        """Whether the seed of a run decides the weights."""
        return isinstance(self.weights, RandomWeights)

    @property
    def is_floor(self) -> bool:
        """Whether nothing was learnt in it: random weights, or statistics of the raw pixels."""
        return self.is_random or self.weights is None

    def identity(self) -> dict[str, object]:
        """Everything about it that can move a number, for digests; documentation and file places are left out."""
        identity: dict[str, object] = {
            "arch": self.arch,
            "weights": weights_identity(self.weights),
            "bands": self.bands,
            "image_size": self.image_size,
            "scaling": self.scaling.model_dump(),
            "feature": self.feature,
        }
        # What is usual stays out, so that digests of earlier versions are those of today.
        if self.resize_pos_embed:
            identity["resize_pos_embed"] = True
        if self.precision != "float32":
            identity["precision"] = self.precision
        if self.is_plugin:
            identity |= {"options": self.options or {}, "source": self.source_sha256}
        return identity

    def at_size(self, image_size: int, *, resize_pos_embed: bool = False) -> "Checkpoint":
        """The same checkpoint at another input size in pixels; `@size` in its name keeps its results apart.

        Raises:
            SpecError: for a checkpoint that has no input size.
        """
        if self.image_size == "native":
            raise SpecError(f"checkpoint {self.name!r} has no input size to change; leave --image-size away.")
        if image_size == self.image_size:
            return self
        changed = self.model_dump() | {"name": f"{self.name}@{image_size}", "image_size": image_size}
        if resize_pos_embed:
            changed |= {"resize_pos_embed": True}
        try:
            return Checkpoint.model_validate(changed)
        except ValidationError as error:
            raise SpecError(f"--image-size {image_size} cannot be: {first_fault(error)}.") from None

    def seeing(self, bands: tuple[str, ...]) -> "Checkpoint":
        """The same checkpoint with the bands of its input channels, where it takes those of the task."""
        return self.model_copy(update={"bands": bands}) if self.bands == "task" else self

    def at_precision(self, precision: Precision) -> "Checkpoint":
        """The same checkpoint in another precision, kept apart by `@precision`; without a network there is none."""
        if not self.has_network or precision == self.precision:
            return self
        return self.model_copy(update={"name": f"{self.name}@{precision}", "precision": precision})


def checkpoint_from(entry: Mapping[str, object], where: str) -> Checkpoint:
    """The checkpoint that a person describes by the keys of an entry; messages say `where` the entry is.

    Raises:
        SpecError: if they do not make a checkpoint.
    """
    name = str(entry.get("name", ""))
    if marks := [mark for mark in NAME_MARKS if mark in name]:
        raise SpecError(
            f"{where}: the name {name!r} has {marks[0]!r} in it, which marks "
            f"{NAME_MARKS[marks[0]]}; choose another name."
        )
    try:
        return Checkpoint.model_validate(entry)
    except ValidationError as error:
        raise SpecError(f"{where}: {first_fault(error)}.") from None
    except OverflowError:
        raise SpecError(f"{where} has a number that is too large.") from None
    except RecursionError:
        raise SpecError(f"{where} is nested too deeply.") from None
