"""Running, and what is made from results."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssl4eo_bench.commands.own import own_checkpoints
from ssl4eo_bench.console import line, show_mapping, show_metrics, show_result
from ssl4eo_bench.errors import JobError
from ssl4eo_bench.executors.local import Outcome, execute, stored
from ssl4eo_bench.files.storage import cache_root, data_root, picture_file
from ssl4eo_bench.plan import Job, Request, Sweep, plan
from ssl4eo_bench.results.files import find_result

Arguments = argparse.Namespace


def run(arguments: Arguments) -> int:
    """Evaluate checkpoints on tasks."""
    from ssl4eo_bench.results.tables import write_tables
    from ssl4eo_bench.results.views import write_leaderboard

    cache_dir = cache_root(arguments.cache_dir)
    request = Request(
        tasks=tuple(arguments.task),
        protocols=tuple(arguments.protocol),
        checkpoints=tuple(arguments.checkpoint),
        suite=arguments.suite,
        seeds=tuple(arguments.seed or [0]),
        fractions=tuple(arguments.fraction or [1.0]),
        data_dir=data_root(arguments.data_dir),
        cache_dir=cache_dir,
        checkpoint_files=tuple(arguments.checkpoints),
        own=own_checkpoints(arguments),
        image_size=arguments.image_size,
        resize_pos_embed=arguments.resize_pos_embed,
        precision=arguments.precision,
        fill_bands=arguments.fill_bands,
        sample=arguments.sample,
        partial=arguments.partial,
        limit=arguments.limit,
        drift=arguments.drift,
    )
    sweep = plan(request)
    if arguments.dry_run:
        _show_plan(sweep.jobs, arguments)
        return _show_left_out(sweep)
    outcomes = execute(
        sweep.jobs,
        arguments.results,
        cache_dir=cache_dir,
        device=arguments.device,
        full_path=arguments.full_path,
        force=arguments.force,
    )
    if arguments.json:
        print(json.dumps([_outcome_json(outcome, arguments.results) for outcome in outcomes], indent=1))
    else:
        _show_outcomes(outcomes, arguments.results, cache_dir)
    # After what was found has been shown: a file of another run may be damaged, and then no table is written.
    finished = any(outcome.result for outcome in outcomes)
    for file in (*write_tables(arguments.results), *write_leaderboard(arguments.results)) if finished else ():
        if not arguments.json:
            line(f"{'leaderboard' if 'leaderboard' in file.name else 'table':12} {file}")
    return max(_exit_code(outcomes), _show_left_out(sweep))


def _show_plan(jobs: Sequence[Job], arguments: Arguments) -> None:
    if arguments.json:
        print(json.dumps([job.spec.model_dump(mode="json") | {"digest": job.spec.digest} for job in jobs], indent=1))
        return
    for job in jobs:
        spec = job.spec
        counts = ", ".join(f"{len(samples.ids):,} {split}" for split, samples in job.samples.items())
        there = not arguments.force and stored(job, arguments.results)
        line(f"{spec.task_slug} · {spec.protocol_slug} · {spec.label}")
        line(f"  {'is there, would be skipped' if there else 'would run'}: {arguments.results / spec.path}")
        line(f"  digest {spec.digest}")
        line(f"  samples {counts}")
        show_mapping(spec.inputs)


def _show_left_out(sweep: Sweep) -> int:
    """Say what was asked for and has no run; the exit code that goes with it."""
    for what, reason in sweep.left_out.items():
        print(f"{reason.traceback}error: {what} was left out of all runs: {reason}", file=sys.stderr)
    return 1 if sweep.left_out else 0


def _show_outcomes(outcomes: Sequence[Outcome], results: Path, cache_dir: Path) -> None:
    there = [(outcome.result, outcome.status) for outcome in outcomes if outcome.result]
    show_metrics(there)
    for result, _ in there:
        for warning in result.warnings:
            line(f"warning      {result.spec.checkpoint.name}: {warning}")
    for result, _ in there:
        line(f"result       {results / result.spec.path}")
        if (picture := picture_file(cache_dir, result.digest)).is_file():
            line(f"picture      {picture}")
    for outcome in outcomes:
        if outcome.error:
            spec = outcome.job.spec
            error = outcome.error
            print(f"{error.traceback}error: {spec.task.name} · {spec.label}: {error}", file=sys.stderr)


def _outcome_json(outcome: Outcome, results: Path) -> dict[str, Any]:
    described = {"status": outcome.status, "file": str(results / outcome.job.spec.path)}
    if outcome.error:
        traceback = {"traceback": outcome.error.traceback} if isinstance(outcome.error, JobError) else {}
        return described | {"error": str(outcome.error)} | traceback
    assert outcome.result is not None  # it is there unless there is an error
    return described | {"result": outcome.result.model_dump(mode="json", exclude_none=True)}


def _exit_code(outcomes: Sequence[Outcome]) -> int:
    errors = [outcome.error for outcome in outcomes if outcome.error]
    if not errors:
        return 0
    cannot_be_done = len(errors) == len(outcomes) and not any(isinstance(error, JobError) for error in errors)
    return 2 if cannot_be_done else 1


def show(arguments: Arguments) -> int:
    """Show one result."""
    result = find_result(arguments.results, arguments.run)
    if arguments.json:
        print(json.dumps(result.model_dump(mode="json", exclude_none=True), indent=1))
    else:
        show_result(result)
    return 0


def tables(arguments: Arguments) -> int:
    """Write the tables anew."""
    from ssl4eo_bench.results.tables import write_tables

    for file in write_tables(arguments.results):
        print(file)
    return 0
