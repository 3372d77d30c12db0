"""The embedded sample of a task as a dataset on disk."""

from pathlib import Path

from ssl4eo_bench import progress
from ssl4eo_bench.config.task import Task
from ssl4eo_bench.errors import CacheError
from ssl4eo_bench.files.atomic import making, writing
from ssl4eo_bench.files.cached_items import Use
from ssl4eo_bench.files.locks import locked

_used: dict[Path, Use] = {}
"""Samples that this process reads."""


def ensure_sample(task: Task, cache: Path) -> Path:
    """The data directory of a task's embedded sample below the cache; it is written if it is not there yet.

    Raises:
        CacheError: if it cannot be written.
    """
    folder = cache / "samples" / f"{task.name}-v{task.version}"
    _used[folder] = Use(folder)
    if folder.is_dir():
        return folder
    cure = "name another cache directory with --cache-dir or SSL4EO_BENCH_CACHE"
    with writing(folder, cure=cure, error=CacheError):
        note = f"another process writes the sample of {task.name}; waiting for it"
        with locked(folder.with_suffix(".lock"), note=note):
            _used[folder] = Use(folder)
            if not folder.is_dir():
                write_sample(task, folder)
    return folder


def write_sample(task: Task, folder: Path) -> None:
    """Write a task's embedded sample as the new folder `folder`, whole or not at all."""
    with making(folder) as temporary, progress.stage(f"sample of {task.name}", total=1, unit="datasets") as advance:
        task.sample.make(temporary)
        advance(1)
