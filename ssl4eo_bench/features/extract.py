"""From stored samples to features: what all kinds of labels share."""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from torch import nn

from ssl4eo_bench import progress
from ssl4eo_bench.config.canonical import digest
from ssl4eo_bench.config.task import Groups, SplitName
from ssl4eo_bench.features.store import FeatureKey, backbone_digest
from ssl4eo_bench.metrics.evaluation import Bootstrap
from ssl4eo_bench.models.weight_files import unpinned_sha256
from ssl4eo_bench.plan import Job

if TYPE_CHECKING:
    from ssl4eo_bench.models.runtime import Runner

Module = TypeVar("Module", bound=nn.Module)

BATCH, GPU_BATCH = 32, 256
"""Images at once; larger batches are no faster on a processor, and need more memory."""


def batch_size(device: str) -> int:
    """Images at once on a device."""
    return BATCH if device == "cpu" else GPU_BATCH


def threads(device: str) -> int:
    """How many batches run at once, apart from what else is done: on a GPU one travels while another is computed."""
    return 0 if device == "cpu" else 2


class Computed(Protocol):
    """What tells where features came from."""

    @property
    def computed(self) -> int:
        """Of how many samples they were computed just now."""
        ...

    @property
    def runners(self) -> Sequence[str]:
        """What computed them, now or earlier."""
        ...

    @property
    def weights_sha256(self) -> Sequence[str]:
        """Of the backbones that did."""
        ...


class LazyBackbone:
    """The backbone of a job, built and compiled when the first batch is there: not at all if features are cached."""

    def __init__(
        self,
        job: Job,
        device: str,
        *,
        make: Callable[..., nn.Module] | None = None,
        batch: int | None = None,
        cache_dir: Path,
    ) -> None:
        self._job = job
        self.device = device
        self._cache_dir = cache_dir
        self._make = make
        self.batch = batch or batch_size(device)
        self._run: Runner | None = None
        self._building = threading.Lock()
        self.runner = self.weights_sha256 = ""

    def __call__(self, groups: Groups) -> np.ndarray:
        """What the module made by `make`, if not the one of features, gives for at most `batch` samples."""
        with self._building:
            if self._run is None:
                self._run = self._build(groups)
                self.runner = self._run.name
        return self._run(groups)

    def _build(self, groups: Groups) -> "Runner":
        # These bring what builds networks, which takes seconds: not for features that are cached.
        from ssl4eo_bench.models.backbone import state_sha256
        from ssl4eo_bench.models.pooled import feature_module
        from ssl4eo_bench.models.runtime import make_runner

        module = build_module(self._job, groups, self._make or feature_module, self._cache_dir)
        self.weights_sha256 = state_sha256(module)
        full = tuple(np.repeat(group[:1], self.batch, axis=0) for group in groups)
        precision = self._job.spec.checkpoint.precision
        return make_runner(module, full, self.device, progress.note, precision=precision)


def build_module(job: Job, groups: Groups, make: Callable[..., Module], cache_dir: Path) -> Module:
    """What `make` builds for the checkpoint of a job and stored pixels of the size of these."""
    spec = job.spec
    return make(
        spec.checkpoint,
        spec.inputs,
        job.task.groups(spec.inputs.sources),
        [(group.shape[2], group.shape[3]) for group in groups],
        seed=spec.seed,
        cache_dir=cache_dir,
    )


def bootstrap_of(job: Job) -> Bootstrap:
    """What is drawn for the intervals of a job's test metrics."""
    return Bootstrap(job.spec.bootstrap_seed, job.task.units(job.samples["test"].ids)[0])


def input_reader(job: Job, split: SplitName) -> Callable[[Sequence[str]], Groups]:
    """What reads stored pixels of these ids of a split, for the inputs of a job."""
    return partial(job.samples[split].source.read_inputs, inputs=job.spec.inputs)


def feature_key(job: Job, split: SplitName, cache_dir: Path) -> FeatureKey:
    """The key of a split's features of whole images.

    Raises:
        WeightsError: if a weight file has to be read for it and cannot be.
    """
    spec, samples = job.spec, job.samples[split]
    return FeatureKey(
        task=spec.task_slug,
        split=split,
        rows=len(samples.ids),
        ids=samples.record.digest,
        data=samples.source.fingerprint(samples.ids),
        checkpoint=spec.checkpoint.name,
        backbone=backbone_digest(spec.checkpoint, spec.seed),
        weights=unpinned_sha256(spec.checkpoint.weights, cache_dir),
        inputs=digest(spec.inputs),
    )
