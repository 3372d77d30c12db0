"""A run from end to end; the only place that joins the stages.

samples ─► batches ─► features (cached) ─► protocol ─► scores ─► metrics ─► result
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from ssl4eo_bench import provenance
from ssl4eo_bench.backbones.cache import CachedFeatures, FeatureCache, FeatureKey, backbone_digest
from ssl4eo_bench.backbones.features import feature_module
from ssl4eo_bench.backbones.runtime import Runner, make_runner
from ssl4eo_bench.backbones.weights import state_sha256
from ssl4eo_bench.data.batches import batches
from ssl4eo_bench.metrics.evaluation import RESAMPLES, Evaluation, evaluate_multiclass, evaluate_multilabel
from ssl4eo_bench.plan import Job
from ssl4eo_bench.progress import Advance, Progress
from ssl4eo_bench.protocols.linear import LinearProbe, fit_linear
from ssl4eo_bench.results.files import (
    SCHEMA_VERSION,
    ClassResult,
    MetricValue,
    PathResult,
    Provenance,
    RunResult,
    Selection,
)
from ssl4eo_bench.spec.canonical import digest
from ssl4eo_bench.spec.tasks import Groups, SplitName
from ssl4eo_bench.storage import replacing

BATCH = 32
"""Images at once on a processor; larger batches are no faster there and need more memory."""


@dataclass(frozen=True)
class Settings:
    """Where and how runs are done; nothing here can move a number.

    Attributes:
        cache_dir: for features and scores.
        device: as `resolve_device` gives it.
        full_path: solve the penalties behind the stop, too.
    """

    cache_dir: Path
    device: str
    full_path: bool = False


def run(job: Job, settings: Settings, progress: Progress) -> RunResult:
    """Do one run.

    Test labels are opened after everything has been chosen.
    """
    watch = _Watch()
    backbone = LazyBackbone(job, settings.device, progress)

    def features(split: SplitName) -> CachedFeatures:
        return extract_features(job, split, backbone, settings.cache_dir, progress)

    with watch.stage("features"):
        train, val = features("train"), features("val")
        val_targets = job.samples["val"].targets(progress)
    with watch.stage("fit"):
        probe = fit_linear(
            job.spec.protocol,
            job.task.kind,
            len(job.task.classes),
            (train.values, job.samples["train"].targets(progress)),
            (val.values, val_targets),
            device=settings.device,
            progress=progress,
            full_path=settings.full_path,
        )
    with watch.stage("features"):
        test = features("test")
    with watch.stage("metrics"):
        scores, targets = probe.probabilities(test.values), job.samples["test"].targets(progress)
        _store_scores(settings.cache_dir, job, scores, targets)
        on_val = _evaluate(job, probe, probe.val_probabilities, val_targets)
        with progress.stage("bootstrap intervals", total=RESAMPLES, unit="resamples") as advance:
            on_test = _evaluate(job, probe, scores, targets, seed=job.spec.seed, advance=advance)
    return RunResult(
        schema_version=SCHEMA_VERSION,
        digest=job.spec.digest,
        spec=job.spec,
        counts={split: len(samples.ids) for split, samples in job.samples.items()},
        metrics={"val": _metrics(on_val), "test": _metrics(on_test)},
        classes=tuple(ClassResult(**asdict(values)) for values in on_test.classes),
        confusion=on_test.confusion,
        selection=_selection(job, probe),
        warnings=(*_input_warnings(job), *probe.warnings),
        provenance=_provenance(settings, (train, val, test), watch),
    )


class LazyBackbone:
    """The backbone of a job, built and compiled when the first batch is there: not at all if features are cached."""

    def __init__(self, job: Job, device: str, progress: Progress) -> None:
        self._job = job
        self._device = device
        self._progress = progress
        self._run: Runner | None = None
        self.runner = self.weights_sha256 = ""

    def __call__(self, groups: Groups) -> np.ndarray:
        """Features `[N, D]` of a batch."""
        if self._run is None:
            self._run = self._build(groups)
            self.runner = self._run.name
        return self._run(groups)

    def _build(self, groups: Groups) -> Runner:
        spec = self._job.spec
        stored = [(group.shape[2], group.shape[3]) for group in groups]
        bands = self._job.task.groups(spec.inputs.sources)
        module = feature_module(spec.checkpoint, spec.inputs, bands, stored, seed=spec.seed)
        self.weights_sha256 = state_sha256(module)
        full = tuple(np.repeat(group[:1], BATCH, axis=0) for group in groups)
        return make_runner(module, full, self._device, self._progress.note)


def extract_features(
    job: Job, split: SplitName, backbone: LazyBackbone, cache_dir: Path, progress: Progress
) -> CachedFeatures:
    """The features of a split, from the cache as far as they are there."""
    spec, samples = job.spec, job.samples[split]
    key = FeatureKey(
        task=spec.task_slug,
        split=split,
        rows=len(samples.ids),
        ids=samples.record.digest,
        data=samples.source.fingerprint(samples.ids),
        checkpoint=spec.checkpoint.name,
        backbone=backbone_digest(spec.checkpoint, spec.seed),
        inputs=digest(spec.inputs),
    )

    def read(start: int, stop: int) -> Iterator[Groups]:
        return batches(samples.source, samples.ids[start:stop], spec.inputs.sources, size=BATCH)

    return FeatureCache(cache_dir).get(key, backbone, read, progress)


def _evaluate(
    job: Job,
    probe: LinearProbe,
    scores: np.ndarray,
    targets: np.ndarray,
    *,
    seed: int | None = None,
    advance: Advance = lambda _: None,
) -> Evaluation:
    names = job.task.classes
    if probe.thresholds is None:
        return evaluate_multiclass(scores, targets, names, seed=seed, advance=advance)
    return evaluate_multilabel(scores, targets, names, probe.thresholds, seed=seed, advance=advance)


def _store_scores(cache_dir: Path, job: Job, scores: np.ndarray, targets: np.ndarray) -> None:
    """Keep the scores of each test sample for paired comparisons; too large for git, they live in the cache."""
    with replacing(cache_dir / "scores" / f"{job.spec.digest}.npz") as temporary, temporary.open("wb") as opened:
        np.savez(opened, ids=np.array(job.samples["test"].ids), scores=scores.astype(np.float32), targets=targets)


def _metrics(evaluation: Evaluation) -> dict[str, MetricValue]:
    return {name: MetricValue(**asdict(estimate)) for name, estimate in evaluation.metrics.items()}


def _selection(job: Job, probe: LinearProbe) -> Selection:
    return Selection(
        metric=job.task.main_metric,
        C=probe.head.C,
        path=tuple(PathResult(**asdict(point)) for point in probe.path),
        thresholds=None if probe.thresholds is None else tuple(probe.thresholds.tolist()),
    )


def _input_warnings(job: Job) -> tuple[str, ...]:
    filled = job.spec.inputs.filled
    if not filled:
        return ()
    return (
        f"{len(filled)} of {len(job.spec.inputs.channels)} input bands are not in the task and were zero: "
        f"{', '.join(filled)}",
    )


def _provenance(settings: Settings, features: Sequence[CachedFeatures], watch: "_Watch") -> Provenance:
    return Provenance(
        versions=provenance.versions(),
        commit=watch.commit,
        dirty=watch.dirty,
        device=provenance.device_name(settings.device),
        runners=tuple(sorted({runner for found in features for runner in found.runners})),
        weights_sha256=tuple(sorted({sha for found in features for sha in found.weights_sha256})),
        threads=torch.get_num_threads(),
        started=watch.started,
        seconds=watch.seconds,
        features_computed=sum(found.computed for found in features),
        peak_memory_bytes=provenance.peak_memory_bytes(),
    )


class _Watch:
    """When a run started, from which commit, and seconds by stage; a stage entered again adds to its time."""

    def __init__(self) -> None:
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.commit, self.dirty = provenance.commit()  # now: the checkout may change while a long run goes on
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        begin = time.perf_counter()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - begin, 3)
