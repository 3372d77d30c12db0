"""What fine-tuning trains: a network with the head that the linear probe solved on its frozen features."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl4eo_bench.methods.linear import LinearProbe
from ssl4eo_bench.models.backbone import Backbone


class Tunable(nn.Module):
    """From scaled inputs to logits.

    Its `network` takes stored groups and has `preprocess`, which scales them, and `backbone`, a `Backbone`.
    """

    network: nn.Module
    batch_statistics = False
    """Whether BatchNorm of the network goes by the statistics of batches while it is trained.

    It keeps its own as a rule: a solved head was solved on features with these. With the statistics of a batch it
    starts from a loss several times as large, and results depend on the size of batches.
    """

    def train(self, mode: bool = True) -> "Tunable":
        """As usual, but BatchNorm of the network keeps its statistics, if it is to."""
        super().train(mode)
        for module in self.network.modules():
            if isinstance(module, _BatchNorm) and not self.batch_statistics:
                module.eval()
        return self

    def groups(self, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
        """Its parameters for an optimiser.

        The head has the whole rate, and each layer before it, by the backbone's groups, a smaller one. Biases and norms
        do not decay, nor does what the network names: position embeddings, class tokens, tables of relative positions.
        """
        backbone = cast(Backbone, self.network.backbone).parameter_groups(weight_decay, layer_decay)
        rest = [parameter for name, parameter in self.named_parameters() if not name.startswith("network.")]
        weights, others = ([p for p in rest if (p.ndim > 1) == wanted] for wanted in (True, False))
        return [
            *backbone,
            {"params": weights, "weight_decay": weight_decay, "lr_scale": 1.0},
            {"params": others, "weight_decay": 0.0, "lr_scale": 1.0},
        ]


class Classifier(Tunable):
    """Labels of whole images: the network's `feature`, `[N, D]` of scaled inputs `[N, C, S, S]`, and a linear head."""

    def __init__(self, network: nn.Module, probe: LinearProbe) -> None:
        super().__init__()
        self.network = network
        weights, intercept = folded(probe)
        self.head = nn.Linear(weights.shape[1], len(weights))
        with torch.no_grad():
            self.head.weight.copy_(weights)
            self.head.bias.copy_(intercept)
        self.requires_grad_(requires_grad=True)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[N, C]` of scaled inputs."""
        logits: Tensor = self.head(self.network.feature(images))  # type: ignore[operator]
        return logits


class Logits(nn.Module):
    """Stored groups to logits: what has been trained, for runners."""

    def __init__(self, tuned: Tunable) -> None:
        super().__init__()
        self.tuned = tuned

    def forward(self, *groups: Tensor) -> Tensor:
        """The logits of each sample, or of each place of it."""
        found: Tensor = self.tuned(self.tuned.network.preprocess(*groups))  # type: ignore[operator]
        return found


def folded(probe: LinearProbe) -> tuple[Tensor, Tensor]:
    """Weights `[C, D]` and intercepts `[C]` of a probe's head for features that are not standardised."""
    solved, standardisation = probe.head.weights, probe.standardisation
    weights = solved[:, :-1] / standardisation.scale
    return weights, solved[:, -1] - weights @ standardisation.mean
