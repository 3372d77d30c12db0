"""What the benchmarks share: where the real data are, the machine in words, and alternating measurements."""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from ssl4eo_bench.provenance import device_name, versions
from ssl4eo_bench.storage import data_root


def arguments(about: str) -> argparse.Namespace:
    """The options of every benchmark."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--data-dir", type=Path, default=data_root(), help="default: $SSL4EO_BENCH_DATA or ./data")
    parser.add_argument("--cache-dir", type=Path, default=None, help="feature cache, kept between benchmarks")
    return parser.parse_args()


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
