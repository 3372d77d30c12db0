"""Scale-MAE (Reed et al., ICCV 2023, arXiv:2212.14532) as torchgeo has it. Extra: `torchgeo`."""

from torch import Tensor, nn
from torchgeo.models import scalemae_large_patch16

from ssl4eo_bench.models.plugin import Features, Inputs

from .transformer import layers_of, positions_of

MODALITIES = {"RGB": ("B04", "B03", "B02")}


class ScaleMae(nn.Module):
    """Red, green and blue, at the resolution of the sensor. The feature is the class token."""

    reads = ("resolution",)

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self._order = positions_of(MODALITIES, inputs, "Scale-MAE")["RGB"]
        resolution = inputs.channels[0].resolution
        self.network = scalemae_large_patch16(res=resolution, img_size=inputs.image_size, num_classes=0)
        self.network.pos_embed = None  # it computes its positions from the resolution

    def forward(self, images: Tensor) -> Features:
        """The features of images, with the normalised patch tokens of each block as maps."""
        tokens, maps = self.network.forward_intermediates(images[:, self._order], norm=True)
        pooled = self.network.forward_head(tokens, pre_logits=True)
        return Features(pooled, cls=pooled, maps=maps)

    def layers(self) -> list[list[nn.Parameter]]:
        """The parameters from input to output."""
        return layers_of(self.network, self.network.blocks, self.network.norm)
