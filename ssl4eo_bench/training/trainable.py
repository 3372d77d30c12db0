"""Networks with a head, as they are trained."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl4eo_bench.models.backbone import Backbone


class Trainable(nn.Module):
    """A module from scaled inputs to logits.

    Its `network` has `preprocess`, which scales stored groups, and `backbone`.
    """

    network: nn.Module
    batch_statistics = False
    """Whether BatchNorm layers of the network use the statistics of batches while it is trained.

    By default they keep their own statistics: the head was solved on features with these. With the statistics of a
    batch, training starts from a loss several times as large, and results depend on the size of batches.
    """

    def train(self, mode: bool = True) -> "Trainable":
        """Set training mode, but for BatchNorm layers of the network that keep their statistics."""
        super().train(mode)
        for module in self.network.modules():
            if isinstance(module, _BatchNorm) and not self.batch_statistics:
                module.eval()
        return self

    def groups(self, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
        """Return its parameters in groups for an optimiser, each with `params`, `weight_decay` and `lr_scale`.

        The head has the whole learning rate, and each layer before it a smaller one. Biases and norms do not decay.
        """
        backbone: Backbone = self.network.backbone  # type: ignore[assignment]
        head = [parameter for name, parameter in self.named_parameters() if not name.startswith("network.")]
        weights, others = ([p for p in head if (p.ndim > 1) == wanted] for wanted in (True, False))
        return [
            *backbone.parameter_groups(weight_decay, layer_decay),
            {"params": weights, "weight_decay": weight_decay, "lr_scale": 1.0},
            {"params": others, "weight_decay": 0.0, "lr_scale": 1.0},
        ]


class Classifier(Trainable):
    """A network with a linear head for labels of whole images.

    Its `feature` gives `[N, D]` of scaled inputs `[N, C, S, S]`; the head has weights `[C, D]` and an intercept `[C]`.
    """

    def __init__(self, network: nn.Module, weights: Tensor, intercept: Tensor) -> None:
        super().__init__()
        self.network = network
        self.head = nn.Linear(weights.shape[1], len(weights))
        with torch.no_grad():
            self.head.weight.copy_(weights)
            self.head.bias.copy_(intercept)
        self.requires_grad_(requires_grad=True)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `[N, C]` of scaled inputs."""
        logits: Tensor = self.head(self.network.feature(images))  # type: ignore[operator]
        return logits


class Logits(nn.Module):
    """A trained module from stored groups to logits, for runners."""

    def __init__(self, trained: Trainable) -> None:
        super().__init__()
        self.trained = trained

    def forward(self, *groups: Tensor) -> Tensor:
        """Return the logits of each sample, or of each place of it."""
        found: Tensor = self.trained(self.trained.network.preprocess(*groups))  # type: ignore[operator]
        return found
