"""The EfficientNet-B4 encoders of ukis-csmask (Wieland et al., RSE 2019), which masks clouds. Extra: `ukis`.

The package ships them in ONNX files, with weights in float16.
"""

from pathlib import Path
from typing import Any, cast

import onnx
import timm
import torch
from onnx.numpy_helper import to_array
from torch import Tensor, nn

from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.models.plugin import Features, Inputs

BANDS = ("B02", "B03", "B04", "B08", "B11", "B12")
"""In the order of the files; a file for four bands has the first four."""

ENCODER = "model.encoder."
"""What the names of the encoder's tensors begin with; the others belong to the decoder of the masks."""

PLAIN = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_se_reduce": "se.conv_reduce",
    "_se_expand": "se.conv_expand",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
"""The layers of a block in the files, and their names in timm."""

EXPANDING = PLAIN | {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
"""The same of a block with an expansion."""


class CloudMaskEncoder(nn.Module):
    """The maps of five stages, at strides of 2 to 32 pixels. The feature is the mean of the last one."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        if inputs.bands not in (BANDS, BANDS[:4]):
            raise SpecError(f"ukis-csmask takes {', '.join(BANDS)}, or the first four; list them in this order.")
        if inputs.image_size % 32:
            raise SpecError(f"{inputs.image_size} pixels cannot be halved five times; take a multiple of 32.")
        channels = len(inputs.channels)
        self.network = cast(Any, timm.create_model("tf_efficientnet_b4", features_only=True, in_chans=channels))
        first = self.network.blocks[2][0]
        # The originals pad every image as one of 380 pixels. At multiples of 32, timm does the same but in this layer,
        # where those 380 pixels have become 95.
        width = first.conv_dw.out_channels
        first.conv_dw = nn.Conv2d(width, width, 5, stride=2, padding=2, groups=width, bias=False)

    def forward(self, images: Tensor) -> Features:
        """The features of images, with the map behind each stage."""
        maps = self.network(images)
        return Features(maps[-1].mean(dim=(2, 3)), maps=maps)

    def load_weights(self, file: Path) -> None:
        """Load an ONNX file of the package, in which every tensor of the encoder has to fit."""
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
        """The names of all layers in timm, by those in the files, which count blocks through all stages."""
        blocks = [
            (f"blocks.{i}.{j}", one) for i, stage in enumerate(self.network.blocks) for j, one in enumerate(stage)
        ]
        names = {"_conv_stem": "conv_stem", "_bn0": "bn1"}
        for number, (place, block) in enumerate(blocks):
            parts = EXPANDING if hasattr(block, "conv_pwl") else PLAIN
            names |= {f"_blocks.{number}.{theirs}": f"{place}.{ours}" for theirs, ours in parts.items()}
        return names
