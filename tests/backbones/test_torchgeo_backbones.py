"""Foundation models of torchgeo: features, weight files and bands, against its own networks and loaders."""

from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from ssl4eo_bench.config.bands import SENTINEL_1, SENTINEL_2, Band
from ssl4eo_bench.config.catalogue import load_catalogue
from ssl4eo_bench.config.inputs import map_inputs
from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.models.plugin import Inputs, Meta
from ssl4eo_bench.models.preprocess import Preprocess
from tests.backbones.foundation import (
    PLACES_AND_DATES,
    Released,
    State,
    assert_layers_are_whole,
    assert_loaded_whole,
    assert_mapped_by_name,
    assert_peers,
    assert_same,
    checkpoint_of,
    network_in,
    network_of,
    random_state,
)
from tests.real_patches import Patches

models: Any = pytest.importorskip("torchgeo.models")
adapters = {
    name: import_module(f"ssl4eo_bench.backbones.{name}") for name in ("dofa", "croma", "copernicus_fm", "scale_mae")
}

SIZE = 112
"""Of the images here: a quarter of the pixels that most of these models want."""

WITHOUT_CIRRUS = tuple(band for band in SENTINEL_2 if band != "B10")
NINE = ("B04", "B03", "B02", "B05", "B06", "B07", "B08", "B11", "B12")
RGB = ("B04", "B03", "B02")

SMALL = {"embed_dim": 192, "depth": 5, "num_heads": 4}
"""Small networks of torchgeo's classes in the place of the released ones, which compute the same in more layers."""

small_dofa = partial(models.DOFA, img_size=SIZE, num_classes=0, **SMALL)
small_croma = partial(models.CROMA, image_size=64, encoder_dim=192, encoder_depth=4, num_heads=16)
small_copernicus_fm = partial(models.CopernicusFM, **SMALL)
small_scale_mae = partial(models.ScaleMAE, patch_size=16, **SMALL)


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(adapters["dofa"].MODELS, "base", partial(models.DOFA, **SMALL))
    monkeypatch.setitem(adapters["croma"].MODELS, "base", small_croma)
    shallow = SimpleNamespace(create_model=partial(timm.create_model, depth=4, img_size=SIZE))
    monkeypatch.setattr(import_module("torchgeo.models.panopticon"), "timm", shallow)
    monkeypatch.setattr(adapters["copernicus_fm"], "copernicusfm_base", small_copernicus_fm)
    monkeypatch.setattr(adapters["scale_mae"], "scalemae_large_patch16", small_scale_mae)


# SatlasPretrain's images

BYTES = torch.tensor([[0.0] * 9, [51.0] * 9, [100.0, 7.0, 255.0, 3.0, 255.0, 128.0, 64.0, 32.0, 16.0]])
NUMBERS = BYTES * torch.tensor([3558 / 255] * 3 + [32.0] * 6)
"""Digital numbers of the nine bands of these bytes: a true-colour image, and the others divided by 32."""


def scaled_as(name: str, numbers: Tensor) -> Tensor:
    """Digital numbers `[N, C]` of the bands of a checkpoint, scaled as it wants them."""
    checkpoint = load_catalogue().checkpoint(name)
    bands = [Band(name=band, unit="dn", resolution=10) for band in checkpoint.bands]
    mapping = map_inputs(tuple(bands), checkpoint).model_copy(update={"image_size": "native"})
    preprocess = Preprocess(mapping, [list(checkpoint.bands)], [(1, 1)])
    scaled: Tensor = preprocess(numbers[:, :, None, None])[:, :, 0, 0]
    return scaled


def test_satlas_is_scaled_as_torchgeo_does() -> None:
    for weights in (models.Swin_V2_T_Weights, models.Swin_V2_B_Weights):
        size = weights.__name__[8].lower()
        every = weights.SENTINEL2_SI_MS_SATLAS
        assert tuple(every.meta["bands"]) == load_catalogue().checkpoint(f"swin_v2_{size}.satlas-s2").bands
        # torchgeo takes the visible bands in bytes and the others in digital numbers.
        mixed = torch.cat([BYTES[:, :3], NUMBERS[:, 3:]], dim=1)
        expected = every.transforms[-1](mixed[:, :, None, None])[:, :, 0, 0]
        torch.testing.assert_close(scaled_as(f"swin_v2_{size}.satlas-s2", NUMBERS), expected, rtol=0, atol=1e-6)
        visible = weights.SENTINEL2_SI_RGB_SATLAS.transforms[-1](BYTES[:, :3, None, None].clone())[:, :, 0, 0]
        found = scaled_as(f"swin_v2_{size}.satlas-rgb", NUMBERS[:, :3])
        torch.testing.assert_close(found, visible, rtol=0, atol=1e-6)


# DOFA

MICROMETRES = dict(zip(NINE, (0.665, 0.56, 0.49, 0.705, 0.74, 0.783, 0.842, 1.61, 2.19), strict=True))
RADAR = [3.75, 3.75]
"""Version 1 saw both polarisations as 3.75 µm; 5.405, the frequency of Sentinel-1 in gigahertz, is of version 2."""


@pytest.mark.usefixtures("small")
def test_dofa_gives_the_features_of_torchgeos(patches: list[Patches], tmp_path: Path) -> None:
    theirs = small_dofa().eval()
    whole = random_state(theirs)
    state = {name: tensor for name, tensor in whole.items() if not name.startswith("fc_norm.")}  # it has none
    theirs.load_state_dict(state | {"fc_norm.weight": torch.ones(192), "fc_norm.bias": torch.zeros(192)})

    def features(images: Tensor, bands: tuple[str, ...]) -> Tensor:
        found: Tensor = theirs.forward_features(images, [MICROMETRES[band] for band in bands])
        return found

    checkpoint = checkpoint_of("dofa_base.v1-s2", state, tmp_path, image_size=SIZE)
    assert checkpoint.reads == ("wavelength",)
    assert_peers(checkpoint, patches, features)
    assert_mapped_by_name(network_in(checkpoint), NINE, SIZE)
    images = torch.randn(2, 2, SIZE, SIZE)
    radar = network_in(checkpoint_of("dofa_base.v1-s1", state, tmp_path, image_size=SIZE))
    assert_same(radar(images).pooled, theirs.forward_features(images, RADAR))
    assert_loaded_whole("dofa_base.v1-s2", state, tmp_path, "blocks.3.norm1.bias", image_size=SIZE)


def test_dofa_sees_bytes_as_in_its_pretraining() -> None:
    """Mean 0 and deviation 1 of bytes; the numbers are those of normalize_dataset.py of zhu-xlab/DOFA."""
    mean = (114.1099739, 114.81779093, 126.63977424, 84.33539309, 97.84789168, 103.94461911, 101.435633, 72.32804172, 56.66528851)  # fmt: skip
    std = (77.84352553, 69.96844919, 67.42465279, 64.57022983, 61.72545487, 61.34187099, 60.29744676, 47.88519516, 42.55886798)  # fmt: skip
    scaled = scaled_as("dofa_base.v1-s2", NUMBERS)
    expected = (BYTES - torch.tensor(mean)) / torch.tensor(std)
    torch.testing.assert_close(scaled, expected, rtol=0, atol=1e-4)


# CROMA


@pytest.fixture(scope="module")
def croma() -> dict[str, State]:
    """In the released form: a state dict of each part."""
    return {name: random_state(part) for name, part in small_croma().named_children()}


def their_croma(state: dict[str, State], *modalities: str) -> Any:
    theirs = small_croma(modalities=modalities)
    for name, part in theirs.named_children():
        part.load_state_dict(state[name])
    return theirs.eval()


@pytest.mark.usefixtures("small")
def test_croma_gives_the_features_of_torchgeos(croma: dict[str, State], patches: list[Patches], tmp_path: Path) -> None:
    optical, sar = their_croma(croma, "optical"), their_croma(croma, "sar")

    def features(images: Tensor, bands: tuple[str, ...]) -> Tensor:
        assert bands == WITHOUT_CIRRUS
        assert torch.equal(images * 255, (images * 255).round())  # bytes, from 0 to 1
        assert 0 <= images.min() < images.max() <= 1
        found: Tensor = optical(x_optical=images)["optical_GAP"]
        return found

    checkpoint = checkpoint_of("croma_base.ssl4eo_s12-croma-s2", croma, tmp_path, image_size=64)
    assert_peers(checkpoint, patches, features)
    assert_mapped_by_name(network_in(checkpoint), WITHOUT_CIRRUS, 64)
    images = torch.rand(2, 2, 64, 64)
    radar = network_in(checkpoint_of("croma_base.ssl4eo_s12-croma-s1", croma, tmp_path, image_size=64))
    assert_same(radar(images).pooled, sar(x_sar=images)["sar_GAP"])
    assert_loaded_whole("croma_base.ssl4eo_s12-croma-s2", croma, tmp_path, "s2_GAP_FFN", image_size=64)


@pytest.mark.usefixtures("small")
def test_croma_joins_both_sensors(croma: dict[str, State], tmp_path: Path) -> None:
    ours = network_in(checkpoint_of("croma_base.ssl4eo_s12-croma-s1s2", croma, tmp_path, image_size=64))
    theirs = their_croma(croma, "sar", "optical")
    images = torch.rand(2, 14, 64, 64)
    assert_same(ours(images).pooled, theirs(x_sar=images[:, :2], x_optical=images[:, 2:])["joint_GAP"])
    assert_mapped_by_name(ours, SENTINEL_1 + WITHOUT_CIRRUS, 64)
    assert_layers_are_whole(ours, 4 + 2)


# Panopticon

IDS = dict(zip(SENTINEL_2, (442, 492, 559, 664, 704, 740, 782, 827, 864, 945, 1373, 1613, 2203), strict=True))
RADAR_IDS = {"VV": -1, "VH": -2}


@pytest.mark.usefixtures("small")
def test_panopticon_gives_the_features_of_torchgeos(patches: list[Patches], tmp_path: Path) -> None:
    grid = torch.nn.Module()
    grid.register_buffer("pos_embed", torch.zeros(1, 1 + 37 * 37, 768))
    empty = models.panopticon_vitb14(img_size=SIZE)
    state = random_state(empty.model) | random_state(grid) | {"mask_token": torch.zeros(1, 768)}
    theirs = models.panopticon_vitb14(weights=Released(state), img_size=SIZE).eval()
    ids = IDS | RADAR_IDS

    def features(images: Tensor, bands: tuple[str, ...]) -> Tensor:
        numbers = torch.tensor([[ids[band] for band in bands]] * len(images))
        found: Tensor = theirs({"imgs": images, "chn_ids": numbers})
        return found

    checkpoint = checkpoint_of("panopticon_base.panopticon-s2", state, tmp_path, image_size=SIZE)
    assert checkpoint.bands == "task"  # BigEarthNet has no B10
    assert_peers(checkpoint, patches, features)
    network = network_in(checkpoint.model_copy(update={"bands": ("B12", "VV", "B02", "VH")}))
    images = torch.randn(2, 4, SIZE, SIZE)
    assert_same(network(images).pooled, features(images, ("B12", "VV", "B02", "VH")))
    assert_same(network(images).pooled, features(images.flip(1), ("VH", "B02", "VV", "B12")))
    assert_layers_are_whole(network, 4)
    absent = "blocks.3.norm1.bias"
    assert_loaded_whole("panopticon_base.panopticon-s2", state, tmp_path, absent, image_size=SIZE, bands=RGB)


# Copernicus-FM

SPECTRUM = dict(
    zip(
        SENTINEL_2,
        (
            (440, 20), (490, 65), (560, 35), (665, 30), (705, 15), (740, 15), (783, 20), (842, 115), (860, 20),
            (940, 20), (1370, 30), (1610, 90), (2190, 180),
        ),
        strict=True,
    )
) | {"VV": (5e7, 1e9), "VH": (5e7, 1e9)}  # fmt: skip
AREA = 0.16**2
"""Square kilometres of a patch of 16 × 16 pixels."""


class TheirCopernicusFm:
    """torchgeo's network with random weights."""

    def __init__(self) -> None:
        self.network = small_copernicus_fm(img_size=SIZE, num_classes=0).eval()
        whole = random_state(self.network)
        self.file = {name: tensor for name, tensor in whole.items() if not name.startswith("fc_norm.")}  # it has none
        constants = {"fc_norm.weight": torch.ones(192), "fc_norm.bias": torch.zeros(192)}
        self.network.load_state_dict(self.file | constants)

    def __call__(self, images: Tensor, bands: tuple[str, ...], metadata: Tensor | None = None) -> Tensor:
        if metadata is None:
            metadata = torch.tensor([[torch.nan, torch.nan, torch.nan, AREA]] * len(images))
        waves, widths = zip(*(SPECTRUM[band] for band in bands), strict=True)
        found: Tensor = self.network.forward_features(images, metadata, list(waves), list(widths))
        return found


@pytest.fixture(scope="module")
def copernicus_fm() -> TheirCopernicusFm:
    return TheirCopernicusFm()


@pytest.mark.usefixtures("small")
def test_copernicus_fm_gives_the_features_of_torchgeos(
    copernicus_fm: TheirCopernicusFm, patches: list[Patches], tmp_path: Path
) -> None:
    name = "copernicus_fm_base.copernicus_pretrain-s2l1c"
    checkpoint = checkpoint_of(name, copernicus_fm.file, tmp_path, image_size=SIZE)
    assert checkpoint.bands == "task"  # BigEarthNet has no B10
    assert_peers(checkpoint, patches, copernicus_fm)
    assert_mapped_by_name(network_in(checkpoint), SENTINEL_2, SIZE)
    assert_loaded_whole(name, copernicus_fm.file, tmp_path, "blocks.3.norm1.bias", image_size=SIZE, bands=RGB)


@pytest.mark.usefixtures("small")
def test_copernicus_fm_reads_place_and_date_of_each_image(copernicus_fm: TheirCopernicusFm, tmp_path: Path) -> None:
    name = "copernicus_fm_base.copernicus_pretrain-s1grd"
    checkpoint = checkpoint_of(name, copernicus_fm.file, tmp_path, image_size=SIZE)
    assert checkpoint.reads == ("lonlat", "date")
    ours = network_in(checkpoint)
    images = torch.randn(2, 2, SIZE, SIZE)
    lonlat, date = PLACES_AND_DATES.lonlat.clone(), PLACES_AND_DATES.date
    metadata = torch.cat([lonlat, date[:, None], torch.full((2, 1), AREA)], dim=1)
    known = ours(images, Meta(lonlat, date)).pooled
    assert_same(known, copernicus_fm(images, SENTINEL_1, metadata))
    lonlat[1, 0] = torch.nan  # nobody knows where the second image is
    metadata[1, :2] = torch.nan
    found = ours(images, Meta(lonlat, date)).pooled
    assert_same(found, torch.cat([known[:1], copernicus_fm(images[1:], SENTINEL_1, metadata[1:])]))
    assert (found - known)[1].abs().max() > 1e-3 * known.abs().max()


# Scale-MAE


@pytest.mark.usefixtures("small")
def test_scale_mae_gives_the_features_of_torchgeos_at_10_metres(patches: list[Patches], tmp_path: Path) -> None:
    theirs = small_scale_mae(res=10, img_size=SIZE, num_classes=0).eval()
    state = random_state(theirs)
    theirs.load_state_dict(state)

    def features(images: Tensor, bands: tuple[str, ...]) -> Tensor:
        assert bands == RGB
        found: Tensor = theirs(images)
        return found

    name = "scale_mae_large.fmow-scale_mae-rgb"
    checkpoint = checkpoint_of(name, state | {"head.weight": torch.zeros(62, 192)}, tmp_path, image_size=SIZE)
    assert checkpoint.reads == ("resolution",)
    assert_peers(checkpoint, patches, features)
    network = network_in(checkpoint)
    assert_mapped_by_name(network, RGB, SIZE)
    assert_layers_are_whole(network, 5)
    assert_loaded_whole(name, state, tmp_path, "blocks.3.norm1.bias", image_size=SIZE)


# Satlas


@pytest.mark.parametrize(("kind", "bands"), [("s2", NINE), ("rgb", RGB)])
def test_satlas_gives_the_features_of_torchgeos(
    patches: list[Patches], tmp_path: Path, kind: str, bands: tuple[str, ...]
) -> None:
    empty = models.swin_v2_t()
    empty.features[0][0] = torch.nn.Conv2d(len(bands), 96, kernel_size=4, stride=4)
    state = random_state(empty)
    theirs = models.swin_v2_t(weights=Released(state, in_chans=len(bands))).eval()
    theirs.head = torch.nn.Identity()

    def features(images: Tensor, given: tuple[str, ...]) -> Tensor:
        assert given == bands
        found: Tensor = theirs(images)
        return found

    name = f"swin_v2_t.satlas-{kind}"
    checkpoint = checkpoint_of(name, state, tmp_path, image_size=64)
    assert_peers(checkpoint, patches, features)
    assert_mapped_by_name(network_in(checkpoint), bands, 64, size="tiny")
    assert_loaded_whole(name, state, tmp_path, "features.3.0.norm1.bias", image_size=64)


# All

BLOCKS = {
    "dofa_base.v1-s2": 12,
    "croma_base.ssl4eo_s12-croma-s2": 12,
    "croma_base.ssl4eo_s12-croma-s1": 6,
    "copernicus_fm_base.copernicus_pretrain-s1grd": 12,
    "swin_v2_t.satlas-s2": 2 + 2 + 6 + 2 + 3,  # with the merging of patches between its stages
}


@pytest.mark.parametrize("name", BLOCKS)
def test_layers_go_from_the_embedding_to_the_norm(name: str) -> None:
    assert_layers_are_whole(network_of(name), BLOCKS[name])


@pytest.mark.parametrize(
    ("adapter", "bands"),
    [
        ("croma:Croma", SENTINEL_2),
        ("croma:Croma", (*WITHOUT_CIRRUS, "VV")),
        ("scale_mae:ScaleMae", NINE),
        ("satlas:Satlas", SENTINEL_2),
        ("satlas:Satlas", ("B04", "B03", "B08")),
    ],
)
def test_other_bands_are_refused(adapter: str, bands: tuple[str, ...]) -> None:
    module, name = adapter.split(":")
    found = getattr(import_module(f"ssl4eo_bench.backbones.{module}"), name)
    with pytest.raises(SpecError, match=r"^[A-Z][\w-]+ cannot take the bands [\w, ]+; list all of \(.+\)\.$"):
        found(Inputs.of(bands, SIZE))
