"""The same features as torchgeo's models, from the same weights and real images. Runs where torchgeo is installed."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from ssl4eo_bench.config.bands import SENTINEL_2
from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.inputs import map_inputs
from ssl4eo_bench.models.pooled import BackboneFeatures, feature_module
from tests.models.references import random_state
from tests.real_patches import Patches, read_patches

models = pytest.importorskip("torchgeo.models")

COUNT = 4
FEATURES = {
    "resnet18": ("pooled",),
    "resnet50": ("pooled",),
    "vit_small_patch16_224": ("pooled", "cls"),
    "vit_base_patch16_224": ("pooled", "cls"),
}


@pytest.fixture(scope="module", params=["eurosat", "bigearthnet"])
def patches(request: pytest.FixtureRequest, real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Patches:
    return read_patches(request.param, real_data, tmp_path_factory.mktemp("real"), COUNT)


def filled(arch: str, folder: Path) -> tuple[Any, dict[str, str]]:
    """torchgeo's model with random tensors, and the file of them."""
    module = getattr(models, arch)(weights=None, in_chans=13)
    state = random_state(module)
    module.load_state_dict(state, strict=True)
    file = folder / f"{arch}.pth"
    torch.save(state, file)
    return module.eval(), {"path": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "layout": "timm"}


@pytest.mark.parametrize("arch", FEATURES)
@torch.inference_mode()
def test_features_of_real_patches_are_those_of_torchgeos_model(patches: Patches, tmp_path: Path, arch: str) -> None:
    task, groups = patches
    names = task.groups([band.name for band in task.bands])
    sizes = [(group.shape[-2], group.shape[-1]) for group in groups]
    theirs, weights = filled(arch, tmp_path)
    for feature in FEATURES[arch]:
        entry = {"name": f"{arch}.peer", "arch": arch, "weights": weights, "bands": SENTINEL_2, "image_size": 224}
        checkpoint = Checkpoint.model_validate({**entry, "scaling": {"divide": 10000}, "feature": feature})
        ours = feature_module(checkpoint, map_inputs(task.bands, checkpoint), names, sizes, seed=0)
        assert isinstance(ours, BackboneFeatures)
        last = theirs.forward_features(ours.preprocess(*groups))
        expected = last[:, 0] if feature == "cls" else theirs.forward_head(last, pre_logits=True)
        largest = expected.abs().max()
        assert expected.std(dim=0).max() > 1e-3 * largest  # the images are told apart
        torch.testing.assert_close(ours(*groups) / largest, expected / largest, rtol=0, atol=1e-5)
