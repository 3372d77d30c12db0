"""The command line: parse, call, print, exit code.

Exit codes: 0 all went well, 1 some runs failed, 2 what was asked for cannot be done (one sentence on stderr says why).
Imports stay inside the commands, so that help is instant and torch loads only where something is computed.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl4eo_bench import __version__
from ssl4eo_bench.errors import BenchError

if TYPE_CHECKING:
    from ssl4eo_bench.engine import Outcome
    from ssl4eo_bench.plan import Job
    from ssl4eo_bench.progress import Progress

Arguments = argparse.Namespace


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    parsed = _parser().parse_args(arguments)
    if tasks_dir := getattr(parsed, "tasks_dir", None):
        os.environ["SSL4EO_BENCH_TASKS"] = str(tasks_dir.resolve())
    try:
        code: int = parsed.command(parsed)
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept, the same command goes on from there", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ssl4eo-bench",
        description="Right, fast and comparable numbers for pretrained Earth-observation backbones.",
        allow_abbrev=False,
        epilog="Try `ssl4eo-bench run --task eurosat --protocol linear --sample`: it needs no data.",
    )
    parser.add_argument("--version", action="version", version=f"ssl4eo-bench {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(commands)
    _add_list(commands)
    _add_show(commands)
    _add_generated(commands)
    _add_data(commands)
    _add_cache(commands)
    return parser


def _command(group: Any, name: str, function: Callable[[Arguments], int], about: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = group.add_parser(name, help=about, description=about, allow_abbrev=False)
    parser.set_defaults(command=function)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def _seed(text: str) -> int:
    number = int(text)
    if not 0 <= number < 2**32:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 2^32 - 1")
    return number


def _add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--results", type=Path, default=Path("results"), metavar="DIR", help="results directory (default: ./results)"
    )


def _add_cache_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cache-dir", type=Path, metavar="DIR", help="cache (default: $SSL4EO_BENCH_CACHE or the user's cache)"
    )


def _add_catalogue(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tasks-dir", type=Path, metavar="DIR", help="one more directory of task modules")
    parser.add_argument(
        "--checkpoints", type=Path, nargs="+", default=[], metavar="FILE", help="more checkpoints, in YAML"
    )


# -- run ------------------------------------------------------------------------------------------------------------


def _add_run(commands: Any) -> None:
    parser = _command(commands, "run", _run, "Evaluate checkpoints on tasks; leaves results, tables and a leaderboard.")
    what = parser.add_argument_group("what to run")
    what.add_argument("--task", nargs="+", required=True, metavar="TASK", help="see `list tasks`")
    what.add_argument("--protocol", required=True, help="see `list protocols`")
    what.add_argument(
        "--checkpoint",
        nargs="+",
        default=[],
        metavar="NAME",
        help="see `list checkpoints`; or timm:NAME for any timm model",
    )
    what.add_argument("--suite", help="a named set of checkpoints, or `all` (default without --checkpoint: offline)")
    what.add_argument("--seed", type=_seed, nargs="+", default=[0], metavar="N", help="one run for each (default: 0)")
    what.add_argument("--image-size", type=_positive, metavar="N", help="another input size than the checkpoint's")
    _add_catalogue(what)  # type: ignore[arg-type]
    data = parser.add_argument_group("on which data")
    data.add_argument("--data-dir", type=Path, metavar="DIR", help="datasets (default: $SSL4EO_BENCH_DATA or ./data)")
    data.add_argument(
        "--sample", action="store_true", help="the embedded sample: needs no data, enters no official table"
    )
    data.add_argument("--partial", action="store_true", help="only the samples that are there; enters no table")
    data.add_argument("--limit", type=_positive, metavar="N", help="at most N samples of each split; enters no table")
    how = parser.add_argument_group("how")
    how.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, … (default: auto)")
    how.add_argument(
        "--full-path", action="store_true", help="also solve the penalties behind the stop; moves no number"
    )
    how.add_argument("--force", action="store_true", help="run again what is in the results already")
    how.add_argument("--dry-run", action="store_true", help="show what would run, and how bands become inputs")
    _add_results(how)  # type: ignore[arg-type]
    _add_cache_dir(how)  # type: ignore[arg-type]
    how.add_argument("--json", action="store_true", help="print results as JSON")
    how.add_argument("--quiet", action="store_true", help="print no progress")


def _run(arguments: Arguments) -> int:
    from ssl4eo_bench.engine import execute
    from ssl4eo_bench.plan import Request, plan
    from ssl4eo_bench.results.files import check_writable
    from ssl4eo_bench.results.tables import write_leaderboard, write_tables
    from ssl4eo_bench.storage import cache_root, data_root

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


def _show_plan(jobs: "Sequence[Job]", arguments: Arguments) -> int:
    from ssl4eo_bench.console import line, show_mapping
    from ssl4eo_bench.engine import stored

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


def _show_outcomes(outcomes: "Sequence[Outcome]", generated: Sequence[Path], results: Path) -> None:
    from ssl4eo_bench.console import line, show_metrics

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


def _outcome_json(outcome: "Outcome", results: Path) -> dict[str, Any]:
    described = {"status": outcome.status, "file": str(results / outcome.job.spec.path)}
    if outcome.error:
        return described | {"error": str(outcome.error)}
    assert outcome.result is not None  # it is there unless there is an error
    return described | {"result": outcome.result.model_dump(mode="json", exclude_none=True)}


def _exit_code(outcomes: "Sequence[Outcome]") -> int:
    failed = sum(outcome.status == "failed" for outcome in outcomes)
    return 0 if not failed else 2 if failed == len(outcomes) else 1


# -- list, show -----------------------------------------------------------------------------------------------------


def _add_list(commands: Any) -> None:
    parser = _command(commands, "list", _list, "List tasks, checkpoints, protocols or runs.")
    parser.add_argument("what", choices=["tasks", "checkpoints", "protocols", "runs"])
    parser.add_argument("--json", action="store_true", help="print as JSON")
    _add_catalogue(parser)
    _add_results(parser)


def _list(arguments: Arguments) -> int:
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
        from ssl4eo_bench.console import table

        table("", list(rows[0]), [list(row.values()) for row in rows])
    return 0


def _tasks() -> list[dict[str, Any]]:
    from ssl4eo_bench.spec.catalogue import tasks

    return [
        {
            "task": task.name,
            "version": task.version,
            "kind": task.kind,
            "classes": len(task.classes),
            "bands": f"{len(task.bands)} in {task.bands[0].unit}",
            "train/val/test": "/".join(str(split.count) for split in task.splits.values()),
            "main metric": task.main_metric,
            "title": task.title,
        }
        for task in tasks().values()
    ]


def _checkpoints(files: Sequence[Path]) -> list[dict[str, Any]]:
    from ssl4eo_bench.spec.catalogue import load_catalogue

    known = load_catalogue(*files)
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
    from ssl4eo_bench.spec.protocols import PROTOCOLS

    return [
        {
            "protocol": name,
            "version": protocol.version,
            "what": (type(protocol).__doc__ or "").splitlines()[0],
            "settings": ", ".join(f"{k}={v:g}" for k, v in protocol.model_dump(exclude={"name", "version"}).items()),
        }
        for name, protocol in PROTOCOLS.items()
    ]


def _runs(results: Path) -> list[dict[str, Any]]:
    from ssl4eo_bench.results.files import read_results
    from ssl4eo_bench.spec.tasks import MAIN_METRIC

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


def _add_show(commands: Any) -> None:
    parser = _command(commands, "show", _show, "Show one result: metrics, classes, what was chosen, inputs, origin.")
    parser.add_argument("run", help="a result file, its place below runs/, or the start of its digest")
    parser.add_argument("--json", action="store_true", help="print the file's content")
    _add_results(parser)


def _show(arguments: Arguments) -> int:
    from ssl4eo_bench.results.files import find_result

    result = find_result(arguments.results, arguments.run)
    if arguments.json:
        print(json.dumps(result.model_dump(mode="json", exclude_none=True), indent=1))
    else:
        from ssl4eo_bench.console import show_result

        show_result(result)
    return 0


# -- tables, leaderboard --------------------------------------------------------------------------------------------


def _add_generated(commands: Any) -> None:
    _add_results(_command(commands, "tables", _tables, "Write tables/ anew from the result files."))
    parser = _command(
        commands, "leaderboard", _leaderboard, "Write leaderboard.csv and .md anew from the result files."
    )
    _add_results(parser)


def _tables(arguments: Arguments) -> int:
    from ssl4eo_bench.results.files import check_writable
    from ssl4eo_bench.results.tables import write_tables

    check_writable(arguments.results)
    for file in write_tables(arguments.results):
        print(file)
    return 0


def _leaderboard(arguments: Arguments) -> int:
    from ssl4eo_bench.console import line
    from ssl4eo_bench.results.files import check_writable
    from ssl4eo_bench.results.tables import write_leaderboard

    check_writable(arguments.results)
    for file in write_leaderboard(arguments.results):
        print(file)
        if file.suffix == ".md":
            line(file.read_text(encoding="utf-8"))
    return 0


# -- data, cache ----------------------------------------------------------------------------------------------------


def _add_data(commands: Any) -> None:
    parser = commands.add_parser("data", help="Datasets on disk.", description="Datasets on disk.")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    sample = _command(actions, "sample", _data_sample, "Write the embedded sample of a task, in its official layout.")
    sample.add_argument("task", help="see `list tasks`")
    sample.add_argument("--out", type=Path, metavar="DIR", help="a new folder (default: ./<task>-sample)")
    sample.add_argument("--quiet", action="store_true", help="print no progress")


def _data_sample(arguments: Arguments) -> int:
    from ssl4eo_bench.data.samples import write_sample
    from ssl4eo_bench.errors import DataError
    from ssl4eo_bench.spec.catalogue import task

    chosen = task(arguments.task)
    folder: Path = arguments.out or Path(f"{chosen.name}-sample")
    if folder.exists():
        raise DataError(f"{folder} exists; name a new folder with --out.")
    try:
        write_sample(chosen, folder, _progress(quiet=arguments.quiet))
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror}); name another folder with --out.") from error
    print(folder)
    return 0


def _add_cache(commands: Any) -> None:
    parser = commands.add_parser("cache", help="Cached features.", description="Cached features.")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = _command(actions, "list", _cache_list, "List cached features.")
    listing.add_argument("--json", action="store_true", help="print as JSON")
    verify = _command(actions, "verify", _cache_verify, "Check every shard against its checksum; exits 1 on damage.")
    prune = _command(actions, "prune", _cache_prune, "Delete cached features that are of no use any more.")
    prune.add_argument("--checkpoint", metavar="NAME", help="those of this checkpoint instead")
    prune.add_argument("--all", action="store_true", help="all of them instead")
    for action in (listing, verify, prune):
        _add_cache_dir(action)


def _cache_list(arguments: Arguments) -> int:
    from ssl4eo_bench.backbones.cache import FeatureCache
    from ssl4eo_bench.console import table
    from ssl4eo_bench.storage import cache_root

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


def _cache_verify(arguments: Arguments) -> int:
    from ssl4eo_bench.backbones.cache import FeatureCache
    from ssl4eo_bench.storage import cache_root

    cache = FeatureCache(cache_root(arguments.cache_dir))
    entries = cache.entries()
    damaged = [(folder / name) for manifest, folder in entries for name in cache.damaged(manifest, folder)]
    for file in damaged:
        print(f"damaged: {file}")
    print(
        f"{len(entries)} entries, {len(damaged)} damaged shards; damaged ones are computed again when they are needed"
    )
    return 1 if damaged else 0


def _cache_prune(arguments: Arguments) -> int:
    from ssl4eo_bench.backbones.cache import FeatureCache
    from ssl4eo_bench.storage import cache_root

    freed = FeatureCache(cache_root(arguments.cache_dir)).prune(
        checkpoint=arguments.checkpoint, everything=arguments.all
    )
    print(f"freed {freed / 1e6:.1f} MB")
    return 0


def _progress(*, quiet: bool) -> "Progress":
    if quiet:
        from ssl4eo_bench.progress import Silent

        return Silent()
    from ssl4eo_bench.console import ConsoleProgress

    return ConsoleProgress()
