"""The published files of tasks: which are there, what the others cost, and getting them."""

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.filesize import decimal

from ssl4eo_bench import progress
from ssl4eo_bench.config.remote_files import RemoteFile
from ssl4eo_bench.config.task import Task
from ssl4eo_bench.errors import DamagedFileError, DataError, DownloadError
from ssl4eo_bench.files.archives import is_unpacked, unpack
from ssl4eo_bench.files.atomic import replacing
from ssl4eo_bench.files.downloads import begun_bytes, by_hand, fetch, is_there, needed_bytes
from ssl4eo_bench.files.places import free_bytes

Todo = Literal["nothing", "unpack", "fetch", "make", "by hand"]


@dataclass(frozen=True)
class Published:
    """A published file, and how it stands with it on disk.

    Attributes:
        file: which.
        folder: of its task.
        todo: what is to be done to have it.
    """

    file: RemoteFile
    folder: Path
    todo: Todo

    @classmethod
    def at(cls, file: RemoteFile, folder: Path) -> "Published":
        """How it stands now. An unpacked archive may be deleted: nobody reads it any more."""
        path = folder / file.name
        if not path.exists() and _accepted(file, folder):
            return cls(file, folder, "nothing")
        unpacked = file.unpack and is_unpacked(path, path.parent)
        if not is_there(file, folder) and (path.exists() or not unpacked):
            return cls(file, folder, "fetch" if file.url else "make" if file.made else "by hand")
        return cls(file, folder, "unpack" if file.unpack and not unpacked else "nothing")

    def again(self) -> "Published":
        """How it stands now."""
        return self.at(self.file, self.folder)

    @property
    def path(self) -> Path:
        """Its place."""
        return self.folder / self.file.name

    @property
    def bytes_to_fetch(self) -> int:
        """What is still to come over the network, in bytes, as far as it is known."""
        whole = self.file.size or self.file.about_bytes or 0
        return max(whole - begun_bytes(self.file, self.folder), 0) if self.todo == "fetch" else 0

    @property
    def bytes_to_write(self) -> int:
        """The disk space that getting it takes, in bytes, as far as it is known."""
        if self.todo == "unpack":
            return self.file.unpacked_bytes or 0
        if self.todo == "make":
            return self.file.size or 0
        return needed_bytes(self.file, self.folder) if self.todo == "fetch" else 0

    @property
    def size(self) -> str:
        """Its size, for people."""
        if self.file.size:
            return decimal(self.file.size)
        return f"about {decimal(self.file.about_bytes)}" if self.file.about_bytes else "?"

    @property
    def instructions(self) -> str:
        """One sentence on getting it by hand."""
        return by_hand(self.file, self.folder)

    @property
    def state(self) -> str:
        """How it stands with it, for people."""
        if not self.path.exists() and (other := _accepted(self.file, self.folder)):
            return f"is there as {other.name}"
        if self.todo in ("nothing", "unpack"):
            return "is there, unpacked" if self.file.unpack and self.todo == "nothing" else "is there"
        if self.path.exists():
            return f"there in another size{'' if self.todo == 'by hand' else ', will be replaced'}"
        begun = begun_bytes(self.file, self.folder)
        return f"begun, {decimal(begun)} there" if begun else "missing"

    def get(self) -> None:
        """Do what is to be done.

        Raises:
            DataError: if that cannot be.
        """
        if self.todo == "make":
            self._make()
            return
        fetch(self.file, self.folder)
        if self.file.unpack:
            unpack(self.path, self.path.parent, limit=self.file.unpacked_bytes)

    def _make(self) -> None:
        """Make the file, and write it if it is the published one."""
        assert self.file.made
        with progress.stage(f"making {self.file.name}", total=1, unit="files") as advance:
            content = self.file.made.make(self.folder)
            advance(1)
        for name, expected in self.file.hashes.items():
            found = hashlib.new(name, content, usedforsecurity=False).hexdigest()
            if not found.startswith(expected):
                raise DamagedFileError(
                    f"{self.file.name}, made from {self.file.made.what} in {self.folder}, has {name} {found}, but the "
                    f"published file has {expected}, so it is not written: delete {self.file.made.what} there, and "
                    "fetch them again."
                )
        with replacing(self.path) as temporary:
            temporary.write_bytes(content)


def _accepted(file: RemoteFile, folder: Path) -> Path | None:
    """What readers take for a file under another name."""
    return next((found for pattern in file.accepted for found in sorted(folder.glob(pattern))), None)


def published(tasks: Iterable[Task], data_dir: Path) -> list[Published]:
    """The files of tasks, each once.

    Raises:
        DownloadError: if a task knows no published files.
    """
    found: dict[Path, Published] = {}
    for task in tasks:
        if not task.files:
            raise DownloadError(f"task {task.name!r} names no files that could be fetched; {task.how_to_get}.")
        for file in task.files:
            item = Published.at(file, data_dir / task.folder)
            found.setdefault(item.path, item)
    return list(found.values())


def make_files(task: Task, data_dir: Path) -> None:
    """Make those files of a task that are made from others and are not there; a copy that somebody brought stays.

    Raises:
        DataError: if that cannot be.
    """
    for file in task.files:
        item = Published.at(file, data_dir / task.folder)
        if item.todo == "make" and not item.path.exists():
            item.get()


def make_at_once(items: Iterable[Published]) -> list[Published]:
    """Make those files that can be made from what is there, and return them; the others have to wait for downloads."""
    made = []
    for item in items:
        if item.todo == "make":
            with suppress(DataError):
                item.get()
                made.append(item)
    return made


def require_space(items: Iterable[Published], folder: Path) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises:
        DownloadError: saying how much is missing.
    """
    needed, free = sum(item.bytes_to_write for item in items), free_bytes(folder)
    if needed > free:
        raise DownloadError(
            f"{decimal(needed)} are needed, but the disk of {folder} has {decimal(free)} free; free some space there, "
            "or name a directory on another disk with --data-dir."
        )
