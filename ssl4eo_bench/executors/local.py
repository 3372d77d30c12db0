"""The default executor: jobs run one after the other in this process, on all of its devices."""

from collections.abc import Iterator, Sequence

from ssl4eo_bench import progress
from ssl4eo_bench.errors import BenchError, LockedError, without_frames
from ssl4eo_bench.executors.attempts import attempt
from ssl4eo_bench.executors.outcomes import Execution, Outcome
from ssl4eo_bench.extraction.problem import Context, Problem
from ssl4eo_bench.models.runtime import resolve_devices
from ssl4eo_bench.models.weight_files import prepare_weights
from ssl4eo_bench.plan import Job


def run_jobs(jobs: Sequence[Job], how: Execution) -> Iterator[tuple[int, Outcome]]:
    """Yield the outcome of each job, with its number.

    Jobs that another process does are left to the end: so two equal commands share the work.
    """
    context = Context(how.cache_dir, resolve_devices(how.device), how.full_path, renewed=set() if how.force else None)
    absent = _without_weights(jobs, how)
    left = []
    for number, job in enumerate(jobs):
        if error := absent.get(job.spec.checkpoint.name):
            yield number, Outcome(job, "failed", error=error)
            continue
        progress.note(f"[{number + 1}/{len(jobs)}] {job.name}")
        try:
            yield number, attempt(Problem(job, context), how, wait=False)
        except LockedError:
            progress.note("another process does it; left to the end")
            left.append(number)
    for number in left:
        try:
            yield number, attempt(Problem(jobs[number], context), how)
        except LockedError as error:  # that process has not ended within a day
            yield number, Outcome(jobs[number], "failed", error=without_frames(error))


def _without_weights(jobs: Sequence[Job], how: Execution) -> dict[str, BenchError]:
    """Fetch the weight files that are absent, and return the errors by checkpoint.

    So they are known at once, not after hours of other runs.
    """
    absent: dict[str, BenchError] = {}
    for checkpoint in {job.spec.checkpoint.name: job.spec.checkpoint for job in jobs}.values():
        try:
            prepare_weights(checkpoint, how.cache_dir)
        except Exception as error:
            absent[checkpoint.name] = without_frames(error)
            progress.note(f"left out: the weights of checkpoint {checkpoint.name!r} are not to be had")
    return absent
