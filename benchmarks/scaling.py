"""How do time and memory of `linear` grow with samples, classes and checkpoints?

Features of 2,048 dimensions and labels as `benchmarks.solver` makes them, in half precision as the cache stores them,
each fit in a process of its own. Draws `scaling.png`. With `--full`, the largest fit has the 269,695 samples and 19
labels of BigEarthNet's training split and solves all 45 penalties.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from math import log
from pathlib import Path

import numpy as np

from benchmarks.setting import arguments, describe_machine, report
from benchmarks.solver import synthetic
from ssl4eo_bench.config.protocols import Linear
from ssl4eo_bench.labels import labels_of
from ssl4eo_bench.methods.linear import fit_probe
from ssl4eo_bench.solver.path import Data

BIGEARTHNET = 269_695
PICTURE = Path("scaling.png")


def run_one(samples: int, classes: int, full_path: bool) -> None:
    """Fit in this process; prints seconds, peak memory and what is of the heads as JSON."""
    train = synthetic(samples, classes=classes, seed=0, dtype=np.float16)
    val = synthetic(samples // 4, classes=classes, seed=1, dtype=np.float16)
    begin = time.perf_counter()
    data = Data(*train, classes)
    probe = fit_probe(Linear(), labels_of("multilabel"), data, val, device="cpu", full_path=full_path)
    found = {
        "seconds": time.perf_counter() - begin,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "heads": len(probe.path),
        "iterations": sum(point.iterations for point in probe.path),
        "warnings": probe.warnings,
    }
    print(json.dumps(found))


def measure(samples: int, classes: int, *, full_path: bool = False) -> dict[str, float]:
    """A fit in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scaling", "--one", str(samples), str(classes), str(int(full_path))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{samples:7,} samples, {classes:2} labels: {found['seconds']:7.1f} s, peak {found['peak']:.2f} GB, "
        f"{found['heads']} heads, {found['iterations']} iterations, {found['warnings'] or 'no warning'}",
        flush=True,
    )
    return found


def draw(panels: dict[str, tuple[Sequence[int], Sequence[float]]]) -> None:
    """One panel for each: seconds against what grows, both logarithmic, with the slope of proportional growth."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(4 * len(panels), 3.6), layout="constrained")
    for axes, (what, (sizes, times)) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        axes.plot(
            sizes, [times[0] * size / sizes[0] for size in sizes], color="0.7", linestyle="--", label="in proportion"
        )
        axes.plot(sizes, times, marker="o", color="#0072b2", label="measured")
        axes.set(xscale="log", yscale="log", xlabel=what, ylabel="seconds")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:,g}")
        axes.minorticks_off()
        axes.legend(frameon=False)
        axes.grid(visible=True, color="0.9")
    figure.savefig(PICTURE, dpi=150)
    print(f"picture {PICTURE}")


def main(given: Sequence[str]) -> int:
    """Print the table and draw; 1 if a target was missed."""
    if given[:1] == ["--one"]:
        run_one(int(given[1]), int(given[2]), given[3] == "1")
        return 0
    options = arguments(__doc__ or "", given)
    describe_machine()
    sizes = (25_000, 80_000, BIGEARTHNET) if options.full else (5_000, 10_000, 20_000)
    by_samples = [measure(size, 19)["seconds"] for size in sizes]
    classes = (2, 5, 10, 19)
    by_classes = [measure(sizes[0], number)["seconds"] for number in classes]
    checkpoints = (1, 2, 4)
    by_checkpoints = [sum(measure(sizes[0], 10)["seconds"] for _ in range(number)) for number in checkpoints]
    draw(
        {"samples": (sizes, by_samples), "labels": (classes, by_classes), "checkpoints": (checkpoints, by_checkpoints)}
    )
    exponent = log(by_samples[-1] / by_samples[0]) / log(sizes[-1] / sizes[0])
    met = [report("growth with samples, exponent", exponent, 1.1, more_is_better=False, unit="")]
    if options.full:
        whole = measure(BIGEARTHNET, 19, full_path=True)
        met.append(report("BigEarthNet-size path", whole["seconds"] / 60, 25, more_is_better=False, unit="min"))
        met.append(report("BigEarthNet-size path, peak", whole["peak"], 5, more_is_better=False, unit="GB"))
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
