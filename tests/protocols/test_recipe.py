"""The published recipes: what is frozen stays, what drifts drifts, and where the schedule goes."""

from typing import Any, cast

import pytest
import timm
import torch
from torch import Tensor, nn

from ssl4eo_bench.protocols.augmentation import draw_crops, seen
from ssl4eo_bench.protocols.recipe import RecipeClassifier, recipe_plan
from ssl4eo_bench.spec.recipes import Recipe

LINEAR = Recipe(name="linear-ssl4eo", method="MoCo-v2", rate=0.5, schedule="steps", smallest_crop=0.08)
FINETUNE = LINEAR.model_copy(update={"name": "finetune-ssl4eo"})


class Network(nn.Module):
    """A tiny network with BatchNorm, on pixels that need no scaling."""

    def __init__(self) -> None:
        super().__init__()
        self.preprocess = nn.Identity()
        self.backbone = timm.create_model("test_resnet", num_classes=0)

    def feature(self, images: Tensor) -> Tensor:
        """Of scaled inputs."""
        features: Tensor = self.backbone(images)
        return features


def classifier(recipe: Recipe, side: int = 32) -> RecipeClassifier:
    torch.manual_seed(0)
    network = Network()
    width = int(cast(Any, network.backbone).num_features)
    return RecipeClassifier(network, width, 4, side, recipe, torch.Generator().manual_seed(0))


def trained(recipe: Recipe) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The network's tensors before and after a few steps."""
    model = classifier(recipe)
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    plan = recipe_plan(recipe, 32)
    optimiser = plan.optimiser(model)
    for _ in range(3):
        optimiser.zero_grad()
        model.train()(torch.randn(8, 3, 32, 32)).square().sum().backward()
        optimiser.step()
    return before, model.network.state_dict()


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name.rpartition(".")[2] for name in before if not torch.equal(before[name], after[name])}


STATISTICS = {"running_mean", "running_var", "num_batches_tracked"}


def test_a_frozen_network_keeps_every_tensor() -> None:
    assert changed(*trained(LINEAR)) == set()


def test_its_statistics_drift_if_they_are_to_and_nothing_else_does() -> None:
    assert changed(*trained(LINEAR.model_copy(update={"drift": True}))) == STATISTICS


def test_a_tuned_network_changes_in_both() -> None:
    assert changed(*trained(FINETUNE)) == STATISTICS | {"weight", "bias"}


def test_the_centre_of_the_whole_image_is_scored() -> None:
    model = classifier(LINEAR).eval()
    images = torch.randn(2, 3, 38, 38)
    with torch.inference_mode():
        torch.testing.assert_close(model(images), model(images[:, :, 3:35, 3:35].contiguous()))


def test_a_head_behind_batch_norm_sees_standardised_features() -> None:
    model = classifier(LINEAR.model_copy(update={"batch_norm": True})).train()
    normal = model.norm(torch.randn(200, int(model.head.in_features)) * 7 + 3)
    torch.testing.assert_close(normal.mean(0), torch.zeros(normal.shape[1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(normal.std(0, correction=0), torch.ones(normal.shape[1]), atol=1e-3, rtol=0)
    assert not list(model.norm.parameters())


def test_the_rate_falls_in_steps_or_as_a_cosine() -> None:
    steps, cosine = (recipe_plan(LINEAR.model_copy(update={"schedule": s}), 32).schedule for s in ("steps", "cosine"))
    assert [steps(epoch) for epoch in (0, 59.9, 60, 79.9, 80, 99)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert [cosine(epoch) for epoch in (0, 50, 100)] == pytest.approx([1, 0.5, 0])


def test_crops_lie_inside_of_the_image_and_have_the_wanted_shares() -> None:
    crops = draw_crops(2000, 0.08, torch.Generator().manual_seed(0))
    width, height = crops[:, 0, 0].abs(), crops[:, 1, 1]
    x, y = crops[:, 0, 2], crops[:, 1, 2]
    assert float((x.abs() + width).max()) <= 1 + 1e-6
    assert float((y.abs() + height).max()) <= 1 + 1e-6
    area = width * height
    assert 0.075 < float(area.min()) < 0.1
    assert float(area.max()) > 0.9
    assert 0.4 < float((crops[:, 0, 0] < 0).float().mean()) < 0.6
    assert seen(torch.zeros(2, 3, 38, 38), crops[:2], 32).shape == (2, 3, 32, 32)
