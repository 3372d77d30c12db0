"""A run from end to end; the only place that joins the stages.

samples ─► batches ─► features (cached) ─► protocol ─► scores ─► metrics ─► result
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch

from ssl4eo_bench import progress, provenance
from ssl4eo_bench.config.protocols import Finetune, Knn, linear_settings
from ssl4eo_bench.config.recipe import Recipe
from ssl4eo_bench.config.records import (
    RESAMPLES,
    Epoch,
    NotFinite,
    PathPoint,
    ReferenceResult,
    Resampled,
    Selection,
)
from ssl4eo_bench.config.task import Split, SplitName
from ssl4eo_bench.features.extract import Computed
from ssl4eo_bench.files.atomic import replacing
from ssl4eo_bench.files.places import picture_file, scores_file
from ssl4eo_bench.labels.images import Images, Rows
from ssl4eo_bench.methods.knn import fit_knn
from ssl4eo_bench.methods.linear import LinearProbe
from ssl4eo_bench.methods.probe import Probe
from ssl4eo_bench.methods.probe_cache import fit_once
from ssl4eo_bench.methods.tuned import Tuned
from ssl4eo_bench.metrics.evaluation import Advance, Evaluation
from ssl4eo_bench.plan import Job
from ssl4eo_bench.results.files import Provenance, RunResult
from ssl4eo_bench.results.schema import SCHEMA_VERSION

if TYPE_CHECKING:
    from ssl4eo_bench.methods.recipes import Reported

NAMED = 5
"""Samples with pixels that are no numbers, of which a result has the names."""


@dataclass(frozen=True)
class Settings:
    """Where and how runs are done; nothing here can move a number.

    Attributes:
        cache_dir: for features and scores.
        devices: as `resolve_devices` gives them; networks are trained on all, and all else is done on the first.
        full_path: solve the penalties behind the stop, too.
        renewed: of `FeatureCache`.
    """

    cache_dir: Path
    devices: tuple[str, ...]
    full_path: bool = False
    renewed: set[str] | None = None


class Scores(Protocol):
    """What a run found on the test split."""

    @property
    def origin(self) -> Computed:
        """Where the features of the test split came from."""
        ...

    def evaluate(self, advance: Advance) -> Evaluation:
        """The metrics, with intervals."""
        ...

    def arrays(self) -> dict[str, np.ndarray]:
        """What paired comparisons need of each sample."""
        ...


@runtime_checkable
class Reporting(Protocol):
    """Scores that know what the published code would have reported."""

    def reported(self) -> "Reported":
        """The metrics on test as the published code would compute them."""
        ...


class Stages(Protocol):
    """What depends on the kind of labels: of whole images, or of pixels."""

    def rows(self, split: SplitName) -> Rows:
        """What a head is fitted on or chosen by."""
        ...

    def score(self, probe: Probe) -> Scores:
        """Apply the chosen head to the test split."""
        ...

    def evaluate_val(self, probe: Probe, rows: Rows) -> Evaluation:
        """The metrics of the chosen head on the rows it was chosen by."""
        ...

    def tune(self, probe: Probe, train: Rows, val: Rows) -> "tuple[Stages, Probe, Rows]":
        """Fine-tune from a linear probe; the stages behind it, what they score by, and the rows of val."""
        ...


def run(job: Job, settings: Settings) -> RunResult:
    """Do one run.

    Test labels are opened after everything has been chosen.
    """
    watch = _Watch()
    for samples in job.samples.values():
        samples.source.not_finite.clear()  # of the job before, which may have read other bands
    stages, probe, train, val = _fitted(job, settings, watch)
    with watch.stage("features"):
        scores = stages.score(probe)
    with watch.stage("metrics"):
        _store_scores(settings.cache_dir, job, scores)
        on_val = stages.evaluate_val(probe, val)
        with progress.stage("bootstrap intervals", total=RESAMPLES, unit="resamples") as advance:
            on_test = scores.evaluate(advance)
    units, units_are = job.task.units(job.samples["test"].ids)
    resampled = Resampled.of(on_test.replicates[job.task.main_metric], int(units.max()) + 1, units_are)
    not_finite = _not_finite(job)
    return RunResult(
        schema_version=SCHEMA_VERSION,
        digest=job.spec.digest,
        spec=job.spec,
        counts={split: len(samples.ids) for split, samples in job.samples.items()},
        subset=None if job.spec.fraction is None else Split.of(train.ids),
        not_finite=not_finite,
        metrics={"val": on_val.metrics, "test": on_test.metrics},
        resampled=resampled,
        classes=on_test.classes,
        confusion=on_test.confusion,
        selection=_selection(job, probe),
        reference=ReferenceResult(**asdict(scores.reported())) if isinstance(scores, Reporting) else None,
        warnings=(*_input_warnings(job), *_pixel_warnings(not_finite), *probe.warnings, *_unit_warnings(resampled)),
        provenance=_provenance(settings, [found.origin for found in (train, val, scores)], watch),
    )


def _fitted(job: Job, settings: Settings, watch: "_Watch") -> tuple[Stages, Probe, Rows, Rows]:
    """The stages that score, by what, and the rows it was fitted on and chosen by."""
    if isinstance(job.spec.protocol, Recipe):
        from ssl4eo_bench.methods.finetune import Tuning  # these bring what builds networks
        from ssl4eo_bench.methods.recipes import follow

        with watch.stage("fit"):
            return follow(Tuning(job, settings.devices, settings.cache_dir))
    stages = _stages(job, settings)
    with watch.stage("features"):
        train, val = stages.rows("train"), stages.rows("val")
    with watch.stage("fit"):
        probe = _fit(job, train, val, settings)
        if isinstance(job.spec.protocol, Finetune):
            stages, probe, val = stages.tune(probe, train, val)
    return stages, probe, train, val


def _fit(job: Job, train: Rows, val: Rows, settings: Settings) -> Probe:
    """The one place that tells protocols apart."""
    kind, classes, protocol = job.task.kind, len(job.task.classes), job.spec.protocol
    assert not isinstance(protocol, Recipe)
    pairs = (train.features, train.targets), (val.features, val.targets)
    if isinstance(protocol, Knn):
        return fit_knn(protocol, kind, classes, *pairs, device=settings.devices[0])
    return fit_once(
        settings.cache_dir,
        linear_settings(protocol, kind),
        kind,
        classes,
        *pairs,
        device=settings.devices[0],
        full_path=settings.full_path,
    )


def forget(job: Job, settings: Settings) -> None:
    """Delete what a run kept to go on after a kill; for when its result is stored, or it is to start anew."""
    if isinstance(job.spec.protocol, Finetune | Recipe):
        from ssl4eo_bench.methods.finetune import state_file

        state = state_file(job, settings.cache_dir)
        for file in state.parent.glob(f"{state.stem}*"):
            file.unlink()


def _stages(job: Job, settings: Settings) -> Stages:
    """The one place that tells kinds of labels apart."""
    if job.task.kind == "segmentation":
        from ssl4eo_bench.labels.pixel_maps import Tiles  # brings what builds networks: not where features are cached

        return Tiles(job, settings.devices, settings.cache_dir, settings.renewed)
    return Images(job, settings.devices, settings.cache_dir, settings.renewed)


def _store_scores(cache_dir: Path, job: Job, scores: "Scores") -> None:
    """Keep what paired comparisons need of each test sample; too large for git, it lives in the cache."""
    arrays = scores.arrays()
    with replacing(scores_file(cache_dir, job.spec.digest)) as temporary, temporary.open("wb") as opened:
        np.savez(opened, ids=np.array(job.samples["test"].ids), **arrays)  # type: ignore[arg-type]
    if "examples" in arrays:
        from ssl4eo_bench.results.figures import label_maps  # brings matplotlib

        rgb, truth, predicted = (arrays[f"examples_{kind}"] for kind in ("rgb", "truth", "predicted"))
        with replacing(picture_file(cache_dir, job.spec.digest)) as temporary:
            label_maps(arrays["examples"].tolist(), rgb, truth, predicted, job.task.classes).savefig(
                temporary, format="png", dpi=200
            )


def _selection(job: Job, probe: Probe) -> Selection:
    linear = probe if isinstance(probe, LinearProbe) else probe.start if isinstance(probe, Tuned) else None
    tuned = probe if isinstance(probe, Tuned) else None
    return Selection(
        metric=job.task.main_metric,
        C=linear.head.C if linear else None,
        path=tuple(PathPoint(**asdict(point)) for point in linear.path) if linear else (),
        error=linear.error if linear else None,
        rate=tuned.chosen.rate if tuned else None,
        epoch=tuned.chosen.epoch if tuned else None,
        history=tuple(Epoch(**asdict(epoch)) for epoch in tuned.history) if tuned else None,
        thresholds=tuple(probe.thresholds.each.tolist()) if probe.thresholds else None,
        threshold=probe.thresholds.common if probe.thresholds else None,
    )


def _not_finite(job: Job) -> dict[SplitName, NotFinite]:
    """What the readers counted, by split."""
    found: dict[SplitName, NotFinite] = {}
    for split, samples in job.samples.items():
        counts = {id_: samples.source.not_finite[id_] for id_ in samples.ids if id_ in samples.source.not_finite}
        if counts:
            found[split] = NotFinite(values=sum(counts.values()), samples=len(counts), names=tuple(counts)[:NAMED])
    return found


def _pixel_warnings(not_finite: dict[SplitName, NotFinite]) -> tuple[str, ...]:
    return tuple(
        f"{found.values:,} stored values of {found.samples:,} {split} samples are NaN or infinite, and were zero after "
        f"scaling; such as in {', '.join(found.names)}"
        for split, found in not_finite.items()
    )


def _unit_warnings(resampled: Resampled) -> tuple[str, ...]:
    if not resampled.few:
        return ()
    return (f"the test samples are of {resampled.units} {resampled.units_are} only, so intervals tell little",)


def _input_warnings(job: Job) -> tuple[str, ...]:
    warnings = []
    if filled := job.spec.inputs.filled:
        warnings.append(
            f"{len(filled)} of {len(job.spec.inputs.channels)} input bands are not in the task and were zero: "
            f"{', '.join(filled)}"
        )
    if job.spec.checkpoint.resize_pos_embed:
        warnings.append(f"position embeddings are resized to an input of {job.spec.checkpoint.image_size} pixels")
    return tuple(warnings)


def _provenance(settings: Settings, features: Sequence[Computed], watch: "_Watch") -> Provenance:
    return Provenance(
        versions=provenance.versions(),
        commit=watch.commit,
        dirty=watch.dirty,
        device=", ".join(map(provenance.device_name, settings.devices)),
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
