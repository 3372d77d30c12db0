"""How much of a GPU do runs use? Images a second, share of the card's matrix rate, and a probe of full size.

Peer of the extraction: a bare loop that runs the same network in the same precision on one ready batch on the card.
Ours: from stored pixels in main memory (16-bit bands at three resolutions, as a pack gives them) to features in the
cache. The share is that of the network's multiplications and additions in the rate of a large bfloat16 matrix product,
measured on the same card. Needs a GPU and the extra `sample`, no data.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.extraction import Compiled
from benchmarks.scaling import BIGEARTHNET
from benchmarks.setting import arguments, describe_machine, report, seconds
from benchmarks.solver import synthetic
from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.inputs import InputMapping, map_inputs
from ssl4eo_bench.config.protocols import Linear
from ssl4eo_bench.config.task import Groups
from ssl4eo_bench.data.batches import batches
from ssl4eo_bench.extraction.problem import GPU_BATCH
from ssl4eo_bench.extraction.store import Extraction, FeatureCache, FeatureKey
from ssl4eo_bench.labels import labels_of
from ssl4eo_bench.methods.linear import fit_probe
from ssl4eo_bench.models.pooled import BackboneFeatures, feature_module
from ssl4eo_bench.models.runtime import TorchRunner, make_runner
from ssl4eo_bench.provenance import device_name
from ssl4eo_bench.solver.path import Data

DEVICE = torch.device("cuda")
CHECKPOINTS = ("resnet50.random", "vit_small_patch16_224.random", "tf_efficientnet_lite0.in1k")
SIZES = {10: 120, 20: 60, 60: 20}
"""Pixels of a side of a BigEarthNet patch, by resolution."""


class Held:
    """Patches of random pixels in main memory; an id is the number of one."""

    def __init__(self, bands: Sequence[Sequence[str]], sides: Sequence[int], count: int) -> None:
        rng = np.random.default_rng(0)
        self.groups = tuple(
            rng.integers(0, 4000, (count, len(names), side, side), dtype=np.uint16)
            for names, side in zip(bands, sides, strict=True)
        )

    def read(self, ids: Sequence[str], bands: Sequence[str]) -> Groups:  # noqa: ARG002
        """The pixels of these patches."""
        rows = np.array([int(id_) % len(self.groups[0]) for id_ in ids])
        return tuple(group[rows] for group in self.groups)


def case(name: str, count: int) -> tuple[Held, BackboneFeatures, InputMapping]:
    """So many patches, and the network of a checkpoint for them with its inputs."""
    task = catalogue.task("bigearthnet")
    checkpoint = catalogue.load_catalogue().checkpoint(name)
    inputs = map_inputs(task.bands, checkpoint)
    groups = task.groups(inputs.sources)
    resolution = {band.name: band.resolution for band in task.bands}
    sides = [SIZES[resolution[names[0]]] for names in groups]
    module = feature_module(checkpoint, inputs, groups, [(side, side) for side in sides], seed=0)
    assert isinstance(module, BackboneFeatures)
    return Held(groups, sides, count), module, inputs


def matrix_rate() -> float:
    """Multiplications and additions a second of a large product in bfloat16."""
    side = 8192
    one, other = (torch.randn(side, side, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / _device_seconds(lambda: one @ other, rounds=20)


def extraction(name: str, rate: float, images: int) -> bool:
    """Compare for one checkpoint."""
    source, module, inputs = case(name, 2048)
    run = make_runner(module, source.read([str(n) for n in range(GPU_BATCH)], ()), "cuda", print)
    ready = torch.randn(GPU_BATCH, len(inputs.channels), 224, 224, device=DEVICE).contiguous(
        memory_format=torch.channels_last
    )
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        module.backbone(ready[:1])
    operations = counter.get_total_flops()

    def bare() -> None:
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
            module.backbone(ready)

    batch_seconds = _device_seconds(bare, rounds=30)
    key = FeatureKey(task="t", split="train", rows=images, ids="", data="", checkpoint=name, backbone="", inputs="")

    def pipeline() -> None:
        def read(start: int, stop: int) -> Iterator[Groups]:
            ids = [str(number) for number in range(start, stop)]
            return batches(partial(source.read, bands=inputs.sources), ids, size=GPU_BATCH)

        with tempfile.TemporaryDirectory() as folder:
            cache = FeatureCache(Path(folder))
            cache.get(Extraction(key, [Compiled(run)], read, threads=2))

    pipeline()
    ours = images / min(seconds(pipeline) for _ in range(3))
    fastest = GPU_BATCH / batch_seconds
    shares = [100 * operations * speed / rate for speed in (fastest, ours)]
    print(
        f"{name} ({run.name}): bare {fastest:,.0f} images/s ({shares[0]:.0f} % of the matrix rate), from stored pixels "
        f"{ours:,.0f} images/s ({shares[1]:.0f} %)",
        flush=True,
    )
    return report(f"{name}: pipeline ÷ bare loop on a GPU", ours / fastest, 0.95)


def precision(name: str) -> None:
    """Print how far bfloat16 is from float32."""
    source, module, _ = case(name, 64)
    full, half = (TorchRunner(module, DEVICE, bfloat16=wanted)(source.groups) for wanted in (False, True))
    print(f"{name}: bfloat16 differs by {np.abs(half - full).max() / np.abs(full).max():.1e} of the largest feature")


def full_size(*, full_path: bool) -> None:
    """Print seconds of a probe with the samples and labels of BigEarthNet's training split."""
    train, val = (synthetic(count, seed=seed, dtype=np.float16) for count, seed in ((BIGEARTHNET, 0), (125_866, 1)))
    for full in (False, True) if full_path else (False,):
        torch.cuda.reset_peak_memory_stats()

        def fit(full: bool = full) -> None:
            probe = fit_probe(Linear(), labels_of("multilabel"), Data(*train, 19), val, device="cuda", full_path=full)
            print(f"{len(probe.path)} heads, {probe.warnings or 'no warning'}, C {probe.head.C:g}")

        spent, peak = seconds(fit), torch.cuda.max_memory_allocated() / 1e9
        print(
            f"{BIGEARTHNET:,} × 2,048 × 19{', all penalties' if full else ''}: {spent:.1f} s, {peak:.1f} GB", flush=True
        )


def _device_seconds(action: Callable[[], object], *, rounds: int) -> float:
    """The median seconds of an action on the card, after three warm-ups."""
    for _ in range(3):
        action()
    times = []
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        action()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1000)
    return float(np.median(times))


def main() -> int:
    """Print the table; 1 if a target was missed, or there is no GPU."""
    options = arguments(__doc__ or "")
    describe_machine()
    if not torch.cuda.is_available():
        print("no GPU here")
        return 1
    rate = matrix_rate()
    print(f"{device_name('cuda')}: {rate / 1e12:.0f} TFLOP/s in bfloat16", flush=True)
    met = [extraction(name, rate, 65_536 if options.full else 16_384) for name in CHECKPOINTS]
    for name in CHECKPOINTS:
        precision(name)
    full_size(full_path=options.full)
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
