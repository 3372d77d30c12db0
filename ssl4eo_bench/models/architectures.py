"""Architectures that timm has classes for, but no names. Importing this module registers them in timm."""

from typing import Any

from timm.models import generate_default_cfgs, register_model
from timm.models.beit import Beit, beit_base_patch16_224

# timm's registry looks this name up.
default_cfgs = generate_default_cfgs(
    {
        "beit_small_patch16_224.untrained": {
            "url": "",
            "num_classes": 1000,
            "input_size": (3, 224, 224),
            "pool_size": None,
            "crop_pct": 0.9,
            "interpolation": "bicubic",
            "fixed_input_size": True,
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        }
    }
)


@register_model
def beit_small_patch16_224(pretrained: bool = False, **options: Any) -> Beit:
    """ViT-S/16 as data2vec trains it (Baevski et al., 2022, on BEiT's network).

    It has six heads, one table of relative position biases for all blocks, no absolute positions, and layer scale. The
    feature is the normalised mean of the patch tokens.
    """
    if pretrained:
        raise ValueError("there are no pretrained weights of this name in timm")
    small = {"embed_dim": 384, "depth": 12, "num_heads": 6, "init_values": 1e-4}
    bias = {"use_abs_pos_emb": False, "use_rel_pos_bias": False, "use_shared_rel_pos_bias": True}
    network: Beit = beit_base_patch16_224(**small, **bias, **options)
    return network
