"""Embeddings for other tools."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl4eo_bench import __version__
from ssl4eo_bench.commands.own import own_checkpoints
from ssl4eo_bench.config.task import SplitName
from ssl4eo_bench.config.weights import StoredWeights
from ssl4eo_bench.data.embeddings import Embeddings, require_place, write_embeddings
from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.files.places import cache_root, data_root
from ssl4eo_bench.plan import Job, Request, plan

if TYPE_CHECKING:
    from ssl4eo_bench.features.store import Features

Arguments = argparse.Namespace


def features(arguments: Arguments) -> int:
    """Write the features of a split to a file."""
    file: Path = arguments.out
    require_place(file, force=arguments.force)
    (job,) = plan(_request(arguments)).jobs
    if job.task.kind == "segmentation":
        print(f"the labels of {job.task.name} are of pixels: {file} gets no targets", file=sys.stderr)
    found = _extract(job, arguments)
    write_embeddings(file, _embeddings(job, arguments.split, found))
    print(file)
    count, width = found.values.shape
    print(f"{count:,} × {width:,} features of split {arguments.split}, {_origin(found.origin.computed, count)}")
    return 0


def _request(arguments: Arguments) -> Request:
    own = own_checkpoints(arguments)
    if bool(own) == bool(arguments.checkpoint):
        raise SpecError("features are of one network; name it with either --checkpoint NAME or --weights FILE.")
    return Request(
        tasks=(arguments.task,),
        protocols=("linear",),  # any would do: features are the same for all
        checkpoints=(arguments.checkpoint,) if arguments.checkpoint else (),
        suite=None,
        seeds=(arguments.seed,),
        data_dir=data_root(arguments.data_dir),
        cache_dir=cache_root(arguments.cache_dir),
        checkpoint_files=tuple(arguments.checkpoints),
        own=own,
        image_size=arguments.image_size,
        resize_pos_embed=arguments.resize_pos_embed,
        precision=arguments.precision,
        fill_bands=arguments.fill_bands,
        sample=arguments.sample,
        partial=arguments.partial,
        limit=arguments.limit,
    )


def _extract(job: Job, arguments: Arguments) -> "Features":
    from ssl4eo_bench.features.extract import pooled_features
    from ssl4eo_bench.features.problem import Context, Problem
    from ssl4eo_bench.models.runtime import resolve_device  # brings torch: not for what is refused
    from ssl4eo_bench.models.weight_files import obtain

    device, cache_dir = resolve_device(arguments.device), cache_root(arguments.cache_dir)
    checkpoint = job.spec.checkpoint
    if isinstance(checkpoint.weights, StoredWeights):
        obtain(checkpoint.weights, checkpoint.name, cache_dir)
    return pooled_features(Problem(job, Context(cache_dir, (device,))), arguments.split)


def _embeddings(job: Job, split: SplitName, found: "Features") -> Embeddings:
    samples = job.samples[split]
    return Embeddings(
        ids=samples.ids,
        features=found.values.astype("float32", copy=False),
        targets=None if job.task.kind == "segmentation" else samples.targets(),
        classes=job.task.classes,
        about=_about(job, split, found),
    )


def _about(job: Job, split: SplitName, found: "Features") -> dict[str, Any]:
    spec = job.spec
    return {
        "task": spec.task_slug,
        "kind": spec.task.kind,
        "split": split,
        "split_digest": spec.task.splits[split].digest,
        "checkpoint": spec.checkpoint.model_dump(mode="json", exclude_none=True),
        "inputs": spec.inputs.model_dump(mode="json", exclude_none=True),
        "seed": spec.seed,
        "sample": spec.sample,
        "partial": spec.partial,
        "limit": spec.limit,
        "weights_sha256": found.origin.weights_sha256,
        "runners": found.origin.runners,
        "version": __version__,
    }


def _origin(computed: int, count: int) -> str:
    if not computed:
        return "from the cache"
    return "computed" if computed == count else f"{computed:,} of them computed, the others from the cache"
