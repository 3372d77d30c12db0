"""The published recipes: what is frozen stays, what drifts drifts, where the schedule goes, and what each one says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.protocols import settings
from ssl4eo_bench.config.recipe import Recipe
from ssl4eo_bench.labels import labels_of
from ssl4eo_bench.models.timm_model import TimmBackbone
from ssl4eo_bench.training.augmentation import augmented, draw_crops
from ssl4eo_bench.training.distributed import ProcessGroup
from ssl4eo_bench.training.loop import Training, TrainingConfig
from ssl4eo_bench.training.recipe_classifier import RecipeClassifier, recipe_config

LINEAR = Recipe(name="linear-ssl4eo", method="MoCo-v2", rate=0.5, schedule="steps", smallest_crop=0.08)
FINETUNE = LINEAR.model_copy(update={"name": "finetune-ssl4eo"})


class Network(nn.Module):
    """A tiny network, with BatchNorm as a rule, on pixels that need no scaling."""

    def __init__(self, arch: str = "test_resnet", **options: Any) -> None:
        super().__init__()
        self.preprocess = nn.Identity()
        self.backbone = TimmBackbone(timm.create_model(arch, num_classes=0, **options))

    def feature(self, images: Tensor) -> Tensor:
        """Of scaled inputs."""
        features: Tensor = self.backbone(images)
        return features


def config(recipe: Recipe) -> TrainingConfig:
    return recipe_config(recipe, 32, labels_of("multiclass").training_loss)


def classifier(recipe: Recipe, side: int = 32, **network_of: Any) -> RecipeClassifier:
    torch.manual_seed(0)
    network = Network(**network_of)
    width = int(network.backbone.network.num_features)
    return RecipeClassifier(network, width, 4, side, recipe, seed=0)


def trained(recipe: Recipe, **network_of: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The network's tensors before and after a few steps."""
    model = classifier(recipe, **network_of)
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    plan = config(recipe)
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


def test_a_network_that_is_tuned_in_eval_keeps_its_statistics_and_drops_nothing() -> None:
    recipe = FINETUNE.model_copy(update={"evaluating": True})
    assert changed(*trained(recipe)) == {"weight", "bias"}
    model = classifier(recipe).train()
    assert not any(module.training for module in model.network.modules())
    assert model.training


def test_position_embeddings_stay_if_they_are_to() -> None:
    vit = {"arch": "test_vit", "img_size": 32}
    assert "pos_embed" in changed(*trained(FINETUNE, **vit))
    frozen = changed(*trained(FINETUNE.model_copy(update={"frozen_positions": True}), **vit))
    assert "pos_embed" not in frozen
    assert "cls_token" in frozen


def test_the_head_starts_as_wide_as_the_recipe_says() -> None:
    wide, narrow = (classifier(LINEAR.model_copy(update={"head_std": std})).head.weight for std in (None, 2e-5))
    assert float(wide.detach().std()) == pytest.approx(0.01, rel=0.2)
    torch.testing.assert_close(narrow, wide * 0.002)


def test_momentum_is_nesterovs_if_the_recipe_says_so() -> None:
    for nesterov in (None, True):
        recipe = LINEAR.model_copy(update={"nesterov": nesterov})
        (group, *_) = config(recipe).optimiser(classifier(recipe)).param_groups
        assert group["nesterov"] == bool(nesterov)


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
    steps, cosine = (config(LINEAR.model_copy(update={"schedule": s})).schedule for s in ("steps", "cosine"))
    assert [steps(epoch) for epoch in (0, 59.9, 60, 79.9, 80, 99)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert [cosine(epoch) for epoch in (0, 50, 100)] == pytest.approx([1, 0.5, 0])


def test_a_rate_that_changes_by_epoch_is_the_same_throughout_it() -> None:
    by_epoch, smooth = (
        config(LINEAR.model_copy(update={"schedule": "cosine", "by_epoch": given})).schedule for given in (True, None)
    )
    assert by_epoch(49.0) == by_epoch(49.99) == smooth(49.0) > smooth(49.99)


def course(tmp_path: Path, count: int, looks: list[int], **changes: Any) -> tuple[Training, list[int]]:
    """A training on so many random images in batches of 8, and where the sizes of its batches will stand."""
    recipe = LINEAR.model_copy(update={"epochs": 4, "batch": 8, "schedule": "cosine", "rate": 0.1} | changes)
    pixels = np.random.default_rng(0).normal(size=(count, 3, 38, 38)).astype(np.float32)
    sizes: list[int] = []

    def read(rows: np.ndarray, size: int) -> Iterator[tuple[tuple[np.ndarray, ...], np.ndarray]]:
        for first in range(0, len(rows), size):
            batch = rows[first : first + size]
            sizes.append(len(batch))
            yield (pixels[batch],), batch % 4

    def validate(_: object, epoch: int) -> float:
        looks.append(epoch)
        return epoch / 10

    training = Training(
        config=config(recipe),
        start=classifier(recipe),
        count=count,
        read=read,
        validate=validate,
        file=tmp_path / "state.pt",
        seed=0,
        group=ProcessGroup.single("cpu"),
    )
    return training, sizes


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"every": 2}, [2, 4]),
        ({"every": 3, "first": 1}, [1, 4]),
        ({"every": 2, "first": 1}, [1, 3]),  # the fourth is of no use to anybody
        ({"every": 2, "first": 1, "scores_last": True}, [1, 3, 4]),
        ({"every": 2, "scores_last": True}, [2, 4]),
    ],
)
def test_the_epochs_that_are_scored(tmp_path: Path, changes: dict[str, Any], expected: list[int]) -> None:
    looks: list[int] = []
    training, sizes = course(tmp_path, 16, looks, **changes)
    history = training.run().history
    assert [epoch.epoch for epoch in history] == looks == expected
    assert sizes == [8, 8] * expected[-1]


@pytest.mark.parametrize(
    ("count", "keeps_last", "expected"),
    [(20, None, [8, 8]), (20, True, [8, 8, 4]), (16, True, [8, 8]), (5, True, [5]), (5, None, [5])],
)
def test_what_is_left_of_an_epoch_is_a_batch_if_it_is_to_be(
    tmp_path: Path, count: int, keeps_last: bool | None, expected: list[int]
) -> None:
    training, sizes = course(tmp_path, count, [], keeps_last=keeps_last, epochs=1, every=1)
    training.run()
    assert sizes == expected


@pytest.mark.parametrize(("count", "expected"), [(21, [[4, 4, 3], [4, 4, 2]]), (17, [[4, 4], [4, 4]])])
def test_each_of_two_processes_has_its_part_of_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, expected: list[list[int]]
) -> None:
    monkeypatch.setattr(Training, "_step", lambda *_: 0.0)
    monkeypatch.setattr(ProcessGroup, "broadcast", lambda _, find: find())
    for rank in (0, 1):
        training, sizes = course(tmp_path / str(rank), count, [], keeps_last=True, epochs=1, every=1)
        training.group = ProcessGroup(rank, 2, torch.device("cpu"))
        training.file.parent.mkdir()
        training.run()
        assert sizes == expected[rank]


def recipe_of(protocol: str, task: str, checkpoint: str) -> Recipe:
    found = settings(protocol, catalogue.task(task), catalogue.load_catalogue().checkpoints[checkpoint])
    assert isinstance(found, Recipe)
    return found


RESNET, VIT = "resnet50.ssl4eo_s12-{}-s2l1c", "vit_small_patch16_224.ssl4eo_s12-{}-s2l1c"
MOCO, DINO_RESNET = RESNET.format("moco_v2"), RESNET.format("dino")
MOCO_V3, DINO, MAE = (VIT.format(method) for method in ("moco_v3", "dino", "mae"))
DATA2VEC = "beit_small_patch16_224.ssl4eo_s12-data2vec-s2l1c-backbone"


def test_dino_is_tuned_on_so2sat_at_a_rate_of_its_architecture() -> None:
    rates = {checkpoint: recipe_of("finetune-ssl4eo", "so2sat", checkpoint).rate for checkpoint in (DINO_RESNET, DINO)}
    assert rates == {DINO_RESNET: 3e-6, DINO: 3e-5}
    assert recipe_of("finetune-ssl4eo", "so2sat", DINO).rate != recipe_of("linear-ssl4eo", "so2sat", DINO).rate


@pytest.mark.parametrize("protocol", ["linear-ssl4eo", "finetune-ssl4eo"])
@pytest.mark.parametrize("task", ["bigearthnet", "eurosat", "so2sat"])
def test_what_differs_between_the_scripts(protocol: str, task: str) -> None:
    moco, moco_v3, dino, mae, data2vec = (
        recipe_of(protocol, task, checkpoint) for checkpoint in (MOCO, MOCO_V3, DINO, MAE, DATA2VEC)
    )
    every, many = task != "bigearthnet", task == "bigearthnet"
    assert moco.scored_epochs == moco_v3.scored_epochs == tuple(range(5, 101, 5))
    assert dino.scored_epochs == mae.scored_epochs == (*range(1, 97, 5), 100)
    assert data2vec.scored_epochs == tuple(range(1, 101 if every else 97, 1 if every else 5))
    recipes = (moco, moco_v3, dino, mae, data2vec)
    assert [bool(recipe.by_epoch) for recipe in recipes] == [True, True, True, False, False]
    assert [bool(recipe.keeps_last) for recipe in recipes] == [False, many, many, False, False]
    assert [bool(recipe.drops_scored) for recipe in recipes] == [True, not many, False, False, False]
    assert [bool(recipe.weighted) for recipe in recipes] == [False, many, True, True, True]
    assert {bool(recipe.shuffles_scored) for recipe in recipes} == {task != "so2sat"}
    assert (data2vec.nesterov, data2vec.head_std) == (True, 2e-5)
    assert mae.weight_decay == 0
    assert mae.batch_norm
    tuned = protocol == "finetune-ssl4eo"
    assert (bool(moco_v3.frozen_positions), bool(moco_v3.evaluating)) == (tuned, tuned and many)


def test_a_recipe_of_version_1_reads_as_it_was_written() -> None:
    written = {
        "name": "linear-ssl4eo",
        "version": 1,
        "method": "DINO",
        "rate": 0.1,
        "schedule": "cosine",
        "warmup": 0,
        "weight_decay": 0.0,
        "layer_decay": 1.0,
        "batch": 256,
        "batch_norm": False,
        "drift": False,
        "epochs": 100,
        "every": 5,
        "smallest_crop": 0.8,
        "scored_batch": 64,
    }
    recipe = Recipe.model_validate(written)
    assert recipe.model_dump(exclude_none=True) == written  # what the digest of a run is made of
    assert recipe.scored_epochs == tuple(range(5, 101, 5))
    assert Recipe.model_fields["version"].default == 2


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
    assert augmented(torch.zeros(2, 3, 38, 38), crops[:2], 32).shape == (2, 3, 32, 32)
