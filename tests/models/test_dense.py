"""Dense features against their definitions, written out."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from ssl4eo_bench.config.bands import Band
from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.inputs import map_inputs
from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.models import dense
from ssl4eo_bench.models.backbone import Backbone
from ssl4eo_bench.models.dense import dense_module
from ssl4eo_bench.models.resizing import interpolate, resize
from ssl4eo_bench.models.runtime import make_runner

BANDS = tuple(Band(name=name, unit="dn", resolution=10) for name in ("B02", "B03", "B04"))
GROUPS = (("B02", "B03", "B04"),)
STATS = Checkpoint.model_validate(
    {"name": "bandstats", "arch": "bandstats", "bands": "task", "image_size": "native", "scaling": {"raw": True}}
)


def entry(arch: str, image_size: int, **changes: Any) -> Checkpoint:
    base = {"name": "n", "arch": arch, "weights": {"random": True}, "bands": ["B04", "B03", "B02"]}
    return Checkpoint.model_validate(base | {"image_size": image_size, "scaling": {"divide": 10000}} | changes)


def module_of(checkpoint: Checkpoint, stored: int = 64) -> Any:
    return dense_module(checkpoint, map_inputs(BANDS, checkpoint), GROUPS, [(stored, stored)], seed=0)


def pixels(stored: int = 64, count: int = 2) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(1, 9000, (count, 3, stored, stored)))


def test_a_cnn_gives_its_last_three_stages_at_stride_8() -> None:
    module = module_of(entry("resnet18", 96))
    backbone = module.backbone.network
    with torch.inference_mode():
        x = backbone.maxpool(backbone.act1(backbone.bn1(backbone.conv1(module.preprocess(pixels())))))
        second = backbone.layer2(backbone.layer1(x))
        third = backbone.layer3(second)
        fourth = backbone.layer4(third)
        resized = [functional.interpolate(m, size=(12, 12), mode="bilinear") for m in (third, fourth)]
        torch.testing.assert_close(module(pixels()), torch.cat([second, *resized], dim=1), rtol=1e-4, atol=1e-5)


def test_a_vit_gives_the_patch_tokens_of_its_last_four_blocks_after_the_norm() -> None:
    module = module_of(entry("vit_tiny_patch16_224", 64, feature="cls"))
    vit = module.backbone.network
    with torch.inference_mode():
        tokens, after = vit._pos_embed(vit.patch_embed(module.preprocess(pixels()))), []
        for block in vit.blocks:
            tokens = block(tokens)
            after.append(vit.norm(tokens)[:, 1:].transpose(1, 2).reshape(2, 192, 4, 4))
        torch.testing.assert_close(module(pixels()), torch.cat(after[-4:], dim=1), rtol=1e-4, atol=1e-5)


def test_maps_finer_than_stride_8_are_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = entry("resnet18", 64)
    assert module_of(checkpoint)(pixels()).shape == (2, 128 + 256 + 512, 8, 8)
    monkeypatch.setattr(dense, "STAGES", 4)  # stride 4 comes in
    assert module_of(checkpoint)(pixels()).shape == (2, 64 + 128 + 256 + 512, 8, 8)


def test_an_architecture_without_maps_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "build", lambda *_, **__: Backbone())
    with pytest.raises(SpecError, match="checkpoint 'n' cannot do segmentation: resnet18 gives no maps"):
        module_of(entry("resnet18", 64))


def test_band_statistics_are_those_of_the_window_around_each_pixel() -> None:
    stored = pixels(9).double()
    grid = module_of(STATS, 9)(stored).numpy()
    assert grid.shape == (2, 6, 9, 9)
    values = stored.numpy()
    for row, column in ((4, 4), (0, 0), (8, 3)):
        window = values[:, :, max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
        expected = np.concatenate([window.mean((2, 3)), window.std((2, 3))], axis=1)
        np.testing.assert_allclose(grid[:, :, row, column], expected, rtol=1e-4)


def test_coarser_groups_come_to_the_size_of_the_finest() -> None:
    bands = (*BANDS, Band(name="B11", unit="dn", resolution=20))
    inputs, groups = map_inputs(bands, STATS), (*GROUPS, ("B11",))
    module = dense_module(STATS, inputs, groups, [(8, 8), (4, 4)], seed=0)
    coarse = torch.full((2, 1, 4, 4), 700)
    grid = module(pixels(8), coarse)
    assert grid.shape == (2, 8, 8, 8)
    torch.testing.assert_close(grid[:, 3], torch.full((2, 8, 8), 700.0))
    torch.testing.assert_close(grid[:, 7], torch.zeros(2, 8, 8))


@pytest.mark.parametrize(("stored", "side"), [(28, 256), (7, 32), (16, 16), (32, 20)])
def test_resizing_and_single_pixels_are_those_of_torch(stored: int, side: int) -> None:
    rng = np.random.default_rng(0)
    grid = rng.normal(size=(2, 3, stored, stored)).astype(np.float32)
    expected = functional.interpolate(torch.from_numpy(grid), size=(side, side), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resize(torch.from_numpy(grid), side), expected, rtol=0, atol=1e-5)
    places = np.stack([rng.permutation(side * side)[:50], np.linspace(0, side * side - 1, 50).astype(int)])
    found = interpolate(grid, places, side)
    flat = expected.numpy().reshape(2, 3, -1)
    np.testing.assert_allclose(found, np.stack([flat[n][:, places[n]].T for n in range(2)]), atol=1e-5)


@pytest.mark.parametrize("arch", ["test_resnet", "vit_tiny_patch16_224", "bandstats"])
def test_every_runner_gives_the_features_of_torch(arch: str) -> None:
    pytest.importorskip("openvino")
    module = module_of(STATS if arch == "bandstats" else entry(arch, 64))
    groups = (pixels(64, 3).numpy().astype(np.uint16),)
    notes: list[str] = []
    runner = make_runner(module, groups, "cpu", notes.append)
    assert (runner.name, notes) == ("openvino-cpu", [])
    with torch.inference_mode():
        expected = module(torch.from_numpy(groups[0])).numpy()
    np.testing.assert_allclose(runner(groups), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
