"""The default executor: jobs run one after the other in this process, on all of its devices."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ssl4eo_bench import progress
from ssl4eo_bench.errors import without_frames
from ssl4eo_bench.executors.outcomes import Outcome, fetch_weights, stored
from ssl4eo_bench.plan import Job
from ssl4eo_bench.results.files import RunResult, check_writable, write_result


def execute(
    jobs: Sequence[Job],
    results: Path,
    *,
    cache_dir: Path,
    device: str = "auto",
    full_path: bool = False,
    force: bool = False,
    on_result: Callable[[RunResult], object] | None = None,
) -> list[Outcome]:
    """Run the jobs in order and return their outcomes.

    A result that is there is kept unless forced, and a job that fails does not stop the others. Each new result is
    given to `on_result`, such as to log it; what that raises is noted, since the result is stored.

    Raises:
        BenchError: if results cannot be written or the place of one is taken.
    """
    check_writable(results)
    there = [None if force else stored(job, results) for job in jobs]
    if all(there):
        return [Outcome(job, "skipped", result=found) for job, found in zip(jobs, there, strict=True)]
    from ssl4eo_bench.extraction.problem import Context, Problem  # these import torch: not for what is there already
    from ssl4eo_bench.job import run_job
    from ssl4eo_bench.methods import discard_state
    from ssl4eo_bench.models.runtime import resolve_devices

    context = Context(
        cache_dir=cache_dir,
        devices=resolve_devices(device),
        full_path=full_path,
        renewed=set() if force else None,
    )
    wanted = [job for job, found in zip(jobs, there, strict=True) if not found]
    broken = fetch_weights(wanted, cache_dir)
    outcomes = []
    for number, (job, found) in enumerate(zip(jobs, there, strict=True), start=1):
        if found:
            outcomes.append(Outcome(job, "skipped", result=found))
            continue
        if error := broken.get(job.spec.checkpoint.name):
            outcomes.append(Outcome(job, "failed", error=error))
            continue
        progress.note(f"[{number}/{len(jobs)}] {job.spec.task.name} · {job.spec.protocol.name} · {job.spec.label}")
        try:
            if force:
                discard_state(Problem(job, context))
            result = run_job(job, context)
            write_result(results, result)
            discard_state(Problem(job, context))
        except Exception as error:
            outcomes.append(Outcome(job, "failed", error=without_frames(error)))
        else:
            outcomes.append(Outcome(job, "done", result=result))
            _tell(on_result, result)
    return outcomes


def _tell(on_result: Callable[[RunResult], object] | None, result: RunResult) -> None:
    try:
        if on_result:
            on_result(result)
    except Exception as error:  # code of the user; a tracker that is offline must not end a sweep
        progress.note(f"on_result has failed ({type(error).__name__}: {error}); the result itself is stored")
