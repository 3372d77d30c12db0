"""The input tensor, against plain arithmetic and Pillow."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ssl4eo_bench.config.bands import SENTINEL_2, Band
from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.inputs import InputMapping, map_inputs
from ssl4eo_bench.models.preprocess import Preprocess
from ssl4eo_bench.models.resizing import resize_matrix

GROUPS = (("B02", "B03", "B04", "B08"), ("B05", "B8A"), ("B01", "B09"))
SIZES = ((24, 24), (12, 12), (4, 4))
RESOLUTION = {band: 10 * 24 // size[0] for group, size in zip(GROUPS, SIZES, strict=True) for band in group}


def mapping(wanted: list[str], scaling: dict[str, Any], size: int = 36) -> InputMapping:
    checkpoint = Checkpoint.model_validate(
        {
            "name": "n",
            "arch": "n",
            "weights": {"random": True},
            "bands": wanted,
            "image_size": size,
            "scaling": scaling,
        }
    )
    given = tuple(Band(name=band, unit="dn", resolution=RESOLUTION[band]) for group in GROUPS for band in group)
    return map_inputs(given, checkpoint, fill_bands=True)


def pixels(seed: int = 0) -> tuple[torch.Tensor, ...]:
    rng = np.random.default_rng(seed)
    return tuple(
        torch.from_numpy(rng.integers(1, 12000, (2, len(group), *size)).astype(np.uint16))
        for group, size in zip(GROUPS, SIZES, strict=True)
    )


def resized_by_pillow(image: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("size", [36, 24, 10])
def test_every_group_is_resized_once_as_pillow_does(size: int) -> None:
    wanted = ["B01", "B04", "B8A", "B02"]
    groups = pixels()
    result = Preprocess(mapping(wanted, {"divide": 10000}, size), GROUPS, SIZES)(*groups).numpy()
    assert result.shape == (2, 4, size, size)
    for image in range(2):
        for channel, band in enumerate(wanted):
            number = next(n for n, group in enumerate(GROUPS) if band in group)
            stored = groups[number][image, GROUPS[number].index(band)].numpy()
            expected = resized_by_pillow(stored, size).clip(0, 65535) / 10000
            np.testing.assert_allclose(result[image, channel], expected, rtol=1e-5, atol=1e-5)


def test_an_image_of_the_right_size_is_not_touched() -> None:
    groups = pixels()
    result = Preprocess(mapping(["B04", "B02"], {"divide": 1}, 24), GROUPS, SIZES)(*groups)
    np.testing.assert_array_equal(result[:, 0].numpy(), groups[0][:, 2].float().numpy())


def test_permuted_groups_with_permuted_names_give_the_same_tensor() -> None:
    groups = pixels()
    wanted = mapping(list(SENTINEL_2), {"divide": 10000})
    straight = Preprocess(wanted, GROUPS, SIZES)(*groups)
    shuffled = Preprocess(wanted, tuple(group[::-1] for group in GROUPS), SIZES)(*(g.flip(1) for g in groups))
    torch.testing.assert_close(straight, shuffled, rtol=0, atol=0)


def test_filled_channels_are_zero_and_leave_the_others_alone() -> None:
    statistics = {"mean": dict.fromkeys(SENTINEL_2, 900.0), "std": dict.fromkeys(SENTINEL_2, 300.0)}
    result = Preprocess(mapping(["B10", "B04", "B12"], statistics, 24), GROUPS, SIZES)(*pixels())
    assert not result[:, [0, 2]].any()
    np.testing.assert_allclose(
        result[:, 1].numpy(), (pixels()[0][:, 2].float().numpy() - 900) / 300, rtol=1e-5, atol=1e-5
    )


def test_quantisation_and_stretch_as_written() -> None:
    stored = pixels()[0][:, 2].float().numpy()
    quantised = Preprocess(mapping(["B04"], {"uint8": 10000}, 24), GROUPS, SIZES)(*pixels())[:, 0].numpy()
    np.testing.assert_allclose(quantised, np.floor(np.clip(stored / 10000, 0, 1) * 255) / 255, atol=1 / 255 + 1e-6)
    assert (quantised == np.floor(np.clip(stored / 10000, 0, 1) * 255) / 255).mean() > 0.99
    scaling = {"stretch": [0, 2750], "mean": {"B04": 0.485}, "std": {"B04": 0.229}}
    stretched = Preprocess(mapping(["B04"], scaling, 24), GROUPS, SIZES)(*pixels())[:, 0].numpy()
    np.testing.assert_allclose(stretched, (np.clip(stored / 2750, 0, 1) - 0.485) / 0.229, atol=1e-5)


def test_bright_pixels_stay_the_brightest() -> None:
    bright = (torch.full((1, 4, 24, 24), 20000, dtype=torch.int32).to(torch.uint16), *(g[:1] for g in pixels()[1:]))
    dark = (torch.full((1, 4, 24, 24), 5000, dtype=torch.int32).to(torch.uint16), *(g[:1] for g in pixels()[1:]))
    for scaling in ({"divide": 10000}, {"uint8": 10000}, {"mean": {"B04": 900}, "std": {"B04": 300}}):
        module = Preprocess(mapping(["B04"], scaling), GROUPS, SIZES)
        assert module(*bright).min() > module(*dark).max()


def test_rows_of_the_resize_matrix_sum_to_one() -> None:
    for stored, wanted in ((64, 224), (120, 224), (256, 224), (20, 224)):
        matrix = resize_matrix(stored, wanted, "bicubic")
        assert matrix.shape == (wanted, stored)
        torch.testing.assert_close(matrix.sum(1), torch.ones(wanted))


def test_autocast_leaves_pixels_exact() -> None:
    module, groups = Preprocess(mapping(["B01", "B04", "B8A", "B02"], {"divide": 10000}), GROUPS, SIZES), pixels()
    expected = module(*groups)
    with torch.autocast("cpu", torch.bfloat16):
        found = module(*groups)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_only_the_channels_of_a_sensor_in_8_bits_are_quantised() -> None:
    scaling = {
        "by_sensor": {
            "Sentinel-2": {"divide": 10000},
            "Sentinel-1": {"clip_std": 2, "mean": {"VV": -12.0}, "std": {"VV": 5.0}},
        }
    }
    checkpoint = Checkpoint.model_validate(
        {
            "name": "n",
            "arch": "n",
            "weights": {"random": True},
            "bands": ["VV", "B10", "B04", "B03", "B02"],
            "image_size": 8,
            "scaling": scaling,
        }
    )
    optical = tuple(Band(name=band, unit="dn", resolution=10) for band in ("B02", "B03", "B04"))
    inputs = map_inputs((*optical, Band(name="VV", unit="db", resolution=10)), checkpoint)
    rng = np.random.default_rng(3)
    stored = rng.integers(1, 15000, (2, 3, 8, 8)).astype(np.uint16)
    radar = rng.normal(-12.0, 8.0, (2, 1, 8, 8)).astype(np.float32)
    groups = (("B02", "B03", "B04"), ("VV",))
    result = Preprocess(inputs, groups, ((8, 8), (8, 8)))(torch.from_numpy(stored), torch.from_numpy(radar)).numpy()
    expected = np.floor(255 * np.clip((radar[:, 0] + 22.0) / 20.0, 0, 1)) / 255
    # float32 may fall to the other side of a step.
    assert (np.abs(result[:, 0] - expected) < 1e-6).mean() > 0.98
    np.testing.assert_allclose(255 * result[:, 0], np.rint(255 * result[:, 0]), atol=1e-4)
    assert (result[:, 1] == 0).all()
    np.testing.assert_allclose(result[:, 2:], stored[:, ::-1] / 10000, rtol=1e-6)
