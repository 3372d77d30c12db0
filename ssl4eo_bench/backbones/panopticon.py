"""Panopticon (Waldmann et al., 2025, arXiv:2503.10845) as torchgeo has it. Extra: `torchgeo`."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torchgeo.models import panopticon_vitb14
from torchgeo.models.copernicusfm import resize_abs_pos_embed

from ssl4eo_bench.models.plugin import Features, Inputs
from ssl4eo_bench.models.weight_reader import read_weights

from .transformer import as_maps, layers_of, outputs_of

PATCH = 14
RELEASED_SIDE = 37
"""The patches in a row that the released position embeddings are for."""

CHANNELS = {
    "B01": 442,
    "B02": 492,
    "B03": 559,
    "B04": 664,
    "B05": 704,
    "B06": 740,
    "B07": 782,
    "B08": 827,
    "B8A": 864,
    "B09": 945,
    "B10": 1373,
    "B11": 1613,
    "B12": 2203,
    "VV": -1,
    "VH": -2,
}
"""What its pretraining calls each band: whole nanometres, cut off, of a fit to the sensor's response; and a negative
number for each polarisation, here without the direction of the orbit (dinov2/configs/data/satellites in its code)."""


class Panopticon(nn.Module):
    """Any bands, by what its pretraining calls them. The feature is the class token."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self.network = panopticon_vitb14(img_size=inputs.image_size)
        self._side = inputs.image_size // PATCH
        ids = torch.tensor([[float(CHANNELS[band]) for band in inputs.bands]])
        self.register_buffer("channel_ids", ids, persistent=False)

    def forward(self, images: Tensor) -> Features:
        """The features of images, with the normalised patch tokens of each block as maps."""
        vit = self.network.model
        ids = self.get_buffer("channel_ids").repeat(len(images), 1)  # a copy: the network writes into it
        with outputs_of(vit.blocks) as tokens:
            pooled = self.network({"imgs": images, "chn_ids": ids})
        return Features(pooled, cls=pooled, maps=as_maps(map(vit.norm, tokens), self._side))

    def load_weights(self, file: Path) -> None:
        """Load the released file, its position embeddings resized to the input size."""
        state = read_weights(file)[""]
        del state["mask_token"]
        state["pos_embed"] = resize_abs_pos_embed(state["pos_embed"], self._side, RELEASED_SIDE)
        self.network.model.load_state_dict(state)

    def layers(self) -> list[list[nn.Parameter]]:
        """The parameters from input to output."""
        return layers_of(self.network, self.network.model.blocks, self.network.model.norm)
