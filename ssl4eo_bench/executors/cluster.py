"""The jobs of a plan on a Ray cluster: shards of features are Ray tasks, and so are the jobs that read them.

The cache and the results should lie on a file system that all nodes share. Where they do not, nothing is wrong: a node
computes again what it does not find, and results are sent back. Digests and numbers are those of the local executor.
"""

import logging
import os
import pickle
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import ray
from ray.exceptions import RayError

from ssl4eo_bench import progress
from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.protocols import Knn, Linear
from ssl4eo_bench.config.run_spec import RunSpec
from ssl4eo_bench.config.task import SplitName, is_own_data
from ssl4eo_bench.errors import BenchError, SpecError, WorkerError
from ssl4eo_bench.executors.attempts import attempt, logged
from ssl4eo_bench.executors.forecast import NO_NETWORK, peak_memory
from ssl4eo_bench.executors.outcomes import Execution, Outcome
from ssl4eo_bench.extraction.problem import Context, Problem
from ssl4eo_bench.extraction.store import Extraction, FeatureCache
from ssl4eo_bench.methods import extractions
from ssl4eo_bench.models.cost import entry_costs
from ssl4eo_bench.models.runtime import resolve_devices
from ssl4eo_bench.models.weight_files import prepare_weights
from ssl4eo_bench.plan import Job, open_job, shared_features
from ssl4eo_bench.results.files import RunResult, write_result
from ssl4eo_bench.version import __version__

RETRIES = 3
"""How often a task is given to another worker after its worker or node was lost."""

MOST_CPUS = 8
"""The most processor cores of a task: a backbone or a solver gains little from more."""

SHARD_MEMORY = 2_000_000_000
"""Bytes that a task of a shard asks for: a backbone, its batches, and the libraries."""

VARIABLES = ("SSL4EO_BENCH_TASKS", "SSL4EO_BENCH_BACKBONES")
"""Environment variables that workers need, too."""

POLL_INTERVAL = 0.5
"""Seconds until it is looked again whether a task has ended."""

INLINE = 100_000
"""Bytes that go with every call; more are stored once."""

AT_ONCE = 64
"""The most tasks whose ends are told together."""


_Fields = tuple[Literal["done", "skipped", "failed"], RunResult | None, BenchError | None]
"""Status, result and error of an outcome."""


def run_jobs(jobs: Sequence[Job], how: Execution) -> Iterator[tuple[int, Outcome]]:
    """Yield the outcome of each job, with its number, as they end.

    Raises:
        SpecError: if there is no cluster at the address.
    """
    with _connected(how.address):
        tasks = _submitted(jobs, replace(how, on_result=None))
        for number, outcome in _ended(tasks, jobs):
            if outcome.status == "done" and not (how.results / outcome.job.spec.path).is_file():
                assert outcome.result  # a job that is done has one
                write_result(how.results, outcome.result)  # the worker has a file system of its own
            yield number, outcome


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Connect to a cluster, or start one of this machine, which ends with the block."""
    if ray.is_initialized():  # by the program that called us
        yield
        return
    where: dict[str, Any] = {"address": address} if address else {"address": "local", "include_dashboard": False}
    variables = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    try:
        _require_answer(address or "")
        with _own_signals():
            ray.init(**where, runtime_env={"env_vars": variables}, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise SpecError(
            f"there is no Ray cluster at {address!r} ({' '.join(str(error).split())}); start one with `ray start "
            "--head`, or leave --address away to use this machine."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handler of SIGTERM, which Ray replaces by one that aborts the program."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _require_answer(address: str) -> None:
    """Raise OSError for an address where nothing answers; Ray would try for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        with socket.create_connection((host, int(port)), timeout=10):
            pass


@dataclass(frozen=True)
class _Tasks:
    """The tasks of a sweep: those of jobs with the number of the job, those of shards with their number of samples.

    `slots` is how many the cluster can run at once.
    """

    jobs: "dict[ray.ObjectRef[Any], int]"
    shards: "dict[ray.ObjectRef[Any], int]"
    slots: int


def _submitted(jobs: Sequence[Job], how: Execution) -> _Tasks:
    """Hand all tasks to the cluster: the missing shards of each split once, and jobs that wait for theirs."""
    cpus, memory, slots = _capacity()
    tasks, cache = _Tasks({}, {}, slots), FeatureCache(how.cache_dir)
    checkpoints = {job.spec.checkpoint.name: job.spec.checkpoint for job in jobs}
    costs = entry_costs(one for one in checkpoints.values() if not one.is_plugin)  # no code of others runs here
    shards_of: dict[str, list[ray.ObjectRef[Any]]] = {}
    needed_by: dict[object, list[ray.ObjectRef[Any]]] = {}
    context = Context(how.cache_dir, ("cpu",))  # no shard depends on where it is computed
    compute = _compute_shard.options(num_cpus=cpus, num_gpus=_gpus(how, 1), memory=min(memory, SHARD_MEMORY))
    own = _own_tasks(jobs)
    for number, job in enumerate(jobs):
        spec, task = job.spec.model_dump_json(), own.get(job.task.name, b"")
        if (shared := shared_features(job)) not in needed_by:
            needed_by[shared] = []
            for split, extraction in _extractions(Problem(job, context)).items():
                key = extraction.key
                if key.digest not in shards_of:
                    missing = range(len(key.shard_bounds)) if how.force else cache.missing(key)
                    shards_of[key.digest] = [
                        compute.remote(__version__, spec, how, task, split, shard) for shard in missing
                    ]
                    rows = [key.rows_in([shard]) for shard in missing]
                    tasks.shards.update(zip(shards_of[key.digest], rows, strict=True))
                needed_by[shared] += shards_of[key.digest]
        devices = 1 if isinstance(job.spec.protocol, Linear | Knn) else len(how.device.split(","))
        needs = min(memory, peak_memory(job.spec, costs.get(job.spec.checkpoint.name, NO_NETWORK)))
        do = _do_job.options(num_cpus=cpus, num_gpus=_gpus(how, devices), memory=needs)
        tasks.jobs[do.remote(__version__, spec, how, task, *needed_by[shared])] = number
    return tasks


def _own_tasks(jobs: Sequence[Job]) -> dict[str, Any]:
    """Return the tasks of the user's own images, which are in no catalogue of a worker, pickled and by name."""
    tasks = {job.task.name: job.task for job in jobs if is_own_data(job.task.name)}
    pickled = {name: pickle.dumps(task) for name, task in tasks.items()}
    return {name: ray.put(content) if len(content) > INLINE else content for name, content in pickled.items()}


def _extractions(problem: Problem) -> "dict[SplitName, Extraction[Any]]":
    """Return what the features of a job are computed from; nothing where that fails, which the job itself will tell."""
    try:
        return extractions(problem)
    except Exception:
        return {}


def _capacity() -> tuple[int, int, int]:
    """Return the processor cores of a task, the most memory of one in bytes, and how many tasks can run at once.

    No task asks for more than the smallest node has: it would wait for ever.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    cores = [int(node.get("CPU", 0)) for node in nodes]
    cpus = min([MOST_CPUS, *filter(None, cores)])
    memory = min([int(node["memory"]) for node in nodes if node.get("memory")], default=0)
    return cpus, memory, max(1, sum(of_node // cpus for of_node in cores))


def _gpus(how: Execution, wanted: int) -> int:
    return wanted if how.device != "cpu" and ray.cluster_resources().get("GPU") else 0  # type: ignore[no-untyped-call]


def _ended(tasks: _Tasks, jobs: Sequence[Job]) -> Iterator[tuple[int, Outcome]]:
    """Yield the outcomes of jobs as they end; when the block is left before, what has not ended is cancelled."""
    started, images, done, failed = time.monotonic(), 0, 0, 0
    pending = [*tasks.shards, *tasks.jobs]
    try:
        with progress.stage("sweep", total=len(pending), unit="tasks") as advance:
            while pending:
                ended, pending = ray.wait(pending, num_returns=min(AT_ONCE, len(pending)), timeout=POLL_INTERVAL)
                advance(len(ended))
                images += sum(tasks.shards.get(task, 0) for task in ended)
                for task in [task for task in ended if task in tasks.jobs]:
                    outcome = _outcome(jobs[tasks.jobs[task]], task)
                    done, failed = done + 1, failed + (outcome.status == "failed")
                    progress.note(
                        f"[{done}/{len(jobs)}] {outcome.status}: {outcome.job.name} ({min(tasks.slots, len(pending))} "
                        f"running, {failed} failed; {images / (time.monotonic() - started):,.0f} images/s)"
                    )
                    yield tasks.jobs[task], outcome
    finally:
        for task in pending:
            ray.cancel(task, force=True)


def _outcome(job: Job, task: "ray.ObjectRef[Any]") -> Outcome:
    """Return the outcome of the task of a job that has ended."""
    try:
        status, result, error = ray.get(task)
    except RayError as lost:
        sentence = " ".join(str(lost).split())
        error = WorkerError(
            f"the cluster has lost its worker {1 + RETRIES} times ({sentence}); run the same command again."
        )
        return Outcome(job, "failed", error=error)
    return Outcome(job, status, result, error)


@ray.remote(max_retries=RETRIES)
def _compute_shard(
    version: str, spec: str, how: Execution, own: bytes, split: SplitName, shard: int
) -> BenchError | None:
    """Compute a shard of features where it is missing; return why that cannot be done."""
    try:
        _make_known(own)
        cache = FeatureCache(how.cache_dir, renewed=set() if how.force else None)
        cache.compute(_extraction(version, spec, how, split), [shard])
    except (Exception, SystemExit) as error:
        return logged(error, RunSpec.model_validate_json(spec).digest, how.cache_dir)
    return None


@ray.remote(max_retries=RETRIES)
def _do_job(version: str, spec: str, how: Execution, own: bytes, *shards: BenchError | None) -> _Fields:
    """Do a job after its shards of features were computed; return the fields of its outcome."""
    for failed in filter(None, shards):
        return "failed", None, failed
    try:
        _make_known(own)
        problem = _problem(version, spec, how)
        if how.force and not shards:
            problem = Problem(problem.job, replace(problem.context, renewed=set()))
        outcome = attempt(problem, how)
    except (Exception, SystemExit) as error:
        digest = RunSpec.model_validate_json(spec).digest
        return "failed", None, logged(error, digest, how.cache_dir)
    return outcome.status, outcome.result, outcome.error


def _make_known(own: bytes) -> None:
    """Make a pickled task of the user's own images known to this worker; there is none if it is empty."""
    if own:
        catalogue.add(pickle.loads(own))


@lru_cache(1)
def _problem(version: str, spec: str, how: Execution) -> Problem:
    """Return the problem of a spec, opened on this worker."""
    if version != __version__:
        raise SpecError(f"a worker has ssl4eo-bench {__version__}, not {version}; install the same on all nodes.")
    job = _opened(RunSpec.model_validate_json(spec), how)
    prepare_weights(job.spec.checkpoint, how.cache_dir)
    return Problem(job, Context(how.cache_dir, resolve_devices(how.device), how.full_path))


@lru_cache(3)
def _extraction(version: str, spec: str, how: Execution, split: SplitName) -> Extraction[Any]:
    return extractions(_problem(version, spec, how))[split]


def _opened(spec: RunSpec, how: Execution) -> Job:
    """Return the job of a spec; samples that this worker has open serve all of their jobs."""
    key = (spec.task_slug, spec.marks, how.data_dir, how.cache_dir)
    if (known := _open.get(key)) and known.spec.task == spec.task:
        return replace(known, spec=spec)
    _open[key] = open_job(spec, how.data_dir, how.cache_dir)
    return _open[key]


_open: dict[object, Job] = {}
"""A job of each task that this worker has open."""
