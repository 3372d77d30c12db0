"""Does the input pipeline keep the backbone busy?

Peer: a bare loop that runs the compiled backbone over and over on one ready input batch. Ours: the same backbone in
the same runtime, but from the JPEGs in the zip archive: reading, decoding, resizing, normalising, checking, caching.
For comparison, the rate of the same module in PyTorch, channels_last, on ready stored batches.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.setting import Options, alternate, arguments, describe_machine, median_ratio, report, seconds
from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.inputs import map_inputs
from ssl4eo_bench.config.task import Groups
from ssl4eo_bench.data.batches import batches
from ssl4eo_bench.data.splits import open_splits
from ssl4eo_bench.extraction.problem import BATCH
from ssl4eo_bench.extraction.store import Extraction, FeatureCache, FeatureKey, Origin
from ssl4eo_bench.models.pooled import BackboneFeatures, feature_module
from ssl4eo_bench.models.runtime import Runner, TorchRunner, make_runner

IMAGES = {"tf_efficientnet_lite0.in1k": 512, "resnet50.random": 64, "vit_small_patch16_224.random": 64}
"""How many in one round, a few seconds of each network."""


class Compiled:
    """A runner as the feature cache wants it."""

    def __init__(self, run: Runner) -> None:
        self._run = run

    def origin(self, samples: int) -> Origin:
        """The origin of so many samples."""
        return Origin(samples, (self._run.name,), ("0" * 64,))

    def __call__(self, groups: Groups) -> np.ndarray:
        """Features of a batch."""
        return self._run(groups)


def measure(name: str, images: int, options: Options) -> bool:
    """Compare for one checkpoint."""
    task = catalogue.task("eurosat-rgb")
    samples = open_splits(task, options.data_dir)["train"]
    checkpoint = catalogue.load_catalogue().checkpoint(name)
    inputs = map_inputs(task.bands, checkpoint, task.display)
    stored = samples.reader.read(samples.ids[:BATCH], inputs.sources)
    groups = task.groups(inputs.sources)
    module = feature_module(checkpoint, inputs, groups, [(64, 64)], seed=0)
    assert isinstance(module, BackboneFeatures)
    ready = (np.random.default_rng(0).random((BATCH, len(inputs.channels), 224, 224), dtype=np.float32),)
    bare, ours = make_runner(module.backbone, ready, "cpu", print), Compiled(make_runner(module, stored, "cpu", print))
    key = FeatureKey(task="t", split="train", rows=images, ids="", data="", checkpoint=name, backbone="", inputs="")
    cache = Path(tempfile.mkdtemp())

    def loop() -> None:
        for _ in range(images // BATCH):
            bare(ready)

    def pipeline() -> None:
        def read(start: int, stop: int) -> Iterator[Groups]:
            return batches(partial(samples.reader.read, bands=inputs.sources), samples.ids[start:stop], size=BATCH)

        shutil.rmtree(cache)
        found = FeatureCache(cache).get(Extraction(key, [ours], read))
        assert found.origin.computed == images

    try:
        for action in (loop, pipeline):
            action()
        times = alternate(loop, pipeline, rounds=21 if options.full else 5)
    finally:
        shutil.rmtree(cache, ignore_errors=True)
    rates = [images / np.median(times_of_one) for times_of_one in times]
    (runner,) = ours.origin(0).runners
    print(f"{name} ({runner}): bare loop {rates[0]:.1f} images/s, from the archive {rates[1]:.1f} images/s")
    in_torch = TorchRunner(feature_module(checkpoint, inputs, groups, [(64, 64)], seed=0), torch.device("cpu"))
    in_torch(stored)
    fastest = min(seconds(lambda: in_torch(stored)) for _ in range(5))
    print(f"{name} (torch-cpu, channels_last): {BATCH / fastest:.1f} images/s")
    return report(f"{name}: pipeline ÷ bare loop", median_ratio(times[0], times[1]), 0.95)


def main() -> int:
    """Print the table; 1 if a target was missed."""
    options = arguments(__doc__ or "")
    describe_machine()
    met = [measure(name, images, options) for name, images in IMAGES.items()]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
