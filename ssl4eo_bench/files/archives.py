"""Unpacking archives that come from elsewhere: nothing is written outside of a folder, and nothing half.

An archive is unpacked into a hidden folder first, whose entries get their place when all of them are there. A member
that would leave the folder, a device, or more bytes than announced are refused, and then nothing is left of it.

Links are what makes this hard, because a path may lead through one that an earlier member has made. So members are only
written below real directories, and a link may climb only at the start of its target, from the real directory it lies
in. By induction every link then ends inside of the folder, whatever other links it leads through.
"""

import copy
import gzip
import io
import os
import shutil
import stat
import sys
import tarfile
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from ssl4eo_bench import progress
from ssl4eo_bench.config.canonical import Frozen
from ssl4eo_bench.errors import DamagedFileError, DataError
from ssl4eo_bench.files.storage import LOCK, locked, write_text
from ssl4eo_bench.progress import Advance

CHUNK = 1 << 20
"""Bytes read at once."""

FORMATS = (".tar", ".tar.gz", ".tgz", ".zip")

ENCRYPTED = 0x1
"""The bit of a zip member's flags."""

_UNREADABLE = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, ValueError)


def unpack(archive: Path, folder: Path, *, limit: int | None) -> None:
    """Unpack an archive into a folder, unless that has been done already.

    Args:
        archive: one of `FORMATS`.
        folder: where its content goes, into directories that are there already where names agree.
        limit: the most bytes that may be written.

    Raises:
        DamagedFileError: if it is cut off, or has in it what it must not have; nothing is unpacked then.
        DataError: if its format is not one of those, or the folder cannot be written.
    """
    _require_format(archive, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        note = f"another process is at work in {folder}; waiting for it"
        with locked(folder / LOCK, lambda: progress.note(note)):
            if not is_unpacked(archive, folder):
                _unpack(archive, folder, limit)
    except _UNREADABLE as error:
        raise DamagedFileError(
            f"{archive} is damaged or cut off ({error}), and nothing of it was unpacked; delete it and fetch it again."
        ) from error
    except NotImplementedError as error:  # Deflate64 and the like
        raise DataError(
            f"{archive} is packed in a way that Python cannot read ({error}); {_yourself(folder)}."
        ) from error
    except OSError as error:
        raise DataError(
            f"{archive} cannot be unpacked into {folder} ({error.strerror}: {error.filename}); free some space or move "
            "what is in the way, and run the same command again."
        ) from error


def is_unpacked(archive: Path, folder: Path) -> bool:
    """Whether this archive was unpacked into the folder and its entries are there; it may itself be deleted since."""
    try:
        marker = _Marker.model_validate_json(_marker_of(archive, folder).read_bytes())
    except (FileNotFoundError, ValidationError):
        return False
    same = not archive.exists() or marker == _Marker.of(archive, marker.entries)
    return same and all(os.path.lexists(folder / entry) for entry in marker.entries)


class _Marker(Frozen):
    """Says that an archive is unpacked: its size in bytes, when it was last changed, and its outermost entries."""

    size: int
    changed_ns: int
    entries: tuple[str, ...]

    @classmethod
    def of(cls, archive: Path, entries: tuple[str, ...]) -> "_Marker":
        """The marker of an archive as it is now."""
        status = archive.stat()
        return cls(size=status.st_size, changed_ns=status.st_mtime_ns, entries=entries)


def _marker_of(archive: Path, folder: Path) -> Path:
    return folder / f".unpacked-{archive.name}.json"


def _require_format(archive: Path, folder: Path) -> None:
    if archive.name.endswith((".zst", ".zstd")):
        raise DataError(
            f"{archive} is compressed with zstd, which Python cannot read; unpack it with `tar --zstd -xf {archive} -C "
            f"{folder}`."
        )
    if not archive.name.endswith(FORMATS):
        raise DataError(f"{archive} is none of {', '.join(FORMATS)}, which can be unpacked; {_yourself(folder)}.")


def _yourself(folder: Path) -> str:
    return f"unpack it into {folder} with another program"


def _unpack(archive: Path, folder: Path, limit: int | None) -> None:
    hidden = folder / f".{archive.name}.unpacking"
    shutil.rmtree(hidden, ignore_errors=True)  # of a process that was killed
    hidden.mkdir()
    try:
        total = archive.stat().st_size
        with progress.stage(f"unpacking {archive.name}", total=total, unit="bytes") as advance:
            output = _Output(archive, hidden, limit)
            with io.BufferedReader(_Watched(archive, advance), CHUNK) as opened:
                _unpack_zip(opened, output) if archive.name.endswith(".zip") else _unpack_tar(opened, output)
        os.sync()  # once for all files: a marker that survives a power cut must not outlive what it speaks of
        marker = _Marker.of(archive, tuple(sorted(entry.name for entry in hidden.iterdir())))
        _move_in(hidden, folder)
        write_text(_marker_of(archive, folder), marker.model_dump_json() + "\n")
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _move_in(source: Path, folder: Path) -> None:
    for entry in source.iterdir():
        place = folder / entry.name
        if _is_real_folder(entry) and _is_real_folder(place):
            _move_in(entry, place)
        else:
            entry.replace(place)


def _is_real_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


class _Watched(io.FileIO):
    """A file that tells how many bytes are read from it, and never more than it has."""

    def __init__(self, file: Path, advance: Advance) -> None:
        super().__init__(file)
        self._advance = advance
        self._left = file.stat().st_size

    def readinto(self, buffer: Any, /) -> int:
        """Read into a buffer."""
        count = super().readinto(buffer) or 0
        told = min(count, self._left)  # the directory of a zip archive is read twice
        self._left -= told
        self._advance(told)
        return count


OUTSIDE = "which would be written outside of its folder"


class _Output:
    """Where members go: below one real directory, and no more bytes than allowed."""

    def __init__(self, archive: Path, root: Path, limit: int | None) -> None:
        self.root = root
        self.archive = archive
        self._limit = limit
        self._written = 0
        self._known: tuple[str, ...] = ()  # members of one directory mostly follow each other

    def refusal(self, name: str, why: str) -> DamagedFileError:
        """The error that names a member; `!r` keeps control characters in it from the terminal."""
        return DamagedFileError(
            f"{self.archive} holds {name!r}, {why}, so nothing of it was unpacked; delete it and get it again from "
            "its publisher."
        )

    def folder(self, name: str) -> None:
        """Make a directory."""
        self._folder(name, self._parts(name))

    def file(self, name: str, content: IO[bytes], size: int) -> None:
        """Write a file of `size` bytes."""
        path = self._place(name)
        written = 0
        with path.open("xb") as opened:
            while chunk := content.read(min(CHUNK, size + 1 - written)):  # one more than announced is enough
                written += len(chunk)
                self._written += len(chunk)
                if written > size:
                    raise self.refusal(name, f"which has more than the {size:,} bytes it is announced with")
                if self._limit is not None and self._written > self._limit:
                    raise self.refusal(name, f"with which it has more than the {self._limit:,} bytes it may unpack to")
                opened.write(chunk)
        if written != size:
            raise self.refusal(name, f"which has {written:,} bytes of the {size:,} it is announced with")

    def symlink(self, name: str, target: str) -> None:
        """Make a symbolic link that ends inside."""
        path, depth = self._place(name), len(self._parts(name)) - 1
        parts = [part for part in target.split("/") if part not in ("", ".")]
        climbs = next((count for count, part in enumerate(parts) if part != ".."), len(parts))
        if target.startswith("/") or "\0" in target or climbs > depth or ".." in parts[climbs:]:
            raise self.refusal(name, f"a link to {target!r}, which may lead out of its folder")
        path.symlink_to(target)

    def hardlink(self, name: str, target: str) -> None:
        """Make another name for a file that has been written."""
        path, parts = self._place(name), self._parts(target, of=name)
        source = self.root.joinpath(*parts)
        inside = all(_is_real_folder(folder) for folder in self._way(parts[:-1]))
        if not inside or source.is_symlink() or not source.is_file():
            raise self.refusal(name, f"a link to {target!r}, which is no file before it in the archive")
        path.hardlink_to(source)

    def _parts(self, path: str, *, of: str | None = None) -> tuple[str, ...]:
        parts = tuple(part for part in path.split("/") if part not in ("", "."))
        if path.startswith("/") or ".." in parts or "\0" in path:
            raise self.refusal(of or path, f"a link to {path!r}, outside of its folder" if of else OUTSIDE)
        return parts

    def _place(self, name: str) -> Path:
        """The free place of a file or link, whose directory is made; what an earlier member put there is replaced."""
        parts = self._parts(name)
        if not parts:
            raise self.refusal(name, "a file without a name")
        self._folder(name, parts[:-1])
        path = self.root.joinpath(*parts)
        if _is_real_folder(path):
            raise self.refusal(name, "which is a directory as well")
        path.unlink(missing_ok=True)
        return path

    def _folder(self, name: str, parts: tuple[str, ...]) -> None:
        if parts == self._known:
            return
        for path in self._way(parts):
            with suppress(FileExistsError):
                path.mkdir()
            if not _is_real_folder(path):
                raise self.refusal(name, "whose directory is a file or a link as well")
        self._known = parts

    def _way(self, parts: tuple[str, ...]) -> list[Path]:
        return [self.root.joinpath(*parts[: depth + 1]) for depth in range(len(parts))]


class _Member(tarfile.TarInfo):
    """A member whose header is read strictly: `tarfile` takes a damaged one, or none at all, for the end."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> "_Member":
        """The next member."""
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the end mark, not in the stubs
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


def _unpack_tar(opened: IO[bytes], output: _Output) -> None:
    compressed = not output.archive.name.endswith(".tar")
    stream: gzip.GzipFile | IO[bytes] = gzip.GzipFile(fileobj=opened) if compressed else opened
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as tar:
        while (member := tar.next()) is not None:
            _unpack_tar_member(tar, member, output)
            tar.members.clear()  # type: ignore[attr-defined]  # or millions of them would fill the memory
    while stream.read(CHUNK):  # to the checksum behind the last member
        pass


def _unpack_tar_member(tar: tarfile.TarFile, member: tarfile.TarInfo, output: _Output) -> None:
    if member.isdir():
        output.folder(member.name)
    elif member.issym():
        output.symlink(member.name, member.linkname)
    elif member.islnk():
        output.hardlink(member.name, member.linkname)
    elif member.isreg() and (content := tar.extractfile(member)) is not None:
        output.file(member.name, content, member.size)
    else:
        raise output.refusal(member.name, "a device, a pipe or something unknown")


def _unpack_zip(opened: IO[bytes], output: _Output) -> None:
    with zipfile.ZipFile(opened) as archive:
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise output.refusal(member.filename, "a link, a device or something unknown")
            if member.flag_bits & ENCRYPTED:
                raise output.refusal(member.filename, "which is encrypted")
            if member.is_dir():
                output.folder(member.filename)
                continue
            unbounded = copy.copy(member)
            unbounded.file_size = sys.maxsize  # or `zipfile` would drop in silence what the header does not announce
            with archive.open(unbounded) as content:
                output.file(member.filename, content, member.file_size)
