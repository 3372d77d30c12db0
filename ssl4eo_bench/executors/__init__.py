"""Where the jobs of a plan run. An executor takes jobs and returns their outcomes."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from ssl4eo_bench import progress
from ssl4eo_bench.config.run_spec import RunSpec
from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.executors.outcomes import Execution, Outcome, looked_up, tell
from ssl4eo_bench.plan import Job
from ssl4eo_bench.results.files import check_writable
from ssl4eo_bench.results.index import checked_before


def execute(jobs: Sequence[Job], how: Execution) -> list[Outcome]:
    """Do jobs, and return their outcomes in the order of the jobs.

    A result that is there is kept unless forced, and a job that fails does not stop the others.

    Raises:
        ResultError: if results cannot be written.
        SpecError: if the executor cannot be used.
    """
    check_writable(how.results)
    checked = checked_before(how.results)
    outcomes = {number: found for number, job in enumerate(jobs) if (found := looked_up(job, how, checked))}
    wanted = [number for number in range(len(jobs)) if number not in outcomes]
    if wanted:
        _tell_inputs([jobs[number].spec for number in wanted])
        if how.executor == "ray":
            if not find_spec("ray"):
                raise SpecError("executor 'ray' needs the package ray; run `pip install 'ssl4eo-bench[ray]'`.")
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing phones home
            if how.address and Path("~/.ray/auth_token").expanduser().is_file():  # made by `ray start`
                os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray reads it when it is imported
            from ssl4eo_bench.executors.cluster import run_jobs  # these import torch: not for what is there already
        else:
            from ssl4eo_bench.executors.local import run_jobs
        absolute = {name: getattr(how, name).resolve() for name in ("results", "data_dir", "cache_dir")}
        for number, outcome in run_jobs([jobs[number] for number in wanted], replace(how, **absolute)):
            outcomes[wanted[number]] = outcome
            if outcome.status == "done" and outcome.result:
                tell(how, outcome.result)
    return [outcomes[number] for number in range(len(jobs))]


def _tell_inputs(specs: Iterable[RunSpec]) -> None:
    """Say what enters each network on each task, before anything is computed."""
    for spec in {(spec.task_slug, spec.checkpoint.name): spec for spec in specs if spec.inputs.channels}.values():
        progress.note(f"input of {spec.checkpoint.name} on {spec.task.name}: {spec.inputs.summary}")
