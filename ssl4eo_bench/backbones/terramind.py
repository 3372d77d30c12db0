"""TerraMind 1.0 (Jakubik et al., ICCV 2025, arXiv:2504.11171) as terratorch has it. Extra: `terratorch`."""

from pathlib import Path

from terratorch.models.backbones.terramind.model import terramind_register
from torch import Tensor, nn

from ssl4eo_bench.models.plugin import Features, Inputs
from ssl4eo_bench.models.weight_reader import read_weights

from .transformer import as_maps, layers_of, load_part, positions_of

PATCH = 16
PRETRAINED_SIZE = 224
"""The position embeddings are for this input size; the network resizes them to others."""

BANDS = {
    "S2L1C": ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"),
    "S2L2A": ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"),
    "RGB": ("B04", "B03", "B02"),
    "S1GRD": ("VV", "VH"),
    "S1RTC": ("VV", "VH"),
}


class TerraMind(nn.Module):
    """The modalities of the entry, such as `S2L2A` or `S2L2A+S1GRD`.

    The feature is the mean of the normalised patch tokens, those of two modalities averaged patch by patch.
    """

    def __init__(self, inputs: Inputs, modalities: str, size: str = "base") -> None:
        super().__init__()
        wanted = {name: BANDS[name] for name in modalities.split("+")}
        self._positions = positions_of(wanted, inputs, f"TerraMind for {modalities}")
        build = getattr(terramind_register, f"terramind_v1_{size}")
        self.network = build(modalities=list(self._positions), merge_method="mean", img_size=PRETRAINED_SIZE)
        self._side = inputs.image_size // PATCH

    def forward(self, images: Tensor) -> Features:
        """The features of images, with the patch tokens of each block as maps."""
        tokens = self.network({name: images[:, each] for name, each in self._positions.items()})
        return Features(tokens[-1].mean(dim=1), maps=as_maps(tokens, self._side))

    def load_weights(self, file: Path) -> None:
        """Load the released file, which holds all modalities and the decoder."""
        load_part(self.network, read_weights(file)[""])

    def layers(self) -> list[list[nn.Parameter]]:
        """The parameters from input to output."""
        return layers_of(self.network, self.network.encoder, self.network.encoder_norm)
