"""Late fusion: the two branches of a joint file, each on its own sensor, and their features side by side."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from ssl4eo_bench.backbones.late_fusion import LateFusion
from ssl4eo_bench.config.bands import SENTINEL_1, SENTINEL_2
from ssl4eo_bench.config.catalogue import load_catalogue
from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.scaling import scaling_of
from ssl4eo_bench.errors import SpecError, WeightsError
from ssl4eo_bench.models.build import build
from ssl4eo_bench.models.plugin import Inputs
from ssl4eo_bench.results.files import read_result
from tests.models.layouts import State, put, training_state, weights

Command = Callable[..., tuple[int, str, str]]
ENTRIES = {
    "resnet18": "resnet50.ssl4eo_s12-decur-s1s2-full",
    "vit_tiny_patch16_224": "vit_small_patch16_224.ssl4eo_s12-decur-s1s2-full",
}
SIZES = {"resnet18": 64, "vit_tiny_patch16_224": 224}
SMALL = pytest.mark.parametrize("arch", list(ENTRIES))


def branch(arch: str, channels: int, seed: int) -> nn.Module:
    """A network with random weights and, where it has them, random BatchNorm statistics."""
    torch.manual_seed(seed)
    network = timm.create_model(arch, in_chans=channels, num_classes=0).eval()
    for name, tensor in network.state_dict().items():
        if name.endswith("running_mean"):
            tensor.uniform_(-0.1, 0.1)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
    return network


def joint_file(folder: Path, radar: nn.Module, optical: nn.Module) -> Path:
    """A training state as DeCUR's `pretrain_mm.py` writes it."""
    heads: State = weights("module.projector1.0.weight", "module.projector2.0.weight", "module.bn.running_mean")
    branches = put("module.backbone_1.", radar.state_dict()) | put("module.backbone_2.", optical.state_dict())
    torch.save(training_state({}, model=branches | heads), folder / "joint.pth")
    return folder / "joint.pth"


def entry(arch: str, file: Path, **changes: Any) -> Checkpoint:
    """The shipped entry of late fusion for a file on disk, with a smaller architecture."""
    shipped = load_catalogue().checkpoint(ENTRIES[arch]).model_dump()
    layout = shipped["weights"]["layout"]
    place = {"path": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "layout": layout}
    named = {"name": "joint.mine", "weights": place, "options": {"arch": arch}, "image_size": SIZES[arch]}
    return Checkpoint.model_validate(shipped | named | changes)


@SMALL
def test_features_are_those_of_both_branches_computed_alone(arch: str, tmp_path: Path) -> None:
    radar, optical = branch(arch, 2, seed=1), branch(arch, 13, seed=2)
    checkpoint = entry(arch, joint_file(tmp_path, radar, optical))
    images = torch.randn(3, 15, SIZES[arch], SIZES[arch], generator=torch.Generator().manual_seed(0))
    assert checkpoint.bands == (*SENTINEL_1, *SENTINEL_2)
    with torch.inference_mode():
        expected = torch.cat([radar(images[:, :2]), optical(images[:, 2:])], dim=1)
        found = build(checkpoint, seed=0).pooled(images)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_bands_are_sorted_to_their_sensor_in_whatever_order_the_entry_lists_them(tmp_path: Path) -> None:
    radar, optical = branch("resnet18", 2, seed=1), branch("resnet18", 13, seed=2)
    order = ["B01", "VH", *SENTINEL_2[1:], "VV"]
    checkpoint = entry("resnet18", joint_file(tmp_path, radar, optical), bands=order)
    images = {band: torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(n)) for n, band in enumerate(order)}
    with torch.inference_mode():
        given = [torch.stack([images[b] for b in bands], dim=1) for bands in (order, ("VH", "VV"), SENTINEL_2)]
        expected = torch.cat([radar(given[1]), optical(given[2])], dim=1)
        torch.testing.assert_close(build(checkpoint, seed=0).pooled(given[0]), expected, rtol=1e-5, atol=1e-5)


@SMALL
def test_maps_are_those_of_both_branches_stage_by_stage(arch: str, tmp_path: Path) -> None:
    radar, optical = branch(arch, 2, seed=1), branch(arch, 13, seed=2)
    backbone = build(entry(arch, joint_file(tmp_path, radar, optical)), seed=0)
    images = torch.randn(2, 15, SIZES[arch], SIZES[arch], generator=torch.Generator().manual_seed(0))
    last = len(backbone.strides) - 1
    with torch.inference_mode():
        found = backbone.maps(images, [last])[last]
        parts = [
            network.forward_intermediates(part, indices=1, norm="vit" in arch, intermediates_only=True)[0]  # type: ignore[operator]
            for network, part in ((radar, images[:, :2]), (optical, images[:, 2:]))
        ]
    torch.testing.assert_close(found, torch.cat(parts, dim=1), rtol=1e-5, atol=1e-5)
    assert backbone.channels[last] == found.shape[1]
    assert backbone.strides[last] == SIZES[arch] // found.shape[-1]


def test_a_file_that_lacks_a_tensor_of_either_branch_is_refused(tmp_path: Path) -> None:
    radar, optical = branch("resnet18", 2, seed=1), branch("resnet18", 13, seed=2)
    del radar.bn1
    with pytest.raises(WeightsError, match=r"missing: backbone_1\.bn1\.weight"):
        build(entry("resnet18", joint_file(tmp_path, radar, optical)), seed=0)


def test_bands_of_one_sensor_are_refused() -> None:
    with pytest.raises(SpecError, match="needs bands of Sentinel-1 and of Sentinel-2"):
        LateFusion(Inputs.of(SENTINEL_2, 64))


def test_layers_hold_every_parameter_of_both_networks_once_from_input_to_output() -> None:
    network = LateFusion(Inputs.of((*SENTINEL_1, *SENTINEL_2), 64), "resnet18")
    layers = network.layers()
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    listed = [names[id(parameter)] for layer in layers for parameter in layer]
    assert sorted(listed) == sorted(names.values())
    first, last = ([names[id(parameter)] for parameter in layer] for layer in (layers[0], layers[-1]))
    assert {"backbone_1.conv1.weight", "backbone_2.conv1.weight"} <= set(first)
    assert {"backbone_1.layer4.1.conv2.weight", "backbone_2.layer4.1.conv2.weight"} <= set(last)


@pytest.mark.parametrize(("task", "limit"), [("so2sat-s1s2", 24), ("dfc2020-s1s2", 4)])
def test_it_runs_on_tasks_of_both_sensors(task: str, limit: int, command: Command, tmp_path: Path) -> None:
    joint = joint_file(tmp_path, branch("resnet18", 2, seed=1), branch("resnet18", 13, seed=2))
    written = entry("resnet18", joint).model_dump(mode="json", exclude={"name", "licence", "citation", "pretraining"})
    (tmp_path / "mine.yaml").write_text(json.dumps({"checkpoints": {"joint.mine": written}}))
    options = ("--sample", "--limit", limit, "--checkpoint", "joint.mine", "--checkpoints", tmp_path / "mine.yaml")
    code, out, err = command("run", "--task", task, "--protocol", "linear", "--json", *options)
    assert code == 0, err
    result = read_result(Path(json.loads(out)[0]["file"]))
    assert result.spec.inputs.bands == (*SENTINEL_1, *SENTINEL_2)
    quantised = {channel.band: channel.levels for channel in result.spec.inputs.channels if channel.source}
    assert set(quantised.values()) == {255}
    assert scaling_of(result.spec.checkpoint.scaling, "Sentinel-2") != scaling_of(
        result.spec.checkpoint.scaling, "Sentinel-1"
    )
