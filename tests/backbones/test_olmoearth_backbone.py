"""OlmoEarth: features, weight files, bands, dates and scaling, against the library's own network."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl4eo_bench.config.bands import SENTINEL_1, SENTINEL_2
from ssl4eo_bench.config.catalogue import load_catalogue
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
    library: Any = pytest.importorskip("olmoearth_pretrain_minimal")
    from olmoearth_pretrain_minimal.olmoearth_pretrain_v1.nn.flexi_vit import PoolingType
    from olmoearth_pretrain_minimal.olmoearth_pretrain_v1.utils.constants import Modality
    from olmoearth_pretrain_minimal.olmoearth_pretrain_v1.utils.datatypes import MaskedOlmoEarthSample

    from ssl4eo_bench.backbones.olmoearth import OlmoEarth

WITHOUT_CIRRUS = tuple(band for band in SENTINEL_2 if band != "B10")
ORDER = ("B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12", "B01", "B09")
VERSIONS = {"v1": "olmoearth_v1_nano.olmoearth-s2l2a", "v1.2": "olmoearth_v1_2_nano.olmoearth-s2l2a"}
UNKNOWN = [[1, 6, 2020]]
"""Day, month from 0, and year of an image without a date."""


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def their_features(network: Any, images: dict[str, Tensor], dates: list[list[int]]) -> Tensor:
    """The mean token of images `[N, C, S, S]` of each modality, in the library's order of bands."""
    first = next(iter(images.values()))
    stamps = torch.tensor(dates if len(dates) == len(first) else dates * len(first))[:, None]
    sample: dict[str, Tensor] = {"timestamps": stamps}
    for name, pixels in images.items():
        sample[name] = pixels.permute(0, 2, 3, 1)[:, :, :, None]
        groups = 3 if name == "sentinel2_l2a" and network.version == "v1" else 1
        sample[f"{name}_mask"] = torch.zeros(len(pixels), *pixels.shape[2:], 1, groups)
    found = network.encoder(MaskedOlmoEarthSample(**sample), patch_size=4, fast_pass=False)
    pooled: Tensor = found["tokens_and_masks"].pool_unmasked_tokens(PoolingType.MEAN)
    return pooled


@pytest.fixture(scope="module", params=VERSIONS)
def theirs(request: pytest.FixtureRequest) -> Any:
    whole = library.OlmoEarthPretrain_v1("nano", request.param)
    network = whole.model.eval()
    network.load_state_dict(random_state(network))
    network.version = request.param
    return network


def test_olmoearth_gives_the_features_of_the_library(theirs: Any, patches: list[Patches], tmp_path: Path) -> None:
    def features(images: Tensor, bands: tuple[str, ...]) -> Tensor:
        assert bands == WITHOUT_CIRRUS
        return their_features(theirs, {"sentinel2_l2a": images[:, [bands.index(band) for band in ORDER]]}, UNKNOWN)

    name, state = VERSIONS[theirs.version], random_state(theirs)
    checkpoint = checkpoint_of(name, state, tmp_path)
    assert_peers(checkpoint, patches, features)
    network = network_in(checkpoint)
    assert_mapped_by_name(network, WITHOUT_CIRRUS, 64, size="nano", version=theirs.version)
    assert_layers_are_whole(network, 4)
    assert_loaded_whole(name, state, tmp_path, "encoder.blocks.3.norm1.bias")


def test_olmoearth_reads_the_date_of_each_image(theirs: Any, tmp_path: Path) -> None:
    checkpoint = checkpoint_of(VERSIONS[theirs.version], random_state(theirs), tmp_path)
    assert checkpoint.reads == ("date",)
    ours = network_in(checkpoint)
    images = torch.randn(2, 12, 64, 64)
    ordered = {"sentinel2_l2a": images[:, [WITHOUT_CIRRUS.index(band) for band in ORDER]]}
    known = ours(images, PLACES_AND_DATES).pooled
    assert_same(known, their_features(theirs, ordered, [[2, 5, 2018], [1, 0, 2024]]))
    half = Meta(PLACES_AND_DATES.lonlat, torch.tensor([17684.0, torch.nan]))
    found = ours(images, half).pooled
    assert_same(found, their_features(theirs, ordered, [[2, 5, 2018], *UNKNOWN]))
    assert (found - known)[1].abs().max() > 1e-4 * known.abs().max()


def test_olmoearth_joins_both_sensors(theirs: Any, tmp_path: Path) -> None:
    name = f"olmoearth_{theirs.version.replace('.', '_')}_base.olmoearth-s1s2"
    options = {"size": "nano", "version": theirs.version}
    ours = network_in(checkpoint_of(name, random_state(theirs), tmp_path, options=options))
    images = torch.randn(2, 14, 64, 64)
    optical = images[:, 2:][:, [WITHOUT_CIRRUS.index(band) for band in ORDER]]
    both = {"sentinel2_l2a": optical, "sentinel1": images[:, :2]}
    found = ours(images, PLACES_AND_DATES).pooled
    assert_same(found, their_features(theirs, both, [[2, 5, 2018], [1, 0, 2024]]))
    assert_mapped_by_name(ours, SENTINEL_1 + WITHOUT_CIRRUS, 64, **options)


@pytest.mark.parametrize(("kind", "bands"), [("s2l2a", WITHOUT_CIRRUS), ("s1", SENTINEL_1)])
def test_olmoearth_is_scaled_as_the_library_does(kind: str, bands: tuple[str, ...]) -> None:
    entry = load_catalogue().checkpoint(f"olmoearth_v1_base.olmoearth-{kind}")
    order, modality = (ORDER, Modality.SENTINEL2_L2A) if kind == "s2l2a" else (SENTINEL_1, Modality.SENTINEL1)
    assert [name.upper() for name in modality.band_order] == list(order)
    scaling = entry.scaling.model_dump()
    pixels = torch.rand(3, len(order), generator=torch.Generator().manual_seed(0)) * (3000 if kind == "s2l2a" else -30)
    expected = library.Normalizer(std_multiplier=2.0).normalize(modality, pixels.numpy())
    mean, std = (torch.tensor([scaling[key][band] for band in order]) for key in ("mean", "std"))
    torch.testing.assert_close((pixels - mean) / std, torch.from_numpy(expected).float(), rtol=0, atol=1e-5)
    assert entry.bands == bands


@pytest.mark.parametrize("bands", [SENTINEL_2, (*WITHOUT_CIRRUS, "VV"), WITHOUT_CIRRUS[1:]])
def test_other_bands_are_refused(bands: tuple[str, ...]) -> None:
    with pytest.raises(SpecError, match=r"^OlmoEarth cannot take the bands [\w, ]+; list all of \(.+\)\.$"):
        OlmoEarth(Inputs.of(bands, 64), "nano")
