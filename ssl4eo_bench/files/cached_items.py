"""What a cache holds, how large it is and when it was last used, and deleting what nobody has used for longest.

    features/<digest>/          probes/<digest>.npz      finetuning/<digest>.pt, <digest>-<epoch>.npz
    scores/<digest>.npz         pictures/<digest>.png    logs/<digest>.log    listings/<digest>.json
    samples/<task>-v<version>-sample<version>/

Weights do not count: some were put there by hand. An item was last used when its youngest file was changed; readers
change the time of one. A process that goes on to read files of an item holds a shared lock on its file `in-use`.
"""

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ssl4eo_bench.errors import LockedError
from ssl4eo_bench.files.atomic import remove_abandoned
from ssl4eo_bench.files.locks import alone, locked, share

LISTINGS = "listings"
"""What is in the files of folders with a user's images."""

KINDS = ("features", "probes", "scores", "pictures", "finetuning", "samples", "logs", LISTINGS)

LOCK = "lock"
"""The lock file of an item that is a folder: in it, or beside it as its ending."""

IN_USE = "in-use"
"""A file like it."""

DIGITS = 64
"""Of a digest. What has the same ones belongs together."""

STILL_TRAINED = 24 * 3600.0
"""Seconds in which every training writes its state."""


@dataclass(frozen=True)
class CachedItem:
    """Files of a cache that belong together, of one of `KINDS`, and the time of their last use, in seconds."""

    kind: str
    name: str
    paths: tuple[Path, ...]
    bytes: int
    used: float

    def delete(self) -> bool:
        """Delete the item and return whether nobody was using it."""
        with ExitStack() as held:
            try:
                for path in self.paths:
                    if path.is_dir():
                        held.enter_context(_unused(path))
            except (LockedError, BlockingIOError):
                return False
            for path in self.paths:
                _remove(path)
        for path in self.paths:
            with suppress(OSError):  # a process may have begun anew in it
                path.rmdir()
        return True


def items(root: Path, *kinds: str) -> list[CachedItem]:
    """The items in a cache, of these kinds or of all, the one used last at the end. Links are no items."""
    found = []
    for kind in kinds or KINDS:
        groups: dict[str, list[Path]] = {}
        for path in sorted((root / kind).glob("[!.]*" if kind == "samples" else "[0-9a-f]" * DIGITS + "*")):
            if not path.is_symlink():
                groups.setdefault(path.stem[:DIGITS], []).append(path)
        found += [_item(kind, name, paths) for name, paths in groups.items()]
    return sorted(found, key=lambda item: item.used)


def prune(
    root: Path,
    *,
    useless: Callable[[CachedItem], bool],
    max_bytes: float | None = None,
    older_than: float | None = None,
    dry_run: bool = False,
) -> tuple[list[CachedItem], list[CachedItem]]:
    """Delete items and what killed processes have left; return those that are gone, and those that are in use.

    Those that are `useless` go, whatever their size and age; those that were not used for `older_than` seconds; and
    what was not used last beyond `max_bytes`. With `dry_run` nothing is deleted.
    """
    if not root.is_dir():
        return [], []
    left = items(root)
    now, excess = _now(root), sum(item.bytes for item in left) - (max_bytes if max_bytes is not None else 1 << 62)
    freed, gone, in_use = 0, [], []
    for item in left:
        if useless(item) or freed < excess or (older_than is not None and now - item.used > older_than):
            if (item.kind != "finetuning" or now - item.used > STILL_TRAINED) and (dry_run or item.delete()):
                freed += item.bytes
                gone.append(item)
            else:
                in_use.append(item)
    if dry_run:
        return gone, in_use
    for kind in KINDS:
        if (root / kind).is_dir():
            remove_abandoned(root / kind, now=now)
    return gone, in_use


def mark_used(file: Path) -> None:
    """Make now the time at which a file was last used, if the cache is not read-only."""
    with suppress(OSError):
        os.utime(file)


class Use:
    """Marks an item that is a folder as used, and keeps others from deleting it as long as this object lives.

    In a read-only cache, and on a file system without `flock`, it does not.
    """

    def __init__(self, folder: Path) -> None:
        file = _beside(folder, IN_USE)
        with suppress(OSError):
            weakref.finalize(self, os.close, share(file))
            os.utime(file)


@contextmanager
def _unused(folder: Path) -> Iterator[None]:
    """Keep others from an item that is a folder, whose lock files are gone afterwards.

    Raises:
        LockedError: if a process writes it.
        BlockingIOError: if a process reads it.
    """
    with locked(_beside(folder, LOCK), note="", wait=False), alone(_beside(folder, IN_USE)):
        yield
        for name in (LOCK, IN_USE):
            with suppress(PermissionError):  # on Windows, where the lock's own code removes it
                _beside(folder, name).unlink(missing_ok=True)


def _beside(folder: Path, name: str) -> Path:
    """A file of this name in a folder of features; beside that of a sample, which holds a dataset and nothing else."""
    return folder.with_suffix(f".{name}") if folder.parent.name == "samples" else folder / name


def _item(kind: str, name: str, paths: list[Path]) -> CachedItem:
    stats = []
    for path in paths:
        for file in (path, *path.rglob("*")):
            with suppress(FileNotFoundError):  # another process deletes it
                stats.append(file.stat())
    used = max((stat.st_mtime for stat in stats), default=0.0)
    return CachedItem(kind, name, tuple(paths), sum(stat.st_size for stat in stats), used)


def _remove(path: Path) -> None:
    """Delete a file, or what is in a folder; what says what is in it first."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    for entry in sorted(path.iterdir(), key=lambda entry: entry.suffix != ".json"):
        if entry.name not in (LOCK, IN_USE, f"{LOCK}.soft"):  # are held, and go last
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)


def _now(root: Path) -> float:
    """The present time by the clock of the file system."""
    with tempfile.TemporaryFile(dir=root) as opened:
        return os.fstat(opened.fileno()).st_mtime
