"""Building the backbone of a checkpoint, with the proof that each of its tensors is the one that was asked for."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from torch import nn

from ssl4eo_bench import progress
from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.weights import HubWeights, OwnWeights, RandomWeights, StoredWeights
from ssl4eo_bench.errors import SpecError, WeightsError, shortlist
from ssl4eo_bench.files.places import cache_root
from ssl4eo_bench.models import plugin
from ssl4eo_bench.models.backbone import Backbone
from ssl4eo_bench.models.foreign_networks import hint
from ssl4eo_bench.models.plugin import PluginBackbone
from ssl4eo_bench.models.state_dict import load
from ssl4eo_bench.models.timm_model import TimmBackbone, create, create_empty, download, require_architecture
from ssl4eo_bench.models.weight_files import checked_file, weights_place
from ssl4eo_bench.models.weight_reader import names_in, read_weights


def build(checkpoint: Checkpoint, *, seed: int, cache_dir: Path | None = None) -> Backbone:
    """The backbone of a checkpoint: frozen, in `eval()` (BatchNorm statistics fixed), without its classifier.

    The seed draws the weights of a random checkpoint, and nothing else.

    Raises:
        UnknownNameError: if there is no such architecture.
        SpecError: if the class of a plug-in cannot be built, or does not give features, or the backbone does not have
            the layer that the checkpoint names.
        WeightsError: if the weights are absent, altered, or do not fit to the last tensor.
    """
    make = _plugin if checkpoint.is_plugin else _timm_network
    backbone = _adapted(make(checkpoint, seed, cache_root(cache_dir)), checkpoint)
    named = (*backbone.named_parameters(), *backbone.named_buffers())
    if empty := [name for name, tensor in named if tensor.is_meta]:
        raise AssertionError(f"{shortlist(empty)} of {checkpoint.arch} got no values")
    return backbone.requires_grad_(requires_grad=False)


def build_empty(checkpoint: Checkpoint) -> Backbone:
    """The backbone of a checkpoint without its weights, on the device `meta` where the architecture allows it.

    It raises what `build` raises, but for weights.
    """
    if checkpoint.is_plugin:
        return _adapted(plugin.create(checkpoint), checkpoint)
    require_architecture(checkpoint.arch)
    network = create_empty(checkpoint.arch, len(checkpoint.bands), cast(int, checkpoint.image_size))
    return _adapted(network, checkpoint)


def _adapted(network: nn.Module, checkpoint: Checkpoint) -> Backbone:
    """The backbone around a network; its feature is that of the layer that the checkpoint names, if it names one."""
    plain = not checkpoint.is_plugin
    backbone = TimmBackbone(network, checkpoint.feature) if plain else PluginBackbone(network, checkpoint)
    if layer := checkpoint.layer:
        backbone.layer, backbone.lacking = layer, backbone.lack_of(layer)
        require_feature(checkpoint, backbone)
    return backbone.eval()


def require_feature(checkpoint: Checkpoint, backbone: Backbone) -> None:
    """Refuse a backbone that does not have the feature that its checkpoint names."""
    if backbone.lacking:
        raise SpecError(
            f"checkpoint {checkpoint.name!r} asks for feature {checkpoint.feature!r}, but {checkpoint.arch} has no "
            f"{backbone.lacking}; use `feature: pooled`."
        )


def _timm_network(checkpoint: Checkpoint, seed: int, cache_dir: Path) -> nn.Module:
    """A network of timm's with its weights."""
    require_architecture(checkpoint.arch)
    weights, channels, size = checkpoint.weights, len(checkpoint.bands), cast(int, checkpoint.image_size)
    if isinstance(weights, RandomWeights):
        with _seeded(seed):
            return create(checkpoint.arch, channels, size)
    if isinstance(weights, HubWeights):
        return download(checkpoint, weights, weights_place(weights, cache_dir))
    network = create_empty(checkpoint.arch, channels, size)
    _load(network, checked_file(cast(StoredWeights, weights), checkpoint.name, cache_dir), checkpoint, assign=True)
    return network


def _plugin(checkpoint: Checkpoint, seed: int, cache_dir: Path) -> nn.Module:
    """A network of another class with its weights."""
    weights = checkpoint.weights
    if isinstance(weights, OwnWeights):
        return plugin.create_own(checkpoint, weights)
    with _seeded(seed):
        network = plugin.create(checkpoint)
    if not isinstance(weights, RandomWeights):
        file = checked_file(cast(StoredWeights, weights), checkpoint.name, cache_dir)
        if checkpoint.loads_itself:
            plugin.load_file(network, file, checkpoint)
        else:
            _load(network, file, checkpoint, assign=False)
    return network


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw what is random inside the block with a seed, and leave the generator of others as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _load(network: nn.Module, file: Path, checkpoint: Checkpoint, *, assign: bool) -> None:
    """Give a network every tensor from a file, except for its classifier."""
    layout = cast(StoredWeights, checkpoint.weights).layout
    resize = bool(checkpoint.resize_pos_embed)
    content = read_weights(file)
    try:
        loaded = load(content, network, layout, checkpoint.name, resize_pos_embed=resize)
    except WeightsError as error:
        if cure := hint(names_in(content), file):
            raise WeightsError(f"{str(error).removesuffix('.')}; {cure.sentence}", cure.lines) from error
        raise
    progress.note(f"weights of {checkpoint.name}: {loaded}")
    network.load_state_dict(loaded.state, strict=False, assign=assign)
