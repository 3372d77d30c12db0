"""How long does a linear probe take that runs the frozen backbone again in every epoch?

Peer: the reference recipe for EuroSAT (SSL4EO-S12's linear evaluation: 100 epochs of SGD with momentum 0.9 on batches
of 64, random crops resized to 224 pixels, flips, a cosine schedule, validation every five epochs), with a frozen
EfficientNet-Lite0 in plain PyTorch and a `DataLoader` with two workers, on a part of EuroSAT RGB that is decoded
already. One epoch and one validation are timed; 100 and 20 of them stand for the recipe. Ours: from the archive to
features of the same images, and the fit.
"""

import sys
from functools import partial

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.setting import arguments, describe_machine, report, seconds
from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.inputs import map_inputs
from ssl4eo_bench.config.protocols import Linear
from ssl4eo_bench.data.batches import batches
from ssl4eo_bench.data.splits import open_splits
from ssl4eo_bench.extraction.problem import BATCH
from ssl4eo_bench.labels import labels_of
from ssl4eo_bench.methods.linear import fit_probe
from ssl4eo_bench.models.build import build
from ssl4eo_bench.models.pooled import feature_module
from ssl4eo_bench.models.runtime import make_runner
from ssl4eo_bench.solver.path import Data

CHECKPOINT = "tf_efficientnet_lite0.in1k"
EPOCHS, VALIDATIONS, CLASSES = 100, 20, 10
TRAIN = transforms.Compose([transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip()])
VAL = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])


class Images(Dataset[tuple[torch.Tensor, int]]):
    """Decoded images `[N, 3, 64, 64]` and their labels."""

    def __init__(self, pixels: np.ndarray, targets: np.ndarray, transform: transforms.Compose) -> None:
        self._pixels, self._targets, self._transform = torch.from_numpy(pixels), targets, transform

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self._transform(self._pixels[index] / 255), int(self._targets[index])


class ReferenceProbe:
    """A linear head on a backbone that is run for every batch."""

    def __init__(self, backbone: torch.nn.Module, width: int, train: Images, val: Images) -> None:
        self._backbone, self._head = backbone.eval(), torch.nn.Linear(width, CLASSES)
        self._train = DataLoader(train, batch_size=64, shuffle=True, num_workers=2)
        self._val = DataLoader(val, batch_size=64, num_workers=2)
        self._optimiser = torch.optim.SGD(self._head.parameters(), lr=0.1, momentum=0.9)

    def epoch(self) -> None:
        """One pass over the training images."""
        for images, targets in self._train:
            with torch.no_grad():
                features = self._backbone(images)
            loss = torch.nn.functional.cross_entropy(self._head(features), targets)
            self._optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimiser.step()

    def validate(self) -> float:
        """The accuracy."""
        with torch.inference_mode():
            found = [self._head(self._backbone(images)).argmax(1) == targets for images, targets in self._val]
        return float(torch.cat(found).float().mean())


def main() -> int:
    """Print the table; 1 if a target was missed."""
    options = arguments(__doc__ or "")
    describe_machine()
    task, checkpoint = catalogue.task("eurosat-rgb"), catalogue.load_catalogue().checkpoint(CHECKPOINT)
    inputs = map_inputs(task.bands, checkpoint, task.display)
    samples = open_splits(task, options.data_dir, limit=3072 if options.full else 256)
    train, val = samples["train"], samples["val"]
    targets = [split.targets() for split in (train, val)]
    module = feature_module(checkpoint, inputs, task.groups(inputs.sources), [(64, 64)], seed=0)
    run = make_runner(module, train.reader.read(train.ids[:BATCH], inputs.sources), "cpu", print)

    def ours() -> None:
        features = [
            np.concatenate(
                [run(some) for some in batches(partial(split.reader.read, bands=inputs.sources), split.ids, size=BATCH)]
            )
            for split in (train, val)
        ]
        data, val_pair = Data(features[0], targets[0], CLASSES), (features[1], targets[1])
        fit_probe(Linear(), labels_of("multiclass"), data, val_pair, device="cpu")

    decoded = [split.reader.read(split.ids, inputs.sources)[0] for split in (train, val)]
    images = [Images(*some) for some in zip(decoded, targets, (TRAIN, VAL), strict=True)]
    probe = ReferenceProbe(build(checkpoint, seed=0), 1280, *images)
    mine, epoch, validation = seconds(ours), seconds(probe.epoch), seconds(probe.validate)
    theirs = EPOCHS * epoch + VALIDATIONS * validation
    print(f"{len(train.ids)} and {len(val.ids)} images ({run.name}): ours {mine:.1f} s; an epoch {epoch:.1f} s,")
    print(f"a validation {validation:.1f} s, so {theirs:.0f} s for the recipe")
    return 0 if report("a probe that runs the backbone in every epoch ÷ ours", theirs / mine, 100) else 1


if __name__ == "__main__":
    sys.exit(main())
