"""CROMA (Fuller et al., NeurIPS 2023, arXiv:2311.00566) as torchgeo has it. Extra: `torchgeo`."""

from pathlib import Path

from torch import Tensor, nn
from torchgeo.models import croma_base, croma_large

from ssl4eo_bench.models.plugin import Features, Inputs
from ssl4eo_bench.models.weight_reader import read_weights

from .transformer import as_maps, layers_of, positions_of

MODELS = {"base": croma_base, "large": croma_large}

MODALITIES = {
    "optical": ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"),
    "sar": ("VV", "VH"),
}
ENCODERS = {"optical": "s2_encoder", "sar": "s1_encoder"}


class Croma(nn.Module):
    """Sentinel-2 without B10, Sentinel-1, or both.

    The feature of one sensor is what its feed-forward network makes of the mean token, that of both the mean of the
    joint tokens.
    """

    def __init__(self, inputs: Inputs, size: str = "base") -> None:
        super().__init__()
        self._positions = positions_of(MODALITIES, inputs, "CROMA")
        self._output = "joint" if len(self._positions) == 2 else next(iter(self._positions))
        self.network = MODELS[size](modalities=list(self._positions), image_size=inputs.image_size)
        self._side = inputs.image_size // self.network.patch_size

    def forward(self, images: Tensor) -> Features:
        """The features of images, with the tokens of the last block as a map."""
        found = self.network(**{f"x_{name}": images[:, each] for name, each in self._positions.items()})
        tokens = found[f"{self._output}_encodings"]
        return Features(found[f"{self._output}_GAP"], maps=as_maps([tokens], self._side))

    def load_weights(self, file: Path) -> None:
        """Load the released file, which holds one state dict for each part."""
        parts = read_weights(file)
        for name, part in self.network.named_children():
            part.load_state_dict(parts[name])

    def layers(self) -> list[list[nn.Parameter]]:
        """The parameters from input to output; of two encoders, the last layers stand side by side."""
        encoders = [getattr(self.network, ENCODERS[name]).transformer.layers for name in self._positions]
        depth = max(map(len, encoders))
        blocks = [nn.ModuleList(each[i] for each in encoders if len(each) >= -i) for i in range(-depth, 0)]
        if self._output == "joint":
            blocks += self.network.joint_encoder.layers
        heads = [part for name, part in self.network.named_modules() if name.endswith(("norm_out", "GAP_FFN"))]
        return layers_of(self.network, blocks, nn.ModuleList(heads))
