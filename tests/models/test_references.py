"""Features of whole networks against reference networks that share no code with timm."""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor
from torch.nn import functional

from ssl4eo_bench.config.checkpoint import Feature
from ssl4eo_bench.config.layouts import LAYOUTS
from ssl4eo_bench.models.timm_model import TimmBackbone
from ssl4eo_bench.solver.standardisation import Standardisation
from tests.models.references import (
    State,
    data2vec_feature,
    random_state,
    relative_positions,
    resnet50_feature,
    vit_features,
)

# What the module computes, and what it should: in float64, so that only another definition makes a difference.
TOLERANCE = 1e-9
HEADS = 6


def filled(arch: str, **options: Any) -> tuple[Any, State]:
    """A network of random values for 13 bands, and its tensors, both in float64."""
    module: Any = timm.create_model(arch, in_chans=13, **options)
    module.reset_classifier(0)
    state = random_state(module)
    if arch.startswith("beit"):  # its files do not have these
        state |= {name: torch.full_like(state[name], value) for name, value in LAYOUTS["data2vec"].constants.items()}
    state = {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    module = module.double().eval()
    module.load_state_dict(state, strict=True)
    return module, state


def feature_of(module: Any, feature: Feature) -> Tensor:
    return TimmBackbone(module, feature).pooled(images())


def images(count: int = 2) -> Tensor:
    return torch.randn(count, 13, 224, 224, generator=torch.Generator().manual_seed(1)).double()


def difference(first: Tensor, second: Tensor) -> float:
    """The largest one, relative to the largest value."""
    assert first.shape == second.shape
    return float((first - second).abs().max() / second.abs().max())


@pytest.fixture(scope="module")
def vit() -> tuple[Any, State]:
    return filled("vit_small_patch16_224")


@pytest.fixture(scope="module")
def beit() -> tuple[Any, State]:
    return filled("beit_small_patch16_224")


@pytest.fixture(scope="module")
def resnet() -> tuple[Any, State]:
    return filled("resnet50")


@torch.inference_mode()
def test_vit_features_are_those_of_the_reference_network(vit: tuple[Any, State]) -> None:
    module, state = vit
    expected = vit_features(state, images(), heads=HEADS)
    assert expected["cls4"].shape == (2, 4 * 384)
    for feature, value in {**expected, "pooled": expected["cls"]}.items():
        assert difference(feature_of(module, feature), value) < TOLERANCE, feature


@torch.inference_mode()
def test_another_number_of_heads_fits_the_same_tensors_and_gives_other_features(vit: tuple[Any, State]) -> None:
    """MoCo-v3 has twelve heads in its own ViT-S, SSL4EO-S12's six."""
    module, state = vit
    twelve, its_state = filled("vit_small_patch16_224", num_heads=12)
    assert {name: tensor.shape for name, tensor in its_state.items()} == {n: t.shape for n, t in state.items()}
    twelve.load_state_dict(state, strict=True)
    expected = vit_features(state, images(), heads=12)
    for feature, value in expected.items():
        assert difference(feature_of(twelve, feature), value) < TOLERANCE
        assert difference(feature_of(module, feature), value) > 0.1


@torch.inference_mode()
def test_the_feature_of_data2vec_is_that_of_the_reference_network(beit: tuple[Any, State]) -> None:
    module, state = beit
    assert state["rel_pos_bias.relative_position_bias_table"].shape == (732, HEADS)
    expected = data2vec_feature(state, images(), heads=HEADS)
    assert difference(feature_of(module, "pooled"), expected) < TOLERANCE


def test_every_row_of_the_position_biases_is_used_and_offsets_are_of_query_to_key() -> None:
    rows = relative_positions(14)
    assert set(rows.flatten().tolist()) == set(range(732))
    assert set(rows[1:, 1:].diagonal().tolist()) == {364}  # no offset: the middle
    assert [int(rows[2, 1]), int(rows[15, 1]), int(rows[1, 2])] == [365, 364 + 27, 363]  # right, below, left of the key
    assert [int(rows[0, 5]), int(rows[5, 0]), int(rows[0, 0])] == [729, 730, 731]


@torch.inference_mode()
def test_pooled_features_of_a_resnet_are_those_of_the_reference_network(resnet: tuple[Any, State]) -> None:
    module, state = resnet
    assert difference(feature_of(module, "pooled"), resnet50_feature(state, images())) < TOLERANCE


def changed(state: State, name: str, row: int | None = None) -> State:
    """The tensors with other values in one of them, or in one row of it."""
    tensor = state[name].clone()
    tensor[slice(None) if row is None else row] *= 1.5
    return {**state, name: tensor}


def require_sensitive(
    network: Callable[[State], dict[str, Tensor]], state: State, names: list[tuple[str, int | None]]
) -> None:
    """Each of these tensors must matter, or a comparison with the network would say nothing about it."""
    usual = network(state)
    for name, row in names:
        for feature, value in network(changed(state, name, row)).items():
            assert difference(value, usual[feature]) > 1e3 * TOLERANCE, (feature, name, row)


def outside_and_last_block(state: State) -> list[tuple[str, int | None]]:
    """The tensors of the last block and those outside the blocks, without the norm that data2vec's files do not have."""
    names = (name for name in state if name.startswith("blocks.5.") or not name.startswith(("blocks.", "fc_norm.")))
    return [(name, None) for name in names]


@torch.inference_mode()
def test_every_kind_of_tensor_changes_the_features_of_the_reference_vit(vit: tuple[Any, State]) -> None:
    one, names = images(1), outside_and_last_block(vit[1])
    assert len(names) == 18
    require_sensitive(lambda state: vit_features(state, one, heads=HEADS), vit[1], names)


@torch.inference_mode()
def test_every_kind_of_tensor_changes_the_features_of_the_reference_data2vec(beit: tuple[Any, State]) -> None:
    one, names = images(1), outside_and_last_block(beit[1])
    assert len(names) == 19
    names += [("rel_pos_bias.relative_position_bias_table", row) for row in (0, 364, 728, 729, 730, 731)]
    require_sensitive(lambda state: {"pooled": data2vec_feature(state, one, heads=HEADS)}, beit[1], names)


@torch.inference_mode()
def test_every_kind_of_tensor_changes_the_features_of_the_reference_resnet(resnet: tuple[Any, State]) -> None:
    parts = ("weight", "bias", "running_mean", "running_var")
    names = ["conv1.weight", "layer2.0.conv1.weight", "layer2.0.conv2.weight", "layer2.0.conv3.weight"]
    names += ["layer2.0.downsample.0.weight", *(f"layer2.0.downsample.1.{part}" for part in parts)]
    names += [f"{norm}.{part}" for norm in ("bn1", "layer3.5.bn2") for part in parts]
    one = images(1)[..., :64, :64]
    require_sensitive(
        lambda state: {"pooled": resnet50_feature(state, one)}, resnet[1], [(name, None) for name in names]
    )


@torch.inference_mode()
def test_every_head_sees_what_the_batchnorm_of_maes_probe_gives(vit: tuple[Any, State]) -> None:
    """MAE's probe has BatchNorm without weights before its head; `linear` standardises for whatever checkpoint."""
    state = {name: tensor.float() for name, tensor in vit[1].items()}
    drawn = torch.Generator().manual_seed(2)
    scenes = torch.randn(12, 13, 1, 1, generator=drawn) + torch.randn(12, 13, 224, 224, generator=drawn)
    features = vit_features(state, scenes, heads=HEADS)["cls"]
    train, other = features[:8], features[8:]
    mean, variance = train.mean(dim=0), train.var(dim=0, correction=0)
    found = Standardisation.of(train.numpy(), torch.device("cpu"))
    for split in (train, other):
        expected = functional.batch_norm(split, mean, variance, training=False, eps=1e-6)
        (standardised,) = found.stream(split.numpy())
        torch.testing.assert_close(standardised, expected, rtol=1e-4, atol=1e-4)
    normalised = functional.batch_norm(train, None, None, training=True, eps=1e-6)
    torch.testing.assert_close(next(found.stream(train.numpy())), normalised, rtol=1e-4, atol=1e-4)
