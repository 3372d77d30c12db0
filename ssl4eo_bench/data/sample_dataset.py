"""The embedded sample of a task, written on first use."""

import shutil
import tempfile
from pathlib import Path

from filelock import FileLock

from ssl4eo_bench import progress
from ssl4eo_bench.config.task import Task
from ssl4eo_bench.errors import CacheError


def ensure_sample(task: Task, cache: Path) -> Path:
    """The data directory of a task's sample below the cache, made if it is not there yet.

    Raises:
        CacheError: if it cannot be written.
    """
    folder = cache / "samples" / f"{task.name}-v{task.version}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not folder.is_dir():
                write_sample(task, folder)
    except OSError as error:
        raise CacheError(
            f"the sample of task {task.name!r} cannot be written to {folder} ({error.strerror or error}); name another "
            "cache directory with --cache-dir or SSL4EO_BENCH_CACHE."
        ) from error
    return folder


def write_sample(task: Task, folder: Path) -> None:
    """Write a task's sample as the new folder `folder`: all of it, or none."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with progress.stage(f"sample of {task.name}", total=1, unit="datasets") as advance:
            task.sample.make(temporary)
            advance(1)
        temporary.chmod(0o755)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
