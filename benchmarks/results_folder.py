"""How do commands that read a results directory grow with its files? And a plan with its runs?

The files are variants of a committed result: as many checkpoints, each with another name, other weights, another
confusion matrix, and metrics and replicates that agree with it, so that all of them pass `check`. Each command is a
process of its own; what counts is the time of the processor, and the largest memory. The board is of all checkpoints
on one task.
"""

import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.setting import arguments, describe_machine, report
from ssl4eo_bench.config.records import MetricValue, Resampled
from ssl4eo_bench.metrics.bootstrap import interval
from ssl4eo_bench.metrics.counts import COUNT_METRICS, Counts
from ssl4eo_bench.plan import Request, plan
from ssl4eo_bench.results.files import RunResult, read_result, write_result

HERE = Path(__file__).parents[1]
ORIGINAL = HERE / "results/runs/eurosat-rgb-v1/linear-v2/tf_efficientnet_lite0.in1k/seed0.json"

SIZES = (1000, 4000, 10000)
"""Files; a quick run leaves the last out."""

RUN = ("run", "--task", "eurosat-rgb", "--protocol", "knn", "--checkpoint", "bandstats", "--sample")
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "tables, all files new": ("tables",),
    "tables": ("tables",),
    "leaderboard": ("leaderboard",),
    "list runs": ("list", "runs"),
    "check": ("check",),
    "report": ("report",),
    "run, a new one": RUN,
    "run, skipped": RUN,
}
"""In this order: the first one writes the index, and the last but one a result that the last one finds."""

QUADRATIC = ("leaderboard", "check", "report", "run, a new one")
"""Those that rank all checkpoints against each other."""

MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
sys.exit(code)
"""
"""A small process between: Linux counts the memory of who starts a process as that of the process."""

SEEDS, FRACTIONS = 1000, (0.01, 0.02, 0.05, 0.1, 0.2)
CHECKPOINTS = ("resnet18.random", "resnet50.random")


def variants(count: int) -> Iterator[RunResult]:
    """Results of `count` checkpoints that differ by up to a third in their accuracy."""
    original, rng = read_result(ORIGINAL), np.random.default_rng(0)
    for number in range(count):
        confusion = np.array(original.confusion)
        wrong = rng.binomial(confusion.diagonal(), rng.uniform(0, 0.3))
        confusion -= np.diag(wrong)
        confusion += np.roll(np.diag(wrong), 1, axis=1)
        yield _variant(original, number, confusion, rng)


def _variant(original: RunResult, number: int, confusion: np.ndarray, rng: np.random.Generator) -> RunResult:
    """The result of a made-up checkpoint with this confusion matrix."""
    weights = original.spec.checkpoint.weights
    assert weights
    assert original.resampled
    changed = {"name": f"made{number:05}", "weights": weights.model_copy(update={"sha256": f"{number:064x}"})}
    spec = original.spec.model_copy(update={"checkpoint": original.spec.checkpoint.model_copy(update=changed)})
    counts, main = Counts.of_confusion(confusion), original.main_metric
    values = {name: float(of(counts)) for name, of in COUNT_METRICS.items() if name in original.metrics["test"]}
    moved = values[main] - original.main_value.value + 0.002 * rng.normal(size=original.resampled.values.shape)
    resampled = Resampled.of(np.clip(original.resampled.values + moved, 0, 1), original.resampled.units, "samples")
    metrics = {name: MetricValue(value=value, low=value - 0.01, high=value) for name, value in values.items()}
    low, high = interval(resampled.values)
    metrics[main] = MetricValue(value=values[main], low=min(low, values[main]), high=max(high, values[main]))
    precision = np.array([one.average_precision for one in original.classes])
    classes = counts.classes(tuple(one.name for one in original.classes), precision)
    update: dict[str, Any] = {"spec": spec, "digest": spec.digest, "resampled": resampled, "classes": classes}
    update |= {"metrics": original.metrics | {"test": original.metrics["test"] | metrics}}
    return original.model_copy(update=update | {"confusion": tuple(map(tuple, confusion.tolist()))})


def measured(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds of the processor and GiB of memory that a command takes, run in a folder."""
    environment = os.environ | {"PYTHONPATH": str(HERE), "SSL4EO_BENCH_CACHE": str(folder / "cache")}
    with (folder / "out.txt").open("w+", encoding="utf-8") as out:
        whole = [sys.executable, "-c", MEASURE, sys.executable, "-m", *command]
        code = subprocess.call(whole, cwd=folder, env=environment, stdout=out, stderr=out)
        out.seek(0)
        *said, used = out.read().splitlines()
    if code:
        raise RuntimeError("\n".join((f"{' '.join(command)} has failed:", *said[-20:])))
    seconds, kib = used.split()
    return float(seconds), float(kib) / 1024**2


def of_size(size: int) -> dict[str, tuple[float, float]]:
    """Seconds and GiB of each command beside so many result files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for result in variants(size):
            write_result(folder / "results", result)
        print(f"{size:,} files: seconds of the processor, GiB", flush=True)
        found = {}
        for what, command in COMMANDS.items():
            found[what] = measured(["ssl4eo_bench", *command], folder)
            print("  {:24}{:8.1f}{:8.2f}".format(what, *found[what]), flush=True)
        return found


def plan_many(folder: Path) -> None:
    """Plan 10,000 runs on the embedded sample, and print the seconds of the processor that planning took."""
    request = Request(
        tasks=("eurosat-rgb",),
        protocols=("linear",),
        checkpoints=CHECKPOINTS,
        suites=(),
        seeds=tuple(range(SEEDS)),
        fractions=FRACTIONS,
        data_dir=folder / "data",
        cache_dir=folder / "cache",
        sample=True,
    )
    begin = time.process_time()
    jobs = plan(request).jobs
    digests = {job.spec.digest for job in jobs}
    assert len(digests) == SEEDS * len(FRACTIONS) * len(CHECKPOINTS)
    print(f"{time.process_time() - begin:.2f}")


def main() -> int:
    """Print the table; 1 if a target was missed."""
    if len(sys.argv) == 3 and sys.argv[1] == "--plan":
        plan_many(Path(sys.argv[2]))
        return 0
    options = arguments(__doc__ or "")
    describe_machine()
    sizes = SIZES if options.full else SIZES[:-1]
    found = {size: of_size(size) for size in sizes}
    with tempfile.TemporaryDirectory() as name:
        seconds, memory = measured(["benchmarks.results_folder", "--plan", name], Path(name))
    last, before = found[sizes[-1]], found[sizes[-2]]
    met = [
        report("a skipped run", last["run, skipped"][0], 3.0, more_is_better=False, unit="s"),
        report("leaderboard", last["leaderboard"][0], 20.0, more_is_better=False, unit="s"),
        report(
            "peak memory of any command", max(gib for _, gib in last.values()), 2.0, more_is_better=False, unit="GiB"
        ),
        report("a plan of 10,000 runs and their digests", seconds, 10.0, more_is_better=False, unit="s"),
        report("its memory", memory, 1.0, more_is_better=False, unit="GiB"),
    ]
    for what in COMMANDS:
        if what not in QUADRATIC:
            growth = math.log(last[what][0] / before[what][0]) / math.log(sizes[-1] / sizes[-2])
            met.append(report(f"{what}: exponent of growth", growth, math.log2(2.2), more_is_better=False, unit=""))
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
