"""The input contract as a module: stored pixels in, the backbone's input tensor out, on the device."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl4eo_bench.spec.inputs import InputMapping

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
        channels = inputs.channels
        # A filled channel takes any plane and multiplies it by zero.
        self._order = [order.index(c.source) if c.source else 0 for c in channels]
        self._register("gain", [c.gain if c.source else 0.0 for c in channels])
        self._register("offset", [c.offset for c in channels])
        self._register("post_gain", [c.post_gain for c in channels])
        self._register("post_offset", [c.post_offset for c in channels])
        self._bounds("valid", [c.valid for c in channels])
        self._bounds("clip", [c.clip for c in channels])
        levels = {c.levels for c in channels if c.source}
        self._levels = levels.pop() if len(levels) == 1 else None

    def _register(self, name: str, values: Sequence[float]) -> None:
        self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    def _bounds(self, name: str, bounds: Sequence[tuple[float | None, float | None]]) -> None:
        self._register(f"{name}_low", [-_FAR if low is None else low for low, _ in bounds])
        self._register(f"{name}_high", [_FAR if high is None else high for _, high in bounds])

    def forward(self, *groups: Tensor) -> Tensor:
        """Stored groups `[N, C_g, H_g, W_g]` of any number type to the input `[N, C, S, S]` in float32."""
        planes = [self._resize(number, group.float()) for number, group in enumerate(groups)]
        pixels = torch.cat(planes, dim=1) if len(planes) > 1 else planes[0]
        # Slices, not `index_select`: OpenVINO 2026.4 moves that one past the convolution behind it, wrongly.
        pixels = torch.cat([pixels[:, plane : plane + 1] for plane in self._order], dim=1)
        pixels = torch.minimum(torch.maximum(pixels, cast(Tensor, self.valid_low)), cast(Tensor, self.valid_high))
        scaled = pixels * cast(Tensor, self.gain) + cast(Tensor, self.offset)
        scaled = torch.minimum(torch.maximum(scaled, cast(Tensor, self.clip_low)), cast(Tensor, self.clip_high))
        if self._levels:
            scaled = torch.floor(scaled * self._levels) / self._levels
        return scaled * cast(Tensor, self.post_gain) + cast(Tensor, self.post_offset)

    def _resize(self, number: int, group: Tensor) -> Tensor:
        if not self._resized[number]:
            return group
        rows, columns = self.get_buffer(f"rows{number}"), self.get_buffer(f"columns{number}")
        return torch.matmul(rows, torch.matmul(group, columns))


def separate(
    inputs: InputMapping, groups: Sequence[Sequence[str]], sizes: Sequence[tuple[int, int]]
) -> list[Preprocess]:
    """One module for each stored group, for bands that stay at their stored size."""
    parts = []
    for group, size in zip(groups, sizes, strict=True):
        own = tuple(channel for channel in inputs.channels if channel.source in group)
        parts.append(Preprocess(inputs.model_copy(update={"channels": own}), [group], [size]))
    return parts


def resize_matrix(stored: int, wanted: int) -> Tensor:
    """The matrix `[wanted, stored]` of one-dimensional bicubic resizing with antialiasing (Pillow's kernel)."""
    identity = torch.eye(stored).view(1, 1, stored, stored)
    resized = functional.interpolate(identity, size=(wanted, stored), mode="bicubic", antialias=True)
    return resized[0, 0]
