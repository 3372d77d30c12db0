"""The content of a weight file: its layout, its architecture, and what of it would be loaded."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path

from torch import nn

from ssl4eo_bench.config.checkpoint import PLUGIN
from ssl4eo_bench.config.layouts import DETECTED, LAYOUTS, WRAPPERS, Layout
from ssl4eo_bench.errors import SpecError, UnknownNameError, WeightsError
from ssl4eo_bench.models.foreign_networks import Advice, hint
from ssl4eo_bench.models.state_dict import Reading, compared, read_by
from ssl4eo_bench.models.timm_model import attention_heads, create_empty, is_architecture, require_architecture
from ssl4eo_bench.models.weight_reader import State, names_in, read_weights

RESNETS = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}
"""By the number of blocks of each stage, and whether these are bottlenecks."""

VITS = {(192, 12): "tiny", (384, 12): "small", (768, 12): "base", (1024, 24): "large", (1280, 32): "huge"}
"""By width and number of blocks."""

DEFAULT_SIZE = 224
LARGEST_SIZE = 1024
"""Pixels; larger inputs are not tried, whatever the position embeddings of a file suggest."""

MOST_CHANNELS = 1024
"""Input channels of a first convolution; with more it is not one of images."""


@dataclass(frozen=True)
class Inspection:
    """A dict of a weight file, read as well as possible.

    Attributes:
        dicts: the number of tensors in each dict of the file, by key.
        arch: the architecture, as named or guessed from names and shapes; none if neither.
        channels: of the first convolution.
        image_size: in pixels, as position embeddings suggest, else the usual one.
        heads: attention heads of the architecture, which no tensor shows.
        reading: the file by the layout that fits best, compared with that architecture.
        choice: what an entry says to have it read so: the name of a layout, or one that is written out.
        hint: what to do with it, where its names are those of a network that is none of timm's.
    """

    dicts: dict[str, int]
    arch: str | None
    channels: int | None
    image_size: int
    heads: int | None
    reading: Reading
    choice: str | Layout
    hint: Advice | None = None

    @property
    def loads(self) -> bool:
        """Whether it would be loaded."""
        return bool(self.arch and self.channels) and self.reading.fits


def inspect(file: Path, arch: str | None = None, layout: str | None = None) -> list[Inspection]:
    """Find the layout of a file, and the architecture if none is named.

    Returns:
        Everything that would be loaded (a file can hold two networks), or else what comes closest.

    Raises:
        UnknownNameError: if there is no such architecture or layout.
        WeightsError: if the file cannot be read, or shows nothing of the layout that was named.
        SpecError: if the architecture that is named cannot have such input.
    """
    if arch and arch.startswith(PLUGIN):
        raise SpecError(
            f"{arch!r} is a class of your own: try `ssl4eo-bench checkpoint test --arch {arch} --weights {file}` with "
            "its --bands and --scaling, or leave --arch away to see what is in the file."
        )
    if arch:
        require_architecture(arch)
    if layout and layout not in LAYOUTS:
        raise UnknownNameError("layout", layout, LAYOUTS)
    content = read_weights(file)
    readings = read_by(content, {layout: LAYOUTS[layout]} if layout else DETECTED, detecting=True)
    if not readings:
        raise WeightsError(f"{file} shows nothing of layout {layout}; leave --layout away to have it detected.")
    found = [_inspected(content, reading, arch) for reading in readings]
    closest = max(found, key=lambda one: one.reading.fitting)
    return [one for one in found if one.loads] or [replace(closest, hint=hint(names_in(content), file))]


def guess_arch(state: State) -> str | None:
    """The architecture of tensors with timm's names, as far as names and shapes tell.

    The number of attention heads cannot be seen in them.
    """
    if "conv1.weight" in state and "layer4.0.conv2.weight" in state:
        stages = tuple(_count(state, rf"layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4))
        return RESNETS.get((stages, "layer1.0.conv3.weight" in state))  # type: ignore[arg-type]
    patches = state.get("patch_embed.proj.weight")
    if patches is None or patches.ndim != 4:
        return None
    size = VITS.get((patches.shape[0], _count(state, r"blocks\.(\d+)\.")))
    family, ending = "vit", "_224"
    if "blocks.0.gamma_1" in state:
        family = "beit"
    elif "blocks.0.ls1.gamma" in state:
        ending = "_reg4_dinov2" if "reg_token" in state else "_dinov2"
    name = f"{family}_{size}_patch{patches.shape[-1]}{ending}"
    return name if is_architecture(name) else None


def beginnings(names: tuple[str, ...], prefix: str) -> dict[str, int]:
    """The number of names by their first part, after `prefix` if they have it; the most frequent first."""
    beginning = re.compile(rf"(?:{'|'.join(map(re.escape, WRAPPERS))})*({re.escape(prefix)}[^.]+|[^.]+)")
    matches = ((name, beginning.match(name)) for name in names)
    return dict(Counter(match[1] if match else name for name, match in matches).most_common())


def _inspected(content: Mapping[str, State], reading: Reading, named: str | None) -> Inspection:
    channels, size = _channels(reading.state), _image_size(reading.state)
    dicts = {key: len(state) for key, state in content.items()}
    arch = named or guess_arch(reading.state)
    network = _network(arch, channels, size, is_guess=not named) if arch and channels else None
    if network is None:
        return Inspection(dicts, named, channels, size, None, reading, reading.name)
    choice = _choice(content, reading, network)
    return Inspection(dicts, arch, channels, size, attention_heads(network), compared(reading, network), choice)


def _network(arch: str, channels: int, size: int, *, is_guess: bool) -> nn.Module | None:
    """The network, or none if the file has shapes that its guessed architecture cannot have."""
    try:
        return create_empty(arch, channels, size)
    except SpecError:
        if is_guess:
            return None
        raise


def _choice(content: Mapping[str, State], reading: Reading, network: nn.Module) -> str | Layout:
    """The layout by its name, unless that means another dict of the file or could mean several."""
    meant = read_by(content, {reading.name: reading.layout}, detecting=False)
    if [other.key for other in meant if compared(other, network).fits] == [reading.key]:
        return reading.name
    return reading.layout.model_copy(update={"keys": (reading.key,)})


def _channels(state: State) -> int | None:
    first = next((tensor for tensor in state.values() if tensor.ndim == 4), None)
    return int(first.shape[1]) if first is not None and 1 <= first.shape[1] <= MOST_CHANNELS else None


def _image_size(state: State) -> int:
    positions, patches = state.get("pos_embed"), state.get("patch_embed.proj.weight")
    if positions is None or patches is None or positions.ndim != 3 or patches.ndim != 4:
        return DEFAULT_SIZE
    size = isqrt(positions.shape[1]) * int(patches.shape[-1])  # the class token does not complete a row
    return min(size, LARGEST_SIZE) or DEFAULT_SIZE


def _count(state: State, pattern: str) -> int:
    return len({match[1] for match in map(re.compile(pattern).match, state) if match})
