"""The ResNet-20 of the So2Sat LCZ42 demo (Zhu et al.), from its Keras weights: a class that loads its file itself.

It is Keras' ResNet v2 for small images (pre-activation bottlenecks, He et al., arXiv:1603.05027) with ten bands of
Sentinel-2, or seven channels of Sentinel-1. Its feature is what the classifier of 17 local climate zones sees.
"""

from pathlib import Path

import h5py
import torch
from torch import Tensor, nn

from ssl4eo_bench import Features

WIDTHS = (16, 64, 128)
EPSILON = 1e-3  # of Keras' BatchNorm


class ResNet20(nn.Module):
    """Three stages of two bottlenecks; layers are numbered in the order in which Keras made them."""

    def __init__(self, channels: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 16, 3, padding=1), nn.BatchNorm2d(16, EPSILON), nn.ReLU())
        blocks, given = [], 16
        for stage, width in enumerate(WIDTHS):
            out = 4 * width if stage == 0 else 2 * width
            blocks += [Bottleneck(given, width, out, stage), Bottleneck(out, width, out)]
            given = out
        self.blocks = nn.ModuleList(blocks)
        self.last = nn.Sequential(nn.BatchNorm2d(given, EPSILON), nn.ReLU())

    def forward(self, images: Tensor) -> Features:
        """The pooled feature of images in reflectance, and the map behind each stage."""
        maps, x = [], self.stem(images)
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number % 2:
                maps.append(x)
        maps[-1] = self.last(x)
        return Features(maps[-1].mean(dim=(2, 3)), maps=maps)

    def load_weights(self, file: Path) -> None:
        """Load the weights of the demo's HDF5 file; those of its classifier are left there."""
        with h5py.File(file) as stored:
            convolutions = (module for module in self.modules() if isinstance(module, nn.Conv2d))
            norms = (module for module in self.modules() if isinstance(module, nn.BatchNorm2d))
            with torch.no_grad():
                for number, conv in enumerate(convolutions, start=1):
                    group = stored[f"conv2d_{number}/conv2d_{number}"]
                    conv.weight.copy_(torch.from_numpy(group["kernel:0"][()]).permute(3, 2, 0, 1))
                    conv.bias.copy_(torch.from_numpy(group["bias:0"][()]))
                for number, norm in enumerate(norms, start=1):
                    group = stored[f"batch_normalization_{number}/batch_normalization_{number}"]
                    names = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean"}
                    for keras, name in {**names, "moving_variance": "running_var"}.items():
                        getattr(norm, name).copy_(torch.from_numpy(group[f"{keras}:0"][()]))


class Bottleneck(nn.Module):
    """Three convolutions, each after BatchNorm and ReLU; the first of a stage has a convolution beside it."""

    def __init__(self, given: int, width: int, out: int, stage: int | None = None) -> None:
        super().__init__()
        stride = 2 if stage else 1
        before = () if stage == 0 else (nn.BatchNorm2d(given, EPSILON), nn.ReLU())  # the stem ends with both
        self.layers = nn.Sequential(
            *before,
            nn.Conv2d(given, width, 1, stride),
            *(nn.BatchNorm2d(width, EPSILON), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)),
            *(nn.BatchNorm2d(width, EPSILON), nn.ReLU(), nn.Conv2d(width, out, 1)),
        )
        self.beside = nn.Identity() if stage is None else nn.Conv2d(given, out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both ways."""
        found: Tensor = self.layers(x) + self.beside(x)
        return found
