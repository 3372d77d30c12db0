"""A problem: one job, with where and how it runs on this machine."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from torch import nn

from ssl4eo_bench import progress
from ssl4eo_bench.config.canonical import digest
from ssl4eo_bench.config.protocols import Finetune
from ssl4eo_bench.config.recipe import Recipe
from ssl4eo_bench.config.task import Groups, SplitName
from ssl4eo_bench.data.batches import batches
from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.extraction.store import FeatureKey, Origin, backbone_digest
from ssl4eo_bench.metrics.bootstrap import Bootstrap
from ssl4eo_bench.models.weight_files import unpinned_sha256
from ssl4eo_bench.plan import Job

if TYPE_CHECKING:
    from ssl4eo_bench.models.runtime import Runner

STATE_FORMAT = 2
"""Raised when the parameters in the state of a training get other names."""

Network = TypeVar("Network", bound=nn.Module)


BATCH, GPU_BATCH = 32, 256
"""Images at once; larger batches are no faster on a processor, and need more memory."""


def batch_size(device: str) -> int:
    """Return how many images a device takes at once."""
    return BATCH if device == "cpu" else GPU_BATCH


@dataclass(frozen=True)
class Context:
    """Where and how jobs run; nothing here can move a number.

    Attributes:
        cache_dir: for features, scores and training states.
        devices: networks are trained and features computed on all of them; everything else runs on the first.
        full_path: solve the penalties behind the stop, too.
        renewed: None where stored features are used. Else all features are computed again, each entry once: the set
            collects the digests of those that were.
    """

    cache_dir: Path
    devices: tuple[str, ...]
    full_path: bool = False
    renewed: set[str] | None = None

    @property
    def device(self) -> str:
        """The device of everything but training and features."""
        return self.devices[0]


@dataclass
class Stopwatch:
    """Seconds by stage. A stage inside another one stops the outer one; a stage entered again adds to its time."""

    seconds: dict[str, float] = field(default_factory=dict)
    _running: list[str] = field(default_factory=list)
    _since: float = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the seconds inside the block to a stage."""
        self._charge()
        self._running.append(name)
        try:
            yield
        finally:
            self._charge()
            self._running.pop()

    def _charge(self) -> None:
        now = time.perf_counter()
        if self._running:
            name = self._running[-1]
            self.seconds[name] = round(self.seconds.get(name, 0.0) + now - self._since, 3)
        self._since = now


def module_for(job: Job, context: Context, make: Callable[..., nn.Module], groups: Groups) -> nn.Module:
    """Return the module that `make` builds for the checkpoint of a job and stored pixels of the size of `groups`."""
    spec = job.spec
    if spec.checkpoint.is_plugin:
        from ssl4eo_bench.models.self_test import require_sound  # imports timm, which takes seconds

        require_sound(spec.checkpoint.seeing(spec.inputs.bands), seed=spec.seed, cache_dir=context.cache_dir)
    return make(
        spec.checkpoint,
        spec.inputs,
        job.task.groups(spec.inputs.sources),
        [(group.shape[2], group.shape[3]) for group in groups if group.ndim == 4],
        seed=spec.seed,
        cache_dir=context.cache_dir,
    )


class LazyBackbone:
    """The backbone of a problem, built and compiled when the first batch comes: not at all if features are cached.

    It takes `batch` samples at once. Building and compiling are a stage of the stopwatch.
    """

    _building = threading.Lock()  # of all of them: compilers are not made for several threads

    def __init__(
        self, job: Job, context: Context, make: Callable[..., nn.Module], batch: int, stopwatch: Stopwatch
    ) -> None:
        self._job = job
        self._context = context
        self._make = make
        self.batch = batch
        self._stopwatch = stopwatch
        self._run: Runner | None = None
        self._origin = Origin(0, (), ())

    def __call__(self, groups: Groups) -> np.ndarray:
        """Return what the module gives for at most `batch` samples."""
        with self._building:
            if self._run is None:
                with self._stopwatch.stage("start"):
                    self._run = self._build(groups)
        return self._run(groups)

    def _build(self, groups: Groups) -> "Runner":
        from ssl4eo_bench.models.backbone import state_sha256
        from ssl4eo_bench.models.cost import module_cost  # these import timm, which takes seconds
        from ssl4eo_bench.models.runtime import make_runner

        module = module_for(self._job, self._context, self._make, groups)
        weights_sha256, cost = state_sha256(module), module_cost(module, tuple(group[:1] for group in groups))
        full = tuple(np.repeat(group[:1], self.batch, axis=0) for group in groups)
        precision = self._job.spec.checkpoint.precision
        runner = make_runner(module, full, self._context.device, progress.note, precision=precision)
        self._origin = Origin(0, (runner.name,), (weights_sha256,), cost)
        return runner

    def origin(self, samples: int) -> Origin:
        """Return the origin of what it computed for so many samples."""
        return replace(self._origin, computed=samples)


@dataclass(frozen=True)
class Problem:
    """A job in its context. It can be sent to other processes."""

    job: Job
    context: Context
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    _backbones: dict[Callable[..., nn.Module], tuple[LazyBackbone, ...]] = field(default_factory=dict, repr=False)

    def __reduce__(self) -> tuple[type["Problem"], tuple[Job, Context]]:
        """Leave networks behind: another process builds its own."""
        return Problem, (self.job, self.context)

    def backbones(self, make: Callable[..., nn.Module], *, batch: int | None = None) -> tuple[LazyBackbone, ...]:
        """Return the frozen backbone that `make` builds on each device; by default for the usual batch.

        They are the same for all splits.
        """
        if make not in self._backbones:
            size = batch or batch_size(self.context.device)
            self._backbones[make] = tuple(
                LazyBackbone(self.job, replace(self.context, devices=(device,)), make, size, self.stopwatch)
                for device in dict.fromkeys(self.context.devices)
            )
        return self._backbones[make]

    def batches(self, split: SplitName, ids: Sequence[str], *, size: int) -> Iterator[Groups]:
        """Yield the stored pixels of these samples of a split, for the inputs of the job, read ahead on threads."""
        read = partial(self.job.samples[split].reader.read_inputs, inputs=self.job.spec.inputs)
        return batches(read, ids, size=size)

    def example(self) -> Groups:
        """Return the stored pixels of the first training sample."""
        samples = self.job.samples["train"]
        return samples.reader.read_inputs(samples.ids[:1], inputs=self.job.spec.inputs)

    def network(self, make: Callable[..., nn.Module], wanted: type[Network]) -> Network:
        """Return the network that `make` builds for the checkpoint.

        Raises:
            SpecError: if the checkpoint has no network.
        """
        module = module_for(self.job, self.context, make, self.example())
        if not isinstance(module, wanted):
            raise SpecError(
                f"checkpoint {self.job.spec.checkpoint.name!r} has no network to fine-tune; use --protocol linear for "
                "it."
            )
        return module

    def bootstrap(self) -> Bootstrap:
        """Return what is drawn for the intervals of the test metrics."""
        return Bootstrap(self.job.spec.bootstrap_seed, self.job.task.units(self.job.samples["test"].ids)[0])

    def feature_key(self, split: SplitName) -> FeatureKey:
        """Return the key of a split's features of whole images; a weight file may have to be read for it."""
        spec, samples = self.job.spec, self.job.samples[split]
        return FeatureKey(
            task=spec.task_slug,
            split=split,
            rows=len(samples.ids),
            ids=samples.record.digest,
            data=samples.reader.fingerprint(samples.ids),
            checkpoint=spec.checkpoint.name,
            backbone=backbone_digest(spec.checkpoint, spec.seed),
            weights=unpinned_sha256(spec.checkpoint.weights, self.context.cache_dir),
            inputs=digest(spec.inputs.identity()),
        )

    def state_file(self) -> Path:
        """Return where a training keeps what it needs to go on after a kill.

        The name is made of all that decides the training: other pixels or weights are another training.
        """
        keys = [self.feature_key(split).digest for split in self.job.samples]
        return self.context.cache_dir / "finetuning" / f"{digest([STATE_FORMAT, self.job.spec.digest, *keys])}.pt"

    def discard_state(self) -> None:
        """Delete what a training kept in the cache; for when its result is stored, or it is to start again."""
        if isinstance(self.job.spec.protocol, Finetune | Recipe):
            state = self.state_file()
            for file in state.parent.glob(f"{state.stem}*"):
                file.unlink()
