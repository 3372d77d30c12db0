"""From the tensors of a weight file to those of a network, with the proof that all of them are the right ones.

A layout says which tensors of a file are the backbone's and what else may be there. Every tensor of the network must
come from the file, in its shape, and everything in the file must be the network's or expected beside it. There are two
exceptions: constants that a layout defines, and the step counters of BatchNorm, which files from before PyTorch 0.4.1
do not have and frozen networks do not read.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ssl4eo_bench.config.layouts import CLAIMED, DETECTED, LAYOUTS, Layout, unwrapped
from ssl4eo_bench.config.weights import AUTO, BY_ORDER
from ssl4eo_bench.errors import WeightsError, shortlist
from ssl4eo_bench.models.timm_model import classifier_prefixes, resize_positions
from ssl4eo_bench.models.weight_reader import State

COUNTER = "num_batches_tracked"
SHOWN = 3
"""Names of each kind that a message lists."""

PATIENCE = 30.0
"""Seconds for the renames of a layout."""


@dataclass(frozen=True)
class Reading:
    """A dict of tensors in a file, read by a layout and compared with what a network needs.

    Attributes:
        state: the tensors that the layout takes for the backbone's, by the network's names.
        ignored: names in the file that the layout expects beside the backbone.
        missing: tensors of the network that neither the file nor the layout gives.
        unexpected: names in the file that are neither the network's nor expected beside it.
        mismatched: tensors of another shape than the network's, with both shapes.
        fitting: the number of tensors with the name and the shape of one of the network's.
        constants: names of the network that the layout fills.
        resized: position embeddings before and after, if they were resized.
    """

    name: str
    layout: Layout
    key: str
    state: State
    ignored: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()
    fitting: int = 0
    constants: tuple[str, ...] = ()
    resized: str | None = None

    def __str__(self) -> str:
        """What was loaded, as half a sentence."""
        beside = f", {len(self.ignored)} others not needed" if self.ignored else ""
        filled = f", {', '.join(self.constants)} filled" if self.constants else ""
        resized = f", position embeddings resized from {self.resized}" if self.resized else ""
        return f"{len(self.state)} tensors, layout {self.name}{self.place}{beside}{filled}{resized}"

    @property
    def place(self) -> str:
        """Where in the file it is, as part of a sentence."""
        return f" under {self.key!r}" if self.key else ""

    @property
    def fits(self) -> bool:
        """Whether it gives all tensors of the network, and nothing that is not expected."""
        return not (self.missing or self.unexpected or self.mismatched)

    @property
    def faults(self) -> str:
        """What keeps it from fitting."""
        kinds = {"missing": self.missing, "without a place": self.unexpected, "of another shape": self.mismatched}
        return "; ".join(f"{what}: {shortlist(names, at_most=SHOWN)}" for what, names in kinds.items() if names)


def load(
    content: Mapping[str, State],
    network: nn.Module,
    choice: str | Layout,
    checkpoint: str,
    *,
    resize_pos_embed: bool = False,
) -> Reading:
    """The reading of a weight file that gives a network its tensors: `state` has all but the classifier's.

    Args:
        content: the dicts of tensors in the file, as `read_weights` gives them.
        network: a timm model with its classifier; its names and shapes count, not its values.
        choice: the layout, by name or written out, or how to find it.
        checkpoint: for messages.
        resize_pos_embed: resize position embeddings of another number of patches.

    Raises:
        WeightsError: if the file does not hold the network in that layout, or in any, to the last tensor.
    """
    if choice == BY_ORDER:
        return _by_order(content, network, checkpoint)
    if isinstance(choice, Layout):
        layouts = {"of the entry": choice}
    else:
        layouts = DETECTED if choice == AUTO else {choice: LAYOUTS[choice]}
    readings = read_by(content, layouts, detecting=choice == AUTO)
    if resize_pos_embed:
        readings = [_with_resized_positions(reading, network) for reading in readings]
    found = _choose([compared(reading, network) for reading in readings], checkpoint)
    if not found.fits:
        how = f"{'the closest layout is' if choice == AUTO else 'read as layout'} {found.name}{found.place}"
        prefix = _prefix(found)
        layout = f" (perhaps `layout: {{prefix: {prefix}}}`)" if prefix else ""
        raise WeightsError(
            f"the weights of checkpoint {checkpoint!r} do not fit its architecture, {how} ({found.faults}): correct "
            f"the architecture, the bands, or the layout of the entry{layout}; `ssl4eo-bench checkpoint inspect FILE` "
            "shows what is in the file."
        )
    return _completed(found, network, checkpoint)


def _prefix(reading: Reading) -> str:
    """What stands before the names of all missing tensors in the file; empty if nothing does."""
    first = next(iter(reading.missing), "")
    found = [name.removesuffix(first) for name in reading.unexpected if first and name.endswith(f".{first}")]
    there = set(reading.unexpected)
    return next((prefix for prefix in found if there >= {prefix + name for name in reading.missing}), "")


def read_by(content: Mapping[str, State], layouts: Mapping[str, Layout], *, detecting: bool) -> list[Reading]:
    """A file read by layouts, in their order, for each dict that a layout may mean.

    Detection leaves out what shows nothing of a layout, and looks under all keys.
    """
    read = []
    for name, layout in layouts.items():
        for key in _keys(content, layout, detecting=detecting):
            names = unwrapped(content[key])
            if not detecting or layout.is_marked(names):
                read.append(_read(content[key], names, Reading(name, layout, key, {})))
    return read


def _read(tensors: State, names: Mapping[str, str], reading: Reading) -> Reading:
    """A reading with the tensors of its dict; `names` are those in the file by the names without wrappers."""
    state: State = {}
    ignored: list[str] = []
    unexpected: list[str] = []
    started = time.monotonic()
    for bare, original in names.items():
        if time.monotonic() - started > PATIENCE:
            raise WeightsError(f"the renames of layout {reading.name!r} take too long; write simpler ones.")
        name = reading.layout.backbone_name(bare)
        if name is not None and name not in state:  # two of one name cannot both be right
            state[name] = tensors[original]
        else:
            (ignored if name is None and reading.layout.is_leftover(bare) else unexpected).append(original)
    return replace(reading, state=state, ignored=tuple(ignored), unexpected=tuple(unexpected))


def _keys(content: Mapping[str, State], layout: Layout, *, detecting: bool) -> list[str]:
    """The keys of the dicts that a layout may mean.

    A key that is looked for first would hide other copies of the backbone (`model` its average `model_ema`), and
    detection must not choose among copies.
    """
    if not layout.keys:
        return list(content)
    if detecting and "" in layout.keys:
        return [key for key in content if key in layout.keys or key not in CLAIMED]
    return [key for key in layout.keys if key in content][:1]


def compared(reading: Reading, network: nn.Module) -> Reading:
    """A reading with what is missing, unexpected and mismatched in it for a network with its classifier."""
    heads = classifier_prefixes(network)
    wanted = {name: tensor.shape for name, tensor in network.state_dict().items()}
    state, constants = reading.state, reading.layout.constants
    given = {*state, *constants}
    if not any(name.endswith(COUNTER) for name in state):
        given |= {name for name in wanted if name.endswith(COUNTER)}
    both = [name for name in state if name in wanted and not name.startswith(heads)]
    mismatched = [name for name in both if state[name].shape != wanted[name]]
    unexpected = [n for n in dict.fromkeys((*state, *constants)) if n not in wanted and not n.startswith(heads)]
    return replace(
        reading,
        missing=tuple(name for name in wanted if name not in given and not name.startswith(heads)),
        unexpected=(*unexpected, *reading.unexpected),
        mismatched=tuple(f"{name} {tuple(state[name].shape)} instead of {tuple(wanted[name])}" for name in mismatched),
        fitting=len(both) - len(mismatched),
    )


def _choose(found: Sequence[Reading], checkpoint: str) -> Reading:
    """The reading that fits, or the one that comes closest.

    Several may fit if they give the same tensors; otherwise nothing says which of them is meant.
    """
    if not found:
        raise WeightsError(
            f"the weights of checkpoint {checkpoint!r} are not in its layout: the file has no dict of that key; "
            "`ssl4eo-bench checkpoint inspect FILE` shows what is in it."
        )
    fitting = [reading for reading in found if reading.fits]
    if not fitting:
        return max(found, key=lambda reading: (reading.fitting, -len(reading.unexpected)))
    if any(not _equal(fitting[0].state, other.state) for other in fitting[1:]):
        copies = " and ".join(f"{reading.key!r} as layout {reading.name}" for reading in fitting)
        raise WeightsError(
            f"the weights of checkpoint {checkpoint!r} are there more than once: under {copies}; say which is meant "
            "with `layout: NAME` or `layout: {keys: [KEY]}`; `ssl4eo-bench checkpoint inspect FILE` writes each out."
        )
    return fitting[0]


def _equal(one: State, other: State) -> bool:
    def same(tensor: Tensor, copy: Tensor) -> bool:
        comparable = tensor.dtype == copy.dtype and tensor.layout == copy.layout == torch.strided
        return tensor is copy or (comparable and torch.equal(tensor, copy))

    return one.keys() == other.keys() and all(same(tensor, other[name]) for name, tensor in one.items())


def _completed(found: Reading, network: nn.Module, checkpoint: str) -> Reading:
    """A reading that fits, with the tensors that its layout and PyTorch define, in the number types of the network."""
    heads, wanted = classifier_prefixes(network), network.state_dict()
    constants = {
        name: torch.full(wanted[name].shape, value)
        for name, value in found.layout.constants.items()
        if name not in found.state
    }
    counters = {name: torch.zeros((), dtype=torch.long) for name in wanted if name.endswith(COUNTER)}
    state = counters | constants | found.state
    usable = {
        name: _usable(name, state[name], tensor, checkpoint)
        for name, tensor in wanted.items()
        if not name.startswith(heads)
    }
    return replace(found, state=usable, constants=tuple(constants))


def _usable(name: str, tensor: Tensor, wanted: Tensor, checkpoint: str) -> Tensor:
    """A tensor in the number type of the network."""
    plain = tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_complex()
    if not plain or tensor.is_floating_point() != wanted.is_floating_point():
        raise WeightsError(
            f"tensor {name} in the weights of checkpoint {checkpoint!r} is {tensor.dtype} ({tensor.layout}), not dense "
            f"{wanted.dtype}; save the backbone's `state_dict()` in float32."
        )
    values = tensor.detach().to(wanted.dtype)  # first: what is finite in float64 may not be in float32
    total = values.sum(dtype=torch.float64) if values.is_floating_point() else values.new_zeros(())
    if not (torch.isfinite(total) or torch.isfinite(values).all()):  # to look at the sum alone is much faster
        raise WeightsError(
            f"tensor {name} in the weights of checkpoint {checkpoint!r} is not finite in {wanted.dtype}: the training "
            "it comes from failed, or the file is damaged; use another file."
        )
    return values


def _with_resized_positions(reading: Reading, network: nn.Module) -> Reading:
    """A reading with absolute position embeddings for the network's grid of patches."""
    tensor, wanted = reading.state.get("pos_embed"), network.state_dict().get("pos_embed")
    if tensor is None or wanted is None or tensor.shape == wanted.shape:
        return reading
    dense = tensor.layout == torch.strided and tensor.is_floating_point()
    if not dense or not tensor.ndim == wanted.ndim == 3 or tensor.shape[::2] != wanted.shape[::2]:
        return reading  # not a list of numbers for each token, as many as the network has for each
    resized = resize_positions(network, tensor, wanted.shape[1])
    if resized is None:
        return reading
    return replace(reading, state=reading.state | {"pos_embed": resized[0]}, resized=resized[1])


def _by_order(content: Mapping[str, State], network: nn.Module, checkpoint: str) -> Reading:
    """The file's tensors under the network's names, paired by position.

    Position alone would confuse tensors of one shape, so the last part of each name (weight, bias, running_mean, …)
    and the shape must agree, too.
    """
    key, state = next(iter(content.items()))
    expected, heads = network.state_dict(), classifier_prefixes(network)
    for (given, tensor), (name, wanted) in zip(state.items(), expected.items(), strict=False):
        if given.rpartition(".")[2] != name.rpartition(".")[2] or tensor.shape != wanted.shape:
            raise WeightsError(
                f"the weights of checkpoint {checkpoint!r} do not follow timm's order: {given} {tuple(tensor.shape)} "
                f"stands where {name} {tuple(wanted.shape)} is expected; choose another layout."
            )
    if len(state) != len(expected) or len(content) > 1:
        raise WeightsError(
            f"the weights of checkpoint {checkpoint!r} hold {sum(map(len, content.values()))} tensors, but the "
            f"architecture has {len(expected)}; choose another architecture or layout."
        )
    usable = {
        name: _usable(name, tensor, wanted, checkpoint)
        for (name, wanted), tensor in zip(expected.items(), state.values(), strict=True)
        if not name.startswith(heads)
    }
    return Reading(BY_ORDER, Layout(), key, usable)
