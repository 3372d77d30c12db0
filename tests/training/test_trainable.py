"""Which learning rate and which weight decay every tensor of a network gets."""

import pytest
import timm
from torch import nn

from ssl4eo_bench.models.timm_model import TimmBackbone
from ssl4eo_bench.training.trainable import Trainable

DECAY = 0.75

LAST_BLOCK = {
    "resnet18": "layer4.1.conv2.weight",
    "tf_efficientnet_lite0": "conv_head.weight",
    "vit_tiny_patch16_224": "blocks.11.mlp.fc2.weight",
    "beit_base_patch16_224": "blocks.11.mlp.fc2.weight",
    "swin_tiny_patch4_window7_224": "layers.3.blocks.1.mlp.fc2.weight",
    "convnext_atto": "stages.3.blocks.1.mlp.fc2.weight",
}
WITHOUT_DECAY = {
    "vit_tiny_patch16_224": ["pos_embed", "cls_token"],
    "beit_base_patch16_224": ["cls_token", "blocks.0.attn.relative_position_bias_table"],
    "swin_tiny_patch4_window7_224": ["layers.0.blocks.0.attn.relative_position_bias_table"],
}


class Holder(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone


class Headed(Trainable):
    def __init__(self, arch: str) -> None:
        super().__init__()
        self.network = Holder(TimmBackbone(timm.create_model(arch, num_classes=0)))
        self.head = nn.Linear(7, 3)


@pytest.mark.parametrize("arch", LAST_BLOCK)
def test_rates_fall_from_the_head_to_the_last_block_and_on(arch: str) -> None:
    """Where nothing stands behind it, the last block had the rate of the head."""
    model = Headed(arch)
    groups = model.groups(0.05, DECAY)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    scales = {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}
    decays = {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
    assert set(scales) == set(names.values())
    assert sum(len(group["params"]) for group in groups) == len(scales)  # each is in one group
    assert scales["head.weight"] == scales["head.bias"] == 1.0
    assert scales[f"network.backbone.network.{LAST_BLOCK[arch]}"] == pytest.approx(DECAY)
    distinct = sorted(set(scales.values()), reverse=True)
    assert distinct == pytest.approx([DECAY**layer for layer in range(len(distinct))])
    assert decays["head.weight"] == 0.05
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            assert decays[name] == 0, name
    for name in WITHOUT_DECAY.get(arch, []):
        assert decays[f"network.backbone.network.{name}"] == 0, name
    assert decays[f"network.backbone.network.{LAST_BLOCK[arch]}"] == 0.05
