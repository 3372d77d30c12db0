"""Products of blocks of features with as many vectors as there are classes, which the solver spends its time in.

Libraries for matrix products are made for square ones. Thin ones are convolutions of a single pixel, too, and as such
PyTorch hands them to oneDNN, which takes half the time of its matrix products on processors with AVX-512.
"""

import torch
from torch import Tensor
from torch.nn import functional

MANY = 16
"""Blocks from which PyTorch gives oneDNN the convolutions of a single thread, too."""


def logits(weights: Tensor, blocks: Tensor) -> Tensor:
    """Products of weights `[C, D + 1]`, intercept last, with features `[blocks, rows, D]`: `[blocks, C, rows]`."""
    columns, intercepts = weights[:, :-1], weights[:, -1]
    if not _convolve(blocks):
        return (columns @ blocks.mT).add_(intercepts[:, None])
    # A row is a pixel, its features are channels: in memory that is the order called channels_last.
    found = functional.conv2d(blocks.mT[:, :, None], columns[:, :, None, None], intercepts)
    return found[:, :, 0].contiguous()


def sums(residuals: Tensor, blocks: Tensor) -> Tensor:
    """Features `[blocks, rows, D]`, weighted by residuals `[blocks, C, rows]` and summed over all rows: `[C, D]`."""
    if not _convolve(blocks):
        return (residuals @ blocks).sum(0)
    count, rows, width = blocks.shape
    classes = residuals.shape[1]
    # A feature is a pixel, the rows of a block are channels of a group. With multiples of four classes oneDNN would
    # bring all features into another order first.
    filled = functional.pad(residuals, (0, 0, 0, 1)) if classes % 4 == 0 else residuals
    found = functional.conv2d(blocks.view(1, -1, 1, width), filled.reshape(-1, rows, 1, 1), groups=count)
    return found.view(count, -1, width).sum(0)[:classes]


def _convolve(blocks: Tensor) -> bool:
    """Whether PyTorch would give convolutions to oneDNN; on GPUs they may be of less than float32."""
    parallel = torch.get_num_threads() > 1 or len(blocks) >= MANY
    there: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return blocks.device.type == "cpu" and there and parallel and blocks.numel() > 0
