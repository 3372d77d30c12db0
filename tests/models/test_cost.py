"""What backbones cost, against counts by hand."""

from typing import Any

import pytest
import torch
from torch import nn

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.records import Cost
from ssl4eo_bench.models import cost
from ssl4eo_bench.models.build import build_empty
from ssl4eo_bench.models.cost import entry_costs, module_cost
from ssl4eo_bench.models.dense import dense_module
from ssl4eo_bench.models.pooled import feature_module
from tests.conftest import Recorder
from tests.models.test_dense import STATS, entry, pixels
from tests.models.test_layers import STAGED, module_of

ONE = (pixels(count=1).numpy(),)


def by_hand(network: nn.Module, images: torch.Tensor) -> int:
    """Two operations for each weight of a convolution or linear layer, at each of the places that it is applied to."""
    counts = []

    def count(module: nn.Module, _: Any, output: torch.Tensor) -> None:
        assert isinstance(module.weight, torch.Tensor)
        places = output.shape[2] * output.shape[3] if output.ndim == 4 else output.numel() // output.shape[-1]
        counts.append(2 * module.weight.numel() * places)

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.inference_mode():
        network(images)
    return sum(counts)


def test_convolutions_are_counted_and_resizing_the_image_is_not() -> None:
    module = module_of(entry("resnet18", 96))  # stored at 64
    found = module_cost(module, ONE)
    assert found == Cost(
        parameters=11_176_512, flops=by_hand(module.backbone.network, torch.zeros(1, 3, 96, 96)), width=512
    )


def test_attention_is_counted() -> None:
    module = module_of(entry("vit_tiny_patch16_224", 64))
    found = module_cost(module, ONE)
    assert found is not None
    blocks, tokens, width = 12, 17, 192
    attention = blocks * 2 * (2 * tokens * tokens * width)  # scores, and what they weigh
    assert found.flops == by_hand(module.backbone.network, torch.zeros(1, 3, 64, 64)) + attention
    assert found.width == width


def test_a_layer_costs_what_lies_before_it_and_label_maps_have_wider_features() -> None:
    whole, early = (module_cost(module_of(entry("resnet18", 64, **more)), ONE) for more in ({}, {"feature": "stage:2"}))
    dense = module_cost(module_of(entry("resnet18", 64), dense_module), ONE)
    assert whole is not None
    assert early is not None
    assert dense is not None
    assert (early.flops or 0) < (whole.flops or 0) / 2
    assert (early.width, whole.width, dense.width) == (64, 512, 128 + 256 + 512)
    assert early.parameters == whole.parameters == dense.parameters


def test_without_a_network_there_is_no_cost() -> None:
    assert module_cost(module_of(STATS, feature_module), ONE) is None
    assert module_cost(module_of(STATS, dense_module), ONE) is None


def test_what_cannot_be_counted_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(cost, "FlopCounterMode", fail)
    found = module_cost(module_of(entry("resnet18", 64)), ONE)
    assert found == Cost(parameters=11_176_512, flops=None, width=512)


def test_entries_are_counted_without_their_weights_and_each_architecture_once(
    monkeypatch: pytest.MonkeyPatch, progress: Recorder
) -> None:
    known, built = catalogue.load_catalogue(), []

    def counted(checkpoint: Any) -> Any:
        built.append(checkpoint.arch)
        return build_empty(checkpoint)

    monkeypatch.setattr(cost, "build_empty", counted)
    names = ("resnet50.ssl4eo_s12-moco_v2-s2l1c", "resnet50.ssl4eo_s12-dino-s2l1c", "resnet50.random", "bandstats")
    broken = entry("resnet5", 64, name="broken")
    plugin = entry(image_size=32, name="plugin", **STAGED)
    found = entry_costs([*map(known.checkpoint, names), plugin, broken])
    thirteen = Cost(parameters=23_539_392, flops=8_961_032_192, width=2048)
    assert found == {
        names[0]: thirteen,
        names[1]: thirteen,
        names[2]: thirteen,
        "plugin": Cost(parameters=16, flops=2 * 3 * 4 * 32 * 32, width=4),
    }
    assert built.count("resnet50") == 2  # with bands of its own, and with those of the task
    (note,) = progress.notes
    assert note.startswith("cost of broken is not known: timm architecture 'resnet5' not found")
