"""Do time and memory grow as they should? A BigEarthNet-shaped set of up to 20,000 patches, at three sizes.

The patches are those of the embedded sample under new names (links to the same files), so that reading, decoding,
resizing, the backbone, the cache and the probe all have the work of a real set. The backbone is a ResNet-18 on 64
pixels. Each size is run in a process of its own, with an empty cache.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.setting import arguments, describe_machine, report
from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.inputs import map_inputs
from ssl4eo_bench.config.protocols import PROTOCOLS
from ssl4eo_bench.config.run_spec import RunSpec, TaskRecord
from ssl4eo_bench.config.task import SPLITS, Split, SplitName, Task
from ssl4eo_bench.data.sample_dataset import write_sample
from ssl4eo_bench.data.splits import open_splits
from ssl4eo_bench.executors import execute
from ssl4eo_bench.executors.outcomes import Execution
from ssl4eo_bench.plan import Job

SIZES = (5000, 10000, 20000)
"""A quick run takes a fifth of each."""
SHARES = {"train": 0.5, "val": 0.25, "test": 0.25}


def generate(folder: Path, patches: int) -> dict[SplitName, list[str]]:
    """Write the set; the ids of its splits."""
    task = catalogue.task("bigearthnet")
    write_sample(task, folder / "sample")
    originals = {split: found.ids for split, found in open_splits(task, folder / "sample", sample=True).items()}
    stored, home = (folder / name / "bigearthnet" / "BigEarthNet-v1.0" for name in ("sample", "data"))
    ids: dict[SplitName, list[str]] = {}
    for number, split in enumerate(SPLITS):
        ids[split] = []
        for copy in range(int(patches * SHARES[split])):
            original = originals[split][copy % len(originals[split])]
            id_ = f"S2A_MSIL2A_2018010{number + 1}T101031_{copy // 100}_{copy % 100}"
            (home / id_).mkdir(parents=True)
            for file in (stored / original).iterdir():
                os.link(file, home / id_ / file.name.replace(original, id_))
            ids[split].append(id_)
        lines = "".join(f"{id_}\r\n" for id_ in ids[split])
        (home.parent / f"{split}.csv").write_text(lines, encoding="utf-8", newline="")
    return ids


def run_one(folder: Path) -> None:
    """Run `linear` on the set in this process; prints seconds, peak memory and rows as JSON."""
    task = catalogue.task("bigearthnet")
    lists = task.open(folder / "data")
    listed = task.model_copy(update={"splits": {split: Split.of(lists.ids(split)) for split in SPLITS}})
    how = Execution(folder / "results", folder / "data", folder / "cache")
    (outcome,) = execute([_job(listed, how.data_dir)], how)
    assert outcome.result is not None, outcome.error
    made = outcome.result.provenance
    print(json.dumps({"seconds": made.seconds, "peak": made.peak_memory_bytes, "rows": made.features_computed}))


def _job(task: Task, data_dir: Path) -> Job:
    samples = open_splits(task, data_dir)
    checkpoint = catalogue.load_catalogue().checkpoint("resnet18.random").at_size(64)
    spec = RunSpec(
        task=TaskRecord.of(task, {split: found.record for split, found in samples.items()}),
        checkpoint=checkpoint,
        inputs=map_inputs(task.bands, checkpoint),
        protocol=PROTOCOLS["linear"],
        seed=0,
    )
    return Job(spec, task, samples)


def main() -> int:
    """Print the table; 1 if a target was missed."""
    if len(sys.argv) == 3 and sys.argv[1] == "--one":
        run_one(Path(sys.argv[2]))
        return 0
    options = arguments(__doc__ or "")
    describe_machine()
    per_patch, peaks = [], []
    for size in SIZES if options.full else [size // 5 for size in SIZES]:
        with tempfile.TemporaryDirectory() as folder:
            generate(Path(folder), size)
            command = [sys.executable, "-m", "benchmarks.growth", "--one", folder]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        total = sum(found["seconds"].values())
        per_patch.append(total / found["rows"])
        peaks.append(found["peak"] / 1024**3)
        print(f"{found['rows']:6,} patches: {total:.0f} s, peak {peaks[-1]:.2f} GiB, {found['seconds']}")
    met = [
        report("seconds a patch, largest ÷ smallest set", per_patch[-1] / per_patch[0], 1.2, more_is_better=False),
        report("peak memory", max(peaks), 4.0, more_is_better=False, unit="GiB"),
    ]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
