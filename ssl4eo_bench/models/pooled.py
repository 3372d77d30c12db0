"""Features of whole images: the frozen modules from stored pixels to one vector for each image."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.inputs import InputMapping
from ssl4eo_bench.models.backbone import Backbone
from ssl4eo_bench.models.band_statistics import BandStatistics
from ssl4eo_bench.models.build import build, require_feature
from ssl4eo_bench.models.preprocess import Preprocess, split_meta


class BackboneFeatures(nn.Module):
    """From stored groups `[N, C_g, H_g, W_g]` by scaled images `[N, C, S, S]` to features `[N, D]` of a backbone."""

    def __init__(self, preprocess: Preprocess, backbone: Backbone) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.backbone = backbone

    def forward(self, *groups: Tensor) -> Tensor:
        """The feature of each image."""
        pixels, meta = split_meta(groups)
        return self.backbone.pooled(self.preprocess(*pixels), meta)

    def feature(self, images: Tensor) -> Tensor:
        """The feature of each scaled image `[N, C, S, S]`, without place and date."""
        return self.backbone.pooled(images)


def feature_module(
    checkpoint: Checkpoint,
    inputs: InputMapping,
    groups: Sequence[Sequence[str]],
    sizes: Sequence[tuple[int, int]],
    *,
    seed: int,
    cache_dir: Path | None = None,
) -> BackboneFeatures | BandStatistics:
    """The frozen module from stored groups to features of whole images.

    Args:
        checkpoint: the one to evaluate.
        inputs: the mapping made by `map_inputs`.
        groups: bands of each group, as the task's reader yields them.
        sizes: stored size `(H, W)` of each group.
        seed: draws the weights of a random checkpoint.
        cache_dir: where fetched weights are, if not where `cache_root` says.

    Raises:
        WeightsError: if the weights do not fit.
        SpecError: if the backbone does not have the feature that the checkpoint names.
    """
    if not checkpoint.has_network:
        return BandStatistics(inputs, groups, sizes).eval()
    backbone = build(checkpoint.seeing(inputs.bands), seed=seed, cache_dir=cache_dir)
    require_feature(checkpoint, backbone)
    return BackboneFeatures(Preprocess(inputs, groups, sizes), backbone).eval()
