"""Fine-tuning: the whole network is trained on, from the head of the linear probe.

Starting from the solved head instead of a random one keeps the first steps from spoiling the backbone (LP-FT: Kumar et
al., ICLR 2022).
"""

import torch
from torch import Tensor

from ssl4eo_bench.config.protocols import Finetune
from ssl4eo_bench.training.augmentation import draw_views, seen, seen_labels
from ssl4eo_bench.training.loop import Plan, warmed_cosine


def finetune_plan(protocol: Finetune) -> Plan:
    """How to train by these settings."""

    def augment(images: Tensor, targets: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
        return seen(images, views), seen_labels(targets, views) if targets.ndim == 3 else targets

    return Plan(
        rates=protocol.rates,
        epochs=protocol.epochs,
        batch=protocol.batch,
        optimiser=lambda model: torch.optim.AdamW(model.groups(protocol.weight_decay, protocol.layer_decay)),
        schedule=warmed_cosine(protocol.warmup, protocol.epochs),
        draw=lambda count, generator: draw_views(count, protocol.smallest_crop, generator),
        augment=augment,
        patience=protocol.patience,
    )
