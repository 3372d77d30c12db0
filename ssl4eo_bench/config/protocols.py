"""The protocols and their versions: what is done with a backbone, as values that enter the digest.

docs/protocols.md describes each of them, says why it is so, and what its versions before were.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator

from ssl4eo_bench.config.canonical import Frozen
from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.recipe import Recipe
from ssl4eo_bench.config.task import Kind, Task
from ssl4eo_bench.errors import SpecError, UnknownNameError

PIXELS = 64
"""Labelled pixels of a tile that a dense head is fitted on; docs/protocols.md says what more of them would give."""


TILES_BATCH = 16
"""Tiles of one step of fine-tuning on label maps; each has thousands of labelled pixels."""


class Linear(Frozen):
    """Linear probing of frozen features, version 2.

    Logistic regression on standardised features minimises `C · Σ loss + ½ ‖W‖²` over a grid of C, and `val` chooses C.

    Attributes:
        points: values of C, log-spaced from the strongest to the weakest penalty.
        patience: points without improvement on `val` after which the path stops.
        tolerance: a head has converged when its gradient is this small, relative to the gradient at zero weights.
        pixels: of each tile, for segmentation; none for labels of whole images.
    """

    name: Literal["linear"] = "linear"
    version: Literal[1, 2] = 2
    c_min: float = 1e-6
    c_max: float = 1e5
    points: int = 45
    patience: int = 10
    tolerance: float = 1e-5
    pixels: int | None = None

    def for_kind(self, kind: Kind) -> "Linear":
        """Return the settings for tasks of a kind."""
        return self.model_copy(update={"pixels": PIXELS}) if kind == "segmentation" else self

    def grid(self) -> tuple[float, ...]:
        """Return the values of C, ascending."""
        ratio = (self.c_max / self.c_min) ** (1 / (self.points - 1))
        return tuple(self.c_min * ratio**step for step in range(self.points))


class Knn(Frozen):
    """Classification by the nearest training samples, version 3.

    The `k` training samples with the largest cosine similarity to a sample vote with the weight
    `exp(similarity / temperature)`; the class's share of all weights is its score (Wu et al., CVPR 2018).
    """

    name: Literal["knn"] = "knn"
    version: Literal[1, 2, 3] = 3
    k: int = 20
    temperature: float = 0.07

    def for_kind(self, kind: Kind) -> "Knn":
        """The settings for tasks of a kind.

        Raises:
            SpecError: for segmentation.
        """
        if kind == "segmentation":
            raise SpecError("protocol 'knn' is for labels of whole images; use --protocol linear on label maps.")
        return self


class Finetune(Frozen):
    """Training the whole network on, version 3.

    The head starts from the linear probe on the frozen features. Every rate of the grid trains anew, and the best main
    metric on `val` chooses rate and epoch.

    Attributes:
        rates: learning rates of the head, ascending.
        epochs: at most, of each rate.
        warmup: epochs over which the rate rises.
        patience: epochs without improvement on `val` after which a rate is given up.
        batch: images of one step; what is left of an epoch is left out.
        layer_decay: factor from one layer to the next towards the input.
        smallest_crop: share of an image's area that a crop keeps at least.
    """

    name: Literal["finetune"] = "finetune"
    version: Literal[1, 2, 3] = 3
    rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    epochs: int = 20
    warmup: int = 2
    patience: int = 8
    batch: int = 64
    weight_decay: float = 0.05
    layer_decay: float = 0.75
    smallest_crop: float = 0.8

    @field_validator("rates")
    @classmethod
    def _ascend(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        if not rates or rates[0] <= 0 or any(low >= high for low, high in pairwise(rates)):
            raise ValueError("learning rates must be at least one, above 0, and ascending")
        return rates

    def for_kind(self, kind: Kind) -> "Finetune":
        """Return the settings for tasks of a kind; with a random decoder, learning rates are a third."""
        rates = tuple(rate / 3 for rate in self.rates)
        return self.model_copy(update={"batch": TILES_BATCH, "rates": rates}) if kind == "segmentation" else self


ProtocolSettings = Annotated[Linear | Knn | Finetune | Recipe, Field(discriminator="name")]
PROTOCOLS: dict[str, Linear | Knn | Finetune] = {"linear": Linear(), "knn": Knn(), "finetune": Finetune()}
ON_SAMPLES = {**PROTOCOLS, "finetune": Finetune(rates=(1e-3,), epochs=3, warmup=1)}
"""The settings on embedded samples: there, fine-tuning is to show in minutes that it works."""
RECIPES = ("linear-ssl4eo", "finetune-ssl4eo")
"""Protocols with settings that depend on the task and the pretraining method."""


def require_protocols(names: Sequence[str], *, drift: bool = False) -> None:
    """Refuse unknown protocols, and `drift` where no protocol has it.

    Raises:
        UnknownNameError: for the first name that is none.
        SpecError: for `drift`.
    """
    for name in names:
        if name not in (*PROTOCOLS, *RECIPES):
            raise UnknownNameError("protocol", name, (*PROTOCOLS, *RECIPES))
    if drift and "linear-ssl4eo" not in names:
        raise SpecError(f"--drift is for protocol 'linear-ssl4eo', not for {names[0]!r}; leave it away.")


def is_for(name: str, kind: Kind) -> bool:
    """Return whether a protocol can be run on tasks of a kind."""
    try:
        PROTOCOLS[name].for_kind(kind)
    except SpecError:
        return False
    return True


def current_settings(name: str, kind: Kind, *, sample: bool) -> Linear | Knn | Finetune:
    """Return the settings of the current version of a protocol, on official data or on embedded samples.

    Raises:
        SpecError: if the protocol is not for tasks of this kind.
    """
    return (ON_SAMPLES if sample else PROTOCOLS)[name].for_kind(kind)


def settings(
    name: str, task: Task, checkpoint: Checkpoint, *, sample: bool = False, drift: bool = False
) -> ProtocolSettings:
    """Return the current settings of a protocol for a task and a checkpoint; `drift` is an option of `linear-ssl4eo`.

    Raises:
        SpecError: if there are none.
    """
    if name not in ("linear", "knn"):
        _require_whole_network(checkpoint)
    if task.kind == "segmentation" and (checkpoint.is_embeddings or (checkpoint.layer and checkpoint.layer.is_token)):
        raise SpecError(
            f"checkpoint {checkpoint.name!r} gives one vector for each image, and task {task.name!r} has labels of "
            "pixels; choose a checkpoint or a feature with maps."
        )
    if name in PROTOCOLS:
        return current_settings(name, task.kind, sample=sample)
    method = checkpoint.pretraining.method if checkpoint.pretraining else "none"
    of_name = [one for one in task.recipes if one.name == name and checkpoint.arch.startswith(one.arch or "")]
    known = {recipe.method: recipe for recipe in sorted(of_name, key=lambda recipe: len(recipe.arch or ""))}
    usual = f"--protocol {name.partition('-')[0]}"
    if not known:
        raise SpecError(f"protocol {name!r} has no recipe for task {task.name!r}; take {usual}.")
    if method not in known:
        raise SpecError(
            f"protocol {name!r} has recipes for the pretraining methods {', '.join(known)} on task {task.name!r}, and "
            f"that of checkpoint {checkpoint.name!r} is {method!r}; take a checkpoint of one of these, or {usual}."
        )
    return known[method].model_copy(update={"drift": drift and name == "linear-ssl4eo"})


def _require_whole_network(checkpoint: Checkpoint) -> None:
    """Refuse to train a checkpoint without a network, or a part of one: rates are made for all of its layers."""
    name = checkpoint.name
    if not checkpoint.has_network:
        raise SpecError(f"checkpoint {name!r} has no network to fine-tune; use --protocol linear for it.")
    if checkpoint.layer:
        raise SpecError(
            f"feature {checkpoint.feature!r} of checkpoint {name!r} is for frozen networks; use --protocol linear or "
            "knn, or another `feature` to train the whole network."
        )


def linear_settings(protocol: Linear | Knn | Finetune, kind: Kind) -> Linear:
    """Return the settings of the linear probe of a protocol: for fine-tuning, of the probe that it starts from."""
    return protocol if isinstance(protocol, Linear) else Linear().for_kind(kind)
