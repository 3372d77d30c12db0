"""Statistics of the bands as features: what every backbone has to beat. They have no network and no parameters."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl4eo_bench.config.inputs import InputMapping
from ssl4eo_bench.models.preprocess import Preprocess
from ssl4eo_bench.models.resizing import resize

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
WINDOW = 5
"""Side of the window around a pixel, in pixels."""


class _ScaledBands(nn.Module):
    """Scales stored groups, each at its stored size."""

    def __init__(self, inputs: InputMapping, groups: Sequence[Sequence[str]], sizes: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.preprocess = nn.ModuleList()
        for group, size in zip(groups, sizes, strict=True):
            channels = tuple(channel for channel in inputs.channels if channel.source in group)
            self.preprocess.append(Preprocess(inputs.model_copy(update={"channels": channels}), [group], [size]))

    def scaled(self, groups: Sequence[Tensor]) -> list[Tensor]:
        """The scaled groups `[N, C_g, H_g, W_g]`."""
        return [scale(group) for scale, group in zip(self.preprocess, groups, strict=True)]


class BandStatistics(_ScaledBands):
    """From stored groups to mean, standard deviation and quantiles of every band."""

    def forward(self, *groups: Tensor) -> Tensor:
        """Features `[N, 7 · C]`: all means, all standard deviations, then the 5, 25, 50, 75 and 95 % quantiles."""
        bands = [group.flatten(2) for group in self.scaled(groups)]
        means = torch.cat([band.mean(dim=2) for band in bands], dim=1)
        deviations = torch.cat([band.std(dim=2, correction=0) for band in bands], dim=1)
        points = torch.tensor(QUANTILES, device=means.device)
        quantiles = torch.cat([torch.quantile(band, points, dim=2) for band in bands], dim=2)
        return torch.cat([means, deviations, *quantiles], dim=1)


class WindowStatistics(_ScaledBands):
    """From stored groups to mean and standard deviation of every band around each pixel of the finest bands."""

    def forward(self, *groups: Tensor) -> Tensor:
        """Features `[N, 2 · C, H, W]`: all means, then all standard deviations."""
        side = max(int(group.shape[-1]) for group in groups)
        statistics = [_window(bands) for bands in self.scaled(groups)]
        return torch.cat([resize(part, side) for kind in zip(*statistics, strict=True) for part in kind], dim=1)


def _window(bands: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation `[N, C, H, W]` in the part of the window around each pixel that is in the image."""
    centre = bands.mean(dim=(2, 3), keepdim=True)  # squares of raw values would leave float32 few digits
    shifted = bands - centre
    mean, square = (
        functional.avg_pool2d(part, WINDOW, stride=1, padding=WINDOW // 2, count_include_pad=False)
        for part in (shifted, shifted * shifted)
    )
    return mean + centre, (square - mean * mean).clamp_min(0.0).sqrt()
