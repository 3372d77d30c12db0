"""Features: what a protocol sees of a backbone, for frozen pixels in stored form."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ssl4eo_bench.config.checkpoint import Checkpoint, Feature
from ssl4eo_bench.config.inputs import InputMapping
from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.models.build import build
from ssl4eo_bench.models.preprocess import Preprocess, separate

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class BackboneFeatures(nn.Module):
    """Stored groups `[N, C_g, H_g, W_g]` to features `[N, D]` of a timm model."""

    def __init__(self, preprocess: Preprocess, backbone: nn.Module, feature: Feature) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.backbone = backbone
        self._feature = feature

    def forward(self, *groups: Tensor) -> Tensor:
        """The feature of each image."""
        return self.feature(self.preprocess(*groups))

    def feature(self, images: Tensor) -> Tensor:
        """The feature of each scaled input `[N, C, S, S]`."""
        return backbone_feature(self.backbone, images, self._feature)


class BandStatistics(nn.Module):
    """Stored groups to mean, standard deviation and quantiles of every band: the floor without a network."""

    def __init__(self, preprocess: Sequence[Preprocess]) -> None:
        super().__init__()
        self.preprocess = nn.ModuleList(preprocess)

    def forward(self, *groups: Tensor) -> Tensor:
        """Features `[N, 7 · C]`: all means, all standard deviations, then the 5, 25, 50, 75 and 95 % quantiles."""
        scaled = [scale(group).flatten(2) for scale, group in zip(self.preprocess, groups, strict=True)]
        statistics = [torch.cat([band_statistic(s) for s in scaled], dim=1) for band_statistic in (_mean, _std)]
        points = torch.tensor(QUANTILES, device=scaled[0].device)
        quantiles = torch.cat([torch.quantile(s, points, dim=2) for s in scaled], dim=2)
        return torch.cat([*statistics, *quantiles], dim=1)


def feature_module(
    checkpoint: Checkpoint,
    inputs: InputMapping,
    groups: Sequence[Sequence[str]],
    sizes: Sequence[tuple[int, int]],
    *,
    seed: int,
    cache_dir: Path | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> BackboneFeatures | BandStatistics:
    """The frozen module from stored groups to features.

    Args:
        checkpoint: what is evaluated.
        inputs: the mapping made by `map_inputs`.
        groups: bands of each group, as the task's reader yields them.
        sizes: stored size `(H, W)` of each group.
        seed: draws the weights of a random checkpoint.
        cache_dir: where fetched weights are, if not where `cache_root` says.
        note: is told how the weights were read.

    Raises:
        WeightsError: if the weights do not fit.
        SpecError: if the backbone does not have the wanted feature.
    """
    if checkpoint.arch == "bandstats":
        return BandStatistics(separate(inputs, groups, sizes)).eval()
    backbone = build(checkpoint.seeing(inputs.bands), seed=seed, cache_dir=cache_dir, note=note)
    if checkpoint.feature != "pooled" and not getattr(backbone, "num_prefix_tokens", 0):
        raise SpecError(
            f"checkpoint {checkpoint.name!r} asks for feature {checkpoint.feature!r}, but {checkpoint.arch} has no "
            "class token; use `feature: pooled`."
        )
    if checkpoint.feature != "pooled" and isinstance(getattr(backbone, "norm", None), nn.Identity):
        raise SpecError(
            f"checkpoint {checkpoint.name!r} asks for feature {checkpoint.feature!r}, but {checkpoint.arch} has no "
            "norm before it pools its tokens; use `feature: pooled`."
        )
    return BackboneFeatures(Preprocess(inputs, groups, sizes), backbone, checkpoint.feature).eval()


def backbone_feature(backbone: nn.Module, images: Tensor, feature: Feature) -> Tensor:
    """A backbone's feature `[N, D]` of input tensors `[N, C, S, S]`."""
    if feature == "pooled":
        pooled: Tensor = backbone(images)
        return pooled
    if feature == "cls4":
        last = backbone.forward_intermediates(  # type: ignore[operator]
            images, indices=4, return_prefix_tokens=True, norm=True, output_fmt="NLC", intermediates_only=True
        )
        return torch.cat([prefix[:, 0] for _, prefix in last], dim=1)
    tokens: Tensor = backbone.forward_features(images)  # type: ignore[operator]
    return tokens[:, 0] if feature == "cls" else tokens[:, backbone.num_prefix_tokens :].mean(dim=1)


def _mean(pixels: Tensor) -> Tensor:
    return pixels.mean(dim=2)


def _std(pixels: Tensor) -> Tensor:
    return pixels.std(dim=2, correction=0)
