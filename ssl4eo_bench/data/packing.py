"""Writing packs, and checking them."""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from rich.filesize import decimal

from ssl4eo_bench import progress
from ssl4eo_bench.config.task import SPLITS, SplitName, Task
from ssl4eo_bench.data.batches import batches
from ssl4eo_bench.data.packs import PLACE_AND_DATE, Contents, array_file, list_file, pixel_arrays, read_pack
from ssl4eo_bench.data.reader import Reader
from ssl4eo_bench.data.splits import OpenSplit
from ssl4eo_bench.errors import MissingDataError
from ssl4eo_bench.files.atomic import write_text
from ssl4eo_bench.files.locks import LOCK, locked
from ssl4eo_bench.files.places import require_space
from ssl4eo_bench.files.shards import MANIFEST, ShardStore

BATCH = 32
SHARD_ROWS = 1024


def pack(task: Task, samples: dict[SplitName, OpenSplit], folder: Path) -> None:
    """Write the pack of these samples, or those parts of it that are missing or damaged.

    A shard that matches its checksum and the samples is kept, also if its pack has an earlier format or its lists have
    another order.

    Raises:
        MissingDataError: if the disk is too small for it.
    """
    ids = [id_ for split in SPLITS for id_ in samples[split].ids]
    source = samples["train"].reader
    lists = {split: _official_order(samples[split], split) for split in SPLITS}
    contents = Contents(
        task=task.name,
        version=task.version,
        bands=tuple(band.name for band in task.bands),
        tells=task.tells,
        splits={split: samples[split].record for split in SPLITS},
        lists={split: hashlib.sha256(text.encode()).hexdigest() for split, text in lists.items()},
        chunk_rows=SHARD_ROWS,
    )
    _require_space(task, source, ids, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK, note=f"another process packs {task.name}; waiting for it"):
        store = _begun(folder, contents)
        for split, text in lists.items():
            write_text(list_file(folder, split), text)
        store.write_manifest()
        with progress.stage(f"packing {task.name}", total=len(ids), unit="samples") as advance:
            for number, start in enumerate(range(0, len(ids), SHARD_ROWS)):
                rows = ids[start : start + SHARD_ROWS]
                facts = {"samples": source.fingerprint(rows)}
                if not store.is_sound(number) or store.shards[number].facts != facts:
                    store.write(number, _arrays(task, source, rows, number), facts)
                advance(len(rows))


def damaged_files(folder: Path) -> list[Path]:
    """The files of a pack that are absent or not what its manifest says."""
    found = read_pack(folder)
    damaged = found.damaged_lists()
    with progress.stage(f"checking {folder.name}", total=len(found.store.shards), unit="shards") as advance:
        for number in found.store.shards:
            damaged += found.store.damaged(number)
            advance(1)
    return damaged


def _official_order(samples: OpenSplit, split: SplitName) -> str:
    """The list of a split in the order of the task's own reader, with only those samples that are packed."""
    packed = set(samples.ids)
    return "".join(f"{id_}\n" for id_ in samples.reader.ids(split) if id_ in packed)


def _begun(folder: Path, contents: Contents) -> ShardStore:
    """The store to continue with: with the shards that are there, if they are of the same samples in the same rows."""
    found = read_pack(folder) if (folder / MANIFEST).is_file() else None
    same = found is not None and found.contents.model_copy(update={"lists": contents.lists}) == contents
    return ShardStore(folder, contents.model_dump(mode="json"), found.store.shards if found and same else {})


def _arrays(task: Task, source: Reader, ids: Sequence[str], number: int) -> dict[str, np.ndarray]:
    """The arrays of a shard by file name: labels, pixels of each group of bands, place and date if they are told."""
    bands = [band.name for band in task.bands]
    read = list(batches(partial(source.read, bands=bands), ids, size=BATCH))
    arrays = {array_file(number, "labels"): source.targets(ids)}
    for position, array in enumerate(dict.fromkeys(pixel_arrays(task).values())):
        arrays[array_file(number, array)] = np.concatenate([groups[position] for groups in read])
    if task.tells:
        arrays[array_file(number, PLACE_AND_DATE)] = source.place_and_date(ids)
    return arrays


def _require_space(task: Task, source: Reader, ids: Sequence[str], folder: Path) -> None:
    groups = source.read(ids[:1], [band.name for band in task.bands])
    there = sum(file.stat().st_size for file in folder.glob("*.npy"))
    needed = len(ids) * sum(group.nbytes for group in (*groups, source.targets(ids[:1]))) - there
    what = f"the pack of task {task.name!r} takes {decimal(needed)}"
    require_space(needed, folder, what, cure="link the folder to another disk", error=MissingDataError)
