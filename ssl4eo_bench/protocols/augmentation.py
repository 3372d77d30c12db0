"""Random crops, flips and quarter turns of input tensors: the symmetries of a picture from above."""

import torch
from torch import Tensor
from torch.nn import functional


def augment(images: Tensor, smallest: float, generator: torch.Generator) -> Tensor:
    """Each image `[N, C, S, S]` cropped to a random square, resized to `[S, S]`, flipped and turned at random.

    One bilinear sampling does all of it. Numbers are drawn on the processor, so that they are the same on every device.

    Args:
        images: scaled inputs.
        smallest: share of the area that a crop keeps at least.
        generator: draws.
    """
    count = len(images)
    area, x, y = (torch.rand(count, generator=generator) for _ in range(3))
    side = (smallest + (1 - smallest) * area).sqrt()
    turns, flips = (torch.randint(number, (count,), generator=generator) for number in (4, 2))
    cosine, sine = (torch.round(f(turns * torch.pi / 2)) for f in (torch.cos, torch.sin))
    mirror = 1.0 - 2.0 * flips
    rows = [[side * cosine * mirror, -side * sine, (1 - side) * (2 * x - 1)]]
    rows += [[side * sine * mirror, side * cosine, (1 - side) * (2 * y - 1)]]
    transform = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1).to(images)
    grid = functional.affine_grid(transform, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
