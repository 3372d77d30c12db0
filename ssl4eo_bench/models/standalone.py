"""Backbones outside of a run: a checkpoint as a module, for the Python API."""

from pathlib import Path
from typing import cast

from ssl4eo_bench.config.bands import Band, Unit, sensor_of
from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.inputs import map_inputs
from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.models.plugin import resolved, with_own_weights
from ssl4eo_bench.models.pooled import BackboneFeatures, feature_module
from ssl4eo_bench.models.weight_files import prepare_weights


def standalone_module(checkpoint: Checkpoint, *, size: int | None, seed: int, cache_dir: Path) -> BackboneFeatures:
    """The frozen module from images `[N, C, H, W]`, in the order of the checkpoint's bands, to features.

    `size` is the side of the images in pixels; by default that of the checkpoint's input. Absent weights are fetched.

    Raises:
        SpecError: if the checkpoint has no network, or takes the bands of a task.
        WeightsError: if the weights are not to be had or do not fit.
    """
    if not checkpoint.has_network:
        raise SpecError(f"checkpoint {checkpoint.name!r} has no network; choose one that has.")
    if checkpoint.bands == "task":
        raise SpecError(f"checkpoint {checkpoint.name!r} takes the bands of a task; choose one with bands of its own.")
    prepare_weights(checkpoint, cache_dir)
    if checkpoint.is_plugin:
        checkpoint = with_own_weights(resolved(checkpoint), checkpoint.bands)
    units: list[Unit] = ["db" if sensor_of(name) == "Sentinel-1" else "dn" for name in checkpoint.bands]
    bands = tuple(Band(name=n, unit=unit, resolution=10) for n, unit in zip(checkpoint.bands, units, strict=True))
    side = size or cast(int, checkpoint.image_size)
    inputs = map_inputs(bands, checkpoint)
    module = feature_module(checkpoint, inputs, [checkpoint.bands], [(side, side)], seed=seed, cache_dir=cache_dir)
    return cast(BackboneFeatures, module)
