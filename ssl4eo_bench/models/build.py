"""Building the backbone of a checkpoint, with the proof that each of its tensors is the one that was asked for."""

from pathlib import Path
from typing import cast

import torch
from torch import nn

from ssl4eo_bench import progress
from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.weights import HubWeights, RandomWeights, StoredWeights
from ssl4eo_bench.errors import shortlist
from ssl4eo_bench.files.places import cache_root
from ssl4eo_bench.models.backbone import Backbone
from ssl4eo_bench.models.state_dict import load
from ssl4eo_bench.models.timm_model import TimmBackbone, create, create_empty, download, require_architecture
from ssl4eo_bench.models.weight_files import checked_file, weights_place
from ssl4eo_bench.models.weight_reader import read_weights


def build(checkpoint: Checkpoint, *, seed: int, cache_dir: Path | None = None) -> Backbone:
    """The backbone of a checkpoint: frozen, in `eval()` (BatchNorm statistics fixed), without its classifier.

    Args:
        checkpoint: one that has a network.
        seed: draws the weights of a random checkpoint, and nothing else.
        cache_dir: where fetched weight files are; by default the user's cache.

    Raises:
        UnknownNameError: if there is no such architecture.
        WeightsError: if the weights are absent, altered, or do not fit to the last tensor.
    """
    require_architecture(checkpoint.arch)
    weights = checkpoint.weights
    if isinstance(weights, RandomWeights):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = create(checkpoint.arch, len(checkpoint.bands), cast(int, checkpoint.image_size))
    elif isinstance(weights, HubWeights):
        network = download(checkpoint, weights, weights_place(weights, cache_root(cache_dir)))
    else:
        assert weights is not None  # the entry was validated
        network = _from_file(checkpoint, weights, cache_root(cache_dir))
    backbone = TimmBackbone(network, checkpoint.feature)
    named = (*backbone.named_parameters(), *backbone.named_buffers())
    if empty := [name for name, tensor in named if tensor.is_meta]:
        raise AssertionError(f"{shortlist(empty)} of {checkpoint.arch} got no values")
    return backbone.eval().requires_grad_(requires_grad=False)


def _from_file(checkpoint: Checkpoint, weights: StoredWeights, cache_dir: Path) -> nn.Module:
    """A network with every tensor from a file, except for the classifier."""
    content = read_weights(checked_file(weights, checkpoint.name, cache_dir))
    network = create_empty(checkpoint.arch, len(checkpoint.bands), cast(int, checkpoint.image_size))
    loaded = load(content, network, weights.layout, checkpoint.name, resize_pos_embed=bool(checkpoint.resize_pos_embed))
    progress.note(f"weights of {checkpoint.name}: {loaded}")
    network.load_state_dict(loaded.state, strict=False, assign=True)
    return network
