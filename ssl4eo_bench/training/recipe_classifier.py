"""The recipes of published numbers: a random head, or the whole network, trained by stochastic gradient descent."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ssl4eo_bench.config.recipe import Recipe
from ssl4eo_bench.models.backbone import Backbone
from ssl4eo_bench.training.augmentation import augmented, draw_crops
from ssl4eo_bench.training.loop import TrainingConfig, warmed_cosine
from ssl4eo_bench.training.trainable import Trainable

WHOLE = 256 / 224
"""Side of the whole image, relative to the centre of it that is scored."""
MOMENTUM = 0.9
HEAD_STD = 0.01
"""Standard deviation of the weights of a new head, if the recipe has none; intercepts start at zero."""
NORM_EPS = 1e-6


class RecipeClassifier(Trainable):
    """A network with a new head, for scaled inputs of whole images `[N, C, W, W]` or of crops `[N, C, S, S]`.

    S is `side`; of larger inputs, the centre is scored. A linear recipe freezes the network, and its BatchNorm
    statistics unless they drift. The seed draws the head.
    """

    def __init__(self, network: nn.Module, width: int, classes: int, side: int, recipe: Recipe, seed: int) -> None:
        super().__init__()
        self.network = network.requires_grad_(requires_grad=not recipe.frozen)
        if recipe.frozen_positions:
            backbone: Backbone = network.backbone  # type: ignore[assignment]
            for parameter in backbone.position_embeddings():
                parameter.requires_grad = False
        self._in_eval = recipe.frozen or bool(recipe.evaluating)
        self.batch_statistics = recipe.drift or not self._in_eval
        self.norm = nn.BatchNorm1d(width, eps=NORM_EPS, affine=False) if recipe.batch_norm else nn.Identity()
        self.head = nn.Linear(width, classes)
        generator = torch.Generator().manual_seed(seed)
        nn.init.normal_(self.head.weight, std=recipe.head_std or HEAD_STD, generator=generator)
        nn.init.zeros_(self.head.bias)
        self._side = side
        self._frozen = recipe.frozen

    def train(self, mode: bool = True) -> "RecipeClassifier":
        """Set training mode, but not for a network that is frozen or trained in `eval()`; its BatchNorm may drift."""
        super().train(mode)
        if self._in_eval:
            self.network.eval()
            for module in self.network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.train(mode and self.batch_statistics)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `[N, C]` of scaled inputs."""
        edge = (int(images.shape[-1]) - self._side) // 2
        centre = images[:, :, edge : edge + self._side, edge : edge + self._side]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._frozen):
            features: Tensor = self.network.feature(centre)  # type: ignore[operator]
        logits: Tensor = self.head(self.norm(features))
        return logits


def recipe_config(recipe: Recipe, side: int, loss: Callable[[Tensor, Tensor], Tensor]) -> TrainingConfig:
    """Return how to train by a recipe, on crops of a side."""

    def optimiser(model: Trainable) -> torch.optim.Optimizer:
        groups = model.groups(recipe.weight_decay, recipe.layer_decay)
        trained = [group for group in groups if any(parameter.requires_grad for parameter in group["params"])]
        return torch.optim.SGD(trained, lr=recipe.rate, momentum=MOMENTUM, nesterov=bool(recipe.nesterov))

    def steps(epoch: float) -> float:
        return 0.1 ** ((epoch >= 0.6 * recipe.epochs) + (epoch >= 0.8 * recipe.epochs))

    falls = steps if recipe.schedule == "steps" else warmed_cosine(recipe.warmup, recipe.epochs)
    return TrainingConfig(
        learning_rates=(recipe.rate,),
        epochs=recipe.epochs,
        batch=recipe.batch,
        keep_last=bool(recipe.keeps_last),
        optimiser=optimiser,
        schedule=(lambda epoch: falls(int(epoch))) if recipe.by_epoch else falls,
        draw=lambda count, generator: draw_crops(count, recipe.smallest_crop, generator),
        augment=lambda images, targets, views: (augmented(images, views, side), targets),
        loss=loss,
        evaluated_epochs=recipe.scored_epochs,
    )
