"""The recipes of published numbers: a random head, or the whole network, trained by stochastic gradient descent."""

import torch
from torch import Tensor, nn

from ssl4eo_bench.config.recipe import Recipe
from ssl4eo_bench.training.augmentation import draw_crops, seen
from ssl4eo_bench.training.loop import Plan, warmed_cosine
from ssl4eo_bench.training.tunable import Tunable

WHOLE = 256 / 224
"""Side of the whole image, relative to the centre of it that is scored."""
MOMENTUM = 0.9
HEAD_STD = 0.01
"""Of a new head's weights, if the recipe names none; its intercepts start at zero."""
NORM_EPS = 1e-6


class RecipeClassifier(Tunable):
    """A network with a new head, for inputs `[N, C, W, W]` of whole images or `[N, C, S, S]` of crops.

    Args:
        network: as of `Classifier`; frozen by a linear recipe, which leaves its BatchNorm alone unless it drifts.
        width: of its features.
        classes: of the task.
        side: S; of larger inputs, the centre is scored.
        recipe: decides.
        generator: draws the head.
    """

    def __init__(
        self, network: nn.Module, width: int, classes: int, side: int, recipe: Recipe, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.network = network.requires_grad_(requires_grad=not recipe.frozen)
        if recipe.frozen_positions:
            for name, parameter in network.named_parameters():
                if name.rpartition(".")[2] == "pos_embed":
                    parameter.requires_grad = False
        self._in_eval = recipe.frozen or bool(recipe.evaluating)
        self.batch_statistics = recipe.drift or not self._in_eval
        self.norm = nn.BatchNorm1d(width, eps=NORM_EPS, affine=False) if recipe.batch_norm else nn.Identity()
        self.head = nn.Linear(width, classes)
        nn.init.normal_(self.head.weight, std=recipe.head_std or HEAD_STD, generator=generator)
        nn.init.zeros_(self.head.bias)
        self._side = side
        self._frozen = recipe.frozen

    def train(self, mode: bool = True) -> "RecipeClassifier":
        """As usual, but a network that is frozen, or trained in `eval()`, scores as in use; a BatchNorm may drift."""
        super().train(mode)
        if self._in_eval:
            self.network.eval()
            for module in self.network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.train(mode and self.batch_statistics)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[N, C]` of scaled inputs."""
        edge = (int(images.shape[-1]) - self._side) // 2
        centre = images[:, :, edge : edge + self._side, edge : edge + self._side]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._frozen):
            features: Tensor = self.network.feature(centre)  # type: ignore[operator]
        logits: Tensor = self.head(self.norm(features))
        return logits


def recipe_plan(recipe: Recipe, side: int) -> Plan:
    """How to train by a recipe, on crops of this side."""

    def optimiser(model: Tunable) -> torch.optim.Optimizer:
        groups = model.groups(recipe.weight_decay, recipe.layer_decay)
        trained = [group for group in groups if any(parameter.requires_grad for parameter in group["params"])]
        return torch.optim.SGD(trained, lr=recipe.rate, momentum=MOMENTUM, nesterov=bool(recipe.nesterov))

    def steps(epoch: float) -> float:
        return 0.1 ** ((epoch >= 0.6 * recipe.epochs) + (epoch >= 0.8 * recipe.epochs))

    falls = steps if recipe.schedule == "steps" else warmed_cosine(recipe.warmup, recipe.epochs)
    return Plan(
        rates=(recipe.rate,),
        epochs=recipe.epochs,
        batch=recipe.batch,
        keep_last=bool(recipe.keeps_last),
        optimiser=optimiser,
        schedule=(lambda epoch: falls(int(epoch))) if recipe.by_epoch else falls,
        draw=lambda count, generator: draw_crops(count, recipe.smallest_crop, generator),
        augment=lambda images, targets, views: (seen(images, views, side), targets),
        looks=recipe.scored_epochs,
    )
