"""Real patches of tasks, from the data directory of the tests."""

import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

import ssl4eo_bench as bench
from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.task import SPLITS, Source, Task
from ssl4eo_bench.data.splits import open_splits


class Patches(NamedTuple):
    """The first real patches of a task as its reader yields them."""

    task: Task
    groups: tuple[Tensor, ...]


def read_patches(name: str, real_data: Path, folder: Path, count: int) -> Patches:
    """Patches of `eurosat` or `bigearthnet`, whose archives are unpacked into `folder`."""
    task = catalogue.task(name)
    if task.name == "eurosat":
        samples = open_splits(task, real_data, partial=True)["train"]
        source: Source = samples.reader
        ids = list(samples.ids)
    else:
        archives = sorted((real_data / "bigearthnet").glob("BigEarthNet-S2*.tar.gz"))
        if not archives:
            pytest.skip(f"no real BigEarthNet in {real_data}")
        for archive in archives:
            with tarfile.open(archive) as opened:
                opened.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.3 has none
                opened.extractall(folder)
        source, ids = task.open(folder), sorted(path.name for path in (folder / "BigEarthNet-v1.0").iterdir())
    pixels = source.read(ids[:count], [band.name for band in task.bands])
    return Patches(task, tuple(torch.from_numpy(group) for group in pixels))


def eurosat_features(
    checkpoint: str, catalogue_file: Path, real_data: Path, cache: Path
) -> tuple[np.ndarray, np.ndarray]:
    """The features `[238, D]` and labels of all real EuroSAT patches."""
    parts = [
        bench.features(
            "eurosat",
            checkpoint,
            split,
            partial=True,
            data_dir=real_data,
            cache_dir=cache,
            checkpoint_files=[catalogue_file],
            quiet=True,
        )
        for split in SPLITS
    ]
    targets = np.concatenate([part.targets for part in parts if part.targets is not None])
    assert len(targets) == 238
    return np.concatenate([part.features for part in parts]), targets
