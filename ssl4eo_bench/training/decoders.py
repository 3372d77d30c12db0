"""Networks with a decoder for label maps.

The logits are those of the linear head on dense features plus those of a decoder. The last layer of the decoder starts
at zero, so training begins at the solution of the linear probe (LP-FT: Kumar et al., ICLR 2022).

Networks with stages of several strides get the decoder of DeepLabV3+ (Chen et al., ECCV 2018), ViTs that of DPT (Ranftl
et al., ICCV 2021), both as segmentation_models_pytorch builds them, but with GroupNorm instead of BatchNorm: so no
number depends on the size of a batch, or of the parts in which it goes through the network.
"""

import torch
from torch import Tensor, nn

from ssl4eo_bench.models.backbone import Backbone
from ssl4eo_bench.models.dense import DenseFeatures
from ssl4eo_bench.models.resizing import resize
from ssl4eo_bench.training.trainable import Trainable

WIDTH = 256
"""Channels of a decoder's maps, as published for both."""
NORM_GROUPS = 16
"""Divides the number of channels of every norm in both decoders: 48 and 256."""


class Segmenter(Trainable):
    """A module from scaled inputs `[N, B, S, S]` to logits `[N, C, g, g]` at a quarter of the input's size or finer.

    The linear head has weights `[C, D]` for dense features, and an intercept `[C]`.
    """

    def __init__(self, network: DenseFeatures, weights: Tensor, intercept: Tensor) -> None:
        super().__init__()
        self.network: DenseFeatures = network
        self.head = nn.Conv2d(weights.shape[1], len(weights), 1)
        decoder = _Dpt if network.backbone.kind_of_layers == "block" else _DeepLab
        self.decoder: _DeepLab | _Dpt = decoder(network.backbone)
        self.out = nn.Conv2d(WIDTH, len(weights), 1)
        with torch.no_grad():
            self.head.weight.copy_(weights[:, :, None, None])
            self.head.bias.copy_(intercept)  # type: ignore[union-attr]
            self.out.weight.zero_()
            self.out.bias.zero_()  # type: ignore[union-attr]
        self.requires_grad_(requires_grad=True)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of scaled inputs."""
        maps = self.network.backbone.maps(images, {*self.network.last, *self.decoder.indices})
        grid = self.network.joined([maps[index] for index in self.network.last], int(images.shape[-1]))
        decoded: Tensor = self.out(self.decoder([maps[index] for index in self.decoder.indices]))
        return decoded + resize(self.head(grid), int(decoded.shape[-1]))


class _DeepLab(nn.Module):
    """The decoder of DeepLabV3+ on the stage of stride 4 (or the finest behind it) and the last one."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder

        fine = next(index for index, stride in enumerate(backbone.strides) if stride >= 4)
        self.indices = (fine, len(backbone.strides) - 1)
        channels = [backbone.channels[index] for index in self.indices]
        self.decoder = _group_norms(
            DeepLabV3PlusDecoder(
                encoder_channels=(0, 0, *channels),  # it takes the third and the last
                encoder_depth=4,
                out_channels=WIDTH,
                atrous_rates=(12, 24, 36),
                output_stride=16,
                aspp_separable=True,
                aspp_dropout=0.5,
            )
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return a map `[N, 256, g, g]` of the two stages; the last one is resized to a quarter of the finer one."""
        fine, deep = maps
        quarter = -(-int(fine.shape[-1]) // 4)
        found: Tensor = self.decoder([None, None, resize(fine, 4 * quarter), resize(deep, quarter)])
        return found


class _Dpt(nn.Module):
    """The decoder of DPT on the patch tokens behind each quarter of the blocks."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder

        depth = len(backbone.strides)
        self.indices = tuple(depth * quarter // 4 - 1 for quarter in (1, 2, 3, 4))
        self.decoder = _group_norms(
            DPTDecoder(
                encoder_out_channels=[backbone.channels[index] for index in self.indices],
                encoder_output_strides=(16, 16, 16, 16),  # of patches of another size as well: the maps decide
                encoder_has_prefix_tokens=False,
                readout="ignore",
                intermediate_channels=(256, 512, 1024, 1024),
                fusion_channels=WIDTH,
            )
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return a map `[N, 256, 8 g, 8 g]` of four maps `[N, D, g, g]`; an odd g is raised by one."""
        side = int(maps[0].shape[-1])
        even = [resize(found, side + side % 2) for found in maps]
        decoded: Tensor = self.decoder(even, [None] * len(even))
        return decoded


def _group_norms(module: nn.Module) -> nn.Module:
    """Return the module with a GroupNorm in place of every BatchNorm."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.GroupNorm(NORM_GROUPS, child.num_features))
        else:
            _group_norms(child)
    return module
