"""Features against their definitions, written out."""

from typing import Any

import numpy as np
import pytest
import timm
import torch

from ssl4eo_bench.config.bands import Band
from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.inputs import map_inputs
from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.models.band_statistics import QUANTILES
from ssl4eo_bench.models.pooled import feature_module
from ssl4eo_bench.models.timm_model import TimmBackbone


@pytest.fixture(scope="module")
def vit() -> Any:
    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0).eval()


def outputs_of_blocks(vit: Any, images: torch.Tensor) -> list[torch.Tensor]:
    """Token sequences after each block, by walking through the network."""
    tokens = vit._pos_embed(vit.patch_embed(images))
    after = []
    for block in vit.blocks:
        tokens = block(tokens)
        after.append(tokens)
    return after


def test_vit_features_are_what_their_names_say(vit: Any) -> None:
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        after = outputs_of_blocks(vit, images)
        last = vit.norm(after[-1])
        expected = {
            "pooled": last[:, 0],
            "cls": last[:, 0],
            "avg": last[:, 1:].mean(1),
            "cls4": torch.cat([vit.norm(tokens)[:, 0] for tokens in after[-4:]], dim=1),
        }
        for feature, value in expected.items():
            torch.testing.assert_close(TimmBackbone(vit, feature).pooled(images), value)
    assert expected["cls4"].shape == (2, 768)


def entry(**changes: Any) -> Checkpoint:
    base = {"name": "n", "arch": "test_resnet", "weights": {"random": True}, "bands": ["B04", "B03", "B02"]}
    return Checkpoint.model_validate(base | {"image_size": 32, "scaling": {"divide": 10000}} | changes)


BANDS = tuple(Band(name=name, unit="dn", resolution=10) for name in ("B02", "B03", "B04"))
GROUPS = (("B02", "B03", "B04"),)


def test_a_feature_the_architecture_lacks_is_refused() -> None:
    checkpoint = entry(feature="cls")
    with pytest.raises(SpecError, match="asks for feature 'cls', but test_resnet has no class token"):
        feature_module(checkpoint, map_inputs(BANDS, checkpoint), GROUPS, [(16, 16)], seed=0)


def test_pooled_features_are_the_global_average() -> None:
    checkpoint = entry()
    module = feature_module(checkpoint, map_inputs(BANDS, checkpoint), GROUPS, [(16, 16)], seed=0)
    stored = torch.randint(1, 9000, (4, 3, 16, 16))
    with torch.inference_mode():
        images = module.preprocess(stored)
        expected = module.backbone.network.forward_features(images).mean((2, 3))  # type: ignore[operator, union-attr]
        torch.testing.assert_close(module(stored), expected)


def test_features_of_an_image_do_not_depend_on_its_batch() -> None:
    checkpoint = entry()
    module = feature_module(checkpoint, map_inputs(BANDS, checkpoint), GROUPS, [(16, 16)], seed=0)
    stored = torch.randint(1, 9000, (7, 3, 16, 16))
    with torch.inference_mode():
        alone = torch.cat([module(stored[row : row + 1]) for row in range(7)])
        torch.testing.assert_close(module(stored), alone, rtol=1e-5, atol=1e-6)


def test_band_statistics_are_those_of_the_raw_pixels_at_their_stored_size() -> None:
    bands = (*BANDS, Band(name="B11", unit="dn", resolution=20), Band(name="B01", unit="reflectance", resolution=60))
    groups = (("B02", "B03", "B04"), ("B11",), ("B01",))
    stats = Checkpoint.model_validate(
        {"name": "bandstats", "arch": "bandstats", "bands": "task", "image_size": "native", "scaling": {"raw": True}}
    )
    sizes = [(12, 12), (6, 6), (2, 2)]
    module = feature_module(stats, map_inputs(bands, stats), groups, sizes, seed=0)
    rng = np.random.default_rng(0)
    stored = [rng.uniform(1, 9000, (3, len(group), *size)) for group, size in zip(groups, sizes, strict=True)]
    stored[2] /= 10000
    result = module(*(torch.from_numpy(group) for group in stored)).numpy()
    pixels = [stored[0][:, c].reshape(3, -1) for c in range(3)] + [
        stored[1].reshape(3, -1),
        1e4 * stored[2].reshape(3, -1),
    ]
    expected = [band.mean(1) for band in pixels] + [band.std(1) for band in pixels]
    expected += [np.quantile(band, q, axis=1) for q in QUANTILES for band in pixels]
    np.testing.assert_allclose(np.sort(result, axis=1), np.sort(np.stack(expected, axis=1), axis=1), rtol=1e-5)
    np.testing.assert_allclose(result[:, :10], np.stack(expected[:10], axis=1), rtol=1e-5)
