"""Late fusion of both sensors: a network for each, and their features side by side."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.models.plugin import Features, Inputs
from ssl4eo_bench.models.timm_model import create, layers_of


class LateFusion(nn.Module):
    """Two networks of timm's, as DeCUR (arXiv:2309.05300) is evaluated on both sensors.

    The feature is that of Sentinel-1 followed by that of Sentinel-2, as in `LateFusionModel` of DeCUR's
    `src/transfer_classification_BE/linear_BE_resnet.py`. The networks have their names of DeCUR's training states.
    """

    def __init__(self, inputs: Inputs, arch: str = "resnet50") -> None:
        super().__init__()
        self._positions = inputs.positions("Sentinel-1"), inputs.positions("Sentinel-2")
        if not all(self._positions):
            raise SpecError("late fusion needs bands of Sentinel-1 and of Sentinel-2; list both in `bands`.")
        self.backbone_1, self.backbone_2 = (_network(arch, len(each), inputs.image_size) for each in self._positions)

    def forward(self, images: Tensor) -> Features:
        """The features of images `[N, C, S, S]`; each map is that of one stage of both networks."""
        radar, radar_maps = _features(self.backbone_1, _chosen(images, self._positions[0]))
        optical, optical_maps = _features(self.backbone_2, _chosen(images, self._positions[1]))
        maps = [torch.cat(both, dim=1) for both in zip(radar_maps, optical_maps, strict=True)]
        return Features(torch.cat([radar, optical], dim=1), maps=maps)

    def layers(self) -> list[list[nn.Parameter]]:
        """The parameters from input to output, each layer with that of the other network."""
        of_both = zip(layers_of(self.backbone_1), layers_of(self.backbone_2), strict=True)
        return [[*radar, *optical] for radar, optical in of_both]


def _network(arch: str, channels: int, image_size: int) -> Any:
    """A network of timm's without its classifier."""
    network: Any = create(arch, channels, image_size)
    network.reset_classifier(0)
    return network


def _chosen(images: Tensor, channels: Sequence[int]) -> Tensor:
    """Some channels of images, by slices: OpenVINO moves an index tensor past the convolution behind it, wrongly."""
    return torch.cat([images[:, channel : channel + 1] for channel in channels], dim=1)


def _features(network: Any, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The feature of each image, and the maps of all stages; of ViTs those of all blocks, after the last norm."""
    is_vit = len({stage["reduction"] for stage in network.feature_info}) == 1
    last, maps = network.forward_intermediates(images, norm=is_vit)
    return network.forward_head(last, pre_logits=True), maps
