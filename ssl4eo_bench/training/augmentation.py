"""Random crops, flips and quarter turns of inputs and label maps: the symmetries of an image from above."""

import torch
from torch import Tensor
from torch.nn import functional


def draw_views(count: int, smallest: float, generator: torch.Generator) -> Tensor:
    """Return transforms `[N, 2, 3]` that show a random square of each image, randomly flipped and turned by quarters.

    A crop keeps at least the share `smallest` of the area. Numbers are drawn on the processor, so that they are the
    same on every device.
    """
    area, x, y = (torch.rand(count, generator=generator) for _ in range(3))
    side = (smallest + (1 - smallest) * area).sqrt()
    turns, flips = (torch.randint(number, (count,), generator=generator) for number in (4, 2))
    cosine, sine = (torch.round(f(turns * torch.pi / 2)) for f in (torch.cos, torch.sin))
    mirror = 1.0 - 2.0 * flips
    rows = [[side * cosine * mirror, -side * sine, (1 - side) * (2 * x - 1)]]
    rows += [[side * sine * mirror, side * cosine, (1 - side) * (2 * y - 1)]]
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


def draw_crops(count: int, smallest: float, generator: torch.Generator) -> Tensor:
    """Return transforms `[N, 2, 3]` that show a random rectangle of each image, randomly mirrored.

    Its area is uniform from the share `smallest` on, and its ratio of sides is uniform in the logarithm from 3/4 to 4/3
    (Szegedy et al., CVPR 2015). No side is longer than that of the image.
    """
    area, ratio, x, y = (torch.rand(count, generator=generator) for _ in range(4))
    mirror = 1.0 - 2.0 * torch.randint(2, (count,), generator=generator)
    area, ratio = smallest + (1 - smallest) * area, (4 / 3) ** (2 * ratio - 1)
    width, height = ((area * share).sqrt().clamp_max(1.0) for share in (ratio, 1 / ratio))
    zero = torch.zeros(count)
    rows = [[width * mirror, zero, (1 - width) * (2 * x - 1)], [zero, height, (1 - height) * (2 * y - 1)]]
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


def augmented(images: Tensor, views: Tensor, side: int | None = None) -> Tensor:
    """Return images `[N, C, S, S]` as the views show them, at the same size or another, by one bilinear sampling."""
    return _sampled(images, views, "bilinear", side or int(images.shape[-1]))


def augmented_labels(labels: Tensor, views: Tensor) -> Tensor:
    """Return label maps `[N, S, S]` as the views show them: each place has the label of the nearest pixel."""
    return _sampled(labels[:, None].float(), views, "nearest", int(labels.shape[-1]))[:, 0].to(labels.dtype)


def _sampled(images: Tensor, views: Tensor, mode: str, side: int) -> Tensor:
    grid = functional.affine_grid(views.to(images), [*images.shape[:2], side, side], align_corners=False)
    return functional.grid_sample(images, grid, mode=mode, padding_mode="reflection", align_corners=False)
