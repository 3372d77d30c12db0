"""The embedded sample of a task as a dataset on disk."""

import hashlib
import shutil
from pathlib import Path

from ssl4eo_bench import progress
from ssl4eo_bench.config.task import Task
from ssl4eo_bench.errors import CacheError
from ssl4eo_bench.files.atomic import making, write_text, writing
from ssl4eo_bench.files.cached_items import Use
from ssl4eo_bench.files.locks import locked

_used: dict[Path, Use] = {}
"""Samples that this process reads."""


def ensure_sample(task: Task, cache: Path) -> Path:
    """The data directory of a task's embedded sample below the cache; it is written if it is not there or damaged.

    Raises:
        SpecError: if the task has no sample.
        CacheError: if it cannot be written.
    """
    folder = cache / "samples" / f"{task.name}-v{task.version}-sample{task.embedded().version}"
    checked = folder in _used
    _used[folder] = Use(folder)
    if folder.is_dir() and (checked or _is_whole(folder)):
        return folder
    cure = "name another cache directory with --cache-dir or SSL4EO_BENCH_CACHE"
    with writing(folder, cure=cure, error=CacheError):
        note = f"another process writes the sample of {task.name}; waiting for it"
        with locked(folder.with_suffix(".lock"), note=note):
            _used[folder] = Use(folder)
            if not (folder.is_dir() and _is_whole(folder)):
                shutil.rmtree(folder, ignore_errors=True)
                write_sample(task, folder)
                write_text(_checksum_file(folder), _checksum(folder))
    return folder


def write_sample(task: Task, folder: Path) -> None:
    """Write a task's embedded sample as the new folder `folder`, whole or not at all."""
    with making(folder) as temporary, progress.stage(f"sample of {task.name}", total=1, unit="datasets") as advance:
        task.embedded().make(temporary)
        advance(1)


def _is_whole(folder: Path) -> bool:
    """Whether a sample is what was written; those of earlier versions, without a checksum, are taken for it."""
    file = _checksum_file(folder)
    return not file.is_file() or file.read_bytes() == _checksum(folder).encode()


def _checksum_file(folder: Path) -> Path:
    return folder.with_suffix(".sha256")


def _checksum(folder: Path) -> str:
    """The sha256 of the names and bytes of all files in a folder."""
    sha256 = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        sha256.update(f"{file.relative_to(folder).as_posix()}\0{file.stat().st_size}\0".encode())
        sha256.update(file.read_bytes())
    return sha256.hexdigest()
