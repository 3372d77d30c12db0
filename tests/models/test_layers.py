"""Features of one layer, against a walk through the network."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.checkpoint import Checkpoint, Layer
from ssl4eo_bench.config.inputs import map_inputs
from ssl4eo_bench.config.protocols import settings
from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.models.dense import dense_module
from ssl4eo_bench.models.plugin import Features
from ssl4eo_bench.models.pooled import feature_module
from ssl4eo_bench.models.runtime import make_runner
from ssl4eo_bench.models.timm_model import TimmBackbone
from tests.models.test_dense import BANDS, GROUPS, entry, pixels


class Staged(nn.Module):
    """A plug-in with maps of three sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 1)

    def forward(self, images: torch.Tensor) -> Features:
        first = self.convolution(images)[..., ::4, ::4]
        maps = (first, first[:, :3, ::2, ::2], first[:, :2, ::4, ::4])
        return Features(first.amax(dim=(2, 3)), maps=maps)


STAGED = {"arch": f"python:{__name__}:Staged"}


def module_of(checkpoint: Checkpoint, make: Any = feature_module) -> Any:
    return make(checkpoint, map_inputs(BANDS, checkpoint), GROUPS, [(64, 64)], seed=0)


def test_a_stage_of_a_cnn_is_the_mean_over_the_places_of_its_map() -> None:
    networks = {number: module_of(entry("resnet18", 64, feature=f"stage:{number}")) for number in range(1, 6)}
    resnet = networks[1].backbone.network
    with torch.inference_mode():
        stem = resnet.act1(resnet.bn1(resnet.conv1(networks[1].preprocess(pixels()))))
        expected = [stem, resnet.layer1(resnet.maxpool(stem))]
        for layer in (resnet.layer2, resnet.layer3, resnet.layer4):
            expected.append(layer(expected[-1]))
        for (number, network), found in zip(networks.items(), expected, strict=True):
            torch.testing.assert_close(network(pixels()), found.mean(dim=(2, 3)), rtol=1e-4, atol=1e-5)
            assert network.backbone.layer == Layer("stage", number, is_token=False)
        pooled = module_of(entry("resnet18", 64))
        torch.testing.assert_close(networks[5](pixels()), pooled(pixels()))


def test_a_block_of_a_vit_gives_patch_tokens_or_its_class_token_after_the_norm() -> None:
    checkpoint = entry("vit_tiny_patch16_224", 64)
    module = module_of(checkpoint)
    vit = module.backbone.network
    with torch.inference_mode():
        tokens = vit._pos_embed(vit.patch_embed(module.preprocess(pixels())))
        for number, block in enumerate(vit.blocks, start=1):
            tokens = block(tokens)
            normed = vit.norm(tokens)
            for feature, expected in (
                (f"block:{number}", normed[:, 1:].mean(1)),
                (f"block:{number}:cls", normed[:, 0]),
            ):
                layer = checkpoint.model_copy(update={"feature": feature}).layer
                assert layer is not None
                assert not module.backbone.lack_of(layer)
                module.backbone.layer = layer
                torch.testing.assert_close(module(pixels()), expected, rtol=1e-4, atol=1e-5)


def test_a_layer_of_a_plug_in_is_one_of_its_maps() -> None:
    for number, width in ((1, 4), (2, 3), (3, 2)):
        module = module_of(entry(image_size=64, feature=f"stage:{number}", **STAGED))
        with torch.inference_mode():
            found = module.backbone.features(module.preprocess(pixels())).maps[number - 1]
            torch.testing.assert_close(module(pixels()), found.mean(dim=(2, 3)))
        assert found.shape[1] == width


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arch": "resnet18", "feature": "stage:6"}, "resnet18 has no more than 5 stages, stage:1 to stage:5; use"),
        ({"arch": "resnet18", "feature": "block:1"}, "resnet18 has no blocks but stages, stage:1 to stage:5; use"),
        ({"arch": "test_vit", "feature": "stage:1"}, "test_vit has no stages but blocks, block:1 to block:"),
        ({"arch": "test_vit", "feature": "block:900:cls"}, "test_vit has no more than "),
        ({"arch": "mixer_s32_224", "feature": "block:8:cls"}, "mixer_s32_224 has no class token; use"),
        ({"arch": "cait_xxs24_224", "feature": "block:8:cls"}, "cait_xxs24_224 has no class token in its blocks; use"),
        ({"arch": "cait_xxs24_224", "feature": "cls4"}, "cait_xxs24_224 has no class token in its blocks; use"),
        ({**STAGED, "feature": "stage:4"}, "Staged has no more than 3 stages, stage:1 to stage:3; use"),
    ],
    ids=lambda value: f"{value['arch']}-{value['feature']}" if isinstance(value, dict) else "",
)
def test_a_layer_that_is_not_there_is_refused(changes: dict[str, str], message: str) -> None:
    size = 224 if changes["arch"].startswith(("mixer", "cait")) else 160
    with pytest.raises(SpecError, match="checkpoint 'n' asks for feature") as error:
        module_of(entry(image_size=size, **changes))
    assert message in str(error.value)


@pytest.mark.parametrize("feature", ["stage", "stage:0", "stage:1:cls", "stage:-1", "block:1:", "block:x", "last", ""])
def test_what_names_no_feature_is_refused(feature: str) -> None:
    with pytest.raises(ValueError, match="is not one of pooled, cls, avg, cls4, stage:N, block:N and block:N:cls"):
        entry("resnet18", 64, feature=feature)


def test_label_maps_are_probed_on_the_one_layer() -> None:
    module = module_of(entry("resnet18", 64, feature="stage:4"), dense_module)
    with torch.inference_mode():
        found = module(pixels())
        expected = module.backbone.maps(module.preprocess(pixels()), (3,))[3]
    torch.testing.assert_close(found, expected)
    assert found.shape == (2, 256, 4, 4)
    with pytest.raises(SpecError, match="has no more than 5 stages"):
        module_of(entry("resnet18", 64, feature="stage:6"), dense_module)


def test_what_lies_behind_a_layer_is_not_computed() -> None:
    for arch, feature, behind in (
        ("resnet18", "stage:2", "layer2"),
        ("vit_tiny_patch16_224", "block:3:cls", "blocks.3"),
    ):
        module = module_of(entry(arch, 64, feature=feature))
        called: list[object] = []
        module.backbone.network.get_submodule(behind).register_forward_hook(
            lambda *given, seen=called: seen.append(given)
        )
        with torch.inference_mode():
            module(pixels())
        assert not called


def test_a_layer_runs_on_the_fastest_runner(progress: Any) -> None:
    module = module_of(entry("test_resnet", 64, feature="stage:2"))
    stored = pixels(count=3).numpy().astype(np.uint16)
    with torch.inference_mode():
        expected = module(pixels(count=3)).numpy()
    found = make_runner(module, (stored,), "cpu", progress.note)((stored,))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert not progress.notes


def test_training_takes_the_whole_network_and_class_tokens_have_no_places() -> None:
    checkpoint = entry("resnet18", 64, feature="stage:2")
    images, maps = catalogue.task("eurosat"), catalogue.task("dfc2020")
    assert settings("linear", images, checkpoint) == settings("linear", images, entry("resnet18", 64))
    assert settings("linear", maps, checkpoint) == settings("linear", maps, entry("resnet18", 64))
    for name in ("finetune", "linear-ssl4eo", "finetune-ssl4eo"):
        with pytest.raises(
            SpecError, match="feature 'stage:2' of checkpoint 'n' is for frozen networks; use --protocol"
        ):
            settings(name, images, checkpoint)
    with pytest.raises(SpecError, match="gives one vector for each image, and task 'dfc2020' has labels of pixels"):
        settings("linear", maps, entry("test_vit", 64, feature="block:2:cls"))


def test_identity_holds_the_feature_and_nothing_else_of_it() -> None:
    plain, layer = entry("resnet18", 64).identity(), entry("resnet18", 64, feature="stage:2").identity()
    assert layer == plain | {"feature": "stage:2"}
    assert TimmBackbone.layer is None  # of every backbone, until an entry names one
