"""Trees of files by relative name, in folders and zip archives."""

import os
import re
import zipfile
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path, PurePosixPath

from ssl4eo_bench.errors import DamagedFileError, MissingDataError
from ssl4eo_bench.files.reading import read_bytes, reading, require_regular, require_size


def read_file(file: Path, *, cure: str = "fetch it again") -> bytes:
    """The bytes of a file of a dataset.

    Raises:
        MissingDataError: if it is not there.
        DamagedFileError: if it cannot be read, or is no regular file.
    """
    with reading(f"{file} cannot be read", cure=cure):
        try:
            return read_bytes(file)
        except FileNotFoundError as error:
            raise MissingDataError(f"{file} is not there; {cure}.") from error


class Tree(dict[str, "_File | _Member"]):
    """Files by name, with forward slashes. Picklable, and safe to read from several threads.

    Attributes:
        root: the folder, or the archive and a path in it, that names are relative to.

    Raises:
        MissingDataError: when it is indexed by a name that it does not have.
    """

    def __init__(self, root: str, files: "dict[str, _File | _Member]") -> None:
        super().__init__(files)
        self.root = root

    def __missing__(self, name: str) -> "_File | _Member":
        raise MissingDataError(f"{name} is in none of the folders and archives that were searched.")


@dataclass(frozen=True)
class _File:
    """A file in a folder."""

    path: Path

    @property
    def where(self) -> str:
        return str(self.path)

    def read(self) -> bytes:
        return read_file(self.path)

    def stamp(self) -> str:
        """Size and time of last change."""
        try:
            status = self.path.stat()
        except OSError as error:
            raise DamagedFileError(f"{self.path} cannot be read: {error.strerror}.") from error
        return f"{status.st_size}:{status.st_mtime_ns}"


class _Archive:
    """A zip archive that several threads read.

    A `ZipFile` lets only one thread read at a time, and opening one reads the list of all members. So each reader takes
    an idle `ZipFile` or opens another one, and returns it afterwards.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._idle: deque[zipfile.ZipFile] = deque()

    def __reduce__(self) -> tuple[type["_Archive"], tuple[Path]]:
        return _Archive, (self.path,)

    @contextmanager
    def opened(self) -> Iterator[zipfile.ZipFile]:
        try:
            archive = self._idle.pop()
        except IndexError:
            archive = self._open()
        yield archive
        self._idle.append(archive)

    def _open(self) -> zipfile.ZipFile:
        with reading(f"{self.path} is not a readable zip archive"):
            require_regular(self.path)
            return zipfile.ZipFile(self.path)

    def names(self) -> dict[str, str]:
        """The files with slashes in their paths, and their names in the archive: some were made with backslashes."""
        with self.opened() as archive:
            paths = {member.filename.replace("\\", "/"): member.filename for member in archive.infolist()}
        return {path: name for path, name in paths.items() if not path.endswith("/")}


@dataclass(frozen=True)
class _Member:
    """A file in a zip archive."""

    archive: _Archive
    name: str

    @property
    def where(self) -> str:
        return f"{self.archive.path}:{self.name}"

    def read(self) -> bytes:
        """The bytes of the file, after a comparison with its checksum."""
        with reading(f"{self.where} cannot be read", cure="fetch the archive again"), self.archive.opened() as archive:
            require_size(archive.getinfo(self.name).file_size, self.archive.path)
            return archive.read(self.name)

    def stamp(self) -> str:
        """Size and checksum in the directory of the archive."""
        with self.archive.opened() as archive:
            member = archive.getinfo(self.name)
        return f"{member.file_size}:{member.CRC:08x}"


def gather_files(root: Path, pattern: re.Pattern[str]) -> Tree:
    """Return the tree of all files below `root`, and in zip archives below it, with a name that matches `pattern`.

    If a name occurs more than once, a file in a folder is preferred to one in an archive, which is slower to read, and
    then the first one in alphabetical order. Files that macOS adds to archives are left out.
    """
    archives = [_Archive(file) for file in sorted(root.rglob("*.zip"))]
    files: dict[str, _File | _Member] = {}
    for tree in (_folder(root), *(_part(archive, "") for archive in archives)):
        for inside, file in sorted(tree.items(), key=itemgetter(0)):
            path = PurePosixPath(inside)
            if pattern.fullmatch(path.name) and "__MACOSX" not in path.parts:
                files.setdefault(path.name, file)
    return Tree(str(root), files)


def find_tree(root: Path, *, folders: Iterable[str], suffix: str, depth: int = 8) -> Tree | None:
    """The tree with the most files that end in `suffix` in these `folders`, or None.

    It is a folder at most `depth` levels below `root`, or a part of a zip archive in `root`. It is found by the
    folders in it, since archives have different outer folders depending on who packed them. If two trees have the same
    number of files, a folder is preferred to an archive, which is slower to read.
    """
    wanted = frozenset(folders)
    trees = [*_folders_with(root, wanted, depth), *_parts_with(root, wanted, suffix)]
    sizes = [sum(name.endswith(suffix) for name in tree) for tree in trees]
    best = max(sizes, default=0)
    return trees[sizes.index(best)] if best else None


def _folder(root: Path) -> Tree:
    """All files below a folder."""
    found: dict[str, _File | _Member] = {}
    for folder, _, files in os.walk(root):
        inside = PurePosixPath(Path(folder).relative_to(root))
        found |= {str(inside / file): _File(Path(folder, file)) for file in files}
    return Tree(str(root), found)


def _part(archive: _Archive, inside: str) -> Tree:
    """All files of a zip archive below a path in it."""
    names = {path: name for path, name in archive.names().items() if path.startswith(inside)}
    return Tree(
        f"{archive.path}:{inside}", {path[len(inside) :]: _Member(archive, name) for path, name in names.items()}
    )


def _folders_with(root: Path, wanted: frozenset[str], depth: int) -> Iterator[Tree]:
    for folder, inside, _ in os.walk(root):
        inside[:] = sorted(name for name in inside if not name.startswith("."))  # half-unpacked archives are hidden
        if wanted & set(inside):
            yield _folder(Path(folder))
            inside.clear()
        elif len(Path(folder).relative_to(root).parts) >= depth:
            inside.clear()


def _parts_with(root: Path, wanted: frozenset[str], suffix: str) -> Iterator[Tree]:
    for file in sorted(file for file in root.glob("*.zip") if file.is_file()):
        archive = _Archive(file)
        folders = {name.rpartition("/")[0] for name in archive.names() if name.endswith(suffix)}
        places = [folder.rpartition("/") for folder in folders]
        for inside in sorted({outer + slash for outer, slash, folder in places if folder in wanted}):
            yield _part(archive, inside)
