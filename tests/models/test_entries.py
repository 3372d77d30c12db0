"""Every entry with a network of timm's: it is built, and a file in its layout loads to the last tensor."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ssl4eo_bench.config.catalogue import load_catalogue
from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.weights import HubWeights, RandomWeights
from ssl4eo_bench.models.build import build
from ssl4eo_bench.models.timm_model import TimmBackbone, classifier_prefixes, create_empty
from tests.models.layouts import WRITERS, State, fgmae, tensors_of

ENTRIES = {
    name: entry
    for name, entry in load_catalogue().checkpoints.items()
    if entry.has_network and not entry.is_plugin  # plug-ins have tests of their own
}
FILES = {name: entry for name, entry in ENTRIES.items() if not isinstance(entry.weights, HubWeights | RandomWeights)}
WIDTHS = {"pooled": 1, "cls": 1, "avg": 1, "cls4": 4}
BUFFER = 1 << 23
"""Random numbers in all: more than the largest tensor has."""


def family(arch: str) -> str:
    return "dinov2" if arch.endswith("dinov2") else arch.partition("_")[0].rstrip("0123456789")


@cache
def random_numbers() -> torch.Tensor:
    return torch.rand(BUFFER, generator=torch.Generator().manual_seed(0))


def filled(module: nn.Module) -> State:
    """Other random values in every tensor, counters too: pieces of one storage, so that files stay small."""
    state = {}
    for number, (name, tensor) in enumerate(module.state_dict().items()):
        if not name.startswith(classifier_prefixes(module)):
            start = number * 4099 % (BUFFER - tensor.numel())
            values = random_numbers()[start : start + tensor.numel()].view(tensor.shape)
            state[name] = values if tensor.is_floating_point() else torch.full(tensor.shape, number)
    return state


def kind(entry: Checkpoint) -> tuple[Any, ...]:
    """What decides how an entry is loaded; entries that agree in it are one case."""
    weights = entry.weights
    assert weights is not None
    layout = getattr(weights, "layout", "none")
    return entry.arch, len(entry.bands), entry.image_size, layout, layout == "mae" and "fgmae" in entry.name


def case(entry: Checkpoint) -> object:
    """The test that an entry is in; the largest networks, whose files take seconds, are one each."""
    return entry.arch if entry.arch.startswith(("vit_large", "vit_huge")) else kind(entry)


CASES = {case(entry): name for name, entry in reversed(FILES.items())}


@pytest.mark.parametrize("name", CASES.values())
def test_its_file_loads_to_the_last_tensor(name: str, tmp_path: Path) -> None:
    entry = FILES[name]
    arch, channels, size, layout, is_fgmae = kind(entry)
    module = create_empty(arch, channels, size)
    state = filled(module)
    if layout == "timm-by-order":
        content = {f"_{number}.{key}": tensor for number, (key, tensor) in enumerate(state.items())} | {
            f"_classifier.{key}": torch.zeros(tensor.shape)
            for key, tensor in module.state_dict().items()
            if key not in state
        }
    else:
        content = (fgmae if is_fgmae else WRITERS[layout][family(arch)])(state)
    file = tmp_path / "weights.pth"
    torch.save(content, file)
    with file.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    here = Checkpoint.model_validate(
        entry.model_dump() | {"weights": {"path": str(file), "sha256": sha256, "layout": layout}}
    )
    loaded = tensors_of(here)
    if layout == "data2vec":
        state |= {"fc_norm.weight": torch.ones(384), "fc_norm.bias": torch.zeros(384)}
    if layout == "torchvision":
        state = {key: torch.tensor(0) if key.endswith("num_batches_tracked") else state[key] for key in state}
    assert set(loaded) == set(state)
    assert all(torch.equal(tensor, state[key]) for key, tensor in loaded.items())


NETWORKS = {(entry.arch, len(entry.bands), entry.image_size, entry.feature): name for name, entry in ENTRIES.items()}


@pytest.mark.parametrize("name", NETWORKS.values())
def test_its_network_takes_its_bands_and_size_and_gives_its_feature(name: str) -> None:
    entry = ENTRIES[name]
    assert isinstance(entry.image_size, int)
    if entry.arch.startswith(("vit_large", "vit_huge")):  # shapes tell as much, and cost nothing
        network = create_empty(entry.arch, len(entry.bands), entry.image_size)
        backbone: Any = TimmBackbone(network, entry.feature).eval().to("meta")
        images = torch.zeros(1, len(entry.bands), entry.image_size, entry.image_size, device="meta")
    else:
        untrained = entry.model_dump() | {"weights": {"random": True}}
        backbone = build(Checkpoint.model_validate(untrained), seed=0)
        images = torch.zeros(1, len(entry.bands), entry.image_size, entry.image_size)
    with torch.inference_mode():
        feature = backbone(images)
    assert feature.shape == (1, WIDTHS[entry.feature] * backbone.network.num_features)
