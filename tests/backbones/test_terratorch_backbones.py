"""Foundation models of terratorch: features, weight files, bands and statistics, against its own networks and loaders."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl4eo_bench.config.bands import SENTINEL_1, SENTINEL_2, sensor_of
from ssl4eo_bench.config.catalogue import load_catalogue
from ssl4eo_bench.config.scaling import scaling_of
from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.models.plugin import Inputs, Meta
from tests.backbones.foundation import (
    PLACES_AND_DATES,
    assert_layers_are_whole,
    assert_loaded_whole,
    assert_mapped_by_name,
    assert_peers,
    assert_same,
    checkpoint_of,
    network_in,
    random_state,
)
from tests.real_patches import Patches

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what it imports
    pytest.importorskip("terratorch")
    from terratorch.models.backbones import prithvi_vit
    from terratorch.models.backbones.terramind.model import terramind_register as terramind

KNOWN = load_catalogue()
HLS = ("B02", "B03", "B04", "B8A", "B11", "B12")
WITHOUT_CIRRUS = tuple(band for band in SENTINEL_2 if band != "B10")
RGB = ("B04", "B03", "B02")


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


# Prithvi

SMALL = {"variant": "prithvi_eo_v2_tiny_tl"}


def released_prithvi(folder: Path) -> tuple[dict[str, Tensor], Path]:
    """The random tensors of an encoder and a decoder for four dates, and the file of them."""
    state = random_state(prithvi_vit.prithvi_eo_v2_tiny_tl_mae(num_frames=4))
    torch.save(state, folder / "released.pt")
    return state, folder / "released.pt"


def test_prithvi_gives_the_features_of_terratorchs(patches: list[Patches], tmp_path: Path) -> None:
    state, file = released_prithvi(tmp_path)
    theirs: Any = prithvi_vit.prithvi_eo_v2_tiny_tl(pretrained=True, ckpt_path=file, num_frames=1).eval()

    def features(images: Tensor, bands: tuple[str, ...]) -> Tensor:
        assert bands == HLS
        found: Tensor = theirs(images)[-1][:, 1:].mean(dim=1)
        return found

    name = "prithvi_eo_v2_300_tl.hls-mae-s2"
    checkpoint = checkpoint_of(name, state, tmp_path, options=SMALL)
    assert_peers(checkpoint, patches, features)
    network = network_in(checkpoint)
    assert_mapped_by_name(network, HLS, 224, **SMALL)
    assert_layers_are_whole(network, 12)
    assert_loaded_whole(name, state, tmp_path, "encoder.blocks.3.norm1.bias", options=SMALL)


def test_prithvi_reads_year_and_day_and_latitude_first(tmp_path: Path) -> None:
    state, file = released_prithvi(tmp_path)
    theirs: Any = prithvi_vit.prithvi_eo_v2_tiny_tl(pretrained=True, ckpt_path=file, num_frames=1).eval()
    checkpoint = checkpoint_of("prithvi_eo_v2_300_tl.hls-mae-s2", state, tmp_path, options=SMALL)
    assert checkpoint.reads == ("lonlat", "date")
    ours = network_in(checkpoint)
    images = torch.randn(2, 6, 224, 224)
    places = torch.tensor([[48.1, 11.6], [-16.5, -68.1]])
    dates = torch.tensor([[[2018.0, 153.0]], [[2024.0, 1.0]]])
    both = theirs(images, temporal_coords=dates, location_coords=places)[-1][:, 1:].mean(dim=1)
    known = ours(images, PLACES_AND_DATES).pooled
    assert_same(known, both)
    date = PLACES_AND_DATES.date.clone()
    date[0] = torch.nan
    dateless = theirs(images[:1], location_coords=places[:1])[-1][:, 1:].mean(dim=1)
    found = ours(images, Meta(PLACES_AND_DATES.lonlat, date)).pooled
    assert_same(found, torch.cat([dateless, both[1:]]))
    assert (found - known)[0].abs().max() > 1e-3 * known.abs().max()


def test_prithvi_is_scaled_as_terratorch_does() -> None:
    for name in ("300", "300_tl", "600", "600_tl"):
        entry = KNOWN.checkpoint(f"prithvi_eo_v2_{name}.hls-mae-s2")
        scaling = entry.scaling.model_dump()
        assert entry.bands == HLS
        assert entry.options == {"variant": f"prithvi_eo_v2_{name}"}
        assert [scaling["mean"][band] for band in HLS] == list(prithvi_vit.PRITHVI_V2_MEAN)
        assert [scaling["std"][band] for band in HLS] == list(prithvi_vit.PRITHVI_V2_STD)


# TerraMind

MODALITIES = {
    "s2l1c": ("untok_sen2l1c@224", "S2L1C", SENTINEL_2),
    "s2l2a": ("untok_sen2l2a@224", "S2L2A", WITHOUT_CIRRUS),
    "s1grd": ("untok_sen1grd@224", "S1GRD", SENTINEL_1),
    "rgb": ("untok_sen2rgb@224", "RGB", RGB),
}


@pytest.fixture(scope="module")
def released_terramind() -> dict[str, Tensor]:
    """The random tensors of an encoder with all modalities, and one of a decoder."""
    every = [modality for _, modality, _ in MODALITIES.values()]
    encoder = terramind.terramind_v1_tiny(modalities=[*every, "S1RTC"], img_size=224)
    return random_state(encoder) | {"decoder_norm.weight": torch.ones(192)}


def their_terramind(state: dict[str, Tensor], *modalities: str) -> Any:
    theirs = terramind.terramind_v1_tiny(modalities=list(modalities), merge_method="mean", img_size=224)
    theirs.load_state_dict(terramind.checkpoint_filter_fn(dict(state), theirs), strict=True)
    return theirs.eval()


@pytest.mark.parametrize("kind", ["s2l1c", "s2l2a"])
def test_terramind_gives_the_features_of_terratorchs(
    released_terramind: dict[str, Tensor], patches: list[Patches], tmp_path: Path, kind: str
) -> None:
    _, modality, bands = MODALITIES[kind]
    theirs = their_terramind(released_terramind, modality)

    def features(images: Tensor, given: tuple[str, ...]) -> Tensor:
        assert given == bands
        found: Tensor = theirs({modality: images})[-1].mean(dim=1)
        return found

    name = f"terramind_v1_tiny.terramesh-{kind}"
    checkpoint = checkpoint_of(name, released_terramind, tmp_path)
    assert_peers(checkpoint, patches, features)
    network = network_in(checkpoint)
    assert_mapped_by_name(network, bands, 224, modalities=modality, size="tiny")
    assert_layers_are_whole(network, 12)
    assert_loaded_whole(name, released_terramind, tmp_path, "encoder.3.norm1.weight")


def test_terramind_joins_both_sensors(released_terramind: dict[str, Tensor], tmp_path: Path) -> None:
    ours = network_in(checkpoint_of("terramind_v1_tiny.terramesh-s1s2", released_terramind, tmp_path))
    theirs = their_terramind(released_terramind, "S2L2A", "S1GRD")
    images = torch.randn(2, 14, 224, 224)
    expected = theirs({"S2L2A": images[:, 2:], "S1GRD": images[:, :2]})[-1]
    assert_same(ours(images).pooled, expected.mean(dim=1))
    assert_mapped_by_name(ours, SENTINEL_1 + WITHOUT_CIRRUS, 224, modalities="S2L2A+S1GRD", size="tiny")


@pytest.mark.parametrize("name", [name for name in KNOWN.checkpoints if name.startswith("terramind_v1_")])
def test_terramind_is_scaled_as_terratorch_does(name: str) -> None:
    entry, size = KNOWN.checkpoint(name), name.split(".")[0].split("_")[2]
    kinds = {"s1s2": ("s2l2a", "s1grd")}.get(name.rpartition("-")[2], (name.rpartition("-")[2],))
    keys, modalities, bands = zip(*(MODALITIES[kind] for kind in kinds), strict=True)
    assert entry.options == {"size": size, "modalities": "+".join(modalities)}
    assert set(entry.bands) == {band for each in bands for band in each}
    for key, each in zip(keys, bands, strict=True):
        scaling = scaling_of(entry.scaling, sensor_of(each[0])).model_dump()
        unit = 255 if key == "untok_sen2rgb@224" else 1
        for listed, theirs in (("mean", terramind.v1_pretraining_mean), ("std", terramind.v1_pretraining_std)):
            assert [scaling[listed][band] * unit for band in each] == pytest.approx(theirs[key], abs=1e-3)


# Both


@pytest.mark.parametrize(
    ("adapter", "bands"),
    [("Prithvi", SENTINEL_2), ("TerraMind for S2L2A", SENTINEL_2), ("TerraMind for S2L2A", (*WITHOUT_CIRRUS, "VV"))],
)
def test_other_bands_are_refused(adapter: str, bands: tuple[str, ...]) -> None:
    from ssl4eo_bench.backbones.prithvi import Prithvi
    from ssl4eo_bench.backbones.terramind import TerraMind

    with pytest.raises(SpecError, match=rf"^{adapter} cannot take the bands [\w, ]+; list all of \(.+\)\.$"):
        Prithvi(Inputs.of(bands, 224)) if adapter == "Prithvi" else TerraMind(Inputs.of(bands, 224), "S2L2A", "tiny")
