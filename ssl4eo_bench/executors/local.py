"""The default executor: jobs run one after the other in this process, on all of its devices."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ssl4eo_bench import progress
from ssl4eo_bench.config.weights import StoredWeights
from ssl4eo_bench.errors import BenchError, ResultError, without_frames
from ssl4eo_bench.plan import Job
from ssl4eo_bench.results.files import RunResult, check_writable, read_result, write_result


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job: a result or an error."""

    job: Job
    status: Literal["done", "skipped", "failed"]
    result: RunResult | None = None
    error: BenchError | None = None


def stored(job: Job, results: Path) -> RunResult | None:
    """Return the stored result of a job; none if there is none.

    Raises:
        ResultError: if the place is taken by the result of another spec.
    """
    file = results / job.spec.path
    if not file.is_file():
        return None
    found = read_result(file)
    if found.digest != job.spec.digest:
        raise ResultError(
            f"{file} holds the result of another specification under the same name (digest {found.digest[:12]}…, now "
            f"{job.spec.digest[:12]}…); give the checkpoint another name, or replace the result with --force."
        )
    return found


def execute(
    jobs: Sequence[Job],
    results: Path,
    *,
    cache_dir: Path,
    device: str = "auto",
    full_path: bool = False,
    force: bool = False,
) -> list[Outcome]:
    """Run the jobs in order and return their outcomes.

    A result that is there is kept unless forced, and a job that fails does not stop the others.

    Raises:
        BenchError: if results cannot be written or the place of one is taken.
    """
    check_writable(results)
    there = [None if force else stored(job, results) for job in jobs]
    if all(there):
        return [Outcome(job, "skipped", result=found) for job, found in zip(jobs, there, strict=True)]
    from ssl4eo_bench.features.problem import Context  # these import torch: not for what is there already
    from ssl4eo_bench.models.runtime import resolve_devices
    from ssl4eo_bench.run import discard_state, run

    context = Context(
        cache_dir=cache_dir,
        devices=resolve_devices(device),
        full_path=full_path,
        renewed=set() if force else None,
    )
    wanted = [job for job, found in zip(jobs, there, strict=True) if not found]
    broken = _broken_weights(wanted, cache_dir)
    outcomes = []
    for number, (job, found) in enumerate(zip(jobs, there, strict=True), start=1):
        if found:
            outcomes.append(Outcome(job, "skipped", result=found))
            continue
        if error := broken.get(job.spec.checkpoint.name):
            outcomes.append(Outcome(job, "failed", error=error))
            continue
        progress.note(f"[{number}/{len(jobs)}] {job.spec.task.name} · {job.spec.label}")
        try:
            if force:
                discard_state(job, context)
            result = run(job, context)
            write_result(results, result)
            discard_state(job, context)
        except Exception as error:
            outcomes.append(Outcome(job, "failed", error=without_frames(error)))
        else:
            outcomes.append(Outcome(job, "done", result=result))
    return outcomes


def _broken_weights(jobs: Sequence[Job], cache_dir: Path) -> dict[str, BenchError]:
    """Fetch the weight files that are absent, and return the errors by checkpoint.

    So they are known at once, not after hours of other runs.
    """
    from ssl4eo_bench.models.weight_files import obtain  # imports the network's modules

    broken: dict[str, BenchError] = {}
    for checkpoint in {job.spec.checkpoint.name: job.spec.checkpoint for job in jobs}.values():
        if isinstance(checkpoint.weights, StoredWeights):
            try:
                obtain(checkpoint.weights, checkpoint.name, cache_dir)
            except Exception as error:
                broken[checkpoint.name] = without_frames(error)
                progress.note(f"left out: {broken[checkpoint.name]}")
    return broken
