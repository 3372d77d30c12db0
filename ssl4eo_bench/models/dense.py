"""Features at every place of an image: the frozen modules from stored pixels to a grid of vectors for each image.

- A network whose stages shrink the image (CNNs, hierarchical transformers): the maps of its last three stages, resized
  bilinearly to the largest of them, but to no more than one place for 8 × 8 input pixels, and concatenated.
- A network of one stride (ViTs): the patch tokens of its last four blocks, each after the last norm, concatenated.
- Where the checkpoint names a stage or block as its feature: the map of this one alone.
- `bandstats`: mean and standard deviation of each band in a window of 5 × 5 stored pixels.

Any other `feature` is one of whole images and does not matter here.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.inputs import InputMapping
from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.models.backbone import Backbone
from ssl4eo_bench.models.band_statistics import WindowStatistics
from ssl4eo_bench.models.build import build
from ssl4eo_bench.models.preprocess import Preprocess, split_meta
from ssl4eo_bench.models.resizing import resize

STAGES = 3
BLOCKS = 4
STRIDE = 8
"""Input pixels per place of the features, at least."""


class DenseFeatures(nn.Module):
    """From stored groups `[N, C_g, H_g, W_g]` by scaled images to a grid of features `[N, D, g, g]` of a backbone.

    `last` are the indices of the maps that make the features.
    """

    def __init__(self, preprocess: Preprocess, backbone: Backbone) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.backbone = backbone
        count = len(backbone.strides)
        self.last = tuple(range(max(0, count - (BLOCKS if backbone.kind_of_layers == "block" else STAGES)), count))
        if backbone.layer:
            self.last = (backbone.layer.number - 1,)

    def forward(self, *groups: Tensor) -> Tensor:
        """The features at each place."""
        pixels, meta = split_meta(groups)
        images = self.preprocess(*pixels)
        return self.joined([*self.backbone.maps(images, self.last, meta).values()], int(images.shape[-1]))

    def joined(self, maps: Sequence[Tensor], input_side: int) -> Tensor:
        """The features: maps of the indices `last`, resized to one size and concatenated."""
        largest = max(int(found.shape[-1]) for found in maps)
        side = min(largest, -(-input_side // STRIDE))
        return torch.cat([resize(found, side) for found in maps], dim=1)


def dense_module(
    checkpoint: Checkpoint,
    inputs: InputMapping,
    groups: Sequence[Sequence[str]],
    sizes: Sequence[tuple[int, int]],
    *,
    seed: int,
    cache_dir: Path | None = None,
) -> DenseFeatures | WindowStatistics:
    """The frozen module from stored groups to a grid of features; arguments as of `feature_module`.

    Raises:
        WeightsError: if the weights do not fit.
        SpecError: if the backbone has no maps, or not the layer that the checkpoint names.
    """
    if not checkpoint.has_network:
        return WindowStatistics(inputs, groups, sizes).eval()
    backbone = build(checkpoint.seeing(inputs.bands), seed=seed, cache_dir=cache_dir)
    if not backbone.strides:
        raise SpecError(
            f"checkpoint {checkpoint.name!r} cannot do segmentation: {checkpoint.arch} gives no maps; choose another "
            "architecture, or let a class of your own return a map [N, D, h, w] or Features(maps=[…])."
        )
    return DenseFeatures(Preprocess(inputs, groups, sizes), backbone).eval()
