"""From the tensors of a weight file to those of a module, with the proof that all of them are the right ones.

A layout says which tensors of a file are the backbone's and what else may be there. Every tensor of the module must
come from the file, in its shape, and everything in the file must be the module's or expected beside it. There are two
exceptions: constants that a layout defines, and the step counters of BatchNorm, which files from before PyTorch 0.4.1
do not have and frozen networks do not read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isqrt
from typing import Any, cast

import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from ssl4eo_bench.config.layouts import CLAIMED, DETECTED, LAYOUTS, Layout, unwrapped
from ssl4eo_bench.config.weights import AUTO, BY_ORDER
from ssl4eo_bench.errors import WeightsError, shortlist
from ssl4eo_bench.models.weight_reader import State

COUNTER = "num_batches_tracked"
SHOWN = 3


@dataclass(frozen=True)
class Loaded:
    """The tensors of a module, and how they were found.

    Attributes:
        state: by the module's names, all of them but the classifier's.
        layout: name of the layout.
        key: of the dict in the file that held them.
        leftovers: names in that dict that the layout expects and a backbone does not need.
        constants: names of the module that the layout fills.
        resized: position embeddings before and after, if they were resized.
    """

    state: State
    layout: str
    key: str
    leftovers: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    resized: str | None = None

    def __str__(self) -> str:
        """What was loaded, in half a sentence."""
        place = f" under {self.key!r}" if self.key else ""
        beside = f", {len(self.leftovers)} others not needed" if self.leftovers else ""
        filled = f", {', '.join(self.constants)} filled" if self.constants else ""
        resized = f", position embeddings resized from {self.resized}" if self.resized else ""
        return f"{len(self.state)} tensors, layout {self.layout}{place}{beside}{filled}{resized}"


@dataclass(frozen=True)
class Reading:
    """A dict of a file, read by a layout, beside what a module wants.

    Attributes:
        name: of the layout.
        layout: it.
        key: of the dict.
        state: the tensors that the layout takes for the backbone's, by the module's names.
        leftovers: names in the file that the layout expects beside the backbone.
        missing: tensors that the module wants and nothing gives.
        homeless: names in the file that are neither the module's nor expected.
        misshapen: tensors of another shape than the module's, with both shapes.
        fitting: how many tensors have the name and the shape of one of the module's.
        resized: position embeddings before and after, if they were resized.
    """

    name: str
    layout: Layout
    key: str
    state: State
    leftovers: tuple[str, ...]
    missing: tuple[str, ...] = ()
    homeless: tuple[str, ...] = ()
    misshapen: tuple[str, ...] = ()
    fitting: int = 0
    resized: str | None = None

    @property
    def fits(self) -> bool:
        """Whether it gives the module, no more and no less."""
        return not (self.missing or self.homeless or self.misshapen)

    @property
    def faults(self) -> str:
        """What keeps it from that."""
        kinds = {"missing": self.missing, "without a place": self.homeless, "of another shape": self.misshapen}
        return "; ".join(f"{what}: {shortlist(names, at_most=SHOWN)}" for what, names in kinds.items() if names)


def load(
    content: Mapping[str, State],
    module: nn.Module,
    choice: str | Layout,
    checkpoint: str,
    *,
    resize_pos_embed: bool = False,
) -> Loaded:
    """The state of a module from a weight file.

    Args:
        content: the dicts of tensors in the file, as `read_weights` gives them.
        module: a timm model with its classifier, whose names and shapes count, not its values.
        choice: the layout, by name or written out, or how to find it.
        checkpoint: for messages.
        resize_pos_embed: resize position embeddings of another number of patches.

    Raises:
        WeightsError: if the file does not hold the module in that layout, or in any, to the last tensor.
    """
    if choice == BY_ORDER:
        return _by_order(content, module, checkpoint)
    found = _choose(readings(content, module, choice, resize_pos_embed=resize_pos_embed), checkpoint)
    if not found.fits:
        raise WeightsError(_misfit(found, checkpoint, detected=choice == AUTO))
    wanted = module.state_dict()
    constants = {
        name: torch.full(wanted[name].shape, value)
        for name, value in found.layout.constants.items()
        if name not in found.state
    }
    counters = {name: torch.zeros((), dtype=torch.long) for name in wanted if name.endswith(COUNTER)}
    state = counters | constants | {name: tensor for name, tensor in found.state.items() if name in wanted}
    heads = classifier(module)
    return Loaded(
        state={name: _usable(name, state[name], wanted[name], checkpoint) for name in wanted if not _in(name, heads)},
        layout=found.name,
        key=found.key,
        leftovers=found.leftovers,
        constants=tuple(constants),
        resized=found.resized,
    )


def readings(
    content: Mapping[str, State], module: nn.Module, choice: str | Layout, *, resize_pos_embed: bool = False
) -> list[Reading]:
    """A file read by every layout that it may have, in the order of `LAYOUTS`, beside what a module wants."""
    if isinstance(choice, Layout):
        layouts = {"of the entry": choice}
    else:
        layouts = DETECTED if choice == AUTO else {choice: LAYOUTS[choice]}
    found = [
        reading
        for name, layout in layouts.items()
        for reading in read_by(content, name, layout, detecting=choice == AUTO)
    ]
    if resize_pos_embed:
        found = [_with_resized_pos_embed(reading, module) for reading in found]
    return [compared(reading, module) for reading in found]


def read_by(content: Mapping[str, State], name: str, layout: Layout, *, detecting: bool) -> list[Reading]:
    """A file read by one layout, for each dict that it may mean; none if the layout shows nowhere."""
    read = []
    for key in _keys(content, layout, detecting=detecting):
        names = unwrapped(content[key])
        if detecting and not layout.is_marked(names):
            continue
        state: State = {}
        leftovers: list[str] = []
        homeless: list[str] = []
        for bare, original in names.items():
            mine = layout.backbone_name(bare)
            if mine is not None and mine not in state:  # two of one name cannot both be right
                state[mine] = content[key][original]
            else:
                (leftovers if mine is None and layout.is_leftover(bare) else homeless).append(original)
        read.append(Reading(name, layout, key, state, tuple(leftovers), homeless=tuple(homeless)))
    return read


def _keys(content: Mapping[str, State], layout: Layout, *, detecting: bool) -> list[str]:
    """Of the dicts that a layout may mean.

    A key that is looked for first would hide other copies of the backbone (`model` its average `model_ema`), and
    detection must not choose among copies.
    """
    if not layout.keys:
        return list(content)
    if detecting and "" in layout.keys:
        return [key for key in content if key in layout.keys or key not in CLAIMED]
    return [key for key in layout.keys if key in content][:1]


def classifier(module: nn.Module) -> tuple[str, ...]:
    """What the names of a timm model's classifier start with. It is never loaded, whether a file has it or not."""
    names = cast(Any, module).pretrained_cfg["classifier"]
    return tuple(f"{name}." for name in ([names] if isinstance(names, str) else names or ()))


def _in(name: str, heads: tuple[str, ...]) -> bool:
    return name.startswith(heads)


def compared(reading: Reading, module: nn.Module) -> Reading:
    """A reading with what speaks against it as one of a module."""
    wanted, heads = {name: tensor.shape for name, tensor in module.state_dict().items()}, classifier(module)
    state = reading.state
    given = set(state) | set(reading.layout.constants)
    if not any(name.endswith(COUNTER) for name in state):
        given |= {name for name in wanted if name.endswith(COUNTER)}
    both = [name for name in state if name in wanted and not _in(name, heads)]
    misshapen = [name for name in both if state[name].shape != wanted[name]]
    return replace(
        reading,
        missing=tuple(name for name in wanted if name not in given and not _in(name, heads)),
        homeless=(
            *(
                name
                for name in dict.fromkeys((*state, *reading.layout.constants))
                if name not in wanted and not _in(name, heads)
            ),
            *reading.homeless,
        ),
        misshapen=tuple(f"{name} {tuple(state[name].shape)} instead of {tuple(wanted[name])}" for name in misshapen),
        fitting=len(both) - len(misshapen),
    )


def _choose(found: Sequence[Reading], checkpoint: str) -> Reading:
    """The reading that fits, or the one that comes closest.

    Several that fit are well if they give the same tensors; otherwise nothing says which of them is meant.
    """
    if not found:
        raise WeightsError(
            f"the weights of checkpoint {checkpoint!r} are not in its layout: the file has no dict of that key; "
            "`ssl4eo-bench checkpoint inspect FILE` shows what is in it."
        )
    fitting = [reading for reading in found if reading.fits]
    if not fitting:
        return max(found, key=lambda reading: (reading.fitting, -len(reading.homeless)))
    if any(not _equal(fitting[0].state, other.state) for other in fitting[1:]):
        copies = " and ".join(f"{reading.key!r} as layout {reading.name}" for reading in fitting)
        raise WeightsError(
            f"the weights of checkpoint {checkpoint!r} are there more than once: under {copies}; say which is meant "
            "with `layout: NAME` or `layout: {keys: [KEY]}`; `ssl4eo-bench checkpoint inspect FILE` writes each out."
        )
    return fitting[0]


def _equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(_same(tensor, other[name]) for name, tensor in one.items())


def _same(one: Tensor, other: Tensor) -> bool:
    if one is other:
        return True
    comparable = one.dtype == other.dtype and one.layout == other.layout == torch.strided
    return comparable and torch.equal(one, other)


def _misfit(found: Reading, checkpoint: str, *, detected: bool) -> str:
    place = f" under {found.key!r}" if found.key else ""
    how = f"the closest layout is {found.name}" if detected else f"read as layout {found.name}"
    return (
        f"the weights of checkpoint {checkpoint!r} do not fit its architecture, {how}{place} ({found.faults}): correct "
        "the architecture, the bands, or the layout of the entry; `ssl4eo-bench checkpoint inspect FILE` shows what is "
        "in the file."
    )


def _usable(name: str, tensor: Tensor, wanted: Tensor, checkpoint: str) -> Tensor:
    """A tensor in the number type of the module."""
    plain = tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_complex()
    if not plain or tensor.is_floating_point() != wanted.is_floating_point():
        raise WeightsError(
            f"tensor {name} in the weights of checkpoint {checkpoint!r} is {tensor.dtype} ({tensor.layout}), not dense "
            f"{wanted.dtype}; save the backbone's `state_dict()` in float32."
        )
    values = tensor.detach().to(wanted.dtype)  # first: what is finite in float64 may not be in float32
    total = values.sum(dtype=torch.float64) if values.is_floating_point() else values.new_zeros(())
    if not (torch.isfinite(total) or torch.isfinite(values).all()):  # the sum alone is much faster to look at
        raise WeightsError(
            f"tensor {name} in the weights of checkpoint {checkpoint!r} is not finite in {wanted.dtype}: the training "
            "it comes from failed, or the file is damaged; use another file."
        )
    return values


def _with_resized_pos_embed(reading: Reading, module: nn.Module) -> Reading:
    """A reading with absolute position embeddings for the module's grid of patches."""
    tensor, wanted = reading.state.get("pos_embed"), module.state_dict().get("pos_embed")
    if tensor is None or wanted is None or tensor.shape == wanted.shape or not _are_positions(tensor, wanted):
        return reading
    prefix = 0 if getattr(module, "no_embed_class", False) else getattr(module, "num_prefix_tokens", 0)
    patches = [part.shape[1] - prefix for part in (tensor, wanted)]
    old, new = (isqrt(max(count, 0)) for count in patches)
    if min(patches) < 1 or [old * old, new * new] != patches:  # not square grids
        return reading
    resized = resample_abs_pos_embed(tensor.float(), [new, new], [old, old], num_prefix_tokens=prefix)
    return replace(
        reading, state=reading.state | {"pos_embed": resized}, resized=f"{old} × {old} to {new} × {new} patches"
    )


def _are_positions(tensor: Tensor, wanted: Tensor) -> bool:
    """Whether a file's tensor is a list of numbers for each token, as many as the network has for each."""
    dense = tensor.layout == torch.strided and tensor.is_floating_point()
    return dense and tensor.ndim == wanted.ndim == 3 and tensor.shape[::2] == wanted.shape[::2]


def _by_order(content: Mapping[str, State], module: nn.Module, checkpoint: str) -> Loaded:
    """The file's tensors under the module's names, paired by position.

    Position alone would confuse tensors of one shape, so the last part of each name (weight, bias, running_mean, …)
    and the shape must agree, too.
    """
    key, state = next(iter(content.items()))
    expected = module.state_dict()
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
    pairs = zip(expected.items(), state.values(), strict=True)
    heads = classifier(module)
    usable = {
        name: _usable(name, tensor, wanted, checkpoint) for (name, wanted), tensor in pairs if not _in(name, heads)
    }
    return Loaded(usable, BY_ORDER, key)
