"""Products of blocks of features with one vector for each class: the solver spends its time in them.

Libraries are tuned for square matrix products. A thin product is also a convolution of single pixels, and PyTorch gives
convolutions to oneDNN, which takes half to two thirds of the time for 10 to 43 classes on an AMD EPYC (AVX-512).
"""

import torch
from torch import Tensor
from torch.nn import functional

MANY = 16
"""From so many blocks on, PyTorch gives oneDNN the convolutions of a single thread, too."""
AT_ONCE = 64
"""Blocks in one convolution: its output stays in the cache until it is used."""


def logits(weights: Tensor, blocks: Tensor) -> Tensor:
    """Return logits `[blocks, C, rows]` of weights `[C, D + 1]` (intercept last) and features `[blocks, rows, D]`."""
    columns, intercepts = weights[:, :-1], weights[:, -1]
    if not _convolve(blocks):
        return (columns @ blocks.mT).add_(intercepts[:, None])
    found = blocks.new_empty(len(blocks), len(weights), blocks.shape[1])
    for some, place in zip(torch.split(blocks, AT_ONCE), torch.split(found, AT_ONCE), strict=True):
        # A row is a pixel, its features are channels: in memory that is the order called channels_last.
        place.copy_(functional.conv2d(some.mT[:, :, None], columns[:, :, None, None], intercepts)[:, :, 0])
    return found


def sums(residuals: Tensor, blocks: Tensor) -> Tensor:
    """Return the sum `[C, D]` over rows of features `[blocks, rows, D]` weighted by residuals `[blocks, C, rows]`."""
    if not _convolve(blocks):
        return (residuals @ blocks).sum(0)
    rows, width = blocks.shape[1:]
    classes = residuals.shape[1]
    # With multiples of four classes oneDNN would bring all features into another order first.
    filled = functional.pad(residuals, (0, 0, 0, 1)) if classes % 4 == 0 else residuals
    found = blocks.new_zeros(filled.shape[1], width)
    for some, weights in zip(torch.split(blocks, AT_ONCE), torch.split(filled, AT_ONCE), strict=True):
        # A feature is a pixel, and the rows of a block are the channels of a group.
        groups = functional.conv2d(some.view(1, -1, 1, width), weights.reshape(-1, rows, 1, 1), groups=len(some))
        found += groups.view(len(some), -1, width).sum(0)
    return found[:classes]


def _convolve(blocks: Tensor) -> bool:
    """Return whether PyTorch gives convolutions to oneDNN; on GPUs they may be of less than float32."""
    parallel = torch.get_num_threads() > 1 or len(blocks) >= MANY
    there: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return blocks.device.type == "cpu" and there and parallel and blocks.numel() > 0
