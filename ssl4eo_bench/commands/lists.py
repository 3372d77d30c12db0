"""What there is to choose from, and what was run."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.bands import sensor_of
from ssl4eo_bench.config.catalogue import Catalogue
from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.protocols import PROTOCOLS, RECIPES, Linear
from ssl4eo_bench.config.recipe import Recipe
from ssl4eo_bench.config.task import MAIN_METRIC
from ssl4eo_bench.config.weights import FileWeights, HubWeights, PackagedWeights, RandomWeights, Weights
from ssl4eo_bench.console import table
from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.files.storage import cache_root

Arguments = argparse.Namespace
Rows = list[dict[str, Any]]

SPARE = (
    *("arch", "licence", "size", "feature", "suites", "data", "count"),
    *("version", "kind", "main metric", "classes", "bands"),
    *("digest", "started", "metric", "marks"),
)
"""Columns that a narrow terminal can do without."""

FILTERS = {
    "checkpoints": ("method", "arch", "data", "sensor", "suite", "here"),
    "runs": ("task", "protocol", "checkpoint", "seed", "fraction"),
}
"""Options that choose among what is listed."""


def list_(arguments: Arguments) -> int:
    """List tasks, checkpoints, suites, protocols or runs."""
    used = {name: value for names in FILTERS.values() for name in names if (value := getattr(arguments, name))}
    for kind, names in FILTERS.items():
        if kind != arguments.what and (foreign := [f"--{name}" for name in names if name in used]):
            raise SpecError(
                f"{' and '.join(foreign)} can choose among {kind} only; leave it out of `list {arguments.what}`."
            )
    listings: dict[str, Callable[[], Rows]] = {
        "tasks": _tasks,
        "checkpoints": lambda: _checkpoints(arguments),
        "suites": lambda: _suites(arguments.checkpoints),
        "protocols": _protocols,
        "runs": lambda: _runs(arguments),
    }
    rows = listings[arguments.what]()
    if used and not rows:
        options = " ".join(_written(name, value) for name, value in used.items())
        what = arguments.what
        print(f"no {what[:-1]} fits {options}; `ssl4eo-bench list {what}` shows all of them", file=sys.stderr)
    if arguments.json:
        print(json.dumps(rows, indent=1))
    elif rows:
        columns = [name for name in rows[0] if any(row[name] != "" for row in rows)]
        table(
            "",
            columns,
            [[_cell(row[name]) for name in columns] for row in rows],
            spare=[name for name in SPARE if name in columns],
            prose=["checkpoint"] if arguments.what == "runs" else [],
        )
    return 0


def _written(name: str, value: object) -> str:
    """An option as it was given."""
    values = value if isinstance(value, list) else [value]
    return " ".join(
        [f"--{name}", *(f"{one:g}" if isinstance(one, float) else str(one) for one in values if one is not True)]
    )


def _cell(value: object) -> object:
    return "\n".join(value) if isinstance(value, tuple) else value


def _tasks() -> Rows:
    for error in catalogue.broken_modules().values():
        print(f"left out: {error}", file=sys.stderr)
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


def _checkpoints(arguments: Arguments) -> Rows:
    known, cache_dir = catalogue.load_catalogue(*arguments.checkpoints), cache_root(arguments.cache_dir)
    members = known.checkpoints if arguments.suite is None else known.suite(arguments.suite)
    from ssl4eo_bench.models.weight_files import is_here  # brings what downloads: not for the other lists

    entries = [entry for entry in known.checkpoints.values() if entry.name in members and _is_chosen(entry, arguments)]
    rows = []
    for entry in entries:
        here = is_here(entry.weights, cache_dir)
        if here or not arguments.here:
            rows.append((_all_of if arguments.json else _shown)(entry, _suites_of(entry, known), here))
    return rows


def _is_chosen(entry: Checkpoint, arguments: Arguments) -> bool:
    pretraining = entry.pretraining
    texts = (
        (arguments.method, pretraining.method if pretraining else ""),
        (arguments.arch, entry.arch),
        (arguments.data, pretraining.data if pretraining else ""),
    )
    if not all(wanted.casefold() in text.casefold() for wanted, text in texts if wanted):
        return False
    return arguments.sensor is None or arguments.sensor in _sensors(entry)


def _sensors(entry: Checkpoint) -> set[str]:
    """`S1`, `S2`; both for statistics of whatever bands a task has."""
    if entry.bands == "task":
        return {"S2"} if entry.weights else {"S1", "S2"}
    return {_short(sensor_of(band)) for band in entry.bands}


def _short(sensor: str) -> str:
    return sensor.replace("entinel-", "")


def _suites_of(entry: Checkpoint, known: Catalogue) -> list[str]:
    return [name for name, members in known.suites.items() if entry.name in members]


def _shown(entry: Checkpoint, suites: Sequence[str], here: bool) -> dict[str, Any]:
    return {
        "checkpoint": entry.name,
        "method": entry.pretraining.method if entry.pretraining else "",
        "arch": entry.arch,
        "bands": _bands(entry.bands),
        "data": entry.pretraining.data if entry.pretraining else "",
        "size": entry.image_size,
        "feature": entry.feature,
        "licence": entry.licence,
        "suites": " ".join(suites),
        "here": "yes" if here else "no",
    }


def _all_of(entry: Checkpoint, suites: Sequence[str], here: bool) -> dict[str, Any]:
    fields = entry.model_dump(mode="json", exclude={"name"})
    return {"checkpoint": entry.name} | fields | {"source": _source(entry.weights), "suites": suites, "here": here}


def _source(weights: Weights | None) -> str:
    match weights:
        case None:
            return ""
        case RandomWeights():
            return "random"
        case PackagedWeights():
            return f"{weights.package}/{weights.file}"
        case FileWeights():
            return weights.path
        case HubWeights():
            return f"timm:{weights.timm}"
        case _:
            return weights.source


def _bands(bands: Sequence[str]) -> str:
    if bands == "task":
        return "of the task"
    return " ".join(bands) if len(bands) <= 3 else f"{len(bands)} of {_short(sensor_of(bands[0]))}"


def _suites(files: Sequence[Path]) -> Rows:
    known = catalogue.load_catalogue(*files)
    return [{"suite": name, "count": len(members), "members": members} for name, members in known.suites.items()]


def _protocols() -> Rows:
    return [
        {
            "protocol": name,
            "version": protocol.version,
            "what": (type(protocol).__doc__ or "").splitlines()[0],
            "settings": ", ".join(f"{setting}={_setting(value)}" for setting, value in settings.items()),
        }
        for name, protocol in PROTOCOLS.items()
        for all_ in (protocol.for_kind("segmentation") if isinstance(protocol, Linear) else protocol,)
        for settings in (all_.model_dump(exclude={"name", "version"}),)
    ] + [
        {
            "protocol": name,
            "version": Recipe.model_fields["version"].default,
            "what": (Recipe.__doc__ or "").splitlines()[0],
            "settings": "those of the published code for a task and a pretraining method; see docs/protocols.md",
        }
        for name in RECIPES
    ]


def _setting(value: float | tuple[float, ...]) -> str:
    return " ".join(f"{one:g}" for one in (value if isinstance(value, tuple) else (value,)))


def _runs(arguments: Arguments) -> Rows:
    from ssl4eo_bench.results.files import RunFilter, read_results  # takes a while: not for the other lists

    wanted = RunFilter(
        tasks=arguments.task,
        protocols=arguments.protocol,
        checkpoints=arguments.checkpoint,
        seeds=arguments.seed,
        fractions=arguments.fraction,
    )
    rows = []
    for result in filter(wanted.matches, read_results(arguments.results)):
        spec = result.spec
        main = MAIN_METRIC[spec.task.kind]
        rows.append(
            {
                "task": spec.task_slug,
                "protocol": spec.protocol_slug,
                "checkpoint": spec.checkpoint.name,
                "fraction": spec.fraction or 1.0,
                "seed": spec.seed,
                "marks": " ".join((*spec.marks, *(("uncommitted",) if result.provenance.dirty else ()))),
                "metric": main,
                "test %": f"{100 * result.metrics['test'][main].value:.2f}",
                "started": result.provenance.started,
                "digest": result.digest[:12],
            }
        )
    order = ("task", "protocol", "checkpoint", "fraction", "seed", "marks")
    return sorted(rows, key=lambda row: tuple(row[name] for name in order))
