"""Downloads that continue after an interruption. A file is checked before it gets its name.

Until then it is called `<name>.part`. The file `<name>.part.json` beside it records the address and the version of the
remote file, so that bytes of two versions are never put together.
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from socket import gaierror

import requests
from pydantic import ValidationError
from rich.filesize import decimal
from urllib3.exceptions import HTTPError, ReadTimeoutError

from ssl4eo_bench import progress
from ssl4eo_bench.config.canonical import Frozen
from ssl4eo_bench.config.remote_files import RemoteFile
from ssl4eo_bench.errors import BenchError, DamagedFileError, DownloadError, MissingDataError, RefusedError
from ssl4eo_bench.files.atomic import write_text, writing
from ssl4eo_bench.files.hashing import file_hash
from ssl4eo_bench.files.locks import LOCK, locked
from ssl4eo_bench.files.places import free_bytes, require_space
from ssl4eo_bench.version import __version__

PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds between two attempts. After this many attempts in a row without a new byte, the next one is the last."""

LONGEST_PAUSE = 60.0
"""Seconds. A busy server that asks for a longer pause gets the next request after this one."""

TIMEOUTS = (15.0, 60.0)
"""Seconds: for the connection, and between two bytes."""

CHUNK = 1 << 16
"""Bytes that are read at once; an interruption loses fewer."""

LARGEST = 32_000_000_000
"""Bytes of a file of unknown size, which may never end; no published weights are as large."""

DIGITS = 18
"""Of a size in a header; a longer one is no size."""

BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Status codes of errors that may be gone at the next attempt."""


def fetch(
    file: RemoteFile,
    folder: Path,
    *,
    option: str = "--data-dir",
    inspect: Callable[[Path], object] = lambda _: None,
) -> Path:
    """The path of a published file below `folder`; the file is downloaded if it is not there yet.

    `inspect` is called with the downloaded file before its hashes are compared; if it raises a `BenchError`, the file
    is deleted. `option` is the command-line option for another directory.

    Raises:
        MissingDataError: if the file is not there and has no address.
        DownloadError: if the network, the server or the disk fail. The next call continues the download.
        RefusedError: if the server answers with something else than the file.
        DamagedFileError: if the downloaded file is not the published one. It is deleted.
    """
    target = folder / file.name
    with writing(target, cure=f"name another directory with {option}", error=DownloadError):
        if is_there(file, folder):
            return target
        if file.url is None:
            raise MissingDataError(by_hand(file, folder))
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(target.parent / LOCK, note=f"another process is at work in {target.parent}; waiting for it"):
            if not is_there(file, folder):  # another process may have downloaded it meanwhile
                needed = needed_bytes(file, folder)
                takes = f"{file.name} takes {decimal(needed)}{' with what is in it' if file.unpack else ''}"
                cure = f"name a directory on another disk with {option}"
                require_space(needed, folder, takes, cure=cure, error=DownloadError)
                _fetch(file, file.url, target, inspect)
    return target


def is_there(file: RemoteFile, folder: Path) -> bool:
    """Whether a file of the published size is there; its hashes were compared when it was downloaded."""
    target = folder / file.name
    return target.is_file() and file.size in (None, target.stat().st_size)


def begun_bytes(file: RemoteFile, folder: Path) -> int:
    """The bytes of a file that an interrupted download has left."""
    part = _part_file(folder / file.name)
    return part.stat().st_size if part.is_file() else 0


def needed_bytes(file: RemoteFile, folder: Path) -> int:
    """The disk space, in bytes, that the rest of a download and its unpacking take."""
    rest = (file.size or file.about_bytes or 0) - begun_bytes(file, folder)
    return max(rest, 0) + ((file.unpacked_bytes or 0) if file.unpack else 0)


def by_hand(file: RemoteFile, folder: Path) -> str:
    """The sentence that says how to get a file without an address."""
    return f"{folder / file.name} has to be put there by hand: {file.instructions.rstrip('.')}."


def _fetch(file: RemoteFile, url: str, target: Path, inspect: Callable[[Path], object]) -> None:
    with closing(_Part(file, url, target)) as part:
        failures = furthest = 0
        while not part.complete:
            try:
                _receive(part)
            except _CutError as cut:
                failures = 1 if part.length > furthest else failures + 1
                furthest = max(furthest, part.length)
                if failures > len(PAUSES) or (cut.offline and not part.length):
                    often = f", {failures} times in a row" if failures > 1 else ""
                    raise DownloadError(
                        f"{url} cannot be fetched ({cut}{often}); check network and proxy and run "
                        "the same command again, it goes on from what has come; or get the file another way and put "
                        f"it at {target}."
                    ) from cut
                pause = min(max(PAUSES[failures - 1], cut.pause), LONGEST_PAUSE)
                progress.note(f"{file.name}: {cut} after {decimal(part.length)}; trying again in {pause:.0f} s")
                time.sleep(pause)
        part.finish(inspect)


class _CutError(Exception):
    """A transfer ended too early, but another attempt, after a pause in seconds, may bring the rest."""

    def __init__(self, reason: str, *, pause: float = 0.0, offline: bool = False) -> None:
        super().__init__(reason)
        self.pause = pause
        self.offline = offline


class _Origin(Frozen):
    """Address and version of the remote file that a part belongs to; the version is None if the server gave none."""

    url: str
    validator: str | None


class _Part:
    """The first bytes of a file, on disk beside the place of the whole file.

    Attributes:
        limit: the most bytes that it may have: its size, else twice what is expected, else not the whole disk.
        validator: the version of the remote file: a strong ETag or a date.
    """

    def __init__(self, file: RemoteFile, url: str, target: Path) -> None:
        self.file, self.url, self.target = file, url, target
        self._path = _part_file(target)
        self._record = self._path.with_name(f"{self._path.name}.json")
        self._opened = self._path.open("a+b")
        twice = 2 * (file.about_bytes or 0)
        self.limit = file.size or twice or min(LARGEST, free_bytes(target.parent) * 9 // 10)
        self.length = self._path.stat().st_size
        self.validator: str | None = None
        self.complete = False
        if self.length:
            self._resume()

    def _resume(self) -> None:
        """Keep the bytes of an earlier call if they belong to this file."""
        try:
            origin = _Origin.model_validate_json(self._record.read_bytes())
        except (FileNotFoundError, ValidationError):
            origin = None
        if origin is None or origin.url != self.url or self.length > (self.file.size or self.length):
            self.restart(None)
        else:
            self.validator = origin.validator
            self.complete = self.length == self.file.size

    @property
    def continues(self) -> bool:
        """Whether the rest can be requested: only if bytes of another version would be noticed."""
        return self.length > 0 and bool(self.validator or self.file.hashes)

    def restart(self, validator: str | None) -> None:
        """Delete all bytes and record the version of the file that comes next."""
        self._opened.truncate(0)  # before the record, so that it never stands beside bytes of another version
        self.length = 0
        self.validator = validator
        self.complete = False
        write_text(self._record, _Origin(url=self.url, validator=validator).model_dump_json() + "\n")

    def write(self, chunk: bytes) -> None:
        """Append bytes to the partial file."""
        self._opened.write(chunk)
        self.length += len(chunk)

    def refuse_size(self, size: int) -> None:
        """Refuse a whole file of another size than the published one, or of more bytes than it may have.

        Raises:
            DamagedFileError: if so. The part is deleted.
        """
        if self.file.size == size or (self.file.size is None and size <= self.limit):
            return
        self.discard()
        expected = f"the published file has {self.limit:,}" if self.file.size else f"may have {self.limit:,} at most"
        raise DamagedFileError(
            f"{self.url} has {size:,} bytes, but {expected}; what has come is deleted: the publisher has put another "
            f"file there, so get the published one and put it at {self.target}."
        )

    def finish(self, inspect: Callable[[Path], object]) -> None:
        """Give the whole file its name.

        Raises:
            DamagedFileError: if it is not the published file. It is deleted.
            BenchError: if `inspect` refuses it. It is deleted.
        """
        self._opened.flush()
        os.fsync(self._opened.fileno())
        self.refuse_size(self.length)
        try:
            inspect(self._path)
            self._compare_hashes()
        except BenchError:
            self.discard()
            raise
        self._opened.close()  # Windows renames and deletes no file that is open
        self._path.replace(self.target)
        self._record.unlink(missing_ok=True)

    def _compare_hashes(self) -> None:
        for name, published in self.file.hashes.items():
            found = file_hash(self._path, name, what=f"checking {self.file.name}")
            if not found.startswith(published):
                raise DamagedFileError(
                    f"{self.url} came with {name} {found}, but the published file has {published}; what has come is "
                    "deleted: run the same command again, and if this is repeated, the publisher has changed the file."
                )

    def discard(self) -> None:
        """Delete the part and its record."""
        self._opened.close()
        self._path.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the part, and delete it if it is empty."""
        self._opened.close()
        if self.length == 0:
            self.discard()


def _part_file(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _receive(part: _Part) -> None:
    """Request the missing bytes once and append them; a `_CutError` says that some are still missing."""
    # Without `identity` a server may compress the file, and sizes and ranges would be those of the compressed one.
    headers = {"Accept-Encoding": "identity", "User-Agent": f"ssl4eo-bench/{__version__}"}
    if part.continues:
        headers["Range"] = f"bytes={part.length}-"
        if part.validator:
            headers["If-Range"] = part.validator
    try:
        with requests.get(part.url, headers=headers, stream=True, timeout=TIMEOUTS) as response:
            _take(response, part)
    except (requests.RequestException, HTTPError) as error:
        raise _CutError(_reason(error), offline=any(isinstance(cause, gaierror) for cause in _causes(error))) from error


def _take(response: requests.Response, part: _Part) -> None:
    """Append the bytes of an answer to the part; a `_CutError` says that it does not bring, or continue, all of it."""
    if response.status_code == 416 and part.continues:
        _continue(response, part)  # nothing is missing
    else:
        _require_file(response, part)
        total = _continue(response, part) if response.status_code == 206 else _start_anew(response, part)
        _append(response, part, total)
    part.complete = True


def _append(response: requests.Response, part: _Part, total: int | None) -> None:
    if total is not None:
        part.refuse_size(total)
    expected = total or part.file.size
    about = expected or part.file.about_bytes or 0
    with progress.stage(part.file.name, total=max(about, part.length), unit="bytes") as advance:
        advance(part.length)
        for chunk in response.raw.stream(CHUNK, decode_content=False):
            part.write(chunk)
            advance(len(chunk))
            if part.length > (expected or part.limit):  # it may never end
                break
    if part.length > (expected or part.limit):
        part.refuse_size(part.length)
        part.restart(None)
        raise _CutError("it sends more than it announces")
    if expected is not None and part.length < expected:
        raise _CutError("the connection was cut")


def _require_file(response: requests.Response, part: _Part) -> None:
    """Refuse an answer without a file."""
    answer = f"{response.status_code} {response.reason}".strip()
    if response.status_code in BUSY:
        pause = response.headers.get("Retry-After", "")
        raise _CutError(f"it answers {answer}", pause=float(pause) if pause.isdecimal() else 0.0)
    if response.status_code not in (200, 206):
        raise RefusedError(
            f"{part.url} answers {answer}: its publisher has moved, closed or removed it; get the file another way and "
            f"put it at {part.target}."
        )
    if response.headers.get("Content-Type", "").startswith("text/html") and part.target.suffix not in (".html", ".htm"):
        raise RefusedError(
            f"{part.url} answers with a web page instead of the file; open it in a browser, get the file from there "
            f"and put it at {part.target}."
        )


def _start_anew(response: requests.Response, part: _Part) -> int | None:
    """Begin with the first byte; return the size of the file in bytes if the server announces it.

    This is the answer to a first request, the answer of a server without ranges, and the one after the file changed.
    """
    part.restart(_validator(response.headers))
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() and len(length) <= DIGITS else None


def _continue(response: requests.Response, part: _Part) -> int | None:
    """Check that an answer continues the part (206) or says that it is whole (416); return the size of the file."""
    start, total = _content_range(response.headers)
    marks = {response.headers.get("ETag"), response.headers.get("Last-Modified")} - {None}
    changed = part.validator is not None and bool(marks) and part.validator not in marks
    if changed or (total if response.status_code == 416 else start) != part.length:
        part.restart(None)
        raise _CutError("the file has changed" if changed else "it does not go on where it stopped")
    return total


def _content_range(headers: Mapping[str, str]) -> tuple[int | None, int | None]:
    """The first byte of the answer and the size of the file, each None if the server does not announce it."""
    match = re.fullmatch(
        rf"bytes\s+(?:(\d{{1,{DIGITS}}})-\d+|\*)/(?:(\d{{1,{DIGITS}}})|\*)", headers.get("Content-Range", "").strip()
    )
    if match is None:
        return None, None
    return (int(match[1]) if match[1] else None, int(match[2]) if match[2] else None)


def _validator(headers: Mapping[str, str]) -> str | None:
    """The version for `If-Range`: no weak ETag, since files with the same one may differ in bytes."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _reason(error: BaseException) -> str:
    """Why a request failed, from the innermost error that says so."""
    if isinstance(error, requests.Timeout | ReadTimeoutError):
        return "no answer in time"
    reasons = [cause.strerror for cause in _causes(error) if isinstance(cause, OSError) and cause.strerror]
    return reasons[0] if reasons else "the connection was cut"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and its causes, outermost first."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
