"""Copernicus-FM (Wang et al., ICCV 2025, arXiv:2503.11849) as torchgeo has it. Extra: `torchgeo`."""

import torch
from torch import Tensor, nn
from torchgeo.models import copernicusfm_base

from ssl4eo_bench.models.plugin import Features, Inputs, Meta

from .transformer import as_maps, by_unknown, layers_of, outputs_of

PATCH = 16
AREA = (PATCH * 10 / 1000) ** 2
"""Square kilometres of a patch at 10 m, as in its pretraining and its benchmark, whatever images are resized from."""

SPECTRUM = {
    "B01": (440.0, 20.0),
    "B02": (490.0, 65.0),
    "B03": (560.0, 35.0),
    "B04": (665.0, 30.0),
    "B05": (705.0, 15.0),
    "B06": (740.0, 15.0),
    "B07": (783.0, 20.0),
    "B08": (842.0, 115.0),
    "B8A": (860.0, 20.0),
    "B09": (940.0, 20.0),
    "B10": (1370.0, 30.0),
    "B11": (1610.0, 90.0),
    "B12": (2190.0, 180.0),
    "VV": (5e7, 1e9),
    "VH": (5e7, 1e9),
}
"""Wavelength and bandwidth of each band in nanometres, as in its pretraining (Copernicus-FM/src/engine_pretrain.py)."""


class CopernicusFm(nn.Module):
    """Any bands, by what its pretraining says of them. The feature is the normalised mean of the patch tokens."""

    reads = ("lonlat", "date")

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self.network = copernicusfm_base(img_size=inputs.image_size)
        del self.network.patch_embed_variable  # for variables without a spectrum
        self._wavelengths, self._bandwidths = zip(*(SPECTRUM[band] for band in inputs.bands), strict=True)
        self._side = inputs.image_size // PATCH

    def forward(self, images: Tensor, meta: Meta) -> Features:
        """The features of images, with the patch tokens of each block as maps."""
        area = torch.full_like(meta.date, AREA)
        metadata = torch.cat([meta.lonlat, meta.date[:, None], area[:, None]], dim=1)
        return by_unknown(metadata.isnan(), lambda rows: self._features(images[rows], metadata[rows]))

    def _features(self, images: Tensor, metadata: Tensor) -> Features:
        with outputs_of(self.network.blocks) as tokens:
            pooled = self.network.forward_features(images, metadata, self._wavelengths, self._bandwidths)
        return Features(pooled, maps=as_maps(tokens, self._side))

    def layers(self) -> list[list[nn.Parameter]]:
        """The parameters from input to output."""
        return layers_of(self.network, self.network.blocks, self.network.fc_norm)
