"""Reference networks, written from their papers' definitions for state dicts with timm's names.

They share no code with timm, so a feature that both compute was computed twice.
"""

from collections.abc import Mapping
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

State = Mapping[str, Tensor]


def random_state(module: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Random values for every tensor of a module, so large that each of them matters for the features."""
    drawn = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in module.state_dict().items():
        normal, uniform = torch.randn(tensor.shape, generator=drawn), torch.rand(tensor.shape, generator=drawn)
        if not tensor.is_floating_point():
            state[name] = torch.tensor(7)
        elif name.endswith("running_var") or "gamma" in name:
            state[name] = 0.5 + uniform
        elif name.endswith((".weight", "_table")) and tensor.ndim > 1:
            state[name] = normal if name.endswith("_table") else normal * sqrt(2 / tensor[0].numel())
        elif name in ("cls_token", "pos_embed"):
            state[name] = normal
        else:  # norms and biases
            state[name] = 0.1 * normal + (1 if name.endswith(".weight") else 0)
    return state


def vit_features(state: State, images: Tensor, *, heads: int) -> dict[str, Tensor]:
    """ViT (Dosovitskiy et al., 2021) without its classifier.

    Returns:
        `cls`, which the probes of MoCo-v3 and MAE take, `cls4`, which that of DINO takes, and `avg`.
    """
    tokens = _with_class_token(state, images) + state["pos_embed"]
    normalised = []
    for block in _blocks(state):
        attended = _attention(
            _layer_norm(block, "norm1", tokens), block["attn.qkv.weight"], block["attn.qkv.bias"], heads
        )
        tokens = tokens + _linear(block, "attn.proj", attended)
        tokens = tokens + _mlp(block, _layer_norm(block, "norm2", tokens))
        normalised.append(_layer_norm(state, "norm", tokens))
    return {
        "cls": normalised[-1][:, 0],
        "cls4": torch.cat([each[:, 0] for each in normalised[-4:]], dim=1),
        "avg": normalised[-1][:, 1:].mean(dim=1),
    }


def data2vec_feature(state: State, images: Tensor, *, heads: int) -> Tensor:
    """What the probe of data2vec takes from a BEiT (Bao et al., 2022) of square patches."""
    tokens = _with_class_token(state, images)
    table = state["rel_pos_bias.relative_position_bias_table"]
    side = images.shape[-1] // state["patch_embed.proj.weight"].shape[-1]
    position_bias = table[relative_positions(side)].permute(2, 0, 1)
    for block in _blocks(state):
        query, value = block["attn.q_bias"], block["attn.v_bias"]
        attended = _attention(
            _layer_norm(block, "norm1", tokens),
            block["attn.qkv.weight"],
            torch.cat([query, torch.zeros_like(query), value]),
            heads,
            position_bias,
        )
        tokens = tokens + block["gamma_1"] * _linear(block, "attn.proj", attended)
        tokens = tokens + block["gamma_2"] * _mlp(block, _layer_norm(block, "norm2", tokens))
    mean = tokens[:, 1:].mean(dim=1)
    return functional.layer_norm(mean, mean.shape[-1:], eps=1e-6)


def relative_positions(side: int) -> Tensor:
    """For each query and key, class token first, the row of BEiT's table of biases.

    A row for each offset of a patch to another, between -(side - 1) and side - 1 downwards and, faster, to the right.
    Then three rows for pairs with the class token: from it to a patch, from a patch to it, from it to itself.
    """
    offsets = 2 * side - 1
    place = torch.arange(side * side)
    row, column = place // side, place % side
    down = row[:, None] - row[None, :] + side - 1
    right = column[:, None] - column[None, :] + side - 1
    between_patches = offsets * down + right
    to_patches = torch.full((1, side * side), offsets**2)
    to_class = torch.full((side * side, 1), offsets**2 + 1)
    to_itself = torch.full((1, 1), offsets**2 + 2)
    return torch.cat([torch.cat([to_itself, to_patches], dim=1), torch.cat([to_class, between_patches], dim=1)], dim=0)


def resnet50_feature(state: State, images: Tensor) -> Tensor:
    """The global average of ResNet-50 (He et al., 2016), strided in the 3 × 3 convolutions as all released ones are."""

    def convolved(pixels: Tensor, convolution: str, norm: str, stride: int = 1) -> Tensor:
        weight = state[f"{convolution}.weight"]
        pixels = functional.conv2d(pixels, weight, stride=stride, padding=weight.shape[-1] // 2)
        scale, shift, mean, variance = (
            state[f"{norm}.{part}"].view(-1, 1, 1) for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (pixels - mean) / (variance + 1e-5).sqrt() * scale + shift

    pixels = convolved(images, "conv1", "bn1", stride=2).relu()
    pixels = functional.max_pool2d(pixels, 3, stride=2, padding=1)
    for layer, depth in enumerate((3, 4, 6, 3), start=1):
        for number in range(depth):
            at = f"layer{layer}.{number}"
            stride = 2 if layer > 1 and number == 0 else 1
            inner = convolved(pixels, f"{at}.conv1", f"{at}.bn1").relu()
            inner = convolved(inner, f"{at}.conv2", f"{at}.bn2", stride).relu()
            inner = convolved(inner, f"{at}.conv3", f"{at}.bn3")
            if number == 0:
                pixels = convolved(pixels, f"{at}.downsample.0", f"{at}.downsample.1", stride)
            pixels = (pixels + inner).relu()
    return pixels.mean(dim=(2, 3))


def _with_class_token(state: State, images: Tensor) -> Tensor:
    weight = state["patch_embed.proj.weight"]
    embedded = functional.conv2d(images, weight, state["patch_embed.proj.bias"], stride=weight.shape[-1])
    return torch.cat([state["cls_token"].expand(len(images), -1, -1), embedded.flatten(2).mT], dim=1)


def _blocks(state: State) -> list[dict[str, Tensor]]:
    count = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
    prefixes = [f"blocks.{number}." for number in range(count)]
    return [{n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)} for prefix in prefixes]


def _attention(tokens: Tensor, weight: Tensor, bias: Tensor, heads: int, position_bias: Tensor | None = None) -> Tensor:
    images, count, width = tokens.shape
    of_heads = functional.linear(tokens, weight, bias).view(images, count, 3, heads, width // heads)
    query, key, value = of_heads.permute(2, 0, 3, 1, 4)
    scores = query @ key.mT / sqrt(width // heads)
    if position_bias is not None:
        scores = scores + position_bias
    attended: Tensor = scores.softmax(dim=-1) @ value
    return attended.transpose(1, 2).reshape(images, count, width)


def _mlp(block: State, tokens: Tensor) -> Tensor:
    return _linear(block, "mlp.fc2", functional.gelu(_linear(block, "mlp.fc1", tokens), approximate="none"))


def _linear(state: State, name: str, tokens: Tensor) -> Tensor:
    return functional.linear(tokens, state[f"{name}.weight"], state[f"{name}.bias"])


def _layer_norm(state: State, name: str, tokens: Tensor) -> Tensor:
    return functional.layer_norm(tokens, tokens.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-6)
