"""The recipes that published numbers were made with, as values. They serve comparison with those numbers, nothing else.

Each is one of the released code of SSL4EO-S12 (github.com/zhu-xlab/SSL4EO-S12, commit 2156913c): read in its code and
scripts, on four processes, so that its batches are four times as large as the scripts say.
"""

from typing import Literal

from ssl4eo_bench.spec.canonical import Frozen

PROCESSES = 4


class Recipe(Frozen):
    """Training a linear head, or the whole network, as the released code of SSL4EO-S12 does, version 1.

    Stochastic gradient descent with momentum 0.9 from a random head; inputs are cropped at random and mirrored; scores
    are those of the centre 224 of 256 pixels (or the same share of another size), every so many epochs.

    Attributes:
        method: of the pretraining that it is for.
        rate: the learning rate.
        schedule: `cosine` to zero, or `steps`: a tenth of it after 60 % and after 80 % of the epochs.
        warmup: epochs over which the rate rises.
        weight_decay: of all weights that are trained.
        layer_decay: factor from one layer to the next towards the input.
        batch: images of one step, of all processes together; what is left of an epoch is left out.
        batch_norm: whether the head stands behind a BatchNorm without weights.
        drift: whether BatchNorm of a frozen network goes by the statistics of batches, and its own follow them.
        epochs: of training.
        every: epochs between two scorings.
        smallest_crop: share of an image's area that a crop keeps at least.
        scored_batch: images that the released code computes one metric of, before it takes the mean.
    """

    name: Literal["linear-ssl4eo", "finetune-ssl4eo"]
    version: Literal[1] = 1
    method: str
    rate: float
    schedule: Literal["cosine", "steps"] = "cosine"
    warmup: int = 0
    weight_decay: float = 0.0
    layer_decay: float = 1.0
    batch: int = 64 * PROCESSES
    batch_norm: bool = False
    drift: bool = False
    epochs: int = 100
    every: int = 5
    smallest_crop: float
    scored_batch: int = 64

    @property
    def frozen(self) -> bool:
        """Whether the network stays as it is."""
        return self.name == "linear-ssl4eo"
