"""Resizing of images and maps as matrix products, which give the same numbers on every device and in every runtime."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def resize_matrix(stored: int, wanted: int, mode: Literal["bicubic", "bilinear"]) -> Tensor:
    """The matrix `[wanted, stored]` of one-dimensional resizing, pixels being areas (`align_corners=False`).

    Bicubic resizing is with antialiasing (Pillow's kernel), bilinear resizing without.
    """
    identity = torch.eye(stored).view(1, 1, stored, stored)
    return functional.interpolate(identity, size=(wanted, stored), mode=mode, antialias=mode == "bicubic")[0, 0]


def resize(maps: Tensor, side: int) -> Tensor:
    """Maps `[N, D, g, g]` resized bilinearly to `[N, D, side, side]`."""
    stored = int(maps.shape[-1])
    if stored == side:
        return maps
    matrix = resize_matrix(stored, side, "bilinear").to(maps.device)
    return torch.matmul(matrix, torch.matmul(maps, matrix.T))


def interpolate(grid: np.ndarray, places: np.ndarray, side: int) -> np.ndarray:
    """The features `[N, K, D]` of single pixels, as if the grid `[N, D, g, g]` had been resized bilinearly to an image.

    The pixels `[N, K]` are numbered row by row in an image of this side.
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
    """The two places, in a row of `stored`, around each pixel of a row of `side`, and the share of each of them."""
    position = np.maximum((pixels + 0.5) * stored / side - 0.5, 0.0)
    low = np.minimum(position.astype(np.int64), stored - 1)
    share = position - low
    return (low, 1.0 - share), (np.minimum(low + 1, stored - 1), share)
