"""The EfficientNet-B4 encoders of ukis-csmask (Wieland et al., RSE 2019), which masks clouds. Extra: `ukis`.

The package ships them in ONNX files, with weights in float16.
"""

from pathlib import Path

import onnx
import timm
import torch
from onnx.numpy_helper import to_array
from torch import Tensor, nn

from ssl4eo_bench.models.plugin import Features, Inputs

BANDS = ("B02", "B03", "B04", "B08", "B11", "B12")
"""In the order of the files; those for four bands have the first four."""

ENCODER = "model.encoder."
"""What the names of the encoder's tensors begin with; the others belong to the decoder of the masks."""

SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
PLAIN = {**SQUEEZE, "_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
EXPANDING = {
    **SQUEEZE,
    **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"},
    **{"_project_conv": "conv_pwl", "_bn2": "bn3"},
}
"""The layers of a block in the files, and their names in timm; blocks without an expansion have other ones."""


class CloudMaskEncoder(nn.Module):
    """The maps of five stages, at strides of 2 to 32 pixels. The feature is the mean of the last one."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        bands = BANDS[: len(inputs.channels)]
        if len(bands) < 4 or set(bands) != set(inputs.bands):
            raise ValueError(f"ukis-csmask takes {', '.join(BANDS)}, or the first four; got {', '.join(inputs.bands)}")
        if inputs.image_size % 32:
            raise ValueError(f"images of {inputs.image_size} pixels do not halve five times; take a multiple of 32")
        self._order = [inputs.bands.index(band) for band in bands]
        self.network = timm.create_model("tf_efficientnet_b4", features_only=True, in_chans=len(bands))
        # Its padding was fixed for images of 380 pixels. Only here, where these have 95, are others padded differently.
        first = self.network.blocks[2][0]
        width = first.conv_dw.out_channels
        first.conv_dw = nn.Conv2d(width, width, 5, stride=2, padding=2, groups=width, bias=False)

    def forward(self, images: Tensor) -> Features:
        """The features of images, with the map behind each stage."""
        maps = self.network(images[:, self._order])
        return Features(maps[-1].mean(dim=(2, 3)), maps=maps)

    def load_weights(self, file: Path) -> None:
        """Load a model of the package; of its tensors, all of the encoder have to fit, and the others are left there."""
        layers = self._layers_in_file()
        state = {name: one for name, one in self.network.state_dict().items() if name.endswith("num_batches_tracked")}
        for tensor in onnx.load(file, load_external_data=False).graph.initializer:
            if tensor.name.startswith(ENCODER):
                layer, _, part = tensor.name.removeprefix(ENCODER).rpartition(".")
                state[f"{layers.get(layer, layer)}.{part}"] = torch.tensor(to_array(tensor))
        self.network.load_state_dict(state)

    def layers(self) -> list[list[nn.Parameter]]:
        """The parameters from input to output."""
        stem = [*self.network.conv_stem.parameters(), *self.network.bn1.parameters()]
        return [stem, *(list(block.parameters()) for stage in self.network.blocks for block in stage)]

    def _layers_in_file(self) -> dict[str, str]:
        """timm's names of all layers, by their names in the files, which count blocks through all stages."""
        blocks = [(f"blocks.{i}.{j}", one) for i, stage in enumerate(self.network.blocks) for j, one in enumerate(stage)]
        names = {"_conv_stem": "conv_stem", "_bn0": "bn1"}
        for number, (place, block) in enumerate(blocks):
            parts = EXPANDING if hasattr(block, "conv_pwl") else PLAIN
            names |= {f"_blocks.{number}.{theirs}": f"{place}.{ours}" for theirs, ours in parts.items()}
        return names
