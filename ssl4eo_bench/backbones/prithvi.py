"""Prithvi-EO 2.0 (Szwarcman et al., 2024, arXiv:2412.02732) as terratorch has it. Extra: `terratorch`."""

import torch
from terratorch.models.backbones.prithvi_mae import PrithviViT
from terratorch.models.backbones.prithvi_vit import prithvi_cfgs
from torch import Tensor, nn

from ssl4eo_bench.models.plugin import Features, Inputs, Meta

from .transformer import as_maps, by_unknown, dates_of, layers_of, positions_of

MODALITIES = {"HLS": ("B02", "B03", "B04", "B8A", "B11", "B12")}


class Prithvi(nn.Module):
    """Six bands of one date. The feature is the mean of the normalised patch tokens."""

    def __init__(self, inputs: Inputs, variant: str = "prithvi_eo_v2_300") -> None:
        super().__init__()
        self._order = positions_of(MODALITIES, inputs, "Prithvi")["HLS"]
        config = prithvi_cfgs[variant] | {"img_size": inputs.image_size, "num_frames": 1}
        self.network = PrithviViT(**config)
        # Computed for any number of dates and patches: those in the file, of four dates, are not read.
        self.network.register_buffer("pos_embed", self.network.pos_embed, persistent=False)
        self._side = inputs.image_size // config["patch_size"][-1]

    def forward(self, images: Tensor) -> Features:
        """The features of images, with the patch tokens of each block as maps."""
        return self._features(images)

    def _features(self, images: Tensor, **coordinates: Tensor | None) -> Features:
        tokens = self.network.forward_features(images[:, self._order], **coordinates)
        last = tokens[-1]
        return Features(last[:, 1:].mean(dim=1), cls=last[:, 0], maps=as_maps(tokens, self._side))

    def layers(self) -> list[list[nn.Parameter]]:
        """The parameters from input to output."""
        return layers_of(self.network, self.network.blocks, self.network.norm)


class PrithviTl(Prithvi):
    """The variants that also read place and date; what is not known of an image is left out for it."""

    reads = ("lonlat", "date")

    def forward(self, images: Tensor, meta: Meta) -> Features:  # type: ignore[override]
        """The features of images, with the patch tokens of each block as maps."""
        unknown = torch.stack([meta.lonlat.isnan().any(dim=1), meta.date.isnan()], dim=1)

        def run(rows: Tensor) -> Features:
            no_place, no_date = unknown[rows[0]].tolist()
            place = None if no_place else meta.lonlat[rows].flip(1)
            return self._features(
                images[rows], location_coords=place, temporal_coords=None if no_date else _year_and_day(meta.date[rows])
            )

        return by_unknown(unknown, run)


def _year_and_day(days: Tensor) -> Tensor:
    """Year and day of the year, counted from 1 as its model card says, of one date of each image, `[N, 1, 2]`."""
    dates = [[[float(day.year), float(day.timetuple().tm_yday)]] for day in dates_of(days)]
    return torch.tensor(dates, device=days.device)
