"""The input contract as a module: stored pixels in, the backbone's input tensor out, on the device."""

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl4eo_bench.config.inputs import Channel, InputMapping

_FAR = 3e38  # stands for "no bound" in float32


class Preprocess(nn.Module):
    """Resizes each resolution group once, straight to the input size, then scales channel by channel.

    Bicubic resizing is linear and separable, so it is two small matrix products. They give the same numbers on every
    device and in every runtime, which the resize kernels of these do not.
    """

    def __init__(self, inputs: InputMapping, groups: Sequence[Sequence[str]], sizes: Sequence[tuple[int, int]]) -> None:
        """Prepare for stored groups of these bands and sizes `(H, W)`."""
        super().__init__()
        size = inputs.image_size
        self._resized = [size != "native" and (size, size) != stored for stored in sizes]
        for number, (height, width) in enumerate(sizes):
            if self._resized[number]:
                self.register_buffer(f"rows{number}", resize_matrix(height, cast(int, size)), persistent=False)
                self.register_buffer(f"columns{number}", resize_matrix(width, cast(int, size)).T, persistent=False)
        order = [band for group in groups for band in group]
        # A filled channel takes any plane and multiplies it by zero.
        self._order = [order.index(c.source) if c.source else 0 for c in inputs.channels]
        self._scale = _scaling(inputs.channels)

    def forward(self, *groups: Tensor) -> Tensor:
        """Stored groups `[N, C_g, H_g, W_g]` of any number type to the input `[N, C, S, S]` in float32.

        Also under autocast: pixels of 12 bits would lose four of them in bfloat16 before their mean is taken off.
        """
        if torch.is_autocast_enabled(groups[0].device.type):
            with torch.autocast(groups[0].device.type, enabled=False):
                return self._prepared(groups)
        return self._prepared(groups)

    def _prepared(self, groups: tuple[Tensor, ...]) -> Tensor:
        if len(groups) == 1:  # the fewer pixels are put in order, the better
            pixels = self._resize(0, self._arrange(groups[0]).float())
        else:
            planes = [self._resize(number, group.float()) for number, group in enumerate(groups)]
            pixels = self._arrange(torch.cat(planes, dim=1))
        scaled: Tensor = self._scale(pixels)
        return scaled

    def _arrange(self, planes: Tensor) -> Tensor:
        """The plane of each channel."""
        if self._order == list(range(planes.shape[1])):
            return planes
        # Slices, not `index_select`: OpenVINO 2026.4 moves that one past the convolution behind it, wrongly.
        return torch.cat([planes[:, plane : plane + 1] for plane in self._order], dim=1)

    def _resize(self, number: int, group: Tensor) -> Tensor:
        if not self._resized[number]:
            return group
        rows, columns = self.get_buffer(f"rows{number}"), self.get_buffer(f"columns{number}")
        return torch.matmul(rows, torch.matmul(group, columns))


class _Clip(nn.Module):
    """Clips each channel to bounds of its own."""

    def __init__(self, lows: Sequence[float], highs: Sequence[float]) -> None:
        super().__init__()
        # Every pass over the images costs, with a small backbone a few per cent of the whole: none that does nothing.
        self._bounded = (max(lows) > -math.inf, min(highs) < math.inf)
        self.register_buffer("low", _column(lows), persistent=False)
        self.register_buffer("high", _column(highs), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Of pixels `[N, C, H, W]`."""
        if self._bounded[0]:
            pixels = torch.maximum(pixels, self.get_buffer("low"))
        if self._bounded[1]:
            pixels = torch.minimum(pixels, self.get_buffer("high"))
        return pixels


class _Affine(nn.Module):
    """Multiplies each channel by a gain of its own and adds an offset."""

    def __init__(self, gains: Sequence[float], offsets: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("gain", _column(gains), persistent=False)
        self.register_buffer("offset", _column(offsets), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Of pixels `[N, C, H, W]`."""
        return pixels * self.get_buffer("gain") + self.get_buffer("offset")


class _Quantise(nn.Module):
    """Cuts values down to whole multiples of `1 / levels`."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self._levels = levels

    def forward(self, values: Tensor) -> Tensor:
        """Of any shape."""
        return torch.floor(values * self._levels) / self._levels


def _scaling(channels: Sequence[Channel]) -> nn.Sequential:
    """What the channels say of resized pixels; where they do not quantise, in two steps instead of four."""
    gains = [c.gain if c.source else 0.0 for c in channels]
    levels = {c.levels for c in channels if c.source and c.levels}
    if levels:
        return nn.Sequential(
            _Clip(*_bounds(channels, lambda c: c.valid)),
            _Affine(gains, [c.offset for c in channels]),
            _Clip(*_bounds(channels, lambda c: c.clip)),
            _Quantise(levels.pop()),
            _Affine([c.post_gain for c in channels], [c.post_offset for c in channels]),
        )
    lows, highs = _bounds(channels, lambda c: c.valid)
    scaled_lows, scaled_highs = _bounds(channels, lambda c: c.clip)
    return nn.Sequential(
        _Clip(
            [max(low, (bound - c.offset) / c.gain) for low, bound, c in zip(lows, scaled_lows, channels, strict=True)],
            [
                min(high, (bound - c.offset) / c.gain)
                for high, bound, c in zip(highs, scaled_highs, channels, strict=True)
            ],
        ),
        _Affine(
            [c.post_gain * gain for c, gain in zip(channels, gains, strict=True)],
            [c.post_gain * c.offset + c.post_offset for c in channels],
        ),
    )


def _bounds(
    channels: Sequence[Channel], which: Callable[[Channel], tuple[float | None, float | None]]
) -> tuple[list[float], list[float]]:
    """The lower and the upper bounds of channels; infinite where there is none."""
    bounds = [which(channel) for channel in channels]
    return [-math.inf if low is None else low for low, _ in bounds], [
        math.inf if high is None else high for _, high in bounds
    ]


def _column(values: Sequence[float]) -> Tensor:
    """A value for each channel, to compute with pixels; bounds that are infinite are far instead."""
    return torch.tensor(values).clamp(-_FAR, _FAR).view(-1, 1, 1)


def separate(
    inputs: InputMapping, groups: Sequence[Sequence[str]], sizes: Sequence[tuple[int, int]]
) -> list[Preprocess]:
    """One module for each stored group, for bands that stay at their stored size."""
    parts = []
    for group, size in zip(groups, sizes, strict=True):
        own = tuple(channel for channel in inputs.channels if channel.source in group)
        parts.append(Preprocess(inputs.model_copy(update={"channels": own}), [group], [size]))
    return parts


def apart(module: nn.Module) -> tuple[Preprocess, nn.Module]:
    """The one input contract inside a module, and a copy of the module that takes what that gives."""
    ((name, scale),) = ((name, part) for name, part in module.named_modules() if isinstance(part, Preprocess))
    behind = deepcopy(module)
    parent, _, own = name.rpartition(".")
    setattr(behind.get_submodule(parent), own, nn.Identity())
    return scale, behind


def resize_matrix(stored: int, wanted: int) -> Tensor:
    """The matrix `[wanted, stored]` of one-dimensional bicubic resizing with antialiasing (Pillow's kernel)."""
    identity = torch.eye(stored).view(1, 1, stored, stored)
    resized = functional.interpolate(identity, size=(wanted, stored), mode="bicubic", antialias=True)
    return resized[0, 0]
