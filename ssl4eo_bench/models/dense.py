"""Dense features: what a protocol sees of a backbone at every place of an image, for frozen pixels in stored form.

- A network whose stages shrink the image (CNNs, hierarchical transformers): the maps of its last three stages, resized
  bilinearly to the largest of them, but to no more than one place for 8 × 8 input pixels, and concatenated.
- A network of one stride (ViTs): the patch tokens of its last four blocks, each after the final norm, concatenated.
- `bandstats`: mean and standard deviation of each band in a window of 5 × 5 stored pixels, the floor without a network.

The `feature` that a checkpoint names is one of whole images and does not matter here.
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.inputs import InputMapping
from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.models.build import build
from ssl4eo_bench.models.preprocess import Preprocess, separate

STAGES = 3
BLOCKS = 4
STRIDE = 8
WINDOW = 5


class DenseFeatures(nn.Module):
    """Stored groups `[N, C_g, H_g, W_g]` to a grid of features `[N, D, g, g]` of a timm model.

    Attributes:
        preprocess: from stored groups to inputs `[N, C, S, S]`.
        backbone: the model.
        strides: input pixels to a place, and
        channels: of each of the maps that the model can give.
        one_stride: whether all maps are of one size: those of ViTs.
        last: which of the maps make the features.
    """

    def __init__(self, preprocess: Preprocess, backbone: nn.Module) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.backbone = backbone
        known = cast(Any, backbone).feature_info
        self.strides = tuple(int(found["reduction"]) for found in known)
        self.channels = tuple(int(found["num_chs"]) for found in known)
        self.one_stride = len(set(self.strides)) == 1
        count = len(self.strides)
        self.last = tuple(range(max(0, count - (BLOCKS if self.one_stride else STAGES)), count))

    def forward(self, *groups: Tensor) -> Tensor:
        """The features at each place."""
        images = self.preprocess(*groups)
        return self.joined([*self.maps(images, self.last).values()], int(images.shape[-1]))

    def maps(self, images: Tensor, indices: Collection[int]) -> dict[int, Tensor]:
        """The wanted maps `[N, D, g, g]` of inputs, ascending; tokens are normalised."""
        wanted = sorted(indices)
        found = cast(Any, self.backbone).forward_intermediates(
            images, indices=wanted, norm=self.one_stride, output_fmt="NCHW", intermediates_only=True
        )
        return dict(zip(wanted, found, strict=True))

    def joined(self, maps: Sequence[Tensor], input_side: int) -> Tensor:
        """The maps that make the features, resized to one size and concatenated."""
        largest = max(int(found.shape[-1]) for found in maps)
        side = min(largest, -(-input_side // STRIDE))
        return torch.cat([resize(found, side) for found in maps], dim=1)


class WindowStatistics(nn.Module):
    """Stored groups to mean and standard deviation of every band around each place of the finest group."""

    def __init__(self, preprocess: Sequence[Preprocess]) -> None:
        super().__init__()
        self.preprocess = nn.ModuleList(preprocess)

    def forward(self, *groups: Tensor) -> Tensor:
        """Features `[N, 2 · C, H, W]`: all means, then all standard deviations."""
        side = int(groups[0].shape[-1])
        statistics = [_window(scale(group)) for scale, group in zip(self.preprocess, groups, strict=True)]
        return torch.cat([resize(part, side) for kind in zip(*statistics, strict=True) for part in kind], dim=1)


def dense_module(
    checkpoint: Checkpoint,
    inputs: InputMapping,
    groups: Sequence[Sequence[str]],
    sizes: Sequence[tuple[int, int]],
    *,
    seed: int,
    cache_dir: Path | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> DenseFeatures | WindowStatistics:
    """The frozen module from stored groups to a grid of features; arguments and errors as of `feature_module`."""
    if checkpoint.arch == "bandstats":
        return WindowStatistics(separate(inputs, groups, sizes)).eval()
    backbone = build(checkpoint.seeing(inputs.bands), seed=seed, cache_dir=cache_dir, note=note)
    if not hasattr(backbone, "forward_intermediates"):
        raise SpecError(
            f"checkpoint {checkpoint.name!r} cannot do segmentation: timm gives no intermediate maps of "
            f"{checkpoint.arch}; choose another architecture."
        )
    return DenseFeatures(Preprocess(inputs, groups, sizes), backbone).eval()


def resize(maps: Tensor, side: int) -> Tensor:
    """Maps `[N, D, g, g]` resized bilinearly to `[N, D, side, side]`, pixels being areas (`align_corners=False`).

    Two small matrix products, which give the same numbers in every runtime.
    """
    stored = int(maps.shape[-1])
    if stored == side:
        return maps
    matrix = _bilinear_matrix(stored, side).to(maps.device)
    return torch.matmul(matrix, torch.matmul(maps, matrix.T))


def interpolate(grid: np.ndarray, places: np.ndarray, side: int) -> np.ndarray:
    """The features `[N, K, D]` of single pixels, as if the grid had been resized to the size of the image.

    Args:
        grid: `[N, D, g, g]`.
        places: the pixels `[N, K]`, numbered row by row.
        side: of the image whose pixels these are.
    """
    count, width, stored, _ = grid.shape
    flat = grid.reshape(count, width, -1).transpose(0, 2, 1)
    image = np.arange(count)[:, None]
    values = np.zeros((*places.shape, width), dtype=np.float32)
    for row, row_share in _neighbours(places // side, stored, side):
        for column, column_share in _neighbours(places % side, stored, side):
            values += (row_share * column_share).astype(np.float32)[..., None] * flat[image, row * stored + column]
    return values


def _neighbours(pixels: np.ndarray, stored: int, side: int) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """The two places of a row of `stored` that a pixel of a row of `side` lies between, and the share of each."""
    position = np.maximum((pixels + 0.5) * stored / side - 0.5, 0.0)
    low = np.minimum(position.astype(np.int64), stored - 1)
    share = position - low
    return (low, 1.0 - share), (np.minimum(low + 1, stored - 1), share)


def _bilinear_matrix(stored: int, wanted: int) -> Tensor:
    """The matrix `[wanted, stored]` of one-dimensional bilinear resizing."""
    identity = torch.eye(stored).view(1, 1, stored, stored)
    return functional.interpolate(identity, size=(wanted, stored), mode="bilinear", align_corners=False)[0, 0]


def _window(bands: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation `[N, C, H, W]` in the window around each pixel, as far as it lies in the image."""
    centre = bands.mean(dim=(2, 3), keepdim=True)  # squares of raw values would leave float32 few digits
    shifted = bands - centre
    mean, square = (
        functional.avg_pool2d(part, WINDOW, stride=1, padding=WINDOW // 2, count_include_pad=False)
        for part in (shifted, shifted * shifted)
    )
    return mean + centre, (square - mean * mean).clamp_min(0.0).sqrt()
