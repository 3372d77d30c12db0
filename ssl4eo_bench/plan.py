"""From what was asked for to the runs to be done, with everything checked that can be checked without torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from ssl4eo_bench.data.samples import ensure_sample
from ssl4eo_bench.data.splits import Samples, open_splits
from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.progress import Progress
from ssl4eo_bench.spec import catalogue
from ssl4eo_bench.spec.catalogue import Catalogue
from ssl4eo_bench.spec.checkpoints import Checkpoint, Precision
from ssl4eo_bench.spec.inputs import InputMapping, map_inputs
from ssl4eo_bench.spec.protocols import require_protocol, settings
from ssl4eo_bench.spec.runs import RunSpec, TaskRecord
from ssl4eo_bench.spec.tasks import SplitName, Task

DEFAULT_SUITE = "ssl4eo-s12"

SAMPLE_SUITE = "offline"
"""The default on the embedded samples: what needs no data should need no download either."""


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line.

    Attributes:
        tasks: names.
        protocol: name.
        checkpoints: names, after those of `suite`.
        suite: name of a suite; without it and `checkpoints`, a default.
        seeds: one run for each.
        fractions: one run for each, of the training samples; 1 is all of them.
        data_dir: where the datasets are.
        cache_dir: where samples and features are kept.
        checkpoint_files: the user's own catalogues.
        own: checkpoints that are in no catalogue.
        image_size: overrides the checkpoints' input size.
        resize_pos_embed: resize position embeddings to that.
        precision: overrides the checkpoints'.
        fill_bands: fill more than a quarter of the input channels.
        sample: run on the embedded samples.
        partial: run on those samples that are there.
        limit: at most this many samples of each split.
        drift: let BatchNorm of a frozen network follow the batches, where a recipe did.
    """

    tasks: tuple[str, ...]
    protocol: str
    checkpoints: tuple[str, ...]
    suite: str | None
    seeds: tuple[int, ...]
    data_dir: Path
    cache_dir: Path
    checkpoint_files: tuple[Path, ...] = ()
    own: tuple[Checkpoint, ...] = ()
    image_size: int | None = None
    resize_pos_embed: bool = False
    precision: Precision | None = None
    fill_bands: bool = False
    sample: bool = False
    partial: bool = False
    limit: int | None = None
    fractions: tuple[float, ...] = (1.0,)
    drift: bool = False


@dataclass(frozen=True)
class Job:
    """One run: what it is, and the samples it reads."""

    spec: RunSpec
    task: Task
    samples: dict[SplitName, Samples]


def plan(request: Request, progress: Progress) -> list[Job]:
    """The runs of a request, in the order they are done: by task, checkpoint, seed, fraction.

    Raises:
        BenchError: for whatever cannot be run as asked; nothing has been computed or written then but a sample.
    """
    known = catalogue.load_catalogue(*request.checkpoint_files)
    require_protocol(request.protocol)
    tasks = [catalogue.task(name) for name in dict.fromkeys(request.tasks)]
    checkpoints = _checkpoints(request, known)
    mappings = [_mappings(task, checkpoints, request, known, progress) for task in tasks]
    jobs = []
    for task, inputs in zip(tasks, mappings, strict=True):
        samples = _samples(task, request, progress)
        record = TaskRecord.of(task, {split: found.record for split, found in samples.items()})
        for checkpoint, mapping in inputs:
            for seed, fraction in product(dict.fromkeys(request.seeds), dict.fromkeys(request.fractions)):
                spec = RunSpec(
                    task=record,
                    checkpoint=checkpoint,
                    inputs=mapping,
                    protocol=settings(request.protocol, task, checkpoint, drift=request.drift),
                    seed=seed,
                    fraction=None if fraction == 1 else fraction,
                    sample=request.sample,
                    partial=request.partial,
                    limit=request.limit,
                )
                jobs.append(Job(spec, task, samples))
    return jobs


def _mappings(
    task: Task, checkpoints: Sequence[Checkpoint], request: Request, known: Catalogue, progress: Progress
) -> list[tuple[Checkpoint, InputMapping]]:
    """The checkpoints with their inputs; those of a suite that want what the task lacks are left out, and named."""
    mappings = []
    for checkpoint in checkpoints:
        try:
            inputs = map_inputs(task.bands, checkpoint, task.display, fill_bands=request.fill_bands)
            mappings.append((checkpoint, inputs))
        except SpecError as error:
            if checkpoint.name.partition("@")[0] in (*request.checkpoints, *(own.name for own in request.own)):
                raise
            progress.note(f"left out on {task.name}: {error}")
    if not mappings:
        fitting = [name for name, members in known.suites.items() if any(_fits(task, known, one) for one in members)]
        others = f"choose --suite {' or '.join(fitting)}, or " if fitting else ""
        suite = f"no checkpoint of the suite {_suite(request)!r} fits task {task.name!r}"
        raise SpecError(f"{suite}; {others}name one with --checkpoint.")
    return mappings


def _fits(task: Task, known: Catalogue, name: str) -> bool:
    try:
        map_inputs(task.bands, known.checkpoint(name), task.display)
    except SpecError:
        return False
    return True


def _suite(request: Request) -> str | None:
    if request.suite is None and not (request.checkpoints or request.own):
        return SAMPLE_SUITE if request.sample else DEFAULT_SUITE
    return request.suite


def _checkpoints(request: Request, known: Catalogue) -> list[Checkpoint]:
    """Those of the suite, those that are named, and those of no catalogue, at the size and precision asked for."""
    suite = _suite(request)
    names = dict.fromkeys((*(() if suite is None else known.suite(suite)), *request.checkpoints))
    if taken := [own.name for own in request.own if own.name in known.checkpoints]:
        raise SpecError(f"checkpoint {taken[0]!r} is already in the catalogue; choose another name with --name.")
    found = [*(_checkpoint(name, known) for name in names), *request.own]
    if request.image_size is not None:
        found = [one.at_size(request.image_size, resize_pos_embed=request.resize_pos_embed) for one in found]
    elif request.resize_pos_embed and not request.own:
        raise SpecError("--resize-pos-embed resizes to what --image-size N says; add that.")
    return [one.at_precision(request.precision) for one in found] if request.precision else found


def _checkpoint(name: str, known: Catalogue) -> Checkpoint:
    if name.startswith("timm:"):
        from ssl4eo_bench.backbones.build import timm_entry  # brings torch: only timm knows its models

        return timm_entry(name)
    return known.checkpoint(name)


def _samples(task: Task, request: Request, progress: Progress) -> dict[SplitName, Samples]:
    folder = ensure_sample(task, request.cache_dir, progress) if request.sample else request.data_dir
    return open_splits(task, folder, sample=request.sample, partial=request.partial, limit=request.limit)
