"""Random crops, flips and turns."""

import pytest
import torch
from torch import Tensor

from ssl4eo_bench.training.augmentation import augmented, augmented_labels, draw_views


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def augment(images: Tensor, smallest: float, draw: torch.Generator) -> Tensor:
    return augmented(images, draw_views(len(images), smallest, draw))


def test_without_crops_an_image_is_one_of_its_eight_symmetries_and_all_occur() -> None:
    image = torch.rand(1, 3, 8, 8, generator=generator())
    turned = [torch.rot90(image, turns, (2, 3)) for turns in range(4)]
    symmetries = torch.cat([*turned, *(one.flip(3) for one in turned)])
    found = augment(image.expand(200, -1, -1, -1), 1.0, generator())
    distances = (found[:, None] - symmetries[None]).abs().amax((2, 3, 4))
    assert distances.min(1).values.max() < 1e-5
    assert set(distances.argmin(1).tolist()) == set(range(8))


def test_a_crop_lies_inside_of_the_image_and_keeps_its_share() -> None:
    ramp = torch.linspace(-1, 1, 64).expand(1, 1, 64, 64).contiguous()  # the value is the place
    found = augment(ramp.expand(300, -1, -1, -1), 0.25, generator())
    extent = found.amax((1, 2, 3)) - found.amin((1, 2, 3))
    assert found.abs().max() <= 1 + 1e-6
    assert extent.min() >= 2 * 0.5 * 63 / 64 * 0.98
    assert extent.min() < 1.2
    assert extent.max() > 1.8


def test_the_generator_decides() -> None:
    images = torch.rand(4, 2, 16, 16)
    first, again, other = (augment(images, 0.8, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_type_and_shape_stay(dtype: torch.dtype) -> None:
    assert augment(torch.rand(2, 13, 20, 20, dtype=dtype), 0.8, generator()).dtype == dtype


def test_label_maps_are_seen_as_their_images_are() -> None:
    labels = torch.randint(0, 5, (50, 32, 32), generator=generator(), dtype=torch.uint8)
    labels[:, :4] = 255  # no class: nearest neighbours never mix it with others
    views = draw_views(50, 0.5, generator())
    found = augmented_labels(labels, views)
    assert found.dtype == torch.uint8
    assert set(found.flatten().tolist()) == {0, 1, 2, 3, 4, 255}
    coarse = torch.arange(16.0).view(1, 1, 4, 4).expand(50, -1, -1, -1)
    blocks = coarse.repeat_interleave(16, 2).repeat_interleave(16, 3)  # constant but for the edges of blocks
    same = augmented(blocks, views)[:, 0] == augmented_labels(blocks[:, 0].long(), views)
    assert same.float().mean() > 0.8
