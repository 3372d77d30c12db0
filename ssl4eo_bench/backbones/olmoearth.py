"""OlmoEarth (Herzog et al., 2025, arXiv:2511.13655) as olmoearth-pretrain-minimal has it. Extra: `olmoearth`."""

from datetime import date
from pathlib import Path

import torch
from olmoearth_pretrain_minimal import OlmoEarthPretrain_v1
from olmoearth_pretrain_minimal.olmoearth_pretrain_v1.utils.constants import Modality
from olmoearth_pretrain_minimal.olmoearth_pretrain_v1.utils.datatypes import MaskedOlmoEarthSample
from torch import Tensor, nn

from ssl4eo_bench.models.plugin import Features, Inputs, Meta
from ssl4eo_bench.models.weight_reader import read_weights

from .transformer import EPOCH, dates_of, layers_of, load_part, positions_of

MODALITIES = {
    "sentinel2_l2a": tuple(Modality.SENTINEL2_L2A.band_order),
    "sentinel1": tuple(band.upper() for band in Modality.SENTINEL1.band_order),
}

UNKNOWN = float((date(2020, 7, 1) - EPOCH).days)
"""The date that its authors' evaluation gives images without one."""


class OlmoEarth(nn.Module):
    """Sentinel-2 without B10, Sentinel-1, or both. The feature is the mean of all tokens."""

    reads = ("date",)

    def __init__(self, inputs: Inputs, size: str = "base", version: str = "v1", patch: int = 4) -> None:
        super().__init__()
        self._positions = positions_of(MODALITIES, inputs, "OlmoEarth")
        whole = OlmoEarthPretrain_v1(size, version, supported_modality_names=list(self._positions))
        self.network = whole.model.encoder
        self.network.project_and_aggregate = nn.Identity()  # for the contrastive loss
        self._patch = patch

    def forward(self, images: Tensor, meta: Meta) -> Features:
        """The features of images, with the mean of the tokens at each place as map."""
        sample: dict[str, Tensor] = {"timestamps": _timestamps(meta.date)}
        for name, each in self._positions.items():
            sample[name] = images[:, each].permute(0, 2, 3, 1).unsqueeze(3)  # [N, S, S, 1, C]
            groups = self.network.patch_embeddings.tokenization_config.get_num_bandsets(name)
            sample[f"{name}_mask"] = torch.zeros(*images.shape[:1], *images.shape[2:], 1, groups, device=images.device)
        found = self.network(MaskedOlmoEarthSample(**sample), patch_size=self._patch, fast_pass=True)
        tokens = [getattr(found["tokens_and_masks"], name).flatten(3, 4) for name in self._positions]
        everywhere = torch.cat(tokens, dim=3).mean(dim=3)  # [N, S / patch, S / patch, D]
        return Features(everywhere.mean(dim=(1, 2)), maps=[everywhere.permute(0, 3, 1, 2)])

    def load_weights(self, file: Path) -> None:
        """Load the released file, which holds all modalities, the decoder and the target encoder."""
        load_part(self.network, read_weights(file)[""], "encoder.")

    def layers(self) -> list[list[nn.Parameter]]:
        """The parameters from input to output."""
        return layers_of(self.network, self.network.blocks, self.network.norm)


def _timestamps(days: Tensor) -> Tensor:
    """Day of the month, month counted from 0, and year of one date of each image, `[N, 1, 3]`."""
    dates = dates_of(days.nan_to_num(UNKNOWN))
    return torch.tensor([[[day.day, day.month - 1, day.year]] for day in dates], device=days.device)
