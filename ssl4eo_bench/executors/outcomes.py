"""What all executors share: how jobs are done, and their outcomes."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ssl4eo_bench import progress
from ssl4eo_bench.errors import BenchError, ResultError
from ssl4eo_bench.plan import Job
from ssl4eo_bench.results.files import RunResult, read_checked


@dataclass(frozen=True)
class Execution:
    """How and where the jobs of a plan are done; nothing here can move a number.

    Attributes:
        device: to compute on, as `resolve_devices` takes it.
        full_path: solve the penalties behind the stop, too.
        force: run again what is in the results already.
        on_result: is given each new result, such as to log it.
        executor: where jobs run: in this process, or on a Ray cluster.
        address: of the Ray cluster; a cluster of this machine is started if there is none.
    """

    results: Path
    data_dir: Path
    cache_dir: Path
    device: str = "auto"
    full_path: bool = False
    force: bool = False
    on_result: Callable[[RunResult], object] | None = None
    executor: Literal["local", "ray"] = "local"
    address: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a job: a result or an error."""

    job: Job
    status: Literal["done", "skipped", "failed"]
    result: RunResult | None = None
    error: BenchError | None = None


def looked_up(job: Job, how: Execution, checked: Collection[str] = ()) -> Outcome | None:
    """Return the outcome of a job that has a result already or cannot have one; none if it has to be done.

    `checked` has fingerprints of files that were checked before, as `results.index` has them.
    """
    file = how.results / job.spec.path
    if how.force or not file.is_file():
        return None
    try:
        found, _ = read_checked(file, how.results, checked)
    except BenchError as error:
        return Outcome(job, "failed", error=error)
    if found.digest == job.spec.digest:
        return Outcome(job, "skipped", result=found)
    taken = ResultError(
        f"{file} holds the result of another specification under the same name (digest {found.digest[:12]}…, now "
        f"{job.spec.digest[:12]}…); give the checkpoint another name, or replace the result with --force (from Python, "
        "force=True)."
    )
    return Outcome(job, "failed", error=taken)


def tell(how: Execution, result: RunResult) -> None:
    """Give a new result to code of the user; what that raises is noted, since the result is stored."""
    try:
        if how.on_result:
            how.on_result(result)
    except Exception as error:  # a tracker that is offline must not end a sweep
        progress.note(f"on_result has failed ({type(error).__name__}: {error}); the result itself is stored")
