"""Unpacking archives of other people: nothing is written outside of the folder, and no half of an archive is kept.

An archive is unpacked into a hidden folder first, and its entries move to their places when all of them are there.
Names, links and devices in tar archives are judged by Python's `data` filter (PEP 706). Beyond it, no member may lie
on or below a link, since the filter of older Python versions can be led outside through a chain of links.
"""

import copy
import gzip
import io
import os
import shutil
import stat
import struct
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pydantic import ValidationError

from ssl4eo_bench import progress
from ssl4eo_bench.config.canonical import Frozen
from ssl4eo_bench.errors import DamagedFileError, DataError
from ssl4eo_bench.files.atomic import write_text
from ssl4eo_bench.files.locks import LOCK, locked
from ssl4eo_bench.progress import Advance

CHUNK = 1 << 20
"""Bytes that are read at once."""

FORMATS = (".tar", ".tar.gz", ".tgz", ".zip")

HEADS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
"""Types of headers that only say something about the member that follows."""

LONGEST_HEAD = 1 << 17
"""Bytes that a tar archive may say about a member beside its name; `tarfile` holds all of them in memory."""

LONGEST_NAME = 255
"""Bytes of the name of a file or folder, which is the limit of file systems."""

DEPTH = 100
"""Folders in each other; Python's own functions fail at about a thousand."""

ENCRYPTED = 0x1
"""The bit of the flags of a zip member."""

_UNREADABLE = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, struct.error),
    *(EOFError, ValueError, LookupError, RecursionError, OverflowError),
)


def unpack(archive: Path, folder: Path, *, limit: int | None) -> None:
    """Unpack an archive into a folder, unless this was done before; at most `limit` bytes.

    Directories that exist are used, files that exist are replaced.

    Raises:
        DamagedFileError: if the archive is cut off or damaged, or holds what it must not hold. Nothing is unpacked.
        DataError: if its format is not one of those, or the folder cannot be written.
    """
    _require_format(archive, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / LOCK, note=f"another process is at work in {folder}; waiting for it"):
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
    """Whether the archive was unpacked into the folder and its entries are there; it may be deleted afterwards."""
    try:
        marker = _Marker.model_validate_json(_marker_file(archive, folder).read_bytes())
    except (FileNotFoundError, ValidationError):
        return False
    same = not archive.exists() or marker == _Marker.of(archive, marker.entries)
    return same and all(os.path.lexists(folder / entry) for entry in marker.entries)


class _Marker(Frozen):
    """The record of an unpacked archive: its size in bytes, its time of last change and its outermost entries."""

    size: int
    changed_ns: int
    entries: tuple[str, ...]

    @classmethod
    def of(cls, archive: Path, entries: tuple[str, ...]) -> "_Marker":
        """The marker of an archive in its present state."""
        status = archive.stat()
        return cls(size=status.st_size, changed_ns=status.st_mtime_ns, entries=entries)


def _marker_file(archive: Path, folder: Path) -> Path:
    return folder / f".unpacked-{archive.name}.json"


def _require_format(archive: Path, folder: Path) -> None:
    if archive.name.endswith((".zst", ".zstd")):
        raise DataError(
            f"{archive} is compressed with zstd, which Python cannot read; unpack it with `tar --zstd -xf {archive} -C "
            f"{folder}`."
        )
    if not archive.name.endswith(FORMATS):
        raise DataError(f"{archive} is none of {', '.join(FORMATS)}, which can be unpacked; {_yourself(folder)}.")
    if not archive.name.endswith(".zip") and not hasattr(tarfile, "data_filter"):
        raise DataError(
            f"{archive} cannot be unpacked safely by Python {sys.version.split()[0]}, whose tarfile module has no "
            f"extraction filter; update Python to 3.11.4 or later, or {_yourself(folder)}."
        )


def _yourself(folder: Path) -> str:
    return f"unpack it into {folder} with another program"


def _unpack(archive: Path, folder: Path, limit: int | None) -> None:
    hidden = folder / f".{archive.name}.unpacking"
    shutil.rmtree(hidden, ignore_errors=True)  # what a killed process left
    hidden.mkdir()
    try:
        total = archive.stat().st_size
        with progress.stage(f"unpacking {archive.name}", total=total, unit="bytes") as advance:
            extraction = _Extraction(archive, hidden, limit)
            with io.BufferedReader(_WatchedFile(archive, advance), CHUNK) as opened:
                extraction.unpack_zip(opened) if archive.name.endswith(".zip") else extraction.unpack_tar(opened)
        if hasattr(os, "sync"):  # Windows has none
            os.sync()  # once for all files: a power cut must not leave the marker without the files
        marker = _Marker.of(archive, tuple(sorted(entry.name for entry in hidden.iterdir())))
        _move_in(hidden, folder)
        write_text(_marker_file(archive, folder), marker.model_dump_json() + "\n")
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _move_in(source: Path, folder: Path) -> None:
    """Move the entries of a folder into another one, and merge the folders that both of them have."""
    for entry in source.iterdir():
        place = folder / entry.name
        if all(path.is_dir() and not path.is_symlink() for path in (entry, place)):
            _move_in(entry, place)
        else:
            entry.replace(place)


class _WatchedFile(io.FileIO):
    """A file that reports its progress while it is read."""

    def __init__(self, file: Path, advance: Advance) -> None:
        super().__init__(file)
        self._advance = advance
        self._left = file.stat().st_size

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer and report the bytes, but never more than the file has."""
        count = super().readinto(buffer) or 0
        new = min(count, self._left)  # the directory of a zip archive is read twice
        self._left -= new
        self._advance(new)
        return count


class _Extraction:
    """Extracts the members of one archive into an empty folder."""

    def __init__(self, archive: Path, folder: Path, limit: int | None) -> None:
        self._archive = archive
        self._folder = folder
        self._limit = limit
        self._written = 0

    def unpack_tar(self, opened: IO[bytes]) -> None:
        """Extract a tar archive in one pass, without permissions and times of the members."""
        compressed = not self._archive.name.endswith(".tar")
        stream: gzip.GzipFile | IO[bytes] = gzip.GzipFile(fileobj=opened) if compressed else opened
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_StrictMember) as tar:
            while (member := tar.next()) is not None:
                self._judge(member)
                try:
                    tar.extract(member, self._folder, set_attrs=False, filter="data")
                except tarfile.FilterError as error:
                    raise self._refusal(member.name, f"which is not safe to unpack ({error})") from error
                tar.members.clear()  # type: ignore[attr-defined]  # millions of them would fill the memory
        while stream.read(CHUNK):  # up to the checksum behind the last member
            pass

    def _judge(self, member: tarfile.TarInfo) -> None:
        """Refuse what the filter of some Python versions lets pass."""
        segments: list[tuple[int, int]] = getattr(member, "sparse", None) or []
        self._count(member.name, max(member.size, sum(size for _, size in segments)))
        if self._on_link(member.name):
            raise self._refusal(member.name, "which lies on or below a link")
        target = self._folder / member.linkname
        if member.islnk() and (self._on_link(member.linkname) or not target.is_file()):
            raise self._refusal(member.name, f"a link to {member.linkname!r}, which is no file before it")

    def _on_link(self, name: str) -> bool:
        path = PurePosixPath(name.lstrip("/"))  # as the filter takes it
        return any((self._folder / part).is_symlink() for part in (path, *path.parents))

    def unpack_zip(self, opened: IO[bytes]) -> None:
        """Extract a zip archive, whose names `zipfile` makes relative."""
        with zipfile.ZipFile(opened) as archive:
            for member in archive.infolist():
                if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise self._refusal(member.filename, "a link, a device or something unknown")
                if member.flag_bits & ENCRYPTED:
                    raise self._refusal(member.filename, "which is encrypted")
                self._count(member.filename, member.file_size)
                # zipfile silently cuts off what is longer than the header says; one byte more brings an error.
                longer = copy.copy(member)
                longer.file_size += 1
                longer.filename = member.filename.replace("\\", "/")  # some programs for Windows write these
                written = Path(archive.extract(longer, self._folder))
                size = 0 if member.is_dir() else written.stat().st_size
                if size != member.file_size:
                    sizes = f"which has {size:,} bytes, but {member.file_size:,} in its header"
                    raise self._refusal(member.filename, sizes)

    def _count(self, name: str, size: int) -> None:
        parts = PurePosixPath(name).parts
        if len(parts) > DEPTH:
            raise self._refusal(name[:LONGEST_NAME], f"which lies more than {DEPTH} folders deep")
        if max((len(os.fsencode(part)) for part in parts), default=0) > LONGEST_NAME:
            raise self._refusal(name[:LONGEST_NAME], f"and more, a name of more than {LONGEST_NAME} bytes")
        self._written += size
        if self._limit is not None and self._written > self._limit:
            raise self._refusal(name, f"with which it has more than the {self._limit:,} bytes it may unpack to")

    def _refusal(self, name: str, why: str) -> DamagedFileError:
        """The error that names a member; `!r` keeps control characters in it from the terminal."""
        return DamagedFileError(
            f"{self._archive} holds {name!r}, {why}, so nothing of it was unpacked; delete it and get it again from "
            "its publisher."
        )


class _StrictMember(tarfile.TarInfo):
    """A member that needs a valid header; `tarfile` takes a damaged or missing one for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_StrictMember":
        """Return the member of a header; one that would fill the memory is an error."""
        member = super().frombuf(buf, encoding, errors)
        if member.size < 0 or (member.type in HEADS and member.size > LONGEST_HEAD):
            raise tarfile.ReadError(f"a header of {member.size:,} bytes")
        return member

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> "_StrictMember":
        """Return the next member of an archive; a damaged header is an error."""
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the end mark, not in the stubs
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error
