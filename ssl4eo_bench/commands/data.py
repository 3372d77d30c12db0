"""Datasets on disk."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssl4eo_bench.console import line, progress_for, table
from ssl4eo_bench.data.checks import Status, survey
from ssl4eo_bench.data.checks import verify as verify_task
from ssl4eo_bench.data.packing import pack
from ssl4eo_bench.data.packs import PackedSource, pack_folder
from ssl4eo_bench.data.samples import write_sample
from ssl4eo_bench.data.splits import open_splits
from ssl4eo_bench.errors import DataError
from ssl4eo_bench.spec import catalogue
from ssl4eo_bench.spec.downloads import RemoteFile
from ssl4eo_bench.spec.tasks import SPLITS
from ssl4eo_bench.storage import data_root, write_text

Arguments = argparse.Namespace

SHOWN_FAULTS = 20
"""Faults that are printed; a report holds all of them."""


def sample(arguments: Arguments) -> int:
    """Write the sample of a task."""
    chosen = catalogue.task(arguments.task)
    folder: Path = arguments.out or Path(f"{chosen.name}-sample")
    if folder.exists():
        raise DataError(f"{folder} exists; name a new folder with --out.")
    try:
        write_sample(chosen, folder, progress_for(quiet=arguments.quiet))
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror}); name another folder with --out.") from error
    print(folder)
    return 0


def status(arguments: Arguments) -> int:
    """Say what is there of each task."""
    data_dir = data_root(arguments.data_dir)
    chosen = [catalogue.task(name) for name in arguments.task] or list(catalogue.tasks().values())
    found = {task.name: survey(task, data_dir) for task in chosen}
    if arguments.json:
        print(json.dumps({name: _status_json(status) for name, status in found.items()}, indent=1))
        return 0
    rows = [
        (
            name,
            *(_counts(status.present[split], status.listed[split]) for split in SPLITS),
            "yes" if status.packed else "",
            ", ".join(file.name for file in status.missing),
        )
        for name, status in found.items()
    ]
    table("", ["task", *SPLITS, "packed", "published files not there"], rows, right=SPLITS)
    for name, status in found.items():
        if status.problem and arguments.task:
            line(f"{name}: {status.problem}")
        if status.missing and arguments.task:
            line(f"{name}: {_needed(status.missing)}; {status.free / 1e9:,.1f} GB are free")
    return 0


def _status_json(status: Status) -> dict[str, Any]:
    return {
        "present": status.present,
        "listed": status.listed,
        "missing": [file.name for file in status.missing],
        "packed": status.packed,
        "problem": status.problem,
        "free": status.free,
    }


def _counts(present: int | None, listed: int | None) -> str:
    return f"{'–' if present is None else f'{present:,}'} of {'?' if listed is None else f'{listed:,}'}"


def _needed(missing: Sequence[RemoteFile]) -> str:
    packed = sum(file.size or file.about_bytes or 0 for file in missing)
    unpacked = sum(file.unpacked_bytes or 0 for file in missing)
    more = f", and up to {unpacked / 1e9:,.1f} GB to unpack them" if unpacked else ""
    return f"about {packed / 1e9:,.2f} GB are missing{more}"


def verify(arguments: Arguments) -> int:
    """Check lists, published files, every sample and the pack; exit 1 if anything is wrong."""
    data_dir = data_root(arguments.data_dir)
    progress = progress_for(quiet=arguments.quiet)
    faults = 0
    report = []
    for task in [catalogue.task(name) for name in arguments.task]:
        found = verify_task(task, data_dir, progress)
        faults += len(found)
        report += [{"task": task.name, "where": fault.where, "what": fault.what} for fault in found]
        for fault in found[:SHOWN_FAULTS]:
            line(f"{task.name}: {fault.where}: {fault.what}")
        if len(found) > SHOWN_FAULTS:
            line(f"{task.name}: and {len(found) - SHOWN_FAULTS:,} more")
        line(f"{task.name}: {'whole' if not found else f'{len(found):,} faults'}")
    if arguments.report:
        write_text(arguments.report, json.dumps(report, indent=1) + "\n")
    return 1 if faults else 0


def prepare(arguments: Arguments) -> int:
    """Pack tasks into large arrays, which read faster than many small files."""
    data_dir = data_root(arguments.data_dir)
    progress = progress_for(quiet=arguments.quiet)
    for task in [catalogue.task(name) for name in arguments.task]:
        folder = pack_folder(task, data_dir)
        samples = open_splits(task, data_dir)
        if isinstance(samples["train"].source, PackedSource):
            line(f"{folder} is complete already")
            continue
        pack(task, samples, folder, progress)
        line(str(folder))
    return 0
