"""The input contract as a module: from stored pixels to the scaled images that a backbone takes, on the device."""

import math
from collections.abc import Sequence
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn

from ssl4eo_bench.config.inputs import Channel, InputMapping
from ssl4eo_bench.models.resizing import resize_matrix

_FAR = 3e38
"""Stands for an infinite bound in float32."""


class Preprocess(nn.Module):
    """Resizes each group of bands once, straight to the input size, then scales channel by channel."""

    def __init__(self, inputs: InputMapping, groups: Sequence[Sequence[str]], sizes: Sequence[tuple[int, int]]) -> None:
        """Prepare for stored groups of these bands and sizes `(H, W)`."""
        super().__init__()
        size = inputs.image_size
        self._resized = [size != "native" and (size, size) != stored for stored in sizes]
        for number, stored in enumerate(sizes):
            if self._resized[number]:
                rows, columns = (resize_matrix(length, cast(int, size), "bicubic") for length in stored)
                self.register_buffer(f"rows{number}", rows, persistent=False)
                self.register_buffer(f"columns{number}", columns.T, persistent=False)
        order = [band for group in groups for band in group]
        # A filled channel takes any plane and multiplies it by zero.
        self._order = [order.index(c.source) if c.source else 0 for c in inputs.channels]
        self._scale = _scaling(inputs.channels)

    def forward(self, *groups: Tensor) -> Tensor:
        """Stored groups `[N, C_g, H_g, W_g]` of any number type to scaled images `[N, C, S, S]` in float32.

        Also under autocast: in bfloat16, pixels of 12 bits would lose four of them before their mean is subtracted.
        """
        if torch.is_autocast_enabled(groups[0].device.type):
            with torch.autocast(groups[0].device.type, enabled=False):
                return self._prepared(groups)
        return self._prepared(groups)

    def _prepared(self, groups: tuple[Tensor, ...]) -> Tensor:
        if len(groups) == 1:  # in order first: there are fewer pixels to copy
            pixels = self._resize(0, self._arrange(groups[0]).float())
        else:
            planes = [self._resize(number, group.float()) for number, group in enumerate(groups)]
            pixels = self._arrange(torch.cat(planes, dim=1))
        scaled: Tensor = self._scale(pixels)
        return scaled

    def _arrange(self, planes: Tensor) -> Tensor:
        """The plane of each channel, in the order of the channels."""
        if self._order == list(range(planes.shape[1])):
            return planes
        # Slices, not `index_select`: OpenVINO 2026.4 moves that one past the convolution behind it, wrongly.
        return torch.cat([planes[:, plane : plane + 1] for plane in self._order], dim=1)

    def _resize(self, number: int, group: Tensor) -> Tensor:
        if not self._resized[number]:
            return group
        rows, columns = self.get_buffer(f"rows{number}"), self.get_buffer(f"columns{number}")
        return torch.matmul(rows, torch.matmul(group, columns))


class _Step(nn.Module):
    """Clips each channel, cuts its values down to multiples of `1 / levels` if asked, multiplies and adds."""

    def __init__(
        self,
        bounds: Sequence[tuple[float, float]],
        gains: Sequence[float],
        offsets: Sequence[float],
        levels: Sequence[int | None] = (),
    ) -> None:
        super().__init__()
        lows, highs = zip(*bounds, strict=True)
        # Every pass over the images takes time, with a small backbone a few per cent of the total: none without effect.
        self._bounded = (max(lows) > -math.inf, min(highs) < math.inf)
        # Channels of another sensor may not be quantised: their values stay as they are.
        self._levels = next((level for level in levels if level), None)
        self._mixed = bool(self._levels) and not all(levels)
        if self._mixed:
            self.register_buffer(
                "quantised", torch.tensor([bool(level) for level in levels]).view(-1, 1, 1), persistent=False
            )
        for name, values in (("low", lows), ("high", highs), ("gain", gains), ("offset", offsets)):
            column = torch.tensor(values).clamp(-_FAR, _FAR).view(-1, 1, 1)
            self.register_buffer(name, column, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Scaled pixels `[N, C, H, W]`."""
        if self._bounded[0]:
            pixels = torch.maximum(pixels, self.get_buffer("low"))
        if self._bounded[1]:
            pixels = torch.minimum(pixels, self.get_buffer("high"))
        if self._levels:
            quantised = torch.floor(pixels * self._levels) / self._levels
            pixels = torch.where(self.get_buffer("quantised"), quantised, pixels) if self._mixed else quantised
        return pixels * self.get_buffer("gain") + self.get_buffer("offset")


def _scaling(channels: Sequence[Channel]) -> nn.Module:
    """The scaling of resized pixels that the channels ask for; where they do not quantise, one step instead of two."""
    gains = [c.gain if c.source else 0.0 for c in channels]
    if quantised := {c.levels for c in channels if c.levels}:
        levels = [c.levels if c.source else max(quantised) for c in channels]
        return nn.Sequential(
            _Step([_bounds(c.valid) for c in channels], gains, [c.offset for c in channels]),
            _Step(
                [_bounds(c.clip) for c in channels],
                [c.post_gain for c in channels],
                [c.post_offset for c in channels],
                levels,
            ),
        )
    bounds = []
    for c in channels:
        (low, high), scaled = _bounds(c.valid), _bounds(c.clip)
        before = [(bound - c.offset) / c.gain for bound in scaled]
        bounds.append((max(low, before[0]), min(high, before[1])))
    return _Step(
        bounds,
        [c.post_gain * gain for c, gain in zip(channels, gains, strict=True)],
        [c.post_gain * c.offset + c.post_offset for c in channels],
    )


def _bounds(bounds: tuple[float | None, float | None]) -> tuple[float, float]:
    """The lower and the upper bound; infinite where there is none."""
    low, high = bounds
    return -math.inf if low is None else low, math.inf if high is None else high


def split_meta(groups: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor | None]:
    """Stored groups, and place and date `[N, 3]` of their samples, which come last where a backbone reads them."""
    return (groups[:-1], groups[-1]) if groups[-1].ndim == 2 else (groups, None)


def split_preprocess(module: nn.Module) -> tuple[Preprocess, nn.Module]:
    """The one `Preprocess` inside a module, and a copy of the module that takes scaled images instead."""
    ((name, preprocess),) = ((name, part) for name, part in module.named_modules() if isinstance(part, Preprocess))
    rest = deepcopy(module)
    parent, _, attribute = name.rpartition(".")
    setattr(rest.get_submodule(parent), attribute, nn.Identity())
    return preprocess, rest
