"""Where the cache, the datasets and the files of a run lie on disk."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from platformdirs import user_cache_path
from rich.filesize import decimal

from ssl4eo_bench.errors import CacheError, DataError


def cache_root(chosen: Path | None = None) -> Path:
    """The cache directory: the chosen one, else `SSL4EO_BENCH_CACHE`, else the platform's.

    Raises:
        CacheError: if it is the platform's, and this user has no home directory.
    """
    if chosen:
        return chosen
    if named := os.environ.get("SSL4EO_BENCH_CACHE"):
        return Path(named)
    with suppress(RuntimeError):  # without a home, versions of platformdirs raise this, or return a relative path
        usual = user_cache_path("ssl4eo-bench", appauthor=False)
        if usual.is_absolute():
            return usual
    raise CacheError("there is no home directory for a cache; name another with --cache-dir or SSL4EO_BENCH_CACHE.")


def data_root(chosen: Path | None = None) -> Path:
    """The data directory: the chosen one, else `SSL4EO_BENCH_DATA`, else `data` in the working directory."""
    return chosen or Path(os.environ.get("SSL4EO_BENCH_DATA", "data"))


def scores_file(cache_dir: Path, digest: str) -> Path:
    """The file with the scores of all test samples of a run."""
    return cache_dir / "scores" / f"{digest}.npz"


def picture_file(cache_dir: Path, digest: str) -> Path:
    """The picture of a few test tiles of a run on label maps."""
    return cache_dir / "pictures" / f"{digest}.png"


def log_file(cache_dir: Path, digest: str) -> Path:
    """The file with the traceback of a run that has failed."""
    return cache_dir / "logs" / f"{digest}.log"


def free_bytes(folder: Path) -> int:
    """The free space, in bytes, of the disk that holds `folder` or would hold it."""
    return shutil.disk_usage(nearest_folder(folder)).free


def require_space(needed: int, folder: Path, what: str, *, cure: str, error: type[DataError]) -> None:
    """Refuse to write more bytes than a disk has free; `what` begins the sentence, and `cure` ends it.

    Raises:
        DataError: of the class `error`, if so.
    """
    free = free_bytes(folder)
    if needed > free:
        raise error(f"{what}, but the disk of {folder} has {decimal(free)} free; free some space there, or {cure}.")


def is_read_only(folder: Path) -> bool:
    """Whether nothing can be written into a folder, or where it would be made."""
    return not os.access(nearest_folder(folder), os.W_OK)


def nearest_folder(folder: Path) -> Path:
    """A folder, or the next one above it that exists."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
