"""From what was asked for to the runs to be done, with everything checked that can be checked without torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from types import ModuleType

from pydantic import ValidationError

from ssl4eo_bench import progress
from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.canonical import first_fault
from ssl4eo_bench.config.catalogue import Catalogue
from ssl4eo_bench.config.checkpoint import Checkpoint, Precision
from ssl4eo_bench.config.inputs import InputMapping, map_inputs
from ssl4eo_bench.config.protocols import Knn, Linear, ProtocolSettings, require_protocols, settings
from ssl4eo_bench.config.run_spec import RunSpec, TaskRecord
from ssl4eo_bench.config.task import SplitName, Task, is_own_data
from ssl4eo_bench.config.weights import EmbeddingWeights
from ssl4eo_bench.data.embedding_files import require_vectors
from ssl4eo_bench.data.own_images import NOTHING_SAID, ImageFormat
from ssl4eo_bench.data.own_tasks import find_task
from ssl4eo_bench.data.sample_dataset import ensure_sample
from ssl4eo_bench.data.splits import OpenSplit, open_splits
from ssl4eo_bench.errors import BenchError, DataError, SpecError, WeightsError, without_frames

DEFAULT_SUITE = "ssl4eo-s12"

SAMPLE_SUITE = "offline"
"""The default on the embedded samples: what needs no data should need no download either."""


@dataclass(frozen=True)
class Request:
    """What a user asks for.

    Attributes:
        tasks: names, also `folder:DIR` and `csv:FILE`.
        suites: their checkpoints go before those that are named; without both, a default.
        checkpoint_files: the user's own catalogues.
        adhoc_checkpoints: those that are in no catalogue.
        image_size: of all checkpoints, as `precision` is.
        fill_bands: fill more than a quarter of the input channels.
        partial: run on those samples that are there.
        limit: at most this many samples of each split.
        fractions: of the training samples; one run for each, as for each seed.
        drift: BatchNorm statistics of a frozen network follow the batches, as a published recipe has it.
        strict: refuse the whole request where a part of it cannot be run.
        images: what the files of folders and CSV files hold.
    """

    tasks: tuple[str, ...]
    protocols: tuple[str, ...]
    data_dir: Path
    cache_dir: Path
    checkpoints: tuple[str, ...] = ()
    suites: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    checkpoint_files: tuple[Path, ...] = ()
    adhoc_checkpoints: tuple[Checkpoint, ...] = ()
    image_size: int | None = None
    resize_pos_embed: bool = False
    precision: Precision | None = None
    fill_bands: bool = False
    sample: bool = False
    partial: bool = False
    limit: int | None = None
    fractions: tuple[float, ...] = (1.0,)
    drift: bool = False
    strict: bool = False
    images: ImageFormat = NOTHING_SAID


@dataclass(frozen=True)
class Job:
    """One run: what it is, and the samples it reads."""

    spec: RunSpec
    task: Task
    samples: dict[SplitName, OpenSplit]

    @property
    def name(self) -> str:
        """What tells it from the other jobs of a sweep, for people."""
        return f"{self.spec.task.name} · {self.spec.protocol.name} · {self.spec.label}"


@dataclass(frozen=True)
class Sweep:
    """The runs of a request, in the order they are done: by task, checkpoint, protocol, seed, fraction.

    `left_out` is each task, protocol and named checkpoint that was asked for and has no run at all, and why.
    """

    jobs: tuple[Job, ...]
    left_out: dict[str, BenchError]

    def shard(self, number: int, count: int) -> "Sweep":
        """Return one of `count` parts of the sweep; together they are the whole, and nothing is in two of them.

        Frozen probes on the same features stay together, so that no features are computed twice.
        """
        groups: dict[object, int] = {}
        for job in self.jobs:
            groups.setdefault(shared_features(job), len(groups))
        return replace(self, jobs=tuple(job for job in self.jobs if groups[shared_features(job)] % count == number))


def shared_features(job: Job) -> object:
    """Return a key that jobs have in common which read the same features; of a job that trains a network, its own."""
    spec = job.spec
    if isinstance(spec.protocol, Linear | Knn):
        return spec.task_slug, spec.checkpoint.name, spec.seed if spec.checkpoint.is_random else None
    return spec.path


@dataclass(frozen=True)
class _Combination:
    """A task, a checkpoint and a protocol, and what follows from them, or why they cannot be run together."""

    task: Task
    checkpoint: Checkpoint
    protocol: str
    inputs: InputMapping | None = None
    settings: ProtocolSettings | None = None
    refusal: BenchError | None = None

    @property
    def names(self) -> tuple[tuple[str, str], ...]:
        """The task, protocol and checkpoint of the combination: what each is, and its name."""
        checkpoint = self.checkpoint.name.partition("@")[0]  # without the size and precision asked for
        return ("task", self.task.name), ("protocol", self.protocol), ("checkpoint", checkpoint)


def plan(request: Request) -> Sweep:
    """Return the runs of a request; what cannot be run is left out, and named with the reason.

    Raises:
        BenchError: for whatever cannot be run as asked; nothing has been computed or written then but a sample.
    """
    known = catalogue.load_catalogue(*request.checkpoint_files)
    require_protocols(request.protocols, drift=request.drift)
    tasks = _tasks(request)
    checkpoints = _checkpoints(request, known)
    asked = product(tasks, checkpoints, dict.fromkeys(request.protocols))
    combinations = [_combination(task, checkpoint, protocol, request) for task, checkpoint, protocol in asked]
    samples: dict[str, dict[SplitName, OpenSplit]] = {}
    failed: dict[str, BenchError] = {}
    for name, task in {each.task.name: each.task for each in combinations if not each.refusal}.items():
        try:
            samples[name] = _samples(task, request)
        except Exception as error:  # a reader may raise anything, and the other tasks can be run all the same
            failed[name] = without_frames(error)
    combinations = [replace(each, refusal=each.refusal or failed.get(each.task.name)) for each in combinations]
    combinations = [
        each if each.refusal else _with_vectors(each, samples[each.task.name], request) for each in combinations
    ]
    if request.strict and (refused := [each.refusal for each in combinations if each.refusal]):
        raise refused[0]
    left_out = _left_out(combinations, request, known)
    possible = [each for each in combinations if not each.refusal]
    specs = [(each.task, spec) for each in possible for spec in _specs(each, samples[each.task.name], request)]
    needed = [(task, spec) for task, spec in specs if spec.seed_matters or spec.seed == request.seeds[0]]
    if len(needed) < len(specs):
        progress.note(
            f"run with seed {request.seeds[0]} alone, since another seed gives the same values: linear and knn, of "
            "checkpoints that are not random, on all training samples"
        )
    return Sweep(tuple(Job(spec, task, samples[task.name]) for task, spec in needed), left_out)


def _tasks(request: Request) -> list[Task]:
    """Return the tasks of a request; a SpecError if something is said of images and none are of the user's own."""
    tasks = [find_task(name, request.images, request.cache_dir) for name in dict.fromkeys(request.tasks)]
    if request.images != NOTHING_SAID and not any(is_own_data(task.name) for task in tasks):
        raise SpecError("--data-bands, --data-unit and --data-stretch are of --task folder:DIR or csv:FILE; name one.")
    return tasks


def _combination(task: Task, checkpoint: Checkpoint, protocol: str, request: Request) -> _Combination:
    inputs = None
    try:
        if checkpoint.is_plugin:
            checkpoint = _plugin().resolved(checkpoint)
        inputs = map_inputs(task.bands, checkpoint, task.display, tells=task.tells, fill_bands=request.fill_bands)
        checkpoint = _as_asked(checkpoint, request)
        inputs = inputs.model_copy(update={"image_size": checkpoint.image_size})
        found = settings(protocol, task, checkpoint, sample=request.sample, drift=request.drift)
        _require_pixels_only(protocol, checkpoint, inputs)
        if checkpoint.is_plugin:
            checkpoint = _plugin().with_own_weights(checkpoint, inputs.bands)
    except (SpecError, WeightsError) as error:
        return _Combination(task, checkpoint, protocol, inputs, refusal=error)
    return _Combination(task, checkpoint, protocol, inputs, found)


def _require_pixels_only(protocol: str, checkpoint: Checkpoint, inputs: InputMapping) -> None:
    """Refuse to train a network that reads place or date: batches of training are pixels alone."""
    if inputs.metadata and protocol not in ("linear", "knn"):
        raise SpecError(
            f"checkpoint {checkpoint.name!r} reads {' and '.join(inputs.metadata)} of each image, which protocol "
            f"{protocol!r} does not give it; use --protocol linear or knn."
        )


def _plugin() -> ModuleType:
    from ssl4eo_bench.models import plugin  # imports torch, which only code of others needs here

    return plugin


def _with_vectors(combination: _Combination, samples: dict[SplitName, OpenSplit], request: Request) -> _Combination:
    """Return the combination, refused where its embeddings are not of these samples."""
    weights, task = combination.checkpoint.weights, combination.task
    if isinstance(weights, EmbeddingWeights):
        about = {"task": f"{task.name}-v{task.version}", "kind": task.kind, "sample": request.sample}
        try:
            require_vectors(weights.embeddings, about, {split: found.ids for split, found in samples.items()})
        except WeightsError as error:
            return replace(combination, refusal=error)
    return combination


def _as_asked(checkpoint: Checkpoint, request: Request) -> Checkpoint:
    """Return the checkpoint at the size and precision that were asked for."""
    if request.image_size is not None:
        checkpoint = checkpoint.at_size(request.image_size, resize_pos_embed=request.resize_pos_embed)
    return checkpoint.at_precision(request.precision) if request.precision else checkpoint


def _specs(combination: _Combination, samples: dict[SplitName, OpenSplit], request: Request) -> Iterator[RunSpec]:
    """Yield the runs of a combination, one for each seed and fraction.

    A SpecError is raised if a result could not be written under the name of the checkpoint.
    """
    assert combination.inputs is not None
    assert combination.settings is not None
    record = TaskRecord.of(combination.task, {split: found.record for split, found in samples.items()})
    for seed, fraction in product(dict.fromkeys(request.seeds), dict.fromkeys(request.fractions)):
        try:
            yield RunSpec(
                task=record,
                checkpoint=combination.checkpoint,
                inputs=combination.inputs,
                protocol=combination.settings,
                seed=seed,
                fraction=None if fraction == 1 else fraction,
                sample=request.sample,
                sample_version=combination.task.embedded().version if request.sample else None,
                partial=request.partial,
                limit=request.limit,
            )
        except ValidationError as error:
            raise SpecError(
                f"checkpoint {combination.checkpoint.name!r} cannot be run: {first_fault(error)}."
            ) from None


def _left_out(combinations: Sequence[_Combination], request: Request, known: Catalogue) -> dict[str, BenchError]:
    """Return everything that was asked for by name and has no run, with the reason; note each refusal.

    If nothing at all can be run, the reason is raised.
    """
    if all(each.refusal for each in combinations):
        raise _reason(combinations, request, known)
    refusals = [f"left out on {each.task.name}: {each.refusal}" for each in combinations if each.refusal]
    for refusal in dict.fromkeys(refusals):
        progress.note(refusal)
    left_out = {}
    for kind, name in dict.fromkeys(name for each in combinations for name in each.names):
        of_it = [each for each in combinations if (kind, name) in each.names]
        if all(each.refusal for each in of_it) and (kind != "checkpoint" or name in _named(request)):
            left_out[f"{kind} {name!r}"] = _reason(of_it, request, known)
    return left_out


def _reason(refused: Sequence[_Combination], request: Request, known: Catalogue) -> BenchError:
    """Return why none of these combinations can be run; a checkpoint that was named goes first."""
    named = [each.refusal for each in refused if each.names[-1][1] in _named(request)]
    fitting = [each.refusal for each in refused if each.inputs]
    for refusal in (*named, *fitting):
        if refusal:
            return refusal
    task = refused[0].task
    suites = [name for name, members in known.suites.items() if any(_fits(task, known, one) for one in members)]
    others = f"choose --suite {' or '.join(suites)}, or " if suites else ""
    suite = f"no checkpoint of the suite {' or '.join(map(repr, _suites(request)))} fits task {task.name!r}"
    return SpecError(f"{suite}; {others}name one with --checkpoint.")


def _named(request: Request) -> tuple[str, ...]:
    """Return the checkpoints that were asked for by name or by file, not as members of a suite."""
    return (*request.checkpoints, *(one.name for one in request.adhoc_checkpoints))


def _fits(task: Task, known: Catalogue, name: str) -> bool:
    try:
        map_inputs(task.bands, known.checkpoint(name), task.display)
    except SpecError:
        return False
    return True


def _suites(request: Request) -> tuple[str, ...]:
    if not (request.suites or request.checkpoints or request.adhoc_checkpoints):
        return (SAMPLE_SUITE if request.sample else DEFAULT_SUITE,)
    return request.suites


def _checkpoints(request: Request, known: Catalogue) -> list[Checkpoint]:
    """Return the checkpoints of the suites, those that are named, and those of no catalogue."""
    members = [name for suite in _suites(request) for name in known.suite(suite)]
    names = dict.fromkeys((*members, *request.checkpoints))
    if taken := [one.name for one in request.adhoc_checkpoints if one.name in known.checkpoints]:
        raise SpecError(f"checkpoint {taken[0]!r} is already in the catalogue; choose another name with --name.")
    if request.resize_pos_embed and request.image_size is None and not request.adhoc_checkpoints:
        raise SpecError("--resize-pos-embed resizes to what --image-size N says; add that.")
    return [*(named_checkpoint(name, known) for name in names), *request.adhoc_checkpoints]


def named_checkpoint(name: str, known: Catalogue) -> Checkpoint:
    """Return the checkpoint of a name, in the catalogue or of the form `timm:NAME`.

    Raises:
        UnknownNameError: if there is none.
        WeightsError: if timm has no such weights.
    """
    if name.startswith("timm:"):
        from ssl4eo_bench.models.timm_model import timm_entry  # imports torch: only timm knows its models

        return timm_entry(name)
    return known.checkpoint(name)


def _samples(task: Task, request: Request) -> dict[SplitName, OpenSplit]:
    folder = ensure_sample(task, request.cache_dir) if request.sample else request.data_dir
    return open_splits(task, folder, sample=request.sample, partial=request.partial, limit=request.limit)


def open_job(spec: RunSpec, data_dir: Path, cache_dir: Path) -> Job:
    """Return the job of a spec with samples that are opened here, such as on another machine than it was planned on.

    Raises:
        DataError: if they are not the samples of the spec.
    """
    task = catalogue.task(spec.task.name)
    folder = ensure_sample(task, cache_dir) if spec.sample else data_dir
    samples = open_splits(task, folder, sample=spec.sample, partial=spec.partial, limit=spec.limit)
    if TaskRecord.of(task, {split: found.record for split, found in samples.items()}) != spec.task:
        raise DataError(f"{folder} holds other samples of task {task.name!r} than were planned; fetch them again.")
    return Job(spec, task, samples)
