"""How much faster are features than with a loop written in an afternoon?

A ResNet-50 with 13 bands on the real EuroSAT patches that are there. Peer: torchgeo's `EuroSAT` dataset (extra
`peers`), its images resized by PyTorch to 224 pixels, through a `DataLoader` with two workers into the same network in
plain PyTorch in float32. Ours: from the archive to features, as by default and as with `--precision bfloat16`.
"""

import importlib.util
import sys
import tempfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader

from benchmarks.setting import alternate, arguments, describe_machine, median_ratio, report
from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.checkpoint import Precision
from ssl4eo_bench.config.inputs import map_inputs
from ssl4eo_bench.config.task import SPLITS
from ssl4eo_bench.data.batches import batches
from ssl4eo_bench.data.splits import open_splits
from ssl4eo_bench.extraction.problem import BATCH
from ssl4eo_bench.models.build import build
from ssl4eo_bench.models.pooled import feature_module
from ssl4eo_bench.models.runtime import Runner, make_runner

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


def torchgeo_loop(root: Path, archive: Path, network: torch.nn.Module) -> Callable[[], object]:
    """Features of all patches of an archive, with torchgeo's dataset."""
    from torchgeo.datasets import EuroSAT

    with zipfile.ZipFile(archive) as opened:
        opened.extractall(root)
    names = [Path(name).name for name in zipfile.ZipFile(archive).namelist() if name.endswith(".tif")]
    (root / "eurosat-train.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")

    def prepare(sample: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        image = functional.interpolate(sample["image"][None] / 10000, size=(224, 224), mode="bilinear")
        return {"image": image[0]}

    dataset = EuroSAT(str(root), split="train", transforms=prepare)

    def loop() -> None:
        with torch.inference_mode():
            loader = DataLoader(dataset, batch_size=BATCH, num_workers=2)
            found = torch.cat([network(batch["image"]) for batch in loader])
        assert found.shape == (len(names), 2048)

    return loop


def main() -> int:
    """Print the table; 1 if a target was missed."""
    options = arguments(__doc__ or "")
    describe_machine()
    if importlib.util.find_spec("torchgeo") is None:
        print("torchgeo is not installed (`pip install 'ssl4eo-bench[peers]'`): left out")
        return 0
    task, checkpoint = catalogue.task("eurosat"), catalogue.load_catalogue().checkpoint("resnet50.random")
    found = open_splits(task, options.data_dir, partial=True)
    source, ids = found["train"].reader, tuple(sorted(id_ for split in SPLITS for id_ in found[split].ids))
    inputs = map_inputs(task.bands, checkpoint)
    groups = task.groups(inputs.sources)
    module = feature_module(checkpoint, inputs, groups, [(64, 64)] * len(groups), seed=0)
    example = source.read(ids[:BATCH], inputs.sources)
    full, half = (make_runner(module, example, "cpu", print, precision=chosen) for chosen in PRECISIONS)

    def ours(run: Runner) -> None:
        features = np.concatenate(
            [run(some) for some in batches(partial(source.read, bands=inputs.sources), ids, size=BATCH)]
        )
        assert features.shape == (len(ids), 2048)

    (archive,) = (options.data_dir / "eurosat").glob("EuroSAT*MS*.zip")
    with tempfile.TemporaryDirectory() as folder:
        loop = torchgeo_loop(Path(folder), archive, build(checkpoint.seeing(inputs.bands), seed=0).eval())
        *own, peer = alternate(partial(ours, full), partial(ours, half), loop, rounds=3 if options.full else 1)
    print(f"{len(ids)} patches: torchgeo and plain PyTorch {len(ids) / np.median(peer):.1f} images/s")
    met = []
    for precision, run, times in zip(PRECISIONS, (full, half), own, strict=True):
        print(f"ours, {precision} ({run.name}): {len(ids) / np.median(times):.1f} images/s")
        claim = f"ResNet-50, 13 bands: torchgeo and plain PyTorch ÷ ours, {precision}"
        met.append(report(claim, median_ratio(peer, times), 5.0))
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
