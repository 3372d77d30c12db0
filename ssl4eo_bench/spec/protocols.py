"""The protocols and their versions: what is done with a backbone, as values that enter the digest."""

from typing import Literal

from ssl4eo_bench.errors import UnknownNameError
from ssl4eo_bench.spec.canonical import Frozen
from ssl4eo_bench.spec.tasks import Kind

PIXELS = 64
"""Labelled pixels of a tile that a dense head is fitted on; docs/protocols.md says what more of them would give."""


class Linear(Frozen):
    """Linear probing of frozen features, version 1.

    Features are standardised with the mean and standard deviation of the training split. Logistic regression
    (softmax for multiclass, one sigmoid for each class for multilabel) with an L2 penalty on all weights but the
    intercepts minimises `C · Σ loss + ½ ‖W‖²` over a grid of C, from strong to weak penalty. The C with the best main
    metric on `val` is taken, the stronger penalty on ties, among the points up to the first one that leaves the best
    `patience` points behind; points do not count until the metric has risen above that of the strongest penalty.

    For segmentation the samples are pixels: of each tile, `pixels` labelled ones, with dense features interpolated
    bilinearly between the places of the feature grid. Which ones is drawn by the tile's id.

    Attributes:
        c_min: strongest penalty.
        c_max: weakest penalty.
        points: values of C, log-spaced.
        patience: points without improvement on `val` after which the path stops.
        tolerance: a head has converged when its gradient is this small, relative to the gradient at zero weights.
        pixels: of each tile, for segmentation; none for labels of whole images.
    """

    name: Literal["linear"] = "linear"
    version: Literal[1] = 1
    c_min: float = 1e-6
    c_max: float = 1e5
    points: int = 45
    patience: int = 10
    tolerance: float = 1e-5
    pixels: int | None = None

    def for_kind(self, kind: Kind) -> "Linear":
        """The settings for tasks of a kind."""
        return self.model_copy(update={"pixels": PIXELS}) if kind == "segmentation" else self

    def grid(self) -> tuple[float, ...]:
        """The values of C, ascending."""
        ratio = (self.c_max / self.c_min) ** (1 / (self.points - 1))
        return tuple(self.c_min * ratio**step for step in range(self.points))


PROTOCOLS: dict[str, Linear] = {"linear": Linear()}


def protocol(name: str) -> Linear:
    """The current version of a protocol.

    Raises:
        UnknownNameError: if there is no such protocol.
    """
    if name not in PROTOCOLS:
        raise UnknownNameError("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
