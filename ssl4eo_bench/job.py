"""One job from end to end.

samples ─► batches ─► features (cached) ─► method ─► scores ─► metrics ─► result
"""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from ssl4eo_bench import progress, provenance
from ssl4eo_bench.config.records import NotFinite, Resampled
from ssl4eo_bench.config.task import Split, SplitName
from ssl4eo_bench.config.weights import EmbeddingWeights
from ssl4eo_bench.errors import shortlist
from ssl4eo_bench.extraction.problem import Context, Problem
from ssl4eo_bench.files.places import is_read_only, picture_file, scores_file
from ssl4eo_bench.labels.base import Predictions
from ssl4eo_bench.methods import fit
from ssl4eo_bench.methods.predictor import Predictor
from ssl4eo_bench.plan import Job
from ssl4eo_bench.results.figure_data import figure_data
from ssl4eo_bench.results.files import Provenance, RunResult
from ssl4eo_bench.results.schema import SCHEMA_VERSION
from ssl4eo_bench.results.scores import store_arrays

NAMED = 5
"""The most samples with values that are not finite that a result names."""


def run_job(job: Job, context: Context) -> RunResult:
    """Run a job and return its result. Test labels are opened after everything has been chosen."""
    started, code = datetime.now(UTC), provenance.commit()  # now: the checkout may change while a long run goes on
    for samples in job.samples.values():
        samples.reader.not_finite.clear()  # of the job before, which may have read other bands
    problem = Problem(job, context)
    with problem.stopwatch.stage("fit"):
        predictor = fit(problem)
    with problem.stopwatch.stage("prediction"):
        predictions = predictor.scorer.predict()
    with problem.stopwatch.stage("metrics"):
        arrays = predictions.arrays()
        _store(problem, arrays)
        test = predictions.evaluate(problem.bootstrap())
    units, units_are = job.task.units(job.samples["test"].ids)
    resampled = Resampled.of(test.replicates[job.task.main_metric], int(units.max()) + 1, units_are)
    not_finite = _not_finite(job)
    return RunResult(
        schema_version=SCHEMA_VERSION,
        digest=job.spec.digest,
        spec=job.spec,
        counts={split: len(samples.ids) for split, samples in job.samples.items()},
        subset=None if job.spec.fraction is None else Split.of(predictor.train_ids),
        not_finite=not_finite,
        metrics={"val": predictor.scorer.val.metrics, "test": test.metrics},
        resampled=resampled,
        classes=test.classes,
        confusion=test.confusion,
        selection=predictor.selection,
        reference=predictor.reference(),
        warnings=_warnings(job, predictor, not_finite, resampled),
        provenance=_provenance(problem, predictor, predictions, started, code),
        figures=figure_data(arrays),
    )


def _store(problem: Problem, arrays: dict[str, np.ndarray]) -> None:
    """Keep what paired comparisons need of each test sample in the cache: it is too large for git."""
    job, cache_dir = problem.job, problem.context.cache_dir
    if is_read_only(cache_dir):
        progress.note(f"{cache_dir} is read-only, so the scores of single samples are not kept")
        return
    store_arrays(scores_file(cache_dir, job.spec.digest), job.samples["test"].ids, arrays)
    if "examples" in arrays:
        from ssl4eo_bench.results.figure_style import save_figure  # these import matplotlib
        from ssl4eo_bench.results.figures import label_maps

        rgb, truth, predicted = (arrays[f"examples_{kind}"] for kind in ("rgb", "truth", "predicted"))
        drawn = label_maps(arrays["examples"].tolist(), rgb, truth, predicted, job.task.classes)
        save_figure(drawn, picture_file(cache_dir, job.spec.digest))


def _not_finite(job: Job) -> dict[SplitName, NotFinite]:
    """Return what the readers counted, by split."""
    found: dict[SplitName, NotFinite] = {}
    for split, samples in job.samples.items():
        counts = {id_: samples.reader.not_finite[id_] for id_ in samples.ids if id_ in samples.reader.not_finite}
        if counts:
            found[split] = NotFinite(values=sum(counts.values()), samples=len(counts), names=tuple(counts)[:NAMED])
    return found


def _warnings(
    job: Job, predictor: Predictor, not_finite: dict[SplitName, NotFinite], resampled: Resampled
) -> tuple[str, ...]:
    """Return what a reader of the result should know."""
    warnings, inputs = [], job.spec.inputs
    if inputs.filled:
        warnings.append(
            f"{len(inputs.filled)} of {len(inputs.channels)} input bands are not in the task and were zero: "
            f"{', '.join(inputs.filled)}"
        )
    if job.spec.checkpoint.loads_itself:
        warnings.append("the class of the network loads its weights itself; that it uses all of them is not checked")
    if isinstance(weights := job.spec.checkpoint.weights, EmbeddingWeights):
        names = shortlist(Path(file.path).name for file in weights.embeddings)
        warnings.append(f"features are vectors from files ({names}): how they were made is not known here")
    if job.spec.checkpoint.resize_pos_embed:
        warnings.append(f"position embeddings are resized to an input of {job.spec.checkpoint.image_size} pixels")
    warnings += [
        f"{found.values:,} stored values of {found.samples:,} {split} samples are NaN or infinite, and were zero after "
        f"scaling; such as in {', '.join(found.names)}"
        for split, found in not_finite.items()
    ]
    warnings += predictor.warnings
    if resampled.few:
        warnings.append(f"the test split has {resampled.units} {resampled.units_are} only, so intervals tell little")
    return tuple(warnings)


def _provenance(
    problem: Problem,
    predictor: Predictor,
    predictions: Predictions,
    started: datetime,
    code: tuple[str | None, bool],
) -> Provenance:
    origins = (*predictor.origins, predictions.origin)
    return Provenance(
        versions=provenance.versions(),
        commit=code[0],
        dirty=code[1],
        device=", ".join(map(provenance.device_name, problem.context.devices)),
        runners=tuple(sorted({runner for origin in origins for runner in origin.runners})),
        weights_sha256=tuple(sorted({sha for origin in origins for sha in origin.weights_sha256})),
        cost=next((origin.cost for origin in origins if origin.cost), None),
        threads=torch.get_num_threads(),
        started=started.isoformat(timespec="seconds"),
        seconds=problem.stopwatch.seconds,
        features_computed=sum(origin.computed for origin in origins),
        peak_memory_bytes=provenance.peak_memory_bytes(),
    )
