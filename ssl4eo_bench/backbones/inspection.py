"""What is in a weight file: its layout, its architecture, and what of it would be loaded."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import timm

from ssl4eo_bench.backbones.build import create_empty, require_arch
from ssl4eo_bench.backbones.loading import Reading, compared, read_by
from ssl4eo_bench.backbones.weights import State, read_weights
from ssl4eo_bench.errors import UnknownNameError, WeightsError
from ssl4eo_bench.spec.layouts import DETECTED, LAYOUTS, WRAPPERS

RESNETS = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}
"""By blocks of each stage, and whether these are bottlenecks."""

VITS = {(192, 12): "tiny", (384, 12): "small", (768, 12): "base", (1024, 24): "large", (1280, 32): "huge"}
"""By width and number of blocks."""

DEFAULT_SIZE = 224


@dataclass(frozen=True)
class Inspection:
    """What a file holds, and the best that can be made of it.

    Attributes:
        dicts: how many tensors each dict of the file holds, by key.
        arch: named, or guessed from names and shapes; none if neither.
        channels: of the first convolution.
        image_size: in pixels, as position embeddings tell it, else the usual one.
        heads: of the architecture's attention, which no tensor tells.
        reading: the file by the layout that fits best, beside that architecture.
    """

    dicts: dict[str, int]
    arch: str | None
    channels: int | None
    image_size: int
    heads: int | None
    reading: Reading

    @property
    def loads(self) -> bool:
        """Whether it would be loaded."""
        return self.arch is not None and self.channels is not None and self.reading.fits


def inspect(file: Path, arch: str | None = None, layout: str | None = None) -> list[Inspection]:
    """Find the layout of a file, and the architecture if none is named.

    Gives everything that would be loaded (a file can hold two networks), or else what comes closest.

    Raises:
        UnknownNameError: if there is no such architecture or layout.
        WeightsError: if the file cannot be read, or shows nothing of the layout that was named.
    """
    if arch:
        require_arch(arch)
    if layout and layout not in LAYOUTS:
        raise UnknownNameError("layout", layout, LAYOUTS)
    content = read_weights(file)
    layouts = {layout: LAYOUTS[layout]} if layout else DETECTED
    readings = [found for name, it in layouts.items() for found in read_by(content, name, it, detecting=True)]
    if not readings:
        raise WeightsError(f"{file} shows nothing of layout {layout}; leave --layout away to have it detected.")
    found = [_inspected(content, reading, arch or guess_arch(reading.state)) for reading in readings]
    return [one for one in found if one.loads] or [max(found, key=lambda one: one.reading.fitting)]


def guess_arch(state: State) -> str | None:
    """The architecture that tensors of timm's names are of, as far as names and shapes tell.

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
    return name if timm.is_model(name) else None


def beginnings(names: tuple[str, ...], prefix: str) -> dict[str, int]:
    """How many names there are by what they begin with, after `prefix` if they have it, most first."""
    beginning = re.compile(rf"(?:{'|'.join(map(re.escape, WRAPPERS))})*({re.escape(prefix)}[^.]+|[^.]+)")
    return dict(Counter(beginning.match(name)[1] for name in names).most_common())  # type: ignore[index]


def _inspected(content: Mapping[str, State], reading: Reading, arch: str | None) -> Inspection:
    dicts = {key: len(state) for key, state in content.items()}
    first = next((tensor for tensor in reading.state.values() if tensor.ndim == 4), None)
    channels = None if first is None else int(first.shape[1])
    size = _image_size(reading.state)
    heads = None
    if arch and channels:
        module = create_empty(arch, channels, size)
        reading = compared(reading, module)
        heads = next((part.num_heads for part in module.modules() if hasattr(part, "num_heads")), None)
    return Inspection(dicts, arch, channels, size, heads, reading)  # type: ignore[arg-type]


def _image_size(state: State) -> int:
    positions, patches = state.get("pos_embed"), state.get("patch_embed.proj.weight")
    if positions is None or patches is None or positions.ndim != 3:
        return DEFAULT_SIZE
    return int(positions.shape[1] ** 0.5) * int(patches.shape[-1])  # the class token does not complete a row


def _count(state: State, pattern: str) -> int:
    return len({match[1] for match in map(re.compile(pattern).match, state) if match})
