"""The interface of a backbone: all that the rest of the package may know of a network."""

import hashlib
from collections.abc import Collection
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ssl4eo_bench.config.checkpoint import Layer


class Backbone(nn.Module):
    """A network without its classifier. Images are `[N, C, S, S]` float32, scaled as the checkpoint says.

    An adapter for the networks of a library keeps the network it adapts under the name `network`.

    Attributes:
        strides: input pixels per place, for each map that `maps` can give, from input to output; empty if it has none.
        channels: the number of channels of the same maps.
        lacking: what the architecture would need for the feature that the checkpoint names; empty if it has it.
        lacking_tokens: what it would need for class tokens of its layers; empty if it has them.
        layer: that the feature is taken from, instead of the output.
    """

    strides: tuple[int, ...] = ()
    channels: tuple[int, ...] = ()
    lacking: str = ""
    lacking_tokens: str = "class token"
    layer: Layer | None = None

    def forward(self, images: Tensor) -> Tensor:
        """The feature `[N, D]` of each image, as `pooled` gives it."""
        return self.pooled(images)

    def pooled(self, images: Tensor, meta: Tensor | None = None) -> Tensor:
        """The feature `[N, D]` of each image that the checkpoint names.

        `meta` is longitude, latitude and days since 1970-01-01 of each image, `[N, 3]`; NaN where one is not known. It
        is given to a backbone that reads some of it.
        """
        if self.layer is None:
            return self.output(images, meta)
        index = self.layer.number - 1
        if self.layer.is_token:
            return self.class_tokens(images, index)
        return self.maps(images, (index,), meta)[index].mean(dim=(2, 3))

    def output(self, images: Tensor, meta: Tensor | None = None) -> Tensor:
        """The feature `[N, D]` of each image behind the last layer; arguments as of `pooled`."""
        raise NotImplementedError

    @property
    def kind_of_layers(self) -> Literal["stage", "block"]:
        """What its layers are called: blocks if all maps are of one size, as those of ViTs are."""
        return "block" if len(set(self.strides)) == 1 else "stage"

    def lack_of(self, layer: Layer) -> str:
        """What it would need for a layer; empty if it has it."""
        count, kind = len(self.strides), self.kind_of_layers
        if not count:
            return "maps of its layers"
        if layer.kind != kind:
            return f"{layer.kind}s but {kind}s, {kind}:1 to {kind}:{count}"
        if layer.number > count:
            return f"more than {count} {kind}s, {kind}:1 to {kind}:{count}"
        return self.lacking_tokens if layer.is_token else ""

    def maps(self, images: Tensor, indices: Collection[int], meta: Tensor | None = None) -> dict[int, Tensor]:
        """The maps `[N, D_i, h_i, w_i]` with these indices into `strides`, in ascending order."""
        raise NotImplementedError

    def class_tokens(self, images: Tensor, index: int) -> Tensor:
        """The class token `[N, D]` of each image behind the layer with this index, after the last norm."""
        raise NotImplementedError

    def parameter_groups(self, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
        """The parameters that need a gradient, in groups for an optimiser; biases, norms and the like do not decay.

        Each has `params`, `weight_decay` and `lr_scale`: the learning rate relative to that of a head on top. A layer
        has `layer_decay` times the rate of the layer after it.
        """
        raise NotImplementedError

    def position_embeddings(self) -> list[nn.Parameter]:
        """The parameters that hold absolute positions, which some published recipes freeze."""
        return []


def state_sha256(module: nn.Module) -> str:
    """The sha256 of all parameters and buffers of a module: names, types, shapes and values.

    Names are those of the network itself: what an adapter puts before them is left out.
    """
    digest = hashlib.sha256()
    named = {name.replace("backbone.network.", "backbone."): tensor for name, tensor in module.state_dict().items()}
    for name, tensor in sorted(named.items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name}:{values.dtype}:{tuple(values.shape)}\n".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
