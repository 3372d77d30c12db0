"""What jobs will take: images that go through a backbone, seconds, memory and disk.

Seconds follow from floating-point operations and from the time of one matrix product on this machine, now. What a run
really takes differs by up to a factor of two; docs/scale.md compares forecasts with measured runs.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch

from ssl4eo_bench.config.protocols import Finetune, Knn, Linear
from ssl4eo_bench.config.recipe import Recipe
from ssl4eo_bench.config.records import Cost
from ssl4eo_bench.config.run_spec import RunSpec
from ssl4eo_bench.executors.outcomes import Execution
from ssl4eo_bench.extraction.problem import Context, Problem
from ssl4eo_bench.extraction.store import FeatureCache
from ssl4eo_bench.methods import extractions
from ssl4eo_bench.models.cost import entry_costs
from ssl4eo_bench.models.runtime import resolve_devices
from ssl4eo_bench.plan import Job, shared_features

SIDE = 2048
"""Of the matrices whose product is timed."""

EFFICIENCY = 0.5
"""Share of the speed of a matrix product that a backbone reaches, frozen or trained."""

TRAINED = 0.6
"""Share of the epochs of a fine-tuning after which its learning rates are given up, about."""

SOLVER_PASSES = 200
"""Products with the features that a whole path of penalties takes for each class, in passes over all rows."""

READ = 2000
"""Images a second that two cores read and decode at least; more where a dataset is packed."""

BASE_MEMORY = 1.0e9
"""Bytes of a process that has loaded its libraries and a backbone."""

CLASSES = 20
"""Of a task, about."""

NO_NETWORK = Cost(parameters=0, flops=0, width=64)
"""Of band statistics and embeddings, near enough."""


@dataclass(frozen=True)
class Forecast:
    """What a job will take, on one device.

    Attributes:
        images: that go through the backbone for features that are not stored.
        seconds: of everything.
        memory: bytes at the peak.
        disk: bytes that stay in the cache.
    """

    images: int
    seconds: float
    memory: int
    disk: int


def forecasts(jobs: Sequence[Job], how: Execution) -> list[Forecast]:
    """Return the forecast of each job; features are counted for the first job that reads them."""
    costs = entry_costs({job.spec.checkpoint.name: job.spec.checkpoint for job in jobs}.values())
    device = resolve_devices(how.device)[0]
    speed = _matmul_speed(device)
    cache, known, seen = FeatureCache(how.cache_dir), set[object](), set[str]()
    found = []
    for job in jobs:
        images = 0
        if (shared := shared_features(job)) not in known:
            known.add(shared)
            keys = [one.key for one in extractions(Problem(job, Context(how.cache_dir, (device,)))).values()]
            images = sum(key.rows_in(cache.missing(key)) for key in keys if key.digest not in seen)
            seen.update(key.digest for key in keys)
        cost = costs.get(job.spec.checkpoint.name, NO_NETWORK)
        found.append(_forecast(job.spec, images, cost, speed))
    return found


def _forecast(spec: RunSpec, images: int, cost: Cost, speed: float) -> Forecast:
    rows = {split: of.count for split, of in spec.task.splits.items()}
    train = int(rows["train"] * (spec.fraction or 1))
    forward = (cost.flops or 0) / (EFFICIENCY * speed) + 1 / READ
    step = 3 * (cost.flops or 0) / (EFFICIENCY * speed) + 1 / READ
    scored = rows["val"] + rows["test"]
    match spec.protocol:
        case Linear(pixels=pixels):
            seconds = 4.0 * SOLVER_PASSES * train * (pixels or 1) * cost.width * CLASSES / speed
            seconds += forward * rows["test"] if pixels else 0
        case Knn():
            seconds = 2.0 * train * scored * cost.width / (EFFICIENCY * speed)
        case Finetune(rates=rates, epochs=epochs):
            seconds = TRAINED * len(rates) * epochs * (step * train + forward * rows["val"])
        case Recipe() as recipe:
            each = forward if recipe.frozen else step
            seconds = recipe.epochs * each * train + len(recipe.scored_epochs) * forward * scored
    return Forecast(
        images=images,
        seconds=seconds + images * forward,
        memory=peak_memory(spec, cost),
        disk=int(2 * images * cost.width + 8 * rows["test"] * CLASSES),
    )


def peak_memory(spec: RunSpec, cost: Cost) -> int:
    """Return the bytes that a job takes at the peak, about."""
    rows = {split: of.count for split, of in spec.task.splits.items()}
    pixels = spec.protocol.pixels or 1 if isinstance(spec.protocol, Linear) else 1
    kept = 4 * cost.width * rows["train"] * pixels * (spec.fraction or 1) + 8 * CLASSES * (rows["val"] + rows["test"])
    return int(BASE_MEMORY + kept)


@cache
def _matmul_speed(device: str) -> float:
    """Return the floating-point operations a second of a product of matrices, measured once in a process."""
    matrix = torch.rand(SIDE, SIDE, device=device)
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        float((matrix @ matrix)[0, 0])  # waits for the device
        times.append(time.perf_counter() - begin)
    return 2 * SIDE**3 / min(times)
