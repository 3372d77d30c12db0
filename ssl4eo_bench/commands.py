"""What each command does: call, print, exit code. Nothing here imports torch, or pandas before it is needed."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ssl4eo_bench.backbones.cache import FeatureCache
from ssl4eo_bench.console import ConsoleProgress, line, show_mapping, show_metrics, show_result, table
from ssl4eo_bench.data.samples import write_sample
from ssl4eo_bench.engine import Outcome, execute, stored
from ssl4eo_bench.errors import DataError
from ssl4eo_bench.plan import Job, Request, plan
from ssl4eo_bench.progress import Progress, Silent
from ssl4eo_bench.results.files import check_writable, find_result, read_results
from ssl4eo_bench.spec import catalogue
from ssl4eo_bench.spec.protocols import PROTOCOLS
from ssl4eo_bench.spec.tasks import MAIN_METRIC
from ssl4eo_bench.storage import cache_root, data_root

Arguments = argparse.Namespace


def run(arguments: Arguments) -> int:
    """Evaluate checkpoints on tasks."""
    from ssl4eo_bench.results.tables import write_leaderboard, write_tables

    progress = _progress(quiet=arguments.quiet or arguments.json)
    cache_dir = cache_root(arguments.cache_dir)
    request = Request(
        tasks=tuple(arguments.task),
        protocol=arguments.protocol,
        checkpoints=tuple(arguments.checkpoint),
        suite=arguments.suite,
        seeds=tuple(arguments.seed),
        data_dir=data_root(arguments.data_dir),
        cache_dir=cache_dir,
        checkpoint_files=tuple(arguments.checkpoints),
        image_size=arguments.image_size,
        sample=arguments.sample,
        partial=arguments.partial,
        limit=arguments.limit,
    )
    if not arguments.dry_run:
        check_writable(arguments.results)
    jobs = plan(request, progress)
    if arguments.dry_run:
        return _show_plan(jobs, arguments)
    outcomes = execute(
        jobs,
        arguments.results,
        progress,
        cache_dir=cache_dir,
        device=arguments.device,
        full_path=arguments.full_path,
        force=arguments.force,
    )
    generated = [*write_tables(arguments.results), *write_leaderboard(arguments.results)]
    if arguments.json:
        print(json.dumps([_outcome_json(outcome, arguments.results) for outcome in outcomes], indent=1))
    else:
        _show_outcomes(outcomes, generated, arguments.results)
    return _exit_code(outcomes)


def _show_plan(jobs: Sequence[Job], arguments: Arguments) -> int:
    if arguments.json:
        print(json.dumps([job.spec.model_dump(mode="json") | {"digest": job.spec.digest} for job in jobs], indent=1))
        return 0
    for job in jobs:
        spec = job.spec
        counts = ", ".join(f"{len(samples.ids):,} {split}" for split, samples in job.samples.items())
        there = not arguments.force and stored(job, arguments.results)
        line(f"{spec.task_slug} · {spec.protocol_slug} · {spec.checkpoint.name} · seed {spec.seed}")
        line(f"  {'is there, would be skipped' if there else 'would run'}: {arguments.results / spec.path}")
        line(f"  digest {spec.digest}")
        line(f"  samples {counts}")
        show_mapping(spec.inputs)
    return 0


def _show_outcomes(outcomes: Sequence[Outcome], generated: Sequence[Path], results: Path) -> None:
    there = [(outcome.result, outcome.status) for outcome in outcomes if outcome.result]
    show_metrics(there)
    for result, _ in there:
        for warning in result.warnings:
            line(f"warning      {result.spec.checkpoint.name}: {warning}")
    for result, _ in there:
        line(f"result       {results / result.spec.path}")
    for file in generated:
        line(f"{'leaderboard' if 'leaderboard' in file.name else 'table':12} {file}")
    for outcome in outcomes:
        if outcome.error:
            spec = outcome.job.spec
            print(f"error: {spec.task.name} · {spec.checkpoint.name}: {outcome.error}", file=sys.stderr)


def _outcome_json(outcome: Outcome, results: Path) -> dict[str, Any]:
    described = {"status": outcome.status, "file": str(results / outcome.job.spec.path)}
    if outcome.error:
        return described | {"error": str(outcome.error)}
    assert outcome.result is not None  # it is there unless there is an error
    return described | {"result": outcome.result.model_dump(mode="json", exclude_none=True)}


def _exit_code(outcomes: Sequence[Outcome]) -> int:
    failed = sum(outcome.status == "failed" for outcome in outcomes)
    return 0 if not failed else 2 if failed == len(outcomes) else 1


def list_(arguments: Arguments) -> int:
    """List tasks, checkpoints, protocols or runs."""
    listings: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "tasks": _tasks,
        "checkpoints": lambda: _checkpoints(arguments.checkpoints),
        "protocols": _protocols,
        "runs": lambda: _runs(arguments.results),
    }
    rows = listings[arguments.what]()
    if arguments.json:
        print(json.dumps(rows, indent=1))
    elif rows:
        table("", list(rows[0]), [list(row.values()) for row in rows])
    return 0


def _tasks() -> list[dict[str, Any]]:
    return [
        {
            "task": task.name,
            "version": task.version,
            "kind": task.kind,
            "classes": len(task.classes),
            "bands": f"{len(task.bands)} in {task.bands[0].unit}",
            "train/val/test": "/".join(str(split.count or "?") for split in task.splits.values()),
            "main metric": task.main_metric,
            "title": task.title,
        }
        for task in catalogue.tasks().values()
    ]


def _checkpoints(files: Sequence[Path]) -> list[dict[str, Any]]:
    known = catalogue.load_catalogue(*files)
    return [
        {
            "checkpoint": entry.name,
            "arch": entry.arch,
            "pretraining": f"{entry.pretraining.method}, {entry.pretraining.data}" if entry.pretraining else "",
            "bands": entry.bands if entry.bands == "task" else f"{len(entry.bands)}: {' '.join(entry.bands)}",
            "size": entry.image_size,
            "feature": entry.feature,
            "suites": " ".join(name for name, members in known.suites.items() if entry.name in members),
            "licence": entry.licence,
        }
        for entry in known.checkpoints.values()
    ]


def _protocols() -> list[dict[str, Any]]:
    return [
        {
            "protocol": name,
            "version": protocol.version,
            "what": (type(protocol).__doc__ or "").splitlines()[0],
            "settings": ", ".join(f"{k}={v:g}" for k, v in settings.items()),
        }
        for name, protocol in PROTOCOLS.items()
        for settings in (protocol.for_kind("segmentation").model_dump(exclude={"name", "version"}),)
    ]


def _runs(results: Path) -> list[dict[str, Any]]:
    rows = []
    for result in read_results(results):
        spec = result.spec
        main = MAIN_METRIC[spec.task.kind]
        rows.append(
            {
                "task": spec.task_slug,
                "protocol": spec.protocol_slug,
                "checkpoint": spec.checkpoint.name,
                "seed": spec.seed,
                "marks": " ".join((*spec.marks, *(("uncommitted",) if result.provenance.dirty else ()))),
                "metric": main,
                "test": round(result.metrics["test"][main].value, 4),
                "made": result.provenance.started,
                "digest": result.digest[:12],
            }
        )
    return rows


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

    check_writable(arguments.results)
    for file in write_tables(arguments.results):
        print(file)
    return 0


def leaderboard(arguments: Arguments) -> int:
    """Write the leaderboard anew."""
    from ssl4eo_bench.results.tables import write_leaderboard

    check_writable(arguments.results)
    for file in write_leaderboard(arguments.results):
        print(file)
        if file.suffix == ".md":
            line(file.read_text(encoding="utf-8"))
    return 0


def data_sample(arguments: Arguments) -> int:
    """Write the sample of a task."""
    chosen = catalogue.task(arguments.task)
    folder: Path = arguments.out or Path(f"{chosen.name}-sample")
    if folder.exists():
        raise DataError(f"{folder} exists; name a new folder with --out.")
    try:
        write_sample(chosen, folder, _progress(quiet=arguments.quiet))
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror}); name another folder with --out.") from error
    print(folder)
    return 0


def cache_list(arguments: Arguments) -> int:
    """List cached features."""
    rows = [
        {
            "checkpoint": manifest.key.checkpoint,
            "task": manifest.key.task,
            "split": manifest.key.split,
            "images": f"{sum(shard.rows for shard in manifest.shards.values())}/{manifest.key.rows}",
            "MB": round(sum(file.stat().st_size for file in folder.iterdir()) / 1e6, 1),
            "folder": str(folder),
        }
        for manifest, folder in FeatureCache(cache_root(arguments.cache_dir)).entries()
    ]
    if arguments.json:
        print(json.dumps(rows, indent=1))
    elif rows:
        table("", list(rows[0]), [list(row.values()) for row in rows], right=["images", "MB"])
    return 0


def cache_verify(arguments: Arguments) -> int:
    """Check cached features."""
    cache = FeatureCache(cache_root(arguments.cache_dir))
    entries = cache.entries()
    damaged = [(folder / name) for manifest, folder in entries for name in cache.damaged(manifest, folder)]
    for file in damaged:
        print(f"damaged: {file}")
    print(
        f"{len(entries)} entries, {len(damaged)} damaged shards; damaged ones are computed again when they are needed"
    )
    return 1 if damaged else 0


def cache_prune(arguments: Arguments) -> int:
    """Delete cached features."""
    freed = FeatureCache(cache_root(arguments.cache_dir)).prune(
        checkpoint=arguments.checkpoint, everything=arguments.all
    )
    print(f"freed {freed / 1e6:.1f} MB")
    return 0


def _progress(*, quiet: bool) -> Progress:
    if quiet:
        return Silent()
    return ConsoleProgress()
