"""Writing packs, and checking them."""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ssl4eo_bench import progress
from ssl4eo_bench.config.task import SPLITS, SplitName, Task
from ssl4eo_bench.data.batches import batches
from ssl4eo_bench.data.packs import MANIFEST, Chunk, Manifest, list_file, read_manifest, sha256_of, write_manifest
from ssl4eo_bench.data.reader import Reader
from ssl4eo_bench.data.splits import OpenSplit
from ssl4eo_bench.errors import MissingDataError
from ssl4eo_bench.files.atomic import replacing, write_text
from ssl4eo_bench.files.locks import LOCK, locked
from ssl4eo_bench.files.places import free_bytes

BATCH = 32
CHUNK_ROWS = 1024


def pack(task: Task, samples: dict[SplitName, OpenSplit], folder: Path) -> Manifest:
    """Write the pack of these samples, or what is missing or damaged of it.

    A chunk that is what its checksum says is kept, also in a pack of an earlier format, or of lists in another order.

    Raises:
        MissingDataError: if the disk is too small for it.
    """
    ids = [id_ for split in SPLITS for id_ in samples[split].ids]
    source = samples["train"].source
    lists = {split: _official_order(samples[split], split) for split in SPLITS}
    empty = Manifest(
        task=task.name,
        version=task.version,
        bands=tuple(band.name for band in task.bands),
        splits={split: samples[split].record for split in SPLITS},
        lists={split: hashlib.sha256(text.encode()).hexdigest() for split, text in lists.items()},
        chunk_rows=CHUNK_ROWS,
    )
    _require_space(task, source, ids, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK, note=f"another process packs {task.name}; waiting for it"):
        for half_written in folder.glob(".[0-9]*"):  # by a process that was killed
            half_written.unlink()
        manifest = _begun(folder, empty)
        for split, text in lists.items():
            write_text(list_file(folder, split), text)
        write_manifest(folder, manifest)
        with progress.stage(f"packing {task.name}", total=len(ids), unit="samples") as advance:
            for number, start in enumerate(range(0, len(ids), CHUNK_ROWS)):
                rows = ids[start : start + CHUNK_ROWS]
                made_from, there = source.fingerprint(rows), manifest.chunks[number : number + 1]
                if not (there and there[0].samples == made_from and not _damaged(folder, there[0])):
                    chunk = _write_chunk(task, source, rows, folder, number, made_from)
                    chunks = (*manifest.chunks[:number], chunk, *manifest.chunks[number + 1 :])
                    manifest = manifest.model_copy(update={"chunks": chunks})
                    write_manifest(folder, manifest)
                advance(len(rows))
    return manifest


def damaged_chunks(folder: Path) -> list[Path]:
    """The files of a pack that are not what its manifest says."""
    manifest = read_manifest(folder)
    damaged = [file for split in SPLITS if sha256_of(file := list_file(folder, split)) != manifest.lists.get(split)]
    with progress.stage(f"checking {folder.name}", total=len(manifest.chunks), unit="chunks") as advance:
        for chunk in manifest.chunks:
            damaged += _damaged(folder, chunk)
            advance(1)
    return damaged


def _damaged(folder: Path, chunk: Chunk) -> list[Path]:
    return [folder / name for name, sha in chunk.files.items() if sha256_of(folder / name) != sha]


def _official_order(samples: OpenSplit, split: SplitName) -> str:
    """The list of a split as the task's own reader gives it, with those samples alone that are packed."""
    packed = set(samples.ids)
    return "".join(f"{id_}\n" for id_ in samples.source.ids(split) if id_ in packed)


def _begun(folder: Path, empty: Manifest) -> Manifest:
    """The manifest to go on with: with the chunks that are there, if they are of the same samples in the same rows."""
    if (folder / MANIFEST).is_file():
        found = read_manifest(folder)
        if found.model_copy(update={"chunks": (), "lists": empty.lists, "checksum": ""}) == empty:
            return empty.model_copy(update={"chunks": found.chunks})
    return empty


def _write_chunk(task: Task, source: Reader, ids: Sequence[str], folder: Path, number: int, made_from: str) -> Chunk:
    bands = [band.name for band in task.bands]
    read = list(batches(partial(source.read, bands=bands), ids, size=BATCH))
    arrays = {"labels": source.targets(ids)}
    for position, group in enumerate(task.groups(bands)):
        resolution = next(band.resolution for band in task.bands if band.name == group[0])
        arrays[f"{resolution}m"] = np.concatenate([groups[position] for groups in read])
    files = {}
    for what, array in arrays.items():
        name = f"{number:05d}-{what}.npy"
        with replacing(folder / name) as temporary:
            with temporary.open("wb") as opened:
                np.save(opened, array, allow_pickle=False)
            files[name] = sha256_of(temporary)
    return Chunk(samples=made_from, files=files)


def _require_space(task: Task, source: Reader, ids: Sequence[str], folder: Path) -> None:
    groups = source.read(ids[:1], [band.name for band in task.bands])
    there = sum(file.stat().st_size for file in folder.glob("*.npy"))
    needed = len(ids) * sum(group.nbytes for group in (*groups, source.targets(ids[:1]))) - there
    free = free_bytes(folder)
    if needed > free:
        raise MissingDataError(
            f"the pack of task {task.name!r} needs {needed / 1e9:.1f} GB below {folder}, but {free / 1e9:.1f} GB are "
            "free; free some, or link the folder to another disk."
        )
