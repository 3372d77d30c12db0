"""Doing one job: whatever happens is the outcome of this job alone."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ssl4eo_bench.errors import BenchError, WriteError, without_frames
from ssl4eo_bench.executors.outcomes import Execution, Outcome, looked_up
from ssl4eo_bench.extraction.problem import Problem
from ssl4eo_bench.files.atomic import write_text
from ssl4eo_bench.files.locks import locked
from ssl4eo_bench.files.places import log_file
from ssl4eo_bench.job import run_job
from ssl4eo_bench.plan import Job
from ssl4eo_bench.results.files import lock_file, write_result


def attempt(problem: Problem, how: Execution, *, wait: bool = True) -> Outcome:
    """Do a job, store its result and return the outcome. Where another process does the same job, its result is taken.

    Raises:
        LockedError: if another process does the job, and `wait` is not set.
    """
    job = problem.job
    with _job_lock(job, how, wait=wait):
        if found := looked_up(job, how):
            return found
        try:
            if how.force:
                problem.discard_state()
            result = run_job(job, problem.context)
            write_result(how.results, result)
            problem.discard_state()
        except (Exception, SystemExit) as error:  # code of a plug-in may leave, too
            return Outcome(job, "failed", error=logged(error, job.spec.digest, how.cache_dir))
    with suppress(OSError):
        log_file(how.cache_dir, job.spec.digest).unlink(missing_ok=True)  # of an attempt before
    return Outcome(job, "done", result=result)


@contextmanager
def _job_lock(job: Job, how: Execution, *, wait: bool) -> Iterator[None]:
    """Keep other processes from doing the same job."""
    file = lock_file(how.results, job.spec.digest)
    with locked(file, note=f"another process does {job.spec.label}; waiting for it", wait=wait):
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def logged(error: BaseException, digest: str, cache_dir: Path) -> BenchError:
    """Return the error of a run, without its frames; the traceback of a fault goes to a log file, which it names."""
    frames = "".join(traceback.format_exception(error))
    is_fault = not isinstance(error, BenchError) or error.__cause__ is not None
    kept = without_frames(error)
    if is_fault:
        with suppress(WriteError):
            log = log_file(cache_dir, digest)
            write_text(log, frames)
            kept.log = str(log)
    return kept
