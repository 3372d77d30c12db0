"""Backbones of classes that the suite does not know: any `nn.Module`, from a module of Python or alive in this process.

A class may have, beside `forward`:

- a parameter `inputs` of its constructor, which gets the `Inputs`; others are `options` of the entry;
- `reads`, the names of what it reads beside pixels. With `lonlat` or `date` among them, `forward` gets a `Meta`, too;
- `layers()`, its parameters from input to output, as lists, for learning rates that decay by layer;
- `load_weights(file)`, which loads a weight file of any kind where the entry says `layout: own`. Otherwise names and
  shapes in the file have to be those of the network.
"""

import hashlib
import inspect
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

import torch
from torch import Tensor, nn

from ssl4eo_bench import progress
from ssl4eo_bench.config.bands import RESOLUTION, Sensor, sensor_of, spectrum
from ssl4eo_bench.config.canonical import canonical_json
from ssl4eo_bench.config.checkpoint import Checkpoint, Reads
from ssl4eo_bench.config.weights import OwnWeights
from ssl4eo_bench.errors import SpecError, WeightsError
from ssl4eo_bench.models.backbone import Backbone, state_sha256
from ssl4eo_bench.models.plugin_source import failure, find_class, library_versions, require_current, source_sha256

PER_IMAGE = ("lonlat", "date")
"""What of `Reads` differs from image to image."""

_alive: dict[str, nn.Module] = {}
"""Networks of this process that checkpoints name by their sha256."""

_known_weights: dict[str, OwnWeights] = {}
"""The weights that classes brought, by the checkpoint: a sweep asks for each many times."""


class InputChannel(NamedTuple):
    """One channel of the images.

    Attributes:
        band: canonical name, such as `B8A`.
        sensor: of the band.
        wavelength: centre, in nanometres.
        bandwidth: in nanometres; NaN for radar and for bands of other sensors than the Sentinels.
        resolution: of the sensor, in metres; 10 for bands of other sensors.
    """

    band: str
    sensor: Sensor
    wavelength: float
    bandwidth: float
    resolution: int


@dataclass(frozen=True)
class Inputs:
    """What a backbone will be given.

    Attributes:
        channels: of the images `[N, C, S, S]`, in their order.
        image_size: S, in pixels.
    """

    channels: tuple[InputChannel, ...]
    image_size: int

    @classmethod
    def of(cls, bands: Sequence[str], image_size: int) -> "Inputs":
        """The inputs made of these bands."""
        channels = (InputChannel(band, sensor_of(band), *spectrum(band), RESOLUTION.get(band, 10)) for band in bands)
        return cls(tuple(channels), image_size)

    @property
    def bands(self) -> tuple[str, ...]:
        """The names of the bands, in the order of the channels."""
        return tuple(channel.band for channel in self.channels)

    def positions(self, sensor: Sensor) -> list[int]:
        """The positions of the channels of a sensor."""
        return [position for position, channel in enumerate(self.channels) if channel.sensor == sensor]


@dataclass(frozen=True)
class Meta:
    """Place and date of each image; NaN where they are not known.

    Attributes:
        lonlat: degrees east and north of the centre, `[N, 2]`.
        date: days since 1970-01-01, `[N]`.
    """

    lonlat: Tensor
    date: Tensor


@dataclass(frozen=True)
class Features:
    """What a backbone gives for a batch of images.

    Attributes:
        pooled: the feature of each image, `[N, D]`.
        cls: its class token, `[N, D]`, if it has one.
        maps: features at places `[N, D_i, h_i, w_i]`, from input to output, if it has some.
    """

    pooled: Tensor
    cls: Tensor | None = None
    maps: Sequence[Tensor] = ()


class PluginBackbone(Backbone):
    """A network of a class that the suite does not know; `reads_images` is what it reads of images beside pixels."""

    def __init__(self, network: nn.Module, checkpoint: Checkpoint) -> None:
        """Adapt a network, after one trial forward that tells which features it has."""
        super().__init__()
        self.network = network.eval().requires_grad_(requires_grad=False)
        self._checkpoint = checkpoint
        self.reads_images = tuple(name for name in checkpoint.reads or () if name in PER_IMAGE)
        size = cast(int, checkpoint.image_size)
        with torch.inference_mode():
            found = self.features(torch.zeros(2, len(checkpoint.bands), size, size))
        self.strides = tuple(round(size / one.shape[-1]) for one in found.maps)
        self.channels = tuple(int(one.shape[1]) for one in found.maps)
        available = {"pooled": True, "cls": found.cls is not None, "avg": bool(found.maps)}
        if not (checkpoint.layer or available.get(checkpoint.feature)):
            self.lacking = {"cls": "class token", "avg": "maps"}.get(checkpoint.feature, checkpoint.feature)

    def features(self, images: Tensor, meta: Tensor | None = None) -> Features:
        """Everything that the network gives for scaled images `[N, C, S, S]`; `meta` is as of `Backbone.pooled`.

        Raises:
            SpecError: if the network fails, or gives something else.
        """
        arguments: tuple[object, ...] = (images,)
        if self.reads_images:
            known = images.new_full((len(images), 3), torch.nan) if meta is None else meta.to(images)
            arguments = (images, Meta(lonlat=known[:, :2], date=known[:, 2]))
        try:
            found = self.network(*arguments)
        except torch.OutOfMemoryError:
            raise  # the runner tries again with fewer images
        except (Exception, SystemExit) as error:
            raise SpecError(f"{self._who} fails on images {list(images.shape)} ({failure(error)}).") from error
        return self._checked(found, len(images))

    def _checked(self, found: object, count: int) -> Features:
        if isinstance(found, Tensor) and found.ndim == 4:
            found = Features(found.mean(dim=(2, 3)), maps=(found,))
        elif isinstance(found, Tensor):
            found = Features(found)
        if not isinstance(found, Features):
            raise SpecError(
                f"{self._who} gives a {type(found).__name__}; let its forward return a tensor [N, D], a map "
                "[N, D, h, w], or ssl4eo_bench.Features(pooled=…, cls=…, maps=…)."
            )
        vectors = [("pooled", found.pooled, 2), *([("cls", found.cls, 2)] if found.cls is not None else [])]
        for name, tensor, ndim in (*vectors, *(("a map", one, 4) for one in found.maps)):
            fits = isinstance(tensor, Tensor) and tensor.ndim == ndim and len(tensor) == count
            if not fits or not tensor.is_floating_point():
                given = f"{tensor.dtype} {list(tensor.shape)}" if isinstance(tensor, Tensor) else type(tensor).__name__
                wanted = "[N, D]" if ndim == 2 else "[N, D, h, w]"
                raise SpecError(f"{self._who} gives {name} as {given} for {count} images; floats {wanted} are needed.")
        return found

    @property
    def _who(self) -> str:
        return f"the network {self._checkpoint.arch!r} of checkpoint {self._checkpoint.name!r}"

    def output(self, images: Tensor, meta: Tensor | None = None) -> Tensor:
        """The feature `[N, D]` of each image that the checkpoint names, if it names no layer."""
        found = self.features(images, meta)
        if self._checkpoint.feature == "avg":
            return found.maps[-1].mean(dim=(2, 3))
        return cast(Tensor, found.cls) if self._checkpoint.feature == "cls" else found.pooled

    def maps(self, images: Tensor, indices: Collection[int], meta: Tensor | None = None) -> dict[int, Tensor]:
        """The maps `[N, D_i, h_i, w_i]` with these indices into `strides`, in ascending order."""
        maps = self.features(images, meta).maps
        return {index: maps[index] for index in sorted(indices)}

    def parameter_groups(self, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
        """The parameters in the layers of the network; without `layers` it is one. Biases and norms do not decay."""
        layers = getattr(self.network, "layers", None)
        listed = [list(layer) for layer in layers()] if callable(layers) else [list(self.network.parameters())]
        known = {id(parameter) for layer in listed for parameter in layer}
        rest = [parameter for parameter in self.network.parameters() if id(parameter) not in known]
        groups = []
        for distance, layer in zip(range(len(listed), 0, -1), listed, strict=True):
            trained = [one for one in (*layer, *(rest if distance == len(listed) else ())) if one.requires_grad]
            for decays in (True, False):
                of_kind = [one for one in trained if (one.ndim > 1) == decays]
                decay = weight_decay if decays else 0.0
                groups.append({"params": of_kind, "weight_decay": decay, "lr_scale": layer_decay**distance})
        return [group for group in groups if group["params"]]


def resolved(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint of a plug-in with what only its class tells: the sha256 of its source, and what it reads.

    Raises:
        SpecError: if there is no such class.
        WeightsError: if its code is another than the entry says.
    """
    found = _class_of(checkpoint)
    require_current(found)
    source = source_sha256(found)
    if checkpoint.source_sha256 not in (None, source):
        raise WeightsError(
            f"the source of {checkpoint.arch!r} has sha256 {source}, but checkpoint {checkpoint.name!r} says "
            f"{checkpoint.source_sha256}; take the code that the entry is about, or correct the entry."
        )
    return checkpoint.model_copy(update={"source_sha256": source, "reads": _reads(found, checkpoint)})


def with_own_weights(checkpoint: Checkpoint, bands: tuple[str, ...]) -> Checkpoint:
    """A checkpoint with the sha256 of the weights that its class brings itself, which is built for these bands."""
    if checkpoint.weights != OwnWeights(own=True):
        return checkpoint
    built = checkpoint.seeing(bands)
    key = canonical_json(built)
    if key not in _known_weights:
        progress.note(f"{checkpoint.name}: no weight file is named, so the class brings its weights itself")
        _known_weights[key] = OwnWeights(own=True, sha256=network_sha256(create(built)))
    return checkpoint.model_copy(update={"weights": _known_weights[key]})


def _reads(found: type, checkpoint: Checkpoint) -> tuple[Reads, ...]:
    reads = getattr(found, "reads", ())
    known = get_args(Reads)
    if isinstance(reads, str) or not isinstance(reads, Collection) or any(name not in known for name in reads):
        raise SpecError(
            f"`reads` of {checkpoint.arch!r} is {reads!r}; it is a tuple with some of {', '.join(map(repr, known))}."
        )
    return tuple(name for name in known if name in reads)


def create(checkpoint: Checkpoint) -> nn.Module:
    """The network of a plug-in as its class makes it, for the bands and the image size of the checkpoint.

    Raises:
        SpecError: if its class cannot be built.
    """
    live = _live(checkpoint)
    found = find_class(checkpoint.arch) if live is None else type(live)
    options: dict[str, Any] = dict(checkpoint.options or {})
    try:
        if live is not None:
            return deepcopy(live).cpu()  # the user's own network must stay as it is
        if "inputs" in inspect.signature(found).parameters:
            options["inputs"] = Inputs.of(checkpoint.bands, cast(int, checkpoint.image_size))
        with torch.random.fork_rng(devices=[]):  # it may seed the generator of the process
            network = found(**options)
    except (Exception, SystemExit) as error:
        raise SpecError(
            f"{checkpoint.arch!r} of checkpoint {checkpoint.name!r} cannot be built ({failure(error)})."
        ) from error
    if not isinstance(network, nn.Module):
        raise SpecError(f"{checkpoint.arch!r} is no torch.nn.Module; let the class inherit from it.")
    return network


def create_own(checkpoint: Checkpoint, weights: OwnWeights) -> nn.Module:
    """The network of a plug-in with the weights that its class brings; other weights than those planned are refused."""
    network = create(checkpoint)
    found = network_sha256(network)
    if found != weights.sha256:
        raise WeightsError(
            f"{checkpoint.arch!r} of checkpoint {checkpoint.name!r} brings other weights (sha256 {found[:12]}…) than "
            f"before ({str(weights.sha256)[:12]}…); if they are drawn at random, say `weights: {{random: true}}`, and "
            "if not, load them in its constructor."
        )
    return network


def load_file(network: nn.Module, file: Path, checkpoint: Checkpoint) -> None:
    """Let a network load a weight file itself; refuse one that cannot, or fails."""
    load = getattr(network, "load_weights", None)
    if load is None:
        raise WeightsError(
            f"{checkpoint.arch!r} of checkpoint {checkpoint.name!r} has no `load_weights(self, file)`, which `layout: "
            "own` asks for; write it, or remove the layout."
        )
    try:
        load(file)
    except (Exception, SystemExit) as error:
        raise WeightsError(
            f"{checkpoint.arch!r} of checkpoint {checkpoint.name!r} cannot load {file} ({failure(error)})."
        ) from error


@contextmanager
def alive(network: nn.Module) -> Iterator[OwnWeights]:
    """The weights by which checkpoints mean this network, inside the block."""
    sha256 = network_sha256(network)
    _alive[sha256] = network
    try:
        yield OwnWeights(own=True, sha256=sha256)
    finally:
        del _alive[sha256]


def libraries(checkpoint: Checkpoint) -> dict[str, str]:
    """The versions of the libraries that the class of a plug-in imports, by name."""
    return library_versions(_class_of(checkpoint))


def is_alive(checkpoint: Checkpoint) -> bool:
    """Whether the network of a plug-in is one of this process, which cannot be built for other channels."""
    return _live(checkpoint) is not None


def _class_of(checkpoint: Checkpoint) -> type:
    live = _live(checkpoint)
    return find_class(checkpoint.arch) if live is None else type(live)


def _live(checkpoint: Checkpoint) -> nn.Module | None:
    weights = checkpoint.weights
    return _alive.get(weights.sha256 or "") if isinstance(weights, OwnWeights) else None


def network_sha256(network: nn.Module) -> str:
    """The sha256 of a network: parameters, buffers, structure, and the code of all classes in it but PyTorch's."""
    classes = {type(module) for module in network.modules()}
    own = sorted(
        (one for one in classes if one.__module__.partition(".")[0] != "torch"), key=lambda one: one.__qualname__
    )
    parts = [state_sha256(network), repr(network), *map(source_sha256, own)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
