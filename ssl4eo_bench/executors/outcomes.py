"""What all executors share: outcomes, results that are there already, and weights that have to be fetched."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ssl4eo_bench import progress
from ssl4eo_bench.config.weights import StoredWeights
from ssl4eo_bench.errors import BenchError, ResultError, without_frames
from ssl4eo_bench.plan import Job
from ssl4eo_bench.results.files import RunResult, read_result


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
            f"{job.spec.digest[:12]}…); give the checkpoint another name, or replace the result with --force (from "
            "Python, force=True)."
        )
    return found


def fetch_weights(jobs: Sequence[Job], cache_dir: Path) -> dict[str, BenchError]:
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
