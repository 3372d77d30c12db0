"""Does a full BigEarthNet fit? Probes on stored features of its size, each in a process of its own.

There are 269,695 training, 123,723 validation and 125,866 test samples with 2,048 features and 19 labels, as of
BigEarthNet with a ResNet-50. Features and labels are random, with a common structure of 64 dimensions. A quick run has
a twentieth of the samples.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.setting import arguments, describe_machine, report
from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.inputs import map_inputs
from ssl4eo_bench.config.protocols import PROTOCOLS
from ssl4eo_bench.config.run_spec import RunSpec, TaskRecord
from ssl4eo_bench.config.task import SPLITS, Split
from ssl4eo_bench.data.reader import Reader
from ssl4eo_bench.data.splits import OpenSplit
from ssl4eo_bench.executors import execute
from ssl4eo_bench.executors.outcomes import Execution
from ssl4eo_bench.extraction.problem import Context, Problem
from ssl4eo_bench.extraction.store import Extraction, FeatureCache, Origin
from ssl4eo_bench.plan import Job

ROWS = {"train": 269_695, "val": 123_723, "test": 125_866}
WIDTH, LABELS, LATENT, TILES, BATCH = 2048, 19, 64, 46, 1024
PEAK_GB = 4.0
RUNS = (("linear", None), ("linear", 0.1), ("linear", 0.05), ("knn", None))
LARGEST_GROWTH = 1.1
SMALL = 20
"""A quick run has one sample in so many."""


class Rows:
    """A source of samples whose ids end in the number of their row."""

    def fingerprint(self, ids: Sequence[str]) -> str:
        """The same for all."""
        del ids
        return "synthetic"

    def targets(self, ids: Sequence[str]) -> np.ndarray:
        """Labels `[N, C]` that follow from the latent structure."""
        rows = [int(id_.rsplit("_", 1)[1]) for id_ in ids]
        return np.concatenate([_labels(_latent(rows[at : at + BATCH])) for at in range(0, len(rows), BATCH)])


def _latent(rows: Sequence[int]) -> np.ndarray:
    """The position `[N, 64]` of each sample in the latent structure."""
    values: np.ndarray = np.array(rows, dtype=np.uint64)[:, None] * np.uint64(LATENT) + np.arange(
        LATENT, dtype=np.uint64
    )
    mixed: np.ndarray = (values ^ (values >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    uniform: np.ndarray = (mixed >> np.uint64(40)).astype(np.float32) / np.float32(1 << 23) - np.float32(1)
    return uniform


def _labels(latent: np.ndarray) -> np.ndarray:
    directions = np.random.default_rng(1).standard_normal((LATENT, LABELS), dtype=np.float32)
    rarity = np.linspace(0.2, 2.3, LABELS, dtype=np.float32) * np.sqrt(np.float32(LATENT) / 3)
    labels: np.ndarray = (latent @ directions > rarity).astype(np.uint8)
    return labels


class Features:
    """In the place of a backbone: features of a structure with noise."""

    def __init__(self) -> None:
        self._projection = np.random.default_rng(2).standard_normal((LATENT, WIDTH), dtype=np.float32)

    def origin(self, samples: int) -> Origin:
        """The origin of so many samples."""
        return Origin(samples, ("synthetic",), ("0" * 64,))

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """Features `[N, 2048]` of row numbers `[N]`."""
        noise = np.random.default_rng(int(batch[0])).standard_normal((len(batch), WIDTH), dtype=np.float32)
        return _latent(batch.tolist()) @ self._projection + 4 * noise


def _job(protocol: str, fraction: float | None, rows: dict[str, int]) -> Job:
    task, checkpoint = catalogue.task("bigearthnet"), catalogue.load_catalogue().checkpoint("resnet50.random")
    first, samples = 0, {}
    reader = Reader(task, Rows())  # type: ignore[arg-type]
    for split in SPLITS:
        numbers = range(first, first + rows[split])
        ids = sorted(f"S2A_MSIL2A_201707{1 + one % TILES % 28:02d}T101031_{one % TILES}_{one:07d}" for one in numbers)
        samples[split], first = OpenSplit(tuple(ids), reader), numbers.stop
    spec = RunSpec(
        task=TaskRecord.of(task, {split: Split.of(found.ids) for split, found in samples.items()}),
        checkpoint=checkpoint,
        inputs=map_inputs(task.bands, checkpoint),
        protocol=PROTOCOLS[protocol],
        seed=0,
        fraction=fraction,
    )
    return Job(spec, task, samples)


def store(folder: Path, rows: dict[str, int]) -> None:
    """Store the features of all splits."""
    job = _job("linear", None, rows)
    problem = Problem(job, Context(folder / "cache", ("cpu",)))
    for split in SPLITS:
        ids = job.samples[split].ids

        def read(start: int, stop: int, ids: Sequence[str] = ids) -> Iterator[np.ndarray]:
            for at in range(start, stop, BATCH):
                yield np.array([int(id_.rsplit("_", 1)[1]) for id_ in ids[at : min(at + BATCH, stop)]])

        FeatureCache(folder / "cache").get(Extraction(problem.feature_key(split), [Features()], read))


def run_one(folder: Path, protocol: str, fraction: float | None, rows: dict[str, int]) -> None:
    """Do one run in this process; prints what it took as JSON."""
    started = time.perf_counter()
    (outcome,) = execute([_job(protocol, fraction, rows)], Execution(folder / "results", folder, folder / "cache"))
    assert outcome.result is not None, outcome.error
    made, metric = outcome.result.provenance, outcome.result.metrics["test"]["micro_map"].value
    print(
        json.dumps(
            {
                "seconds": made.seconds | {"all": time.perf_counter() - started},
                "peak": made.peak_memory_bytes,
                "computed": made.features_computed,
                "micro_map": metric,
            }
        )
    )


def measure(
    rows: dict[str, int], home: Path | None, runs: Sequence[tuple[str, float | None]]
) -> Iterator[dict[str, Any]]:
    """Yield what each run takes; the features are stored before, below `home`."""
    with tempfile.TemporaryDirectory(dir=home) as name:
        store(Path(name), rows)
        for protocol, fraction in runs:
            call = f"run_one(Path({name!r}), {protocol!r}, {fraction!r}, {rows!r})"
            command = [sys.executable, "-c", f"from benchmarks.full_size import *; {call}"]
            found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            assert found["computed"] == 0  # the features are those that were stored
            what = f"{rows['train']:,} rows, {protocol}{f', {fraction:g} of train' if fraction else ''}"
            stages = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in found["seconds"].items())
            print(
                f"        {what}: {stages}; {found['peak'] / 1e9:.2f} GB; micro mAP {found['micro_map']:.4f}",
                flush=True,
            )
            yield found | {"what": what}


def main() -> int:
    """Store, run, report."""
    options = arguments(__doc__ or "")
    describe_machine()
    home = options.cache_dir if options.cache_dir.is_dir() else None
    rows = ROWS if options.full else {split: count // SMALL for split, count in ROWS.items()}
    (half,) = measure({split: count // 2 for split, count in rows.items()}, home, RUNS[:1])
    whole = list(measure(rows, home, RUNS))
    met = True
    for found in whole:
        met &= report(f"{found['what']}: peak memory", found["peak"] / 1e9, PEAK_GB, more_is_better=False, unit="GB")
    growth = whole[0]["seconds"]["all"] / half["seconds"]["all"] / 2
    met &= report("seconds of a sample, all ÷ half of them, linear", growth, LARGEST_GROWTH, more_is_better=False)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
