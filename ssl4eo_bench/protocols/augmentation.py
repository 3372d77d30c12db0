"""Random crops, flips and quarter turns of inputs and label maps: the symmetries of a picture from above."""

import torch
from torch import Tensor
from torch.nn import functional


def draw_views(count: int, smallest: float, generator: torch.Generator) -> Tensor:
    """Transforms `[N, 2, 3]` that show a random square of each image, flipped and turned by quarters at random.

    Numbers are drawn on the processor, so that they are the same on every device.

    Args:
        count: of images.
        smallest: share of the area that a crop keeps at least.
        generator: draws.
    """
    area, x, y = (torch.rand(count, generator=generator) for _ in range(3))
    side = (smallest + (1 - smallest) * area).sqrt()
    turns, flips = (torch.randint(number, (count,), generator=generator) for number in (4, 2))
    cosine, sine = (torch.round(f(turns * torch.pi / 2)) for f in (torch.cos, torch.sin))
    mirror = 1.0 - 2.0 * flips
    rows = [[side * cosine * mirror, -side * sine, (1 - side) * (2 * x - 1)]]
    rows += [[side * sine * mirror, side * cosine, (1 - side) * (2 * y - 1)]]
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


def seen(images: Tensor, views: Tensor) -> Tensor:
    """Images `[N, C, S, S]` as the views show them, at the same size, by one bilinear sampling."""
    return _sampled(images, views, "bilinear")


def seen_labels(labels: Tensor, views: Tensor) -> Tensor:
    """Label maps `[N, S, S]` as the views show them: each place has the label of the pixel that is nearest to it."""
    return _sampled(labels[:, None].float(), views, "nearest")[:, 0].to(labels.dtype)


def _sampled(images: Tensor, views: Tensor, mode: str) -> Tensor:
    grid = functional.affine_grid(views.to(images), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode=mode, padding_mode="reflection", align_corners=False)
