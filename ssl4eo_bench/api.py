"""The suite from Python: everything here is also in the package itself, as `ssl4eo_bench.run` and so on."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Required, TypedDict, Unpack

from ssl4eo_bench import progress
from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.bands import Unit
from ssl4eo_bench.config.checkpoint import DEFAULT_SIZE, PLUGIN, Feature, Precision, checkpoint_from
from ssl4eo_bench.config.task import SplitName, Task
from ssl4eo_bench.data.embeddings import Embeddings
from ssl4eo_bench.data.own_images import ImageFormat
from ssl4eo_bench.data.own_tasks import find_task
from ssl4eo_bench.errors import IncompleteError, SpecError, guess
from ssl4eo_bench.executors import execute
from ssl4eo_bench.executors.outcomes import Execution
from ssl4eo_bench.files.places import cache_root, data_root
from ssl4eo_bench.plan import Request, named_checkpoint, plan
from ssl4eo_bench.progress_bars import ConsoleProgress
from ssl4eo_bench.results.files import RunResult
from ssl4eo_bench.results.views import write_generated_files
from ssl4eo_bench.version import __version__

if TYPE_CHECKING:
    from torch import nn

    from ssl4eo_bench.models.pooled import BackboneFeatures

Names = str | Sequence[str]
"""One name, or several."""


class SampleOptions(TypedDict, total=False):
    """Options of everything that reads samples.

    Attributes:
        data_dir: where the datasets are; by default `SSL4EO_BENCH_DATA` or `./data`.
        cache_dir: where features are kept; by default `SSL4EO_BENCH_CACHE` or the user's cache.
        sample: read the embedded sample, which needs no data.
        partial: read only the samples that are there.
        limit: read at most so many samples of each split.
        device: to compute on, such as `cpu` or `cuda:1`; by default a GPU if there is one.
        checkpoint_files: catalogues of your own.
        image_size: of all checkpoints, in pixels.
        resize_pos_embed: resize position embeddings to that.
        precision: of all backbones.
        fill_bands: fill more than a quarter of the input channels with zeros.
        quiet: show no progress.
        data_bands: of the files of `folder:DIR` and `csv:FILE`, in order; see docs/own_data.md.
        data_unit: of their pixels.
        data_stretch: the digital numbers that 0 and 255 stand for in them.
    """

    data_dir: Path | str
    cache_dir: Path | str
    sample: bool
    partial: bool
    limit: int
    device: str
    checkpoint_files: Sequence[Path | str]
    image_size: int
    resize_pos_embed: bool
    precision: Precision
    fill_bands: bool
    quiet: bool
    data_bands: Sequence[str]
    data_unit: Unit
    data_stretch: tuple[float, float]


class RunOptions(SampleOptions, total=False):
    """Options of everything that makes results, beside those of `SampleOptions`.

    Attributes:
        seeds: one run for each; by default 0.
        fractions: one run for each, of the training samples; by default 1, which is all.
        results: directory of results; by default `./results`.
        full_path: solve the penalties behind the stop, too; changes no number.
        force: run again what is in the results already.
        on_result: called with each new result, such as to log it.
        executor: `local`, or `ray` for a Ray cluster.
        address: of the cluster; by default one of this machine is started.
        strict: refuse everything where a part of it cannot be run.
    """

    seeds: int | Sequence[int]
    fractions: float | Sequence[float]
    results: Path | str
    full_path: bool
    force: bool
    on_result: Callable[[RunResult], object]
    executor: Literal["local", "ray"]
    address: str
    strict: bool


class EvaluateOptions(RunOptions, total=False):
    """Options of `evaluate`, beside those of `RunOptions`: what an entry of the catalogue says.

    Attributes:
        bands: of the input channels, in order; or `task` for all Sentinel-2 bands that the task has.
        scaling: of the pixels, such as `{"divide": 10000}`; see docs/inputs.md.
        feature: which of the outputs is the feature; by default `pooled`.
        image_size: of the input, in pixels; by default 224.
    """

    bands: Required[Sequence[str] | str]
    scaling: Required[Mapping[str, object]]
    feature: Feature


ENTRY = ("bands", "scaling", "feature", "image_size")
"""Those of `EvaluateOptions` that an entry has."""


def list_tasks() -> list[str]:
    """Return the names of all tasks."""
    return list(catalogue.tasks())


def list_checkpoints(suite: str = "all", *, checkpoint_files: Sequence[Path | str] = ()) -> list[str]:
    """Return the names of the checkpoints of a suite."""
    return list(catalogue.load_catalogue(*map(Path, checkpoint_files)).suite(suite))


def load_task(
    name: str,
    *,
    data_bands: Sequence[str] = (),
    data_unit: Unit | None = None,
    data_stretch: tuple[float, float] | None = None,
) -> Task:
    """Return the task of this name: its classes, bands, splits and reader.

    Args:
        name: in the catalogue, or `folder:DIR` or `csv:FILE` for images of your own.
        data_bands: of their files, in order.
        data_unit: of their pixels.
        data_stretch: the digital numbers that 0 and 255 stand for in them.

    Raises:
        UnknownNameError: if there is none.
        DataError: if the images make no task.
    """
    return find_task(name, ImageFormat.of(data_bands, data_unit, data_stretch))


def load_checkpoint(
    name: str,
    *,
    size: int | None = None,
    seed: int = 0,
    checkpoint_files: Sequence[Path | str] = (),
    cache_dir: Path | str | None = None,
) -> "BackboneFeatures":
    """Return a frozen module from pixels to features `[N, D]` of a checkpoint; its weights are fetched if need be.

    It takes images `[N, C, H, W]` in the order of the checkpoint's `bands`: decibel of Sentinel-1, digital numbers of
    all others. It resizes and scales them as the entry says. Its `backbone` takes scaled images.

    Args:
        name: of a checkpoint in the catalogue, or `timm:NAME`.
        size: side of the images in pixels; by default that of the checkpoint's input.
        seed: draws random weights.
        checkpoint_files: catalogues of your own.
        cache_dir: where weights are kept.

    Raises:
        BenchError: if there is no such checkpoint, it takes the bands of a task, or its weights are not to be had.
    """
    from ssl4eo_bench.models.standalone import standalone_module  # imports torch

    checkpoint = named_checkpoint(name, catalogue.load_catalogue(*map(Path, checkpoint_files)))
    return standalone_module(checkpoint, size=size, seed=seed, cache_dir=cache_root(_path(cache_dir)))


def run(
    tasks: Names,
    protocol: Names = "linear",
    checkpoints: Names = (),
    *,
    suite: Names = (),
    **options: Unpack[RunOptions],
) -> list[RunResult]:
    """Evaluate checkpoints on tasks; return the results, which are also written to files, with tables and leaderboard.

    A result that is there already is returned as it is.

    Args:
        tasks: names of tasks.
        protocol: names of protocols.
        checkpoints: names of checkpoints; without them and a suite, those of the default suite.
        suite: names of suites.
        options: see `RunOptions`.

    Raises:
        BenchError: if nothing can be run as asked.
        IncompleteError: after all others were done, if some runs failed; its `results` are those of the others.
    """
    return _run(_request(tasks, protocol, options, checkpoints=_names(checkpoints), suites=_names(suite)), options)


def evaluate(
    network: "nn.Module",
    task: Names,
    protocol: Names = ("linear", "knn"),
    *,
    name: str = "",
    **options: Unpack[EvaluateOptions],
) -> list[RunResult]:
    """Evaluate a network of this process on tasks; return the results as `run` does.

    The network itself is not changed. Its `forward` returns features `[N, D]`, a map `[N, D, h, w]`, or `Features`.
    Its identity is made of its parameters, its structure and the source of its classes, so results and cached features
    of another network are never taken for its own.

    Args:
        network: from scaled images `[N, C, S, S]` to features.
        task: names of tasks.
        protocol: names of protocols.
        name: of the checkpoint in results; by default that of the class.
        options: see `EvaluateOptions`; `bands` and `scaling` are needed.

    Raises:
        BenchError: as from `run`, or if the network does not give features.
    """
    from torch.jit import ScriptModule
    from torch.nn import Module

    from ssl4eo_bench.models.plugin import alive  # imports torch

    found = type(network)
    if not isinstance(network, Module):
        raise SpecError(f"{network!r} is no torch.nn.Module; give an instance of one, such as {found.__name__}().")
    if isinstance(network, ScriptModule):
        raise SpecError(
            "the network is a TorchScript program, which has no parameters to freeze and no source to hash; give an "
            "nn.Module whose forward calls it (docs/backbones.md)."
        )
    if options.get("executor") == "ray":
        raise SpecError(
            "a network of this process cannot be sent to a cluster; name its class with `python:` in `run`."
        )
    given = {key: value for key, value in options.items() if key in ENTRY}
    with alive(network) as weights:
        described = {
            "name": name or found.__name__,
            "arch": f"{PLUGIN}{found.__module__}:{found.__qualname__}",
            "weights": weights,
            "image_size": DEFAULT_SIZE,
        }
        checkpoint = checkpoint_from(described | given, "evaluate")
        others = {key: value for key, value in options.items() if key not in ENTRY}
        return _run(_request(task, protocol, others, adhoc_checkpoints=(checkpoint,)), options)


def features(
    task: str, checkpoint: str, split: SplitName = "test", *, seed: int = 0, **options: Unpack[SampleOptions]
) -> Embeddings:
    """Return the features of a split, with ids and targets; from the cache as far as they are there.

    Args:
        task: the name of a task.
        checkpoint: the name of a checkpoint.
        split: of the task.
        seed: draws random weights.
        options: see `SampleOptions`.

    Raises:
        BenchError: if they cannot be computed as asked.
    """
    request = _request(task, "linear", options, checkpoints=(checkpoint,), seeds=(seed,))
    with _progress(options):
        return features_of(request, split, options.get("device", "auto"))[0]


def features_of(request: Request, split: SplitName, device: str) -> tuple[Embeddings, int]:
    """Return the features of a split of the one task and checkpoint of a request, and how many were computed now."""
    (job,) = plan(request).jobs
    from ssl4eo_bench.extraction.extract import pooled_features  # these import torch: not for what cannot be done
    from ssl4eo_bench.extraction.problem import Context, Problem
    from ssl4eo_bench.models.runtime import resolve_device
    from ssl4eo_bench.models.weight_files import prepare_weights

    spec, samples = job.spec, job.samples[split]
    prepare_weights(spec.checkpoint, request.cache_dir)
    found = pooled_features(Problem(job, Context(request.cache_dir, (resolve_device(device),))), split)
    dumped = spec.model_dump(mode="json", exclude_none=True)
    about = {
        "task": spec.task_slug,
        "kind": spec.task.kind,
        "split": split,
        "split_digest": spec.task.splits[split].digest,
        **{key: dumped.get(key) for key in ("checkpoint", "inputs", "seed", "sample", "partial", "limit")},
        "weights_sha256": found.origin.weights_sha256,
        "runners": found.origin.runners,
        "version": __version__,
    }
    values = found.values.astype("float32", copy=False)
    targets = None if spec.task.kind == "segmentation" else samples.targets()
    return Embeddings(samples.ids, values, targets, job.task.classes, about), found.origin.computed


def _request(tasks: Names, protocols: Names, options: Mapping[str, Any], **fields: Any) -> Request:
    """The request of these options; those of `Request` that are not given have their defaults.

    Raises:
        TypeError: for an option that there is not; type checkers find it before.
    """
    allowed = EvaluateOptions.__required_keys__ | EvaluateOptions.__optional_keys__
    if unknown := [name for name in options if name not in allowed]:
        cure = guess(unknown[0], [*allowed, "checkpoints"]) or f"; known are {', '.join(sorted(allowed))}"
        raise TypeError(f"there is no option {unknown[0]!r}{cure}")
    known = {field.name for field in dataclass_fields(Request)}
    several = {key: options[key] for key in ("seeds", "fractions") if key in options}
    given = {key: value for key, value in options.items() if key in known} | {
        key: (value,) if isinstance(value, int | float) else tuple(value) for key, value in several.items()
    }
    given["checkpoint_files"] = tuple(map(Path, options.get("checkpoint_files", ())))
    given["data_dir"] = data_root(_path(options.get("data_dir")))
    given["cache_dir"] = cache_root(_path(options.get("cache_dir")))
    said = (options.get("data_bands", ()), options.get("data_unit"), options.get("data_stretch"))
    given["images"] = ImageFormat.of(*said)
    return Request(tasks=_names(tasks), protocols=_names(protocols), **(given | fields))


def _run(request: Request, options: RunOptions) -> list[RunResult]:
    """Do the runs of a request, and write tables and leaderboard."""
    how = _execution(request, options)
    with _progress(options):
        sweep = plan(request)
        outcomes = execute(sweep.jobs, how)
        done = [outcome.result for outcome in outcomes if outcome.result]
        if done:
            write_generated_files(how.results)
    failed = {outcome.job.name: outcome.error for outcome in outcomes if outcome.error} | sweep.left_out
    if failed:
        raise IncompleteError(failed, done)
    return done


def _execution(request: Request, options: RunOptions) -> Execution:
    given = {field.name: options[field.name] for field in dataclass_fields(Execution) if field.name in options}  # type: ignore[literal-required]
    given |= {"results": Path(options.get("results", "results"))}
    return Execution(**given | {"data_dir": request.data_dir, "cache_dir": request.cache_dir})


def _progress(options: SampleOptions) -> AbstractContextManager[object]:
    return progress.shown_on(progress.Silent() if options.get("quiet") else ConsoleProgress())


def _names(names: Names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _path(path: Path | str | None) -> Path | None:
    return None if path is None else Path(path)
