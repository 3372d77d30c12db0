"""A tree of files by relative name, whether it lies in a folder or in a zip archive."""

import os
import re
import zipfile
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Protocol

from ssl4eo_bench.errors import DamagedFileError, MissingDataError


class Tree(Protocol):
    """Files by name. Picklable and safe to use from several threads."""

    def names(self) -> frozenset[str]:
        """Every file below the tree's root, with forward slashes."""
        ...

    def where(self, name: str) -> str:
        """The place of a file, for messages."""
        ...

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            MissingDataError: if it is not there.
            DamagedFileError: if it cannot be read whole.
        """
        ...

    def stamp(self, name: str) -> str:
        """A short text that changes when the file's bytes change."""
        ...


class Folder:
    """The files below a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @cached_property
    def _names(self) -> frozenset[str]:
        found = []
        for folder, _, files in os.walk(self._root):
            inside = PurePosixPath(Path(folder).relative_to(self._root))
            found += [str(inside / file) for file in files]
        return frozenset(found)

    def names(self) -> frozenset[str]:
        """Every file below the folder."""
        return self._names

    def where(self, name: str) -> str:
        """The file's path."""
        return str(self._root / name)

    def read(self, name: str) -> bytes:
        """The file's bytes."""
        try:
            return (self._root / name).read_bytes()
        except FileNotFoundError as error:
            raise MissingDataError(f"{self.where(name)} is not there any more.") from error
        except OSError as error:
            raise DamagedFileError(f"{self.where(name)} cannot be read: {error.strerror}.") from error

    def stamp(self, name: str) -> str:
        """Size and time of last change."""
        try:
            status = (self._root / name).stat()
        except OSError as error:
            raise DamagedFileError(f"{self.where(name)} cannot be read: {error.strerror}.") from error
        return f"{status.st_size}:{status.st_mtime_ns}"


class ZipTree:
    """The files of a zip archive below a path inside it.

    One `ZipFile` serialises its readers, and opening one reads the whole list of members: whoever reads takes an idle
    one or opens another, and leaves it for the next.
    """

    def __init__(self, archive: Path, inside: str = "", idle: Iterable[zipfile.ZipFile] = ()) -> None:
        self._archive = archive
        self._inside = inside
        self._idle = deque(idle)

    def __reduce__(self) -> tuple[type["ZipTree"], tuple[Path, str]]:
        return ZipTree, (self._archive, self._inside)

    @contextmanager
    def _opened(self) -> Iterator[zipfile.ZipFile]:
        try:
            archive = self._idle.pop()
        except IndexError:
            archive = open_zip(self._archive)
        yield archive
        self._idle.append(archive)

    @cached_property
    def _members(self) -> dict[str, zipfile.ZipInfo]:
        with self._opened() as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
        inside = self._inside
        return {one.filename.removeprefix(inside): one for one in members if one.filename.startswith(inside)}

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self._members)

    def names(self) -> frozenset[str]:
        """Every file below the path."""
        return self._names

    def where(self, name: str) -> str:
        """Archive and member."""
        return f"{self._archive}:{self._inside}{name}"

    def read(self, name: str) -> bytes:
        """The member's bytes; its checksum is verified on the way."""
        try:
            with self._opened() as archive:
                return archive.read(self._inside + name)
        except KeyError as error:
            raise MissingDataError(f"{self.where(name)} is not in the archive.") from error
        except (OSError, EOFError, zipfile.BadZipFile, ValueError, RuntimeError, zlib.error) as error:
            raise DamagedFileError(f"{self.where(name)} cannot be read: {error}; fetch the archive again.") from error

    def stamp(self, name: str) -> str:
        """Size and checksum as the archive's directory gives them."""
        member = self._members[name]
        return f"{member.file_size}:{member.CRC:08x}"


class Gathered:
    """Files that lie in several folders and archives, each under its name without folders."""

    def __init__(self, places: Mapping[str, tuple[Tree, str]]) -> None:
        self._places = dict(places)

    def names(self) -> frozenset[str]:
        """Every file that was found."""
        return frozenset(self._places)

    def where(self, name: str) -> str:
        """The file's path, or archive and member."""
        tree, inside = self._place(name)
        return tree.where(inside)

    def read(self, name: str) -> bytes:
        """The file's bytes."""
        tree, inside = self._place(name)
        return tree.read(inside)

    def stamp(self, name: str) -> str:
        """As the folder or archive stamps it."""
        tree, inside = self._place(name)
        return tree.stamp(inside)

    def _place(self, name: str) -> tuple[Tree, str]:
        if name not in self._places:
            raise MissingDataError(f"{name} is in none of the folders and archives that were searched.")
        return self._places[name]


def gather_files(root: Path, pattern: re.Pattern[str]) -> Gathered:
    """All files below `root` and in zip archives below it whose name without folders matches `pattern`.

    Where a name occurs more than once, a folder goes before an archive, which is slower to read, and the first place
    in alphabetical order before the others. What macOS adds to archives is left out.
    """
    trees: list[Tree] = [Folder(root), *(ZipTree(archive) for archive in sorted(root.rglob("*.zip")))]
    places: dict[str, tuple[Tree, str]] = {}
    for tree in trees:
        for inside in sorted(tree.names()):
            path = PurePosixPath(inside)
            if pattern.fullmatch(path.name) and "__MACOSX" not in path.parts:
                places.setdefault(path.name, (tree, inside))
    return Gathered(places)


def open_zip(archive: Path) -> zipfile.ZipFile:
    """The opened archive.

    Raises:
        DamagedFileError: if it is no zip file, or a cut-off one.
    """
    try:
        return zipfile.ZipFile(archive)
    except (OSError, zipfile.BadZipFile) as error:
        raise DamagedFileError(f"{archive} is not a readable zip archive ({error}); fetch it again.") from error


def find_tree(root: Path, *, folders: Iterable[str], suffix: str, depth: int = 8) -> Tree | None:
    """The tree whose `folders` hold the most files ending in `suffix`: a folder below `root`, or a part of a zip in it.

    Archives unpack to different outer folders depending on who packed them; what identifies the tree is the set of
    folders it holds. On a tie a folder is preferred to an archive, which is slower to read.
    """
    wanted = frozenset(folders)
    candidates = [*_folders_with(root, wanted, depth), *_archives_with(root, wanted, suffix)]
    sizes = [sum(name.endswith(suffix) for name in tree.names()) for tree in candidates]
    best = max(sizes, default=0)
    return candidates[sizes.index(best)] if best else None


def _folders_with(root: Path, wanted: frozenset[str], depth: int) -> Iterator[Tree]:
    for folder, inside, _ in os.walk(root):
        inside[:] = sorted(name for name in inside if not name.startswith("."))  # half-unpacked archives are hidden
        if wanted & set(inside):
            yield Folder(Path(folder))
            inside.clear()
        elif len(Path(folder).relative_to(root).parts) >= depth:
            inside.clear()


def _archives_with(root: Path, wanted: frozenset[str], suffix: str) -> Iterator[Tree]:
    for archive in sorted(file for file in root.glob("*.zip") if file.is_file()):
        opened = open_zip(archive)
        folders = {name.rpartition("/")[0] for name in opened.namelist() if name.endswith(suffix)}
        places = [folder.rpartition("/") for folder in folders]
        roots = {outer + slash for outer, slash, folder in places if folder in wanted}
        for number, inside in enumerate(sorted(roots)):
            yield ZipTree(archive, inside, [] if number else [opened])
