"""Galileo (Tseng et al., ICML 2025, arXiv:2502.09356) on Sentinel-2: a class whose weights load strictly by name.

The released encoder takes many modalities; this part of it takes the ten bands that it knows of Sentinel-2. The tensors
of the others are the `leftovers` of the entry's layout, so nothing else can be missing or in excess.
"""

import math
from datetime import UTC, datetime

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl4eo_bench import Features, Inputs, Meta

GROUPS = {
    "S2_RGB": (1, ("B02", "B03", "B04")),
    "S2_Red_Edge": (2, ("B05", "B06", "B07")),
    "S2_NIR_10m": (3, ("B08",)),
    "S2_NIR_20m": (4, ("B8A",)),
    "S2_SWIR": (5, ("B11", "B12")),
}
"""Bands that share a token, and the row of their channel embedding."""

PATCH = 8
"""Side of a token in pixels, which are of 10 m."""

JUNE = 5
"""The month, counted from 0, that the reference code takes where none is known."""


class Galileo(nn.Module):
    """One token for each group of bands and patch; the feature is the mean of all tokens."""

    reads = ("date",)

    def __init__(self, inputs: Inputs, width: int = 128, depth: int = 4, heads: int = 8) -> None:
        super().__init__()
        if missing := {band for _, bands in GROUPS.values() for band in bands} ^ set(inputs.bands):
            raise ValueError(f"Galileo takes B02 to B08, B8A, B11 and B12, each once; look at {', '.join(missing)}")
        self._positions = {name: [inputs.bands.index(band) for band in bands] for name, (_, bands) in GROUPS.items()}
        self._quarter = width // 4
        self.space_time_embed = nn.ModuleDict(
            {
                name: nn.ModuleDict({"proj": nn.Conv2d(len(bands), width, PATCH, PATCH)})
                for name, (_, bands) in GROUPS.items()
            }
        )
        self.s_t_channel_embed = nn.Parameter(torch.zeros(7, self._quarter))
        self.pos_embed = nn.Parameter(_waves(torch.arange(24.0), self._quarter), requires_grad=False)
        self.month_embed = nn.Embedding.from_pretrained(_months(self._quarter))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor, meta: Meta) -> Features:
        """The features of images, with the mean of the tokens of each place as a map."""
        planes = [self.space_time_embed[name]["proj"](images[:, where]) for name, where in self._positions.items()]
        tokens = torch.stack(planes, dim=-1).permute(0, 2, 3, 4, 1)  # [N, h, w, groups, width]
        count, height, width, groups, _ = tokens.shape
        shape = (count, height, width, groups, self._quarter)
        channel = self.s_t_channel_embed[[row for row, _ in GROUPS.values()]]
        month = self.month_embed(_month(meta.date))[:, None, None, None]
        place = _places(height, self._quarter).to(images).reshape(1, height, width, 1, -1)
        told = [part.expand(shape) for part in (channel, self.pos_embed[0], month, place)]
        x = (tokens + torch.cat(told, dim=-1)).flatten(1, 3)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        by_place = x.reshape(count, height, width, groups, -1).mean(dim=3)
        return Features(x.mean(dim=1), maps=[by_place.permute(0, 3, 1, 2)])

    def layers(self) -> list[list[nn.Parameter]]:
        """The parameters from input to output."""
        first = [*self.space_time_embed.parameters(), self.s_t_channel_embed]
        return [first, *(list(block.parameters()) for block in self.blocks), list(self.norm.parameters())]


class Block(nn.Module):
    """A block of a transformer, its norms first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor) -> Tensor:
        """The tokens `[N, T, D]` after attention and the feed-forward network."""
        x = x + self.attn(self.norm1(x))
        hidden = functional.gelu(self.mlp["fc1"](self.norm2(x)))
        found: Tensor = x + self.mlp["fc2"](hidden)
        return found


class Attention(nn.Module):
    """Self-attention with separate projections, as the released file has them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.q, self.k, self.v, self.proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """The tokens `[N, T, D]` after attention."""
        q, k, v = (part(x).unflatten(-1, (self._heads, -1)).transpose(1, 2) for part in (self.q, self.k, self.v))
        found: Tensor = self.proj(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return found


def _month(days: Tensor) -> Tensor:
    """The months, counted from 0, of days since 1970-01-01."""
    months = [JUNE if math.isnan(day) else datetime.fromtimestamp(86400 * day, UTC).month - 1 for day in days.tolist()]
    return torch.tensor(months, device=days.device)


def _waves(positions: Tensor, width: int) -> Tensor:
    """Sines, then cosines of positions `[M]` at falling frequencies, `[M, width]`."""
    frequencies = 10000.0 ** -(torch.arange(width // 2) / width / 2)  # a slower fall than usual: that of the release
    angles = positions[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _months(width: int) -> Tensor:
    """The sine of the season, then its cosine, `[12, width]`."""
    angles = torch.arange(12.0)[:, None] * (2 * math.pi / 12)
    return torch.cat([angles.sin().expand(-1, width // 2), angles.cos().expand(-1, width // 2)], dim=1)


def _places(side: int, width: int) -> Tensor:
    """Waves of column, then row, in pixels of 10 m: `[side², width]`, row by row."""
    steps = PATCH * torch.arange(float(side))
    rows, columns = steps.repeat_interleave(side), steps.repeat(side)
    return torch.cat([_waves(columns, width // 2), _waves(rows, width // 2)], dim=1)
