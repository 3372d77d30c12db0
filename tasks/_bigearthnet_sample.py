"""The embedded sample of BigEarthNet: made-up patches of either sensor in the layout of each release."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ssl4eo_bench.config.bands import RESOLUTION, SENTINEL_2, Sensor
from ssl4eo_bench.config.task import SPLITS, SplitName
from ssl4eo_bench.data.images import write_geotiff
from ssl4eo_bench.data.patterns import Rng
from ssl4eo_bench.data.synthesis import Cover, blend, mosaic, regions
from ssl4eo_bench.tasks._bigearthnet_names import BANDS, CLASSES, SIZE

COVERS: dict[str, dict[str, Any]] = {
    "Urban fabric": {"parts": {"Residential": 1}},
    "Industrial or commercial units": {"parts": {"Industrial": 1}},
    "Arable land": {"parts": {"AnnualCrop": 1}},
    "Permanent crops": {"parts": {"PermanentCrop": 1}},
    "Pastures": {"parts": {"Pasture": 1}},
    "Complex cultivation patterns": {"parts": {"AnnualCrop": 2, "PermanentCrop": 2, "Pasture": 1}, "pattern": "plots"},
    "Land principally occupied by agriculture, with significant areas of natural vegetation": {
        "parts": {"AnnualCrop": 2, "HerbaceousVegetation": 1, "Forest": 1},
        "pattern": "patches",
    },
    "Agro-forestry areas": {"parts": {"HerbaceousVegetation": 2, "PermanentCrop": 1, "Forest": 1}, "pattern": "grid"},
    "Broad-leaved forest": {"parts": {"Forest": 1}, "infrared": 1.5, "pattern": "crowns"},
    "Coniferous forest": {"parts": {"Forest": 1}, "visible": 0.95, "infrared": 0.85, "pattern": "thicket"},
    "Mixed forest": {"parts": {"Forest": 1}, "infrared": 1.15, "pattern": "clearings"},
    "Natural grassland and sparsely vegetated areas": {
        "parts": {"HerbaceousVegetation": 1},
        "visible": 1.2,
        "pattern": "smooth",
    },
    "Moors, heathland and sclerophyllous vegetation": {"parts": {"HerbaceousVegetation": 1}, "infrared": 0.75},
    "Transitional woodland, shrub": {
        "parts": {"Forest": 2, "HerbaceousVegetation": 1},
        "shortwave": 1.2,
        "pattern": "saplings",
    },
    "Beaches, dunes, sands": {"parts": {"Highway": 1, "AnnualCrop": 1}, "visible": 1.8, "pattern": "waves"},
    "Inland wetlands": {"parts": {"SeaLake": 1, "HerbaceousVegetation": 2}, "shortwave": 0.8, "pattern": "creeks"},
    "Coastal wetlands": {"parts": {"SeaLake": 2, "AnnualCrop": 1}, "visible": 1.2, "pattern": "flats"},
    "Inland waters": {"parts": {"River": 1}},
    "Marine waters": {"parts": {"SeaLake": 1}, "pattern": "swell"},
}
"""How to blend each class from measured land covers."""

RADAR = {
    "Urban fabric": (-6.0, -13.0),
    "Industrial or commercial units": (-3.0, -11.0),
    "Arable land": (-12.0, -20.0),
    "Permanent crops": (-11.0, -17.5),
    "Pastures": (-13.0, -21.0),
    "Complex cultivation patterns": (-11.5, -18.5),
    "Land principally occupied by agriculture, with significant areas of natural vegetation": (-11.0, -17.5),
    "Agro-forestry areas": (-10.5, -16.5),
    "Broad-leaved forest": (-9.0, -14.0),
    "Coniferous forest": (-10.5, -16.0),
    "Mixed forest": (-9.8, -15.0),
    "Natural grassland and sparsely vegetated areas": (-14.0, -22.0),
    "Moors, heathland and sclerophyllous vegetation": (-12.5, -19.0),
    "Transitional woodland, shrub": (-10.0, -15.5),
    "Beaches, dunes, sands": (-17.0, -26.0),
    "Inland wetlands": (-14.5, -20.5),
    "Coastal wetlands": (-18.0, -25.0),
    "Inland waters": (-20.0, -27.0),
    "Marine waters": (-18.5, -28.0),
}
"""Plausible levels of VV and VH in decibel; unlike the spectra they are not measured."""

HAZE = {"B01": 950, "B02": 650, "B03": 400, "B04": 250, "B05": 200}
"""What the atmosphere adds in digital numbers: the spectra were measured above it, BigEarthNet is below it."""


SAMPLE_SIZES: dict[SplitName, int] = {"train": 190, "val": 57, "test": 114}
SAMPLE_PRODUCTS = {
    "official": "S2A_MSIL2A_20170613T101031",
    "google": "S2A_MSIL2A_20170613T101031",
    "v2": "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP",
}
SAMPLE_RADAR = "S1A_IW_GRDH_1SDV_20170613T165043"


def sample_ids(split: SplitName, variant: str) -> list[str]:
    """The ids of a split of the sample."""
    first = sum(SAMPLE_SIZES[before] for before in SPLITS[: SPLITS.index(split)])
    numbers = range(first, first + SAMPLE_SIZES[split])
    return [f"{SAMPLE_PRODUCTS[variant]}_{number // 100}_{number % 100}" for number in numbers]


def make_sample(root: Path, *, variant: str, sensors: Sequence[Sensor]) -> None:
    """Write the embedded sample below `root`, in the layout of the official archives."""
    home = root / "bigearthnet"
    home.mkdir(parents=True)
    rng = np.random.default_rng(20190219)
    rows = []
    for split in SPLITS:
        for number, id_ in enumerate(sample_ids(split, variant)):
            labels = _draw_labels(tuple(CLASSES), number, rng)
            partner = f"{SAMPLE_RADAR}_33UUP_{id_.split('_', 3 if variant != 'v2' else 6)[-1]}"
            pixels = _patch(labels, SIZE, rng)
            described = {"labels": [CLASSES[name][0] for name in labels], "corresponding_s2_patch": id_}
            for sensor in sensors:
                radar = sensor == "Sentinel-1"
                folder = _sample_folder(home, partner if radar else id_, variant=variant, radar=radar)
                for band in BANDS[sensor]:
                    _write_band(folder / f"{folder.name}_{band}.tif", pixels[band], RESOLUTION[band])
                if variant != "v2":
                    file = folder / f"{folder.name}_labels_metadata.json"
                    file.write_text(json.dumps(described), encoding="utf-8")
            rows.append((id_, split, partner, labels))
    _write_lists(home, rows, variant)


def _sample_folder(home: Path, patch: str, *, variant: str, radar: bool) -> Path:
    if variant == "v2":
        product = patch.rsplit("_", 3 if radar else 2)[0]
        return home / ("BigEarthNet-S1" if radar else "BigEarthNet-S2") / product / patch
    return home / ("BigEarthNet-S1-v1.0" if radar else "BigEarthNet-v1.0") / patch


def _write_lists(home: Path, rows: list[tuple[str, SplitName, str, list[str]]], variant: str) -> None:
    if variant == "v2":
        import pandas as pd

        table = pd.DataFrame(rows, columns=["patch_id", "split", "s1_name", "labels"])
        table["split"] = table["split"].replace("val", "validation")
        table.to_parquet(home / "metadata.parquet")
        return
    for split in SPLITS:
        pairs = [(id_, partner) for id_, found, partner, _ in rows if found == split]
        if variant == "official":
            text = "".join(f"{id_},{partner}\r\n" for id_, partner in pairs)
            (home / f"{split}.csv").write_text(text, encoding="utf-8", newline="")
        else:
            excluded = [f"S2A_MSIL2A_20180204T101031_{SPLITS.index(split)}_{number}" for number in range(3)]
            text = "\n".join((*excluded, *(id_ for id_, _ in pairs)))
            (home / f"bigearthnet-{split}.txt").write_text(text, encoding="utf-8")
            with (home / "patches_with_seasonal_snow.csv").open("a", encoding="utf-8", newline="") as opened:
                opened.writelines(f"{id_}\r\n" for id_ in excluded)
    (home / "patches_with_cloud_and_shadow.csv").touch()


def _draw_labels(classes: Sequence[str], number: int, rng: Rng) -> list[str]:
    """One to three classes of the patch of that number: every class is the first one in turn."""
    first = number % len(classes)
    others = [name for name in classes if name != classes[first]]
    return [classes[first], *(str(name) for name in rng.choice(others, rng.integers(0, 3), replace=False))]


@cache
def _cover(name: str) -> Cover:
    return blend(**COVERS[name])


def _patch(labels: Sequence[str], size: int, rng: Rng) -> dict[str, np.ndarray]:
    """All bands of a patch with these classes: `[size, size]` for each, in 10 m pixels."""
    numbers = regions([1.0, *rng.uniform(0.15, 0.35, len(labels) - 1)], size=size, rng=rng)
    scene = mosaic([_cover(name) for name in labels], numbers, rng=rng).astype(int)
    levels = np.array([RADAR[name] for name in labels])[numbers].transpose(2, 0, 1)
    speckle = 10 * np.log10(rng.gamma(5.0, 1 / 5.0, levels.shape))
    radar = levels + rng.normal(0.0, 1.5, (2, 1, 1)) + speckle
    # In dark scenes the haze is thinner than on average.
    bands = {band: np.maximum(scene[c] - HAZE.get(band, 0), scene[c] // 4) for c, band in enumerate(SENTINEL_2)}
    return bands | dict(zip(("VV", "VH"), radar.astype(np.float32), strict=True))


def _write_band(file: Path, pixels: np.ndarray, resolution: int) -> None:
    """Write a band in its native resolution, in metres: the mean of the 10 m pixels in each of its own."""
    step = resolution // 10
    size = len(pixels) // step
    coarse = pixels.reshape(size, step, size, step).mean(axis=(1, 3))
    stored = coarse.astype(np.float32) if pixels.dtype.kind == "f" else np.rint(coarse).astype(np.uint16)
    write_geotiff(file, stored[None], resolution=resolution)
