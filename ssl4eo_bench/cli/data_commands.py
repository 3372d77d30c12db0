"""Commands on datasets on disk, and on cached features."""

import sys
from collections import Counter
from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import Annotated

from rich.filesize import decimal

from ssl4eo_bench.cli.display import print_json, show_rows, table
from ssl4eo_bench.cli.options import Age, CacheDir, Checkpoint, DataDir, File, Folder, Json, Size, Task, Tasks
from ssl4eo_bench.cli.run_options import OwnImages
from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.task import SPLITS
from ssl4eo_bench.data.checks import survey, verify
from ssl4eo_bench.data.own_tasks import find_task
from ssl4eo_bench.data.packing import damaged_files, pack
from ssl4eo_bench.data.packs import is_complete, pack_folder
from ssl4eo_bench.data.releases import PublishedFile, make_at_once, make_files, published_files
from ssl4eo_bench.data.sample_dataset import write_sample
from ssl4eo_bench.data.splits import open_splits
from ssl4eo_bench.errors import DataError, DownloadError
from ssl4eo_bench.extraction.store import FeatureCache
from ssl4eo_bench.files.atomic import write_text
from ssl4eo_bench.files.cached_items import KINDS, CachedItem, items, prune
from ssl4eo_bench.files.places import cache_root, data_root, free_bytes, require_space

ASK_ABOVE = 1_000_000_000
"""More bytes than these are fetched only after a question."""

ENTRY = ("kind", "checkpoint", "task", "split", "images", "of", "MB", "entry")
"""What is listed of cached features: how many images there are of how many; of other kinds how many there are."""

SHOWN_FAULTS = 20
"""At most so many faults of a task are printed; a report holds all of them."""


def data_sample(
    task: Task,
    *,
    out: Annotated[Folder | None, "a new folder (default: ./<task>-sample)"] = None,
) -> int:
    """Write the embedded sample of a task, in its official layout.

    Examples:
      ssl4eo-bench data sample eurosat-rgb
      ssl4eo-bench data sample bigearthnet --out small
    """
    chosen = find_task(task)
    folder = out or Path(f"{chosen.name}-sample")
    if folder.exists():
        raise DataError(f"{folder} exists; name a new folder with --out.")
    try:
        write_sample(chosen, folder)
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror}); name another folder with --out.") from error
    print(folder)
    return 0


def data_download(
    task: Tasks,
    *,
    yes: Annotated[bool, "do not ask before fetching more than 1 GB"] = False,
    data_dir: DataDir = None,
) -> int:
    """Fetch the published files of tasks; what is there is not fetched again.

    Examples:
      ssl4eo-bench data download eurosat-rgb --data-dir DIR
      ssl4eo-bench data download eurosat so2sat --data-dir DIR --yes
    """
    root = data_root(data_dir)
    tasks = [find_task(name) for name in task]
    published = published_files(tasks, root)
    wanted = {item.path for each in tasks for item in survey(each, root).missing}
    items = [item for item in published if item.todo == "nothing" or item.path in wanted]
    _show_files(items)
    if len(items) < len(published):
        print("nothing else is needed: all samples are there")
    print(_amounts(items, free_bytes(root)))
    made = make_at_once(items)
    for item in made:
        print(f"{item.path} is made")
    todo = [item for item in (item.again() for item in items) if item.todo in ("fetch", "unpack", "make")]
    try:
        needed = sum(item.bytes_to_write for item in todo)
        cure = "name a directory on another disk with --data-dir"
        require_space(needed, root, f"{decimal(needed)} are needed", cure=cure, error=DownloadError)
        if yes or _agreed(sum(item.bytes_to_fetch for item in todo)):
            _get_files(todo)
    except DownloadError as error:
        if not made:
            raise
        print(f"error: {error}", file=sys.stderr)
    missing = [item for item in (item.again() for item in items) if item.todo != "nothing"]
    for item in missing:
        if item.todo == "by hand":
            print(item.instructions)
    if missing:
        print(f"still missing: {', '.join(str(item.path) for item in missing)}", file=sys.stderr)
    return 1 if missing else 0


def _show_files(items: Sequence[PublishedFile]) -> None:
    rows = []
    for item in items:
        todo = {"nothing": "", "by hand": "put there by hand"}.get(item.todo, item.todo)
        if item.todo == "fetch" and item.file.unpack:
            todo = "fetch, unpack"
        if item.todo == "make" and item.file.made:
            todo = f"make from {item.file.made.what}"
        rows.append((item.path, item.size, item.state, todo))
    table("", ["file", "size", "on disk", "to do"], rows, right=["size"])


def _amounts(items: Sequence[PublishedFile], free: int) -> str:
    """How many bytes are to be fetched and written, how many are free, and what is made or fetched by hand."""
    fetching, writing = sum(item.bytes_to_fetch for item in items), sum(item.bytes_to_write for item in items)
    made = [item.file.made.what for item in items if item.todo == "make" and item.file.made]
    by_hand = [item.file.size or item.file.about_bytes or 0 for item in items if item.todo == "by hand"]
    text = f"to fetch {decimal(fetching)}, to write {decimal(writing)}, free {decimal(free)}"
    if made:
        text += f"; {len(made)} made from {', '.join(dict.fromkeys(made))}"
    if by_hand:
        text += f"; {len(by_hand)} by hand, about {decimal(sum(by_hand))}"
    return text


def _agreed(fetching: int) -> bool:
    """Whether so many bytes may be fetched; if they are many, the user is asked. A DownloadError if nobody is there."""
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
        except DataError as error:  # the other files can be fetched all the same
            print(f"error: {error}", file=sys.stderr)


def data_status(
    task: Annotated[Tasks, "see `list tasks` (default: all)"] = (),
    *,
    own: OwnImages,
    data_dir: DataDir = None,
    json: Json = False,
) -> int:
    """Show what is there of each task, and what is missing; exits with 0, whatever that is.

    Examples:
      ssl4eo-bench data status
      ssl4eo-bench data status bigearthnet --data-dir DIR --json
    """
    root = data_root(data_dir)
    chosen = [find_task(name, own.format()) for name in task] or list(catalogue.tasks().values())
    if not root.is_dir() and any(each.folder for each in chosen):
        print(
            f"{root} does not exist; name yours with --data-dir, or see `ssl4eo-bench data download`", file=sys.stderr
        )
    found = {each.name: survey(each, root) for each in chosen}
    if json:
        missing = {name: [item.file.name for item in status.missing] for name, status in found.items()}
        print_json({name: vars(status) | {"missing": missing[name]} for name, status in found.items()})
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
        if status.problem and task:
            print(f"{name}: {status.problem}")
        if status.missing and task:
            print(f"{name}: {_amounts(status.missing, status.free)}")
    return 0


def _counts(present: int | None, listed: int | None) -> str:
    return f"{'–' if present is None else f'{present:,}'} of {'?' if listed is None else f'{listed:,}'}"


def data_verify(
    task: Tasks,
    *,
    own: OwnImages,
    report: Annotated[File | None, "write everything that is wrong to a JSON file"] = None,
    data_dir: DataDir = None,
) -> int:
    """Check lists, checksums and every single file; exits with 1 if anything is wrong.

    Examples:
      ssl4eo-bench data verify eurosat --data-dir DIR
      ssl4eo-bench data verify bigearthnet --data-dir DIR --report faults.json
    """
    root = data_root(data_dir)
    faults = []
    for each in [find_task(name, own.format()) for name in task]:
        found = verify(each, root)
        faults += [{"task": each.name, "where": fault.where, "what": fault.what} for fault in found]
        for fault in found[:SHOWN_FAULTS]:
            print(f"{each.name}: {fault.where}: {fault.what}")
        if len(found) > SHOWN_FAULTS:
            print(f"{each.name}: and {len(found) - SHOWN_FAULTS:,} more")
        print(f"{each.name}: {'whole' if not found else f'{len(found):,} faults'}")
    if report:
        write_text(report, dumps(faults, indent=1) + "\n")
    return 1 if faults else 0


def data_prepare(task: Tasks, *, own: OwnImages, data_dir: DataDir = None) -> int:
    """Pack a task into a few large arrays, which read faster than many small files.

    Examples:
      ssl4eo-bench data prepare bigearthnet --data-dir DIR
      ssl4eo-bench data prepare eurosat so2sat --data-dir DIR
    """
    root = data_root(data_dir)
    for each in [find_task(name, own.format()) for name in task]:
        folder = pack_folder(each, root)
        if is_complete(folder) and not damaged_files(folder):
            print(f"{folder} is complete already")
            continue
        make_files(each, root)
        pack(each, open_splits(each, root, packed=False), folder)
        print(folder)
    return 0


def cache_list(*, json: Json = False, cache_dir: CacheDir = None) -> int:
    """List cached features, and how much there is of everything else, with sizes on disk.

    Examples:
      ssl4eo-bench cache list
      ssl4eo-bench cache list --json
    """
    root = cache_root(cache_dir)
    sizes = {item.name: item.bytes for item in items(root, "features")}
    rows = [
        {
            "kind": "features",
            "checkpoint": entry.key.checkpoint,
            "task": entry.key.task,
            "split": entry.key.split,
            "images": entry.rows,
            "of": entry.key.rows,
            "MB": round(sizes[entry.store.folder.name] / 1e6, 1),
            "entry": entry.store.folder.name[:12],
        }
        for entry in FeatureCache(root).entries()
    ]
    for kind in KINDS[1:]:
        if found := items(root, kind):
            size = round(sum(item.bytes for item in found) / 1e6, 1)
            rows.append(dict.fromkeys(ENTRY, "") | {"kind": kind, "images": None, "of": len(found), "MB": size})
    if not rows:
        print(f"nothing is cached in {root}; runs keep their features there", file=sys.stderr)
    show_rows(rows, json=json, right=["images", "of", "MB"])
    return 0


def cache_verify(*, cache_dir: CacheDir = None) -> int:
    """Check every shard against its checksum; exits with 1 on damage.

    Examples:
      ssl4eo-bench cache verify
      ssl4eo-bench cache verify --cache-dir DIR
    """
    entries = FeatureCache(cache_root(cache_dir)).entries()
    damaged = [file for entry in entries for file in entry.damaged()]
    for file in damaged:
        print(f"damaged: {file}")
    print(
        f"{len(entries)} entries, {len(damaged)} damaged shards; damaged ones are computed again when they are needed"
    )
    return 1 if damaged else 0


def cache_prune(
    *,
    checkpoint: Annotated[Checkpoint | None, "features of this checkpoint instead"] = None,
    all_: Annotated[bool, "all features instead, and the probes that were fitted on them"] = False,
    max_size: Annotated[Size | None, "and what was not used for longest, until so much is left: 20G"] = None,
    older_than: Annotated[Age | None, "and what was not used for so long: 30d"] = None,
    dry_run: Annotated[bool, "delete nothing, and say what would go"] = False,
    cache_dir: CacheDir = None,
) -> int:
    """Delete cached features that are of no use any more, and what killed runs have left.

    Sizes and ages are of features, probes, scores, pictures, samples and states of fine-tuning; weights stay. So does
    what is in use.

    Examples:
      ssl4eo-bench cache prune --dry-run
      ssl4eo-bench cache prune --max-size 20G --older-than 30d
      ssl4eo-bench cache prune --checkpoint resnet50.random
    """
    root = cache_root(cache_dir)
    cache = FeatureCache(root)

    def useless(item: CachedItem) -> bool:
        if checkpoint:
            return cache.is_of(item, checkpoint)
        return item.kind in ("features", "probes") if all_ else cache.is_useless(item)

    gone, in_use = prune(root, useless=useless, max_bytes=max_size, older_than=older_than, dry_run=dry_run)
    if in_use:
        print(f"left alone, since they are in use: {_kinds(in_use)}")
    of = f": {_kinds(gone)}" if gone else ""
    print(f"{'would free' if dry_run else 'freed'} {decimal(sum(item.bytes for item in gone))}{of}")
    return 0


def _kinds(found: Sequence[CachedItem]) -> str:
    """How many there are of each kind, in words."""
    return ", ".join(f"{count} of {kind}" for kind, count in Counter(item.kind for item in found).items())
