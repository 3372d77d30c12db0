"""The published files of tasks: which of them are on disk, how large the others are, and getting them."""

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

Todo = Literal["nothing", "unpack", "fetch", "make", "by hand"]


@dataclass(frozen=True)
class PublishedFile:
    """A published file, the folder of its task, and the step that is missing until readers can use it."""

    file: RemoteFile
    folder: Path
    todo: Todo

    @classmethod
    def at(cls, file: RemoteFile, folder: Path) -> "PublishedFile":
        """The file in its present state. An archive may be deleted once it is unpacked, since no reader uses it."""
        path = folder / file.name
        if not path.exists() and _accepted(file, folder):
            return cls(file, folder, "nothing")
        unpacked = file.unpack and is_unpacked(path, path.parent)
        if not is_there(file, folder) and (path.exists() or not unpacked):
            return cls(file, folder, "fetch" if file.url else "make" if file.made else "by hand")
        return cls(file, folder, "unpack" if file.unpack and not unpacked else "nothing")

    def again(self) -> "PublishedFile":
        """The same file in its present state."""
        return self.at(self.file, self.folder)

    @property
    def path(self) -> Path:
        """The path of the file."""
        return self.folder / self.file.name

    @property
    def bytes_to_fetch(self) -> int:
        """The bytes that are still to be downloaded; 0 where the size is not known."""
        whole = self.file.size or self.file.about_bytes or 0
        return max(whole - begun_bytes(self.file, self.folder), 0) if self.todo == "fetch" else 0

    @property
    def bytes_to_write(self) -> int:
        """The disk space in bytes that `get` needs; 0 where the size is not known."""
        if self.todo == "unpack":
            return self.file.unpacked_bytes or 0
        if self.todo == "make":
            return self.file.size or 0
        return needed_bytes(self.file, self.folder) if self.todo == "fetch" else 0

    @property
    def size(self) -> str:
        """Its size in words, such as `2.1 GB`."""
        if self.file.size:
            return decimal(self.file.size)
        return f"about {decimal(self.file.about_bytes)}" if self.file.about_bytes else "?"

    @property
    def instructions(self) -> str:
        """The sentence that says how to get it by hand."""
        return by_hand(self.file, self.folder)

    @property
    def state(self) -> str:
        """Its state in words, such as `is there, unpacked`."""
        if not self.path.exists() and (other := _accepted(self.file, self.folder)):
            return f"is there as {other.name}"
        if self.todo in ("nothing", "unpack"):
            return "is there, unpacked" if self.file.unpack and self.todo == "nothing" else "is there"
        if self.path.exists():
            return f"there in another size{'' if self.todo == 'by hand' else ', will be replaced'}"
        begun = begun_bytes(self.file, self.folder)
        return f"begun, {decimal(begun)} there" if begun else "missing"

    def get(self) -> None:
        """Download and unpack it, or make it from other files.

        Raises:
            DataError: if that is not possible.
        """
        if self.todo == "make":
            self._make()
            return
        fetch(self.file, self.folder)
        if self.file.unpack:
            unpack(self.path, self.path.parent, limit=self.file.unpacked_bytes)

    def _make(self) -> None:
        """Make the file from others, and write it if its hashes are the published ones."""
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
    """The file under one of the other names that readers accept, if it is there."""
    return next((found for pattern in file.accepted for found in sorted(folder.glob(pattern))), None)


def published_files(tasks: Iterable[Task], data_dir: Path) -> list[PublishedFile]:
    """The published files of tasks, without duplicates.

    Raises:
        DownloadError: if a task names no published files.
    """
    found: dict[Path, PublishedFile] = {}
    for task in tasks:
        if not task.files:
            raise DownloadError(f"task {task.name!r} names no files that could be fetched; {task.how_to_get}.")
        for file in task.files:
            item = PublishedFile.at(file, data_dir / task.folder)
            found.setdefault(item.path, item)
    return list(found.values())


def make_files(task: Task, data_dir: Path) -> None:
    """Make the absent files of a task that are made from others; a copy from elsewhere stays.

    Raises:
        DataError: if that is not possible.
    """
    for file in task.files:
        item = PublishedFile.at(file, data_dir / task.folder)
        if item.todo == "make" and not item.path.exists():
            item.get()


def make_at_once(items: Iterable[PublishedFile]) -> list[PublishedFile]:
    """Make the files that need no download first, and return them."""
    made = []
    for item in items:
        if item.todo == "make":
            with suppress(DataError):
                item.get()
                made.append(item)
    return made
