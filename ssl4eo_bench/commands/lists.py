"""What there is to choose from, and what was run."""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ssl4eo_bench.console import table
from ssl4eo_bench.results.files import read_results
from ssl4eo_bench.spec import catalogue
from ssl4eo_bench.spec.bands import SENSORS
from ssl4eo_bench.spec.protocols import PROTOCOLS
from ssl4eo_bench.spec.tasks import MAIN_METRIC

Arguments = argparse.Namespace

SPARE = (
    *("licence", "suites", "pretraining", "feature", "arch"),
    *("version", "kind", "main metric", "classes", "bands"),
    *("digest", "started", "marks"),
)
"""Columns that a narrow terminal can do without."""


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
        columns = list(rows[0])
        table("", columns, [list(row.values()) for row in rows], spare=[name for name in SPARE if name in columns])
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
            "bands": _bands(entry.bands),
            "size": entry.image_size,
            "feature": entry.feature,
            "suites": " ".join(name for name, members in known.suites.items() if entry.name in members),
            "licence": entry.licence,
        }
        for entry in known.checkpoints.values()
    ]


def _bands(bands: Sequence[str]) -> str:
    if bands == "task":
        return "those of the task"
    if bands in SENSORS.values():
        sensor = next(name for name, every in SENSORS.items() if every == bands)
        return f"all {len(bands)} of {sensor}"
    return " ".join(bands)


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
                "test %": f"{100 * result.metrics['test'][main].value:.2f}",
                "started": result.provenance.started,
                "digest": result.digest[:12],
            }
        )
    return rows
