"""What the benchmarks share: where the real data are, the machine in words, and alternating measurements."""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssl4eo_bench.config.task import SplitName
from ssl4eo_bench.extraction.extract import pooled_features
from ssl4eo_bench.extraction.problem import Context, Problem
from ssl4eo_bench.files.places import cache_root, data_root
from ssl4eo_bench.plan import Request, plan
from ssl4eo_bench.provenance import device_name, versions


@dataclass(frozen=True)
class Options:
    """The options of every benchmark.

    Attributes:
        data_dir: `eurosat` in it holds the real EuroSAT RGB, `bigearthnet` an archive of real patches.
        cache_dir: features kept between benchmarks.
        full: all that is measured, not only what fits into minutes.
    """

    data_dir: Path
    cache_dir: Path
    full: bool


def arguments(about: str, given: Sequence[str] | None = None) -> Options:
    """Read the options from the command line."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=data_root(), help="default: $SSL4EO_BENCH_DATA or ./data")
    parser.add_argument("--cache-dir", type=Path, default=None, help="features kept between benchmarks")
    parser.add_argument("--full", action="store_true", help="all that is measured, which takes half an hour or more")
    found = parser.parse_args(given)
    return Options(found.data_dir, cache_root(found.cache_dir), found.full)


def eurosat_features(
    checkpoint: str, split: SplitName, options: Options, *, image_size: int | None = None, limit: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Features `[N, D]` float32 of a split of EuroSAT RGB and its labels, from the cache if they are there."""
    request = Request(
        tasks=("eurosat-rgb",),
        protocols=("linear",),
        checkpoints=(checkpoint,),
        suites=(),
        seeds=(0,),
        data_dir=options.data_dir,
        cache_dir=options.cache_dir,
        image_size=image_size,
        limit=limit,
    )
    (job,) = plan(request).jobs
    found = pooled_features(Problem(job, Context(request.cache_dir, ("cpu",))), split)
    return found.values.astype(np.float32), job.samples[split].targets()


def describe_machine() -> None:
    """Print what the numbers were measured on."""
    libraries = ", ".join(f"{name} {version}" for name, version in versions().items())
    print(
        f"{os.cpu_count()} cores of {device_name('cpu')}, {platform.system()}, {time.strftime('%Y-%m-%d')}; {libraries}"
    )


def seconds(action: Callable[[], object]) -> float:
    """How long an action takes."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def alternate(*actions: Callable[[], object], rounds: int) -> list[list[float]]:
    """Seconds of each action in each round: A B A B …, so that a drifting machine is fair to all."""
    return [
        list(times) for times in zip(*([seconds(action) for action in actions] for _ in range(rounds)), strict=True)
    ]


def report(
    claim: str, value: float, target: float, *, more_is_better: bool = True, unit: str = "×", digits: int = 2
) -> bool:
    """Print a figure beside its target; whether it was met."""
    met = value >= target if more_is_better else value <= target
    bound = f"{'≥' if more_is_better else '≤'} {target:g}"
    print(f"{'met   ' if met else 'MISSED'}  {claim}: {value:.{digits}f} {unit} ({bound})")
    return met


def median_ratio(slow: list[float], fast: list[float]) -> float:
    """The median over rounds of `slow / fast`."""
    return statistics.median(one / other for one, other in zip(slow, fast, strict=True))
