"""What a backbone costs: its parameters, and the operations that one image takes."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ssl4eo_bench import progress
from ssl4eo_bench.config.bands import SENTINEL_2
from ssl4eo_bench.config.canonical import digest
from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.records import Cost
from ssl4eo_bench.config.task import Groups
from ssl4eo_bench.errors import without_frames
from ssl4eo_bench.models.backbone import Backbone
from ssl4eo_bench.models.build import build_empty, require_feature
from ssl4eo_bench.models.dense import DenseFeatures
from ssl4eo_bench.models.plugin import resolved
from ssl4eo_bench.models.pooled import BackboneFeatures
from ssl4eo_bench.models.preprocess import split_meta


def module_cost(module: nn.Module, groups: Groups) -> Cost | None:
    """The cost of the backbone in a frozen module, from stored pixels of one image; none where there is no network."""
    if not isinstance(module, BackboneFeatures | DenseFeatures):
        return None
    stored = tuple(map(torch.from_numpy, groups))
    features, whole = _counted(lambda: module(*stored))
    _, resizing = _counted(lambda: module.preprocess(*split_meta(stored)[0]))
    return _cost(module.backbone, features, None if whole is None or resizing is None else whole - resizing)


def entry_costs(checkpoints: Iterable[Checkpoint]) -> dict[str, Cost]:
    """The costs of backbones by the name of their entry, without their weights; a note says which cannot be built.

    Those that take the bands of the task get all bands of Sentinel-2. Entries that differ in their weights or their
    scaling alone are built once.
    """
    with_network = [checkpoint for checkpoint in checkpoints if checkpoint.has_network]
    known: dict[str, Cost | None] = {}
    found = {}
    with progress.stage("costs", total=len(with_network), unit="checkpoints") as advance:
        for checkpoint in with_network:
            key = digest({**checkpoint.identity(), "bands": checkpoint.bands, "weights": None, "scaling": None})
            if key not in known:
                known[key] = _entry_cost(checkpoint)
            if cost := known[key]:
                found[checkpoint.name] = cost
            advance(1)
    return found


def _entry_cost(checkpoint: Checkpoint) -> Cost | None:
    try:
        known = (resolved(checkpoint) if checkpoint.is_plugin else checkpoint).seeing(SENTINEL_2)
        backbone = build_empty(known)
        require_feature(known, backbone)
        side = known.image_size
        assert side != "native"  # there is a network
        device = next((parameter.device for parameter in backbone.parameters()), None)
        images = torch.zeros(1, len(known.bands), side, side, device=device)
        return _cost(backbone, *_counted(lambda: backbone(images)))
    except Exception as error:  # classes of others may raise anything
        progress.note(f"cost of {checkpoint.name} is not known: {without_frames(error)}")
        return None


def _cost(backbone: Backbone, features: Tensor, flops: int | None) -> Cost:
    parameters = sum(parameter.numel() for parameter in backbone.parameters())
    return Cost(parameters=parameters, flops=flops, width=features.shape[1])


@torch.inference_mode()
def _counted(forward: Callable[[], Tensor]) -> tuple[Tensor, int | None]:
    """What a forward pass gives, and its floating-point operations; none if they cannot be counted.

    Fused attention is not counted on every device, so attention is computed in separate steps.
    """
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            found = forward()
    except Exception:  # operators of others may fail under a counter, and run without it
        return forward(), None
    return found, int(counter.get_total_flops())
