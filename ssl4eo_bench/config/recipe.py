"""The recipes that published numbers were made with, as values. They serve comparison with those numbers, nothing else.

Each is one of the released code of SSL4EO-S12 (github.com/zhu-xlab/SSL4EO-S12, commit 2156913c): read in its code and
scripts, on four processes, so that its batches are four times as large as the scripts say.
"""

from typing import Literal

from ssl4eo_bench.config.canonical import Frozen

PROCESSES = 4


class Recipe(Frozen):
    """Training a linear head, or the whole network, as the released code of SSL4EO-S12 does, version 2.

    Stochastic gradient descent with momentum 0.9 from a random head; inputs are cropped at random and mirrored; scores
    are those of the centre 224 of 256 pixels (or the same share of another size), every so many epochs.

    Attributes that can be none came with version 2; none is what version 1 did.

    Attributes:
        method: of the pretraining that it is for.
        arch: how the names of the architectures begin that it is for; none if it is for all that no other one is for.
        schedule: `cosine` to zero, or `steps`: a tenth of it after 60 % and after 80 % of the epochs.
        by_epoch: whether the rate changes between epochs only, and not at every step.
        warmup: epochs over which the rate rises.
        weight_decay: of all weights that are trained.
        layer_decay: factor from one layer to the next towards the input.
        batch: images of one step, of all processes together.
        keeps_last: whether what is left of an epoch is a smaller batch; otherwise it is left out.
        head_std: standard deviation of the weights of the new head; 0.01 if none.
        batch_norm: whether the head stands behind a BatchNorm without weights.
        drift: whether BatchNorm of a frozen network goes by the statistics of batches, and its own follow them.
        frozen_positions: whether the position embeddings stay as they are while the network is trained.
        evaluating: whether the network is trained in `eval()`: without dropout, and with its own BatchNorm statistics.
        every: epochs between two scorings.
        first: the first epoch that is scored; `every` if none.
        scores_last: whether the last epoch is scored even if it is not in turn.
        smallest_crop: share of an image's area that a crop keeps at least.
        scored_batch: images that the released code computes one metric of, before it takes the mean.
        shuffles_scored: whether the released code has the images in an order without classes and scenes, so that
            shuffled ones stand for it; otherwise the order is that of the ids.
        drops_scored: whether the released code leaves out a last, smaller batch of these.
        weighted: whether its mean weighs each batch by its number of images.
    """

    name: Literal["linear-ssl4eo", "finetune-ssl4eo"]
    version: Literal[1, 2] = 2
    method: str
    arch: str | None = None
    rate: float
    schedule: Literal["cosine", "steps"] = "cosine"
    by_epoch: Literal[True] | None = None
    warmup: int = 0
    weight_decay: float = 0.0
    layer_decay: float = 1.0
    nesterov: Literal[True] | None = None
    batch: int = 64 * PROCESSES
    keeps_last: Literal[True] | None = None
    head_std: float | None = None
    batch_norm: bool = False
    drift: bool = False
    frozen_positions: Literal[True] | None = None
    evaluating: Literal[True] | None = None
    epochs: int = 100
    every: int = 5
    first: int | None = None
    scores_last: Literal[True] | None = None
    smallest_crop: float
    scored_batch: int = 64
    shuffles_scored: Literal[True] | None = None
    drops_scored: Literal[True] | None = None
    weighted: Literal[True] | None = None

    @property
    def frozen(self) -> bool:
        """Whether the network stays as it is."""
        return self.name == "linear-ssl4eo"

    @property
    def scored_epochs(self) -> tuple[int, ...]:
        """The epochs that are scored, from 1."""
        epochs = range(self.first or self.every, self.epochs + 1, self.every)
        return (*epochs, self.epochs) if self.scores_last and epochs[-1] != self.epochs else tuple(epochs)
