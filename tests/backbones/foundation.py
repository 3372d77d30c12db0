"""What the tests of foundation models share: files in the released form, features of real patches, and comparisons."""

import hashlib
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssl4eo_bench.config.bands import SENTINEL_2
from ssl4eo_bench.config.catalogue import load_catalogue
from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.inputs import map_inputs
from ssl4eo_bench.errors import WeightsError
from ssl4eo_bench.models.build import build
from ssl4eo_bench.models.plugin import Inputs, Meta, PluginBackbone, create, resolved
from ssl4eo_bench.models.pooled import BackboneFeatures, feature_module
from tests.real_patches import Patches

State = dict[str, Tensor]

BUFFER = 1 << 23
"""Random numbers in all: more than the largest tensor has."""

PLACES_AND_DATES = Meta(
    lonlat=torch.tensor([[11.6, 48.1], [-68.1, -16.5]]),
    date=torch.tensor([17684.0, 19723.0]),  # 2018-06-02 and 2024-01-01
)


@cache
def _random_numbers() -> Tensor:
    return 0.05 * torch.randn(BUFFER, generator=torch.Generator().manual_seed(0))


@cache
def _random_scales() -> Tensor:
    return 1 + 2 * _random_numbers()[: 1 << 16]


def random_state(module: nn.Module) -> State:
    """Random values in every tensor: pieces of two storages, so that files stay small."""
    state = {}
    for number, (name, tensor) in enumerate(module.state_dict().items()):
        scales = tensor.ndim == 1 and not name.endswith("bias")
        numbers = _random_scales() if scales else _random_numbers()
        start = number * 4099 % (len(numbers) - tensor.numel())
        values = numbers[start : start + tensor.numel()].view(tensor.shape)
        state[name] = values if tensor.is_floating_point() else tensor
    return state


class Released:
    """A file as torchgeo's functions take it."""

    def __init__(self, content: Mapping[str, Any], **meta: int) -> None:
        self.content, self.meta = content, meta

    def get_state_dict(self, *, progress: bool) -> dict[str, Any]:
        return dict(self.content)


def checkpoint_of(name: str, content: Mapping[str, Any], folder: Path, **changes: object) -> Checkpoint:
    """An entry of the catalogue with another file, which is written in the layout of the entry's."""
    listed = load_catalogue().checkpoint(name).model_dump()
    file = folder / "weights.pth"
    torch.save(content, file)
    with file.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    weights = {"path": str(file), "sha256": sha256, "layout": listed["weights"]["layout"]}
    return resolved(Checkpoint.model_validate({**listed, "weights": weights, **changes}))


def features_of(checkpoint: Checkpoint, patches: Patches) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """The features of real patches, the scaled images that they are of, and the bands of these."""
    task, groups = patches
    inputs = map_inputs(task.bands, checkpoint)
    sizes = [(group.shape[-2], group.shape[-1]) for group in groups]
    names = task.groups([band.name for band in task.bands])
    ours = feature_module(checkpoint, inputs, names, sizes, seed=0)
    assert isinstance(ours, BackboneFeatures)
    return ours(*groups), ours.preprocess(*groups), inputs.bands


def network_in(checkpoint: Checkpoint) -> nn.Module:
    """The network of a checkpoint with its weights."""
    backbone = build(checkpoint.seeing(SENTINEL_2), seed=0)
    assert isinstance(backbone, PluginBackbone)
    return backbone.network


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    """Two computations of the features of some images agree, and tell the images apart."""
    largest = theirs.abs().max()
    assert theirs.std(dim=0).max() > 1e-3 * largest
    torch.testing.assert_close(ours / largest, theirs / largest, rtol=0, atol=1e-5)


def assert_peers(
    checkpoint: Checkpoint, patches: list[Patches], theirs: Callable[[Tensor, tuple[str, ...]], Tensor]
) -> None:
    """The features of real patches are those that a library's network gives for the scaled images and their bands."""
    for each in patches:
        found, images, bands = features_of(checkpoint, each)
        assert_same(found, theirs(images, bands))


def assert_mapped_by_name(network: nn.Module, bands: tuple[str, ...], image_size: int, **options: object) -> None:
    """Features depend on the names of the channels, and not on their order.

    Args:
        network: an adapter for these bands.
        bands: of the images.
        image_size: of the images, in pixels.
        options: of the adapter.
    """
    images = torch.randn(2, len(bands), image_size, image_size, generator=torch.Generator().manual_seed(1))
    other = type(network)(Inputs.of(bands[::-1], image_size), **options).eval()
    other.load_state_dict(network.state_dict())
    meta = (PLACES_AND_DATES,) if set(getattr(network, "reads", ())) & {"lonlat", "date"} else ()
    features = network(images, *meta).pooled
    largest = features.abs().max()
    torch.testing.assert_close(other(images.flip(1), *meta).pooled / largest, features / largest, rtol=0, atol=1e-4)
    assert (other(images, *meta).pooled - features).abs().max() > 1e-3 * largest  # the first band is called the last


def assert_loaded_whole(name: str, content: Mapping[str, Any], folder: Path, absent: str, **changes: object) -> None:
    """A file without one of the tensors is refused."""
    less = {key: value for key, value in content.items() if key != absent}
    assert len(less) < len(content)
    with pytest.raises(WeightsError, match=re.escape(absent.removeprefix("encoder."))):
        build(checkpoint_of(name, less, folder, **changes), seed=0)


def assert_layers_are_whole(network: nn.Module, blocks: int) -> None:
    """`layers()` lists every parameter once, in the embedding, the blocks and the rest."""
    layers: list[list[nn.Parameter]] = network.layers()  # type: ignore[operator]
    listed = [id(parameter) for layer in layers for parameter in layer]
    assert len(set(listed)) == len(listed)
    assert set(listed) == {id(parameter) for parameter in network.parameters()}
    assert len([layer for layer in layers if layer]) == blocks + 2


def network_of(name: str) -> nn.Module:
    """The network of an entry as it is before its weights are loaded."""
    return create(load_catalogue().checkpoint(name).seeing(SENTINEL_2))
