"""What is shown of runs: what is planned, what became of it, and everything about one result."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.filesize import decimal

from ssl4eo_bench.cli.display import print_json, table
from ssl4eo_bench.config.run_spec import RunSpec
from ssl4eo_bench.config.task import SHARED_METRICS, metric_label
from ssl4eo_bench.config.weights import EmbeddingWeights
from ssl4eo_bench.errors import BenchError, JobError, shortlist
from ssl4eo_bench.executors.outcomes import Execution, Outcome, looked_up
from ssl4eo_bench.files.places import picture_file
from ssl4eo_bench.plan import Job
from ssl4eo_bench.results.files import RunResult
from ssl4eo_bench.results.markdown import cost_text

if TYPE_CHECKING:
    from ssl4eo_bench.executors.forecast import Forecast

SPARKS = "▁▂▃▄▅▆▇█"


def show_plan(jobs: Sequence[Job], how: Execution, *, json: bool) -> None:
    """Print what would run and what is there already, the inputs of each checkpoint, and what all of them will take."""
    from ssl4eo_bench.executors.forecast import forecasts  # imports torch

    there = [outcome.status if outcome else None for outcome in (looked_up(job, how) for job in jobs)]
    wanted = [job for job, status in zip(jobs, there, strict=True) if not status]
    expected = dict(zip((job.spec.path for job in wanted), forecasts(wanted, how), strict=True))
    if json:
        print_json(
            [
                job.spec.model_dump(mode="json")
                | {"digest": job.spec.digest, "status": status or "to do"}
                | ({} if status else {"forecast": asdict(expected[job.spec.path])})
                for job, status in zip(jobs, there, strict=True)
            ]
        )
        return
    shown = None
    said = {"skipped": "is there, would be skipped", "failed": "cannot run: its place is taken", None: "would run"}
    for job, status in zip(jobs, there, strict=True):
        spec = job.spec
        counts = ", ".join(f"{len(samples.ids):,} {split}" for split, samples in job.samples.items())
        print(f"{spec.task_slug} · {spec.protocol_slug} · {spec.label}")
        print(f"  {said[status]}: {how.results / spec.path}\n  digest {spec.digest}\n  samples {counts}")
        if shown != (shown := (spec.task_slug, spec.checkpoint.name)):  # other runs of it have the same input
            show_input(spec)
    _show_forecast(list(expected.values()), len(jobs))


def _show_forecast(found: Sequence["Forecast"], jobs: int) -> None:
    """Print what all jobs that have no result will take."""
    print(f"{jobs:,} runs, {jobs - len(found):,} of them there already or not possible; {len(found):,} to do")
    if found:
        images, disk = sum(one.images for one in found), sum(one.disk for one in found)
        print(
            f"  about {_duration(sum(one.seconds for one in found))} on this machine, {decimal(disk)} of disk, and "
            f"at most {decimal(max(one.memory for one in found))} of memory; {images:,} images go through a backbone"
        )


def _duration(seconds: float) -> str:
    """A time to one digit that counts, such as `3 min`."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(1, seconds):.0f} s"


def show_left_out(left_out: dict[str, BenchError]) -> int:
    """Print what was asked for and has no run; gives the exit code that goes with it."""
    for what, reason in left_out.items():
        print(reason.told(f"{what} was left out of all runs"), file=sys.stderr)
    return 1 if left_out else 0


def show_outcomes(outcomes: Sequence[Outcome], results: Path, cache_dir: Path, *, json: bool) -> None:
    """Print the metrics and the places of results, and on stderr what has failed."""
    if json:
        print_json([_outcome_json(outcome, results) for outcome in outcomes])
        return
    there = [(outcome.result, outcome.status) for outcome in outcomes if outcome.result]
    _show_metrics(there)
    warned: dict[str, list[str]] = {}
    for result, _ in there:
        for warning in result.warnings:
            warned.setdefault(warning, []).append(result.spec.checkpoint.name)
    for warning, names in warned.items():
        print(f"warning      {shortlist(dict.fromkeys(names))}: {warning}")
    if skipped := [status for _, status in there if status == "skipped"]:
        print(
            f"skipped      {len(skipped)} of {len(there)} runs: their results are in {results} already; --force runs "
            "them again, --results DIR keeps results elsewhere"
        )
    for result, _ in there:
        print(f"result       {results / result.spec.path}")
        if (picture := picture_file(cache_dir, result.digest)).is_file():
            print(f"picture      {picture}")
    _show_kept_out([result for result, _ in there])
    for outcome in outcomes:
        if error := outcome.error:
            print(error.told(outcome.job.name), file=sys.stderr)


def _show_kept_out(results: Sequence[RunResult]) -> None:
    """Print which runs enter no table, and why; those on the embedded sample have tables of their own."""
    reasons = [_reasons(result) for result in results]
    if any(reasons):
        why = ", ".join(sorted(set().union(*reasons)))
        print(f"kept out     {sum(map(bool, reasons))} of {len(results)} runs enter no table: {why}")


def _reasons(result: RunResult) -> set[str]:
    """What keeps a result out of tables, also those of the sample."""
    uncommitted = {"uncommitted changes of the code"} if result.provenance.dirty and not result.spec.sample else set()
    return uncommitted | set(result.spec.marks) - {"sample"}


def _outcome_json(outcome: Outcome, results: Path) -> dict[str, Any]:
    described: dict[str, Any] = {"status": outcome.status, "file": str(results / outcome.job.spec.path)}
    if outcome.result:
        described["result"] = outcome.result.content
    if outcome.error:
        described["error"] = str(outcome.error)
    if isinstance(outcome.error, JobError):
        described["traceback"] = outcome.error.traceback
    return described


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """0 if all runs have a result, 2 if none of them can be done as it was asked for, 1 otherwise."""
    errors = [outcome.error for outcome in outcomes if outcome.error]
    if not errors:
        return 0
    cannot_be_done = len(errors) == len(outcomes) and not any(isinstance(error, JobError) for error in errors)
    return 2 if cannot_be_done else 1


def _show_metrics(results: Sequence[tuple[RunResult, str]]) -> None:
    """Print the test metrics of results, each with its status; one table for each task and protocol."""
    by_task: dict[str, list[tuple[RunResult, str]]] = {}
    for result, status in results:
        by_task.setdefault(f"{result.spec.task_slug} · {result.spec.protocol_slug}", []).append((result, status))
    for name, members in by_task.items():
        main = members[0][0].main_metric
        others = [metric for metric in SHARED_METRICS if metric != main]
        fractions = ["fraction"] if any(result.spec.fraction for result, _ in members) else []
        names = ("rate", "epoch") if any(result.selection.rate for result, _ in members) else ("C",)
        chosen = [name for name in names if any(getattr(result.selection, name) for result, _ in members)]
        columns = ["checkpoint", "seed", *fractions, *map(metric_label, (main, *others)), *chosen, "status"]
        rows = []
        for result, status in members:
            spec, test = result.spec, result.metrics["test"]
            fraction = [f"{spec.fraction or 1:g}"] if fractions else []
            values = [test[main].percent, *(f"{100 * test[metric].value:.2f}" for metric in others)]
            found = [_short(getattr(result.selection, name)) for name in chosen]
            rows.append((spec.checkpoint.name, spec.seed, *fraction, *values, *found, ", ".join((status, *spec.marks))))
        title = f"{name}: test in percent, {metric_label(main)} with 95 % interval"
        spare = [*chosen, "fraction", *map(metric_label, SHARED_METRICS[::-1])]
        table(title, columns, rows, right=columns[1:-1], spare=spare)


def _short(value: float | None) -> str:
    """A number to two digits that count, such as 0.18 or 100."""
    return "" if value is None else f"{float(format(value, '.2g')):g}"


def show_result(result: RunResult) -> None:
    """Print everything about a result that a person would want to read."""
    spec, test, val = result.spec, result.metrics["test"], result.metrics["val"]
    print(f"{spec.task_slug} · {spec.protocol_slug} · {spec.label}")
    print(f"digest {result.digest}")
    if result.subset:
        print(f"fitted on {result.subset.count:,} of {result.counts['train']:,} training samples")
    if spec.marks:
        print(f"not official: {', '.join(spec.marks)}")
    names = sorted(test, key=lambda name: (name != result.main_metric, name))
    rows = [(metric_label(name), test[name].percent, val[name].percent if name in val else "") for name in names]
    table("metrics in percent, 95 % intervals", ["metric", "test", "val"], rows, right=["test", "val"])
    _show_classes(result)
    _show_selection(result)
    show_input(spec)
    for warning in result.warnings:
        print(f"warning: {warning}")
    made = result.provenance
    print(f"made {made.started} from commit {made.commit or '–'}{' (changed)' if made.dirty else ''} on {made.device}")
    print(f"  runner {', '.join(made.runners)}; " + ", ".join(f"{k} {v}" for k, v in made.versions.items()))
    if cost := cost_text(made.cost, result.images_per_second):
        print(f"  backbone {cost}")
    print("  seconds: " + ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in made.seconds.items()))


def _show_classes(result: RunResult) -> None:
    maps = result.spec.task.kind == "segmentation"
    columns = ["class", "pixels" if maps else "samples", "precision", "recall", "F1", "AP", *(["IoU"] if maps else [])]
    rows = []
    for c in result.classes:
        values = (c.precision, c.recall, c.f1, c.average_precision, *((c.iou,) if maps else ()))
        rows.append((c.name, c.support, *map(_percent, values)))
    table("test by class, in percent", columns, rows, right=columns[1:])


def _show_selection(result: RunResult) -> None:
    """Print what was chosen on val, and how val went over epochs and penalties."""
    chosen = result.selection
    if history := chosen.history:
        print(f"chosen on val by {metric_label(chosen.metric)}: rate {chosen.rate:g}, epoch {chosen.epoch}")
        for rate in dict.fromkeys(epoch.rate for epoch in history):
            print(f"  val over epochs at {rate:g}: {_sparkline([one.val for one in history if one.rate == rate])}")
    if found := result.reference:
        print(f"as the published code would report {metric_label(chosen.metric)} on test, of the same training:")
        print(f"  mean over batches of {found.batch}: {_percent(found.batch_averaged)}")
        print(f"  at the epoch that is best on test, {found.best_test_epoch}: {_percent(found.best_test)}")
        print(f"  both: {_percent(found.best_test_batch_averaged)}")
    if path := chosen.path:
        start = "; the head it started from" if history else ""
        print(f"chosen on val by {metric_label(chosen.metric)}: C = {chosen.C:.3g}{start}")
        print(f"  val over C from {path[0].C:.0e} to {path[-1].C:.0e}: {_sparkline([point.val for point in path])}")


def show_input(spec: RunSpec) -> None:
    """Print how the task's bands become the backbone's input, or the files that embeddings are read from."""
    inputs, weights = spec.inputs, spec.checkpoint.weights
    if isinstance(weights, EmbeddingWeights):
        print(f"  vectors from {', '.join(file.path for file in weights.embeddings)}")
        return
    size = inputs.image_size
    title = "input, bands as stored" if size == "native" else f"input {size} × {size}, {inputs.resize}"
    columns = ["channel", "band", "from", "value"]
    rows = [(number, c.band, c.source or "–", c.formula) for number, c in enumerate(inputs.channels)]
    table(title, columns, rows, right=["channel"])


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _sparkline(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    step = (high - low) / (len(SPARKS) - 1) or 1.0
    return "".join(SPARKS[round((value - low) / step)] for value in values)
