"""Datasets on disk."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.task import SPLITS
from ssl4eo_bench.console import line, table
from ssl4eo_bench.data.checks import Status, survey
from ssl4eo_bench.data.checks import verify as verify_task
from ssl4eo_bench.data.packing import damaged_files, pack
from ssl4eo_bench.data.packs import is_complete, pack_folder
from ssl4eo_bench.data.releases import PublishedFile, make_at_once, make_files, published_files, require_space
from ssl4eo_bench.data.sample_dataset import write_sample
from ssl4eo_bench.data.splits import open_splits
from ssl4eo_bench.errors import DataError, DownloadError
from ssl4eo_bench.files.atomic import write_text
from ssl4eo_bench.files.places import data_root, free_bytes

Arguments = argparse.Namespace

ASK_ABOVE = 1_000_000_000
"""Bytes that are fetched without asking."""

SHOWN_FAULTS = 20
"""Faults that are printed; a report holds all of them."""


def sample(arguments: Arguments) -> int:
    """Write the sample of a task."""
    chosen = catalogue.task(arguments.task)
    folder: Path = arguments.out or Path(f"{chosen.name}-sample")
    if folder.exists():
        raise DataError(f"{folder} exists; name a new folder with --out.")
    try:
        write_sample(chosen, folder)
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror}); name another folder with --out.") from error
    print(folder)
    return 0


def download(arguments: Arguments) -> int:
    """Fetch the published files of tasks."""
    data_dir = data_root(arguments.data_dir)
    items = published_files([catalogue.task(name) for name in arguments.task], data_dir)
    _show_files(items, data_dir)
    made = make_at_once(items)
    for item in made:
        line(f"{item.path} is made")
    todo = [item for item in (item.again() for item in items) if item.todo in ("fetch", "unpack", "make")]
    try:
        require_space(todo, data_dir)
        if arguments.yes or _agreed(sum(item.bytes_to_fetch for item in todo)):
            _get_files(todo)
    except DownloadError as error:
        if not made:
            raise
        print(f"error: {error}", file=sys.stderr)
    missing = [item for item in (item.again() for item in items) if item.todo != "nothing"]
    for item in missing:
        if item.todo == "by hand":
            line(item.instructions)
    if missing:
        print(f"still missing: {', '.join(str(item.path) for item in missing)}", file=sys.stderr)
    return 1 if missing else 0


def _show_files(items: Sequence[PublishedFile], data_dir: Path) -> None:
    verbs = {"nothing": "", "unpack": "unpack", "fetch": "fetch", "make": "make", "by hand": "put there by hand"}
    rows = []
    for item in items:
        todo = "fetch, unpack" if item.todo == "fetch" and item.file.unpack else verbs[item.todo]
        if item.file.made and item.todo == "make":
            todo = f"make from {item.file.made.what}"
        rows.append((item.path, item.size, item.state, todo))
    table("", ["file", "size", "on disk", "to do"], rows, right=["size"])
    line(_amounts(items, free_bytes(data_dir)))


def _amounts(items: Sequence[PublishedFile], free: int) -> str:
    fetching, writing = sum(item.bytes_to_fetch for item in items), sum(item.bytes_to_write for item in items)
    others = f"{_made(items)}{_by_hand(items)}"
    return f"to fetch {decimal(fetching)}, to write {decimal(writing)}, free {decimal(free)}{others}"


def _made(items: Sequence[PublishedFile]) -> str:
    """How many are made from other files."""
    made = [item.file.made.what for item in items if item.file.made and item.todo == "make"]
    return f"; {len(made)} made from {', '.join(dict.fromkeys(made))}" if made else ""


def _by_hand(items: Sequence[PublishedFile]) -> str:
    """How much is to be had by hand only."""
    sizes = [item.file.size or item.file.about_bytes or 0 for item in items if item.todo == "by hand"]
    return f"; {len(sizes)} by hand, about {decimal(sum(sizes))}" if sizes else ""


def _agreed(fetching: int) -> bool:
    """Whether so many bytes may be fetched: asks if they are many.

    Raises:
        DownloadError: if there is nobody to ask.
    """
    if fetching <= ASK_ABOVE:
        return True
    if not sys.stdin.isatty():
        raise DownloadError(f"{decimal(fetching)} are to be fetched and nobody is there to agree; add --yes.")
    print(f"Fetch {decimal(fetching)}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _get_files(items: Sequence[PublishedFile]) -> None:
    for item in items:
        try:
            item.get()
        except DataError as error:  # the other files can be had all the same
            print(f"error: {error}", file=sys.stderr)


def status(arguments: Arguments) -> int:
    """Say what is there of each task; exit 0, whatever is missing."""
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
            ", ".join(item.file.name for item in status.missing),
        )
        for name, status in found.items()
    ]
    table("", ["task", *SPLITS, "packed", "published files not there"], rows, right=SPLITS)
    for name, status in found.items():
        if status.problem and arguments.task:
            line(f"{name}: {status.problem}")
        if status.missing and arguments.task:
            line(f"{name}: {_amounts(status.missing, status.free)}")
    return 0


def _status_json(status: Status) -> dict[str, Any]:
    return {
        "present": status.present,
        "listed": status.listed,
        "missing": [item.file.name for item in status.missing],
        "packed": status.packed,
        "problem": status.problem,
        "free": status.free,
    }


def _counts(present: int | None, listed: int | None) -> str:
    return f"{'–' if present is None else f'{present:,}'} of {'?' if listed is None else f'{listed:,}'}"


def verify(arguments: Arguments) -> int:
    """Check lists, published files, every sample and the pack; exit 1 if anything is wrong."""
    data_dir = data_root(arguments.data_dir)
    faults = 0
    report = []
    for task in [catalogue.task(name) for name in arguments.task]:
        found = verify_task(task, data_dir)
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
    for task in [catalogue.task(name) for name in arguments.task]:
        folder = pack_folder(task, data_dir)
        if is_complete(folder) and not damaged_files(folder):
            line(f"{folder} is complete already")
            continue
        make_files(task, data_dir)
        pack(task, open_splits(task, data_dir, packed=False), folder)
        line(str(folder))
    return 0
