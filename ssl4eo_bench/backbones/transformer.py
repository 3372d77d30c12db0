"""What the adapters of transformers have in common: bands by name, tokens as maps, layers, and what is not known.

They import it by a relative name: so its code is part of the digest of theirs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, timedelta

import torch
from torch import Tensor, nn

from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.models.plugin import Features, Inputs

EPOCH = date(1970, 1, 1)


def positions_of(modalities: Mapping[str, Sequence[str]], inputs: Inputs, model: str) -> dict[str, list[int]]:
    """The positions of a model's bands among the input channels, in the model's order, for each modality that is there.

    Args:
        modalities: the bands of each modality, in the model's order.
        inputs: with the channels, which are all bands of one or several modalities, in any order.
        model: its name, for the message.

    Raises:
        SpecError: if the channels are other bands.
    """
    chosen = {name: bands for name, bands in modalities.items() if set(bands) & set(inputs.bands)}
    if {band for bands in chosen.values() for band in bands} != set(inputs.bands):
        known = "; ".join(f"{name}: {', '.join(bands)}" for name, bands in modalities.items())
        raise SpecError(f"{model} cannot take the bands {', '.join(inputs.bands)}; list all of ({known}).")
    return {name: [inputs.bands.index(band) for band in bands] for name, bands in chosen.items()}


@contextmanager
def outputs_of(blocks: Iterable[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect what each of the blocks gives while the network runs inside the context."""
    found: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda *call: found.append(call[-1])) for block in blocks]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def as_maps(tokens: Iterable[Tensor], side: int) -> list[Tensor]:
    """The last `side²` of the tokens `[N, T, D]` of each block as a map `[N, D, side, side]`."""
    return [each[:, -side * side :].mT.reshape(len(each), -1, side, side) for each in tokens]


def layers_of(network: nn.Module, blocks: Iterable[nn.Module], *last: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of a network from input to output: what comes before its blocks, each block, what follows them."""
    later = [list(module.parameters()) for module in (*blocks, *last)]
    placed = {id(parameter) for layer in later for parameter in layer}
    return [[each for each in network.parameters() if id(each) not in placed], *later]


def load_part(network: nn.Module, state: Mapping[str, Tensor], prefix: str = "") -> None:
    """Give a network all its tensors from a file that holds more; `prefix` is what they begin with there."""
    network.load_state_dict({name: state[prefix + name] for name in network.state_dict()})


def by_unknown(unknown: Tensor, run: Callable[[Tensor], Features]) -> Features:
    """The features of a batch for a network that can leave a fact out only for all images that it gets.

    Args:
        unknown: which facts are not known of each image, `[N, K]`.
        run: gives the features of the images with these positions, of which the same facts are known.
    """
    _, kind = torch.unique(unknown, dim=0, return_inverse=True)
    rows = [(kind == number).nonzero()[:, 0] for number in torch.unique(kind)]
    parts = [run(each) for each in rows]
    back = torch.cat(rows).argsort()

    def together(tensors: Iterable[Tensor | None]) -> Tensor:
        return torch.cat([tensor for tensor in tensors if tensor is not None])[back]

    return Features(
        pooled=together(part.pooled for part in parts),
        cls=None if parts[0].cls is None else together(part.cls for part in parts),
        maps=[together(maps) for maps in zip(*(part.maps for part in parts), strict=True)],
    )


def dates_of(days: Tensor) -> list[date]:
    """The dates that lie so many days after 1970-01-01."""
    return [EPOCH + timedelta(days=int(day)) for day in days.tolist()]
