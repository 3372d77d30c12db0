"""Swin-v2 networks of SatlasPretrain (Bastani et al., ICCV 2023, arXiv:2211.15660) as torchgeo has them.

Extra: `torchgeo`.
"""

from torch import Tensor, nn
from torchgeo.models import swin_v2_b, swin_v2_t

from ssl4eo_bench.models.plugin import Features, Inputs

from .transformer import layers_of, positions_of

MODELS = {"tiny": swin_v2_t, "base": swin_v2_b}

RGB = ("B04", "B03", "B02")
BANDS = (*RGB, "B05", "B06", "B07", "B08", "B11", "B12")


class Satlas(nn.Module):
    """Red, green and blue, or nine bands of Sentinel-2. The feature is the mean of the normalised last map."""

    def __init__(self, inputs: Inputs, size: str = "base") -> None:
        super().__init__()
        bands = RGB if len(inputs.channels) == len(RGB) else BANDS
        self._order = positions_of({"Sentinel-2": bands}, inputs, "Satlas")["Sentinel-2"]
        self.network = MODELS[size]()
        first = self.network.features[0][0]
        self.network.features[0][0] = nn.Conv2d(len(bands), first.out_channels, kernel_size=4, stride=4)
        self.network.head = nn.Identity()

    def forward(self, images: Tensor) -> Features:
        """The features of images, with the maps of the four stages."""
        found, maps = images[:, self._order], []
        for number, part in enumerate(self.network.features):
            found = part(found)
            if number % 2:  # between the stages, patches are merged
                maps.append(found.permute(0, 3, 1, 2))
        return Features(self.network.norm(found).mean(dim=(1, 2)), maps=maps)

    def layers(self) -> list[list[nn.Parameter]]:
        """The parameters from input to output."""
        later = self.network.features[1:]
        blocks = [block for part in later for block in (part if isinstance(part, nn.Sequential) else [part])]
        return layers_of(self.network, blocks, self.network.norm)
