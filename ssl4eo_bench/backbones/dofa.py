"""DOFA, version 1 (Xiong et al., 2024, arXiv:2403.15356), as torchgeo has it. Extra: `torchgeo`."""

from torch import Tensor, nn
from torchgeo.models import dofa_base_patch16_224, dofa_large_patch16_224

from ssl4eo_bench.models.plugin import Features, InputChannel, Inputs

from .transformer import as_maps, layers_of, outputs_of

MODELS = {"base": dofa_base_patch16_224, "large": dofa_large_patch16_224}

RADAR = 3.75
"""What version 1 saw as the wavelength of both polarisations of Sentinel-1: a sign for radar. Version 2 saw 5.405."""


class Dofa(nn.Module):
    """Any bands, by their wavelengths. The feature is the normalised mean of the patch tokens."""

    reads = ("wavelength",)

    def __init__(self, inputs: Inputs, size: str = "base") -> None:
        super().__init__()
        self.network = MODELS[size](img_size=inputs.image_size, num_classes=0)
        self._wavelengths = [_micrometres(channel) for channel in inputs.channels]
        self._side = inputs.image_size // self.network.patch_size

    def forward(self, images: Tensor) -> Features:
        """The features of images, with the patch tokens of each block as maps."""
        with outputs_of(self.network.blocks) as tokens:
            pooled = self.network.forward_features(images, self._wavelengths)
        return Features(pooled, maps=as_maps(tokens, self._side))

    def layers(self) -> list[list[nn.Parameter]]:
        """The parameters from input to output."""
        return layers_of(self.network, self.network.blocks, self.network.fc_norm)


def _micrometres(channel: InputChannel) -> float:
    return RADAR if channel.sensor == "Sentinel-1" else channel.wavelength / 1000
