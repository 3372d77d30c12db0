"""Fetching published files: a cut-off transfer goes on where it stopped, and a file is checked before it gets its name.

While a file comes in it is called `<name>.part`; `<name>.part.json` beside it says which state of the remote file it is
the beginning of, so that it is never continued with bytes of another one.
"""

import errno
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from socket import gaierror

import requests
from pydantic import ValidationError
from rich.filesize import decimal
from urllib3.exceptions import HTTPError, ReadTimeoutError

from ssl4eo_bench import __version__, progress
from ssl4eo_bench.config.canonical import Frozen
from ssl4eo_bench.config.remote_files import RemoteFile
from ssl4eo_bench.errors import BenchError, DamagedFileError, DownloadError, MissingDataError, RefusedError
from ssl4eo_bench.files.storage import LOCK, free_bytes, locked, write_text

PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds between tries. When this many in a row bring nothing new, one more is the last."""

LONGEST_PAUSE = 60.0
"""Seconds; a busy server that asks for a longer pause is asked again after this one."""

TIMEOUTS = (15.0, 60.0)
"""Seconds until connected, and without a byte."""

CHUNK = 1 << 16
"""Bytes read at once. What is lost at a cut is less than this."""

BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers that another try may change."""


def fetch(
    file: RemoteFile,
    folder: Path,
    *,
    option: str = "--data-dir",
    inspect: Callable[[Path], object] = lambda _: None,
) -> Path:
    """The place of a published file below `folder`, fetched if it is not there yet.

    Args:
        file: which.
        folder: of the task; made if it is not there.
        option: of the command line, that names another directory.
        inspect: called with what has come before its hashes are compared; if it raises one of our errors, that is
            raised, and what has come is deleted.

    Raises:
        MissingDataError: if it is not there and has no address to fetch it from.
        DownloadError: if network, server or disk are in the way; what has come is kept, and the next call goes on.
        RefusedError: if the server answers with something else than the file.
        DamagedFileError: if what has come is not the published file; it is deleted.
    """
    target = folder / file.name
    with _writing(target, option):
        if is_there(file, folder):
            return target
        if file.url is None:
            raise MissingDataError(by_hand(file, folder))
        target.parent.mkdir(parents=True, exist_ok=True)
        note = f"another process is at work in {target.parent}; waiting for it"
        with locked(target.parent / LOCK, lambda: progress.note(note)):
            if not is_there(file, folder):  # the other process may have fetched it
                _require_space(file, folder, option)
                _fetch(file, file.url, target, inspect)
    return target


def is_there(file: RemoteFile, folder: Path) -> bool:
    """Whether a file is below `folder` in the published size; its checksum was compared when it was fetched."""
    target = folder / file.name
    return target.is_file() and file.size in (None, target.stat().st_size)


def begun_bytes(file: RemoteFile, folder: Path) -> int:
    """How much of a file an earlier call has left, in bytes."""
    part = _part_of(folder / file.name)
    return part.stat().st_size if part.is_file() else 0


def needed_bytes(file: RemoteFile, folder: Path) -> int:
    """The disk space, in bytes, that fetching and unpacking a file that is not there will take."""
    rest = (file.size or file.about_bytes or 0) - begun_bytes(file, folder)
    return max(rest, 0) + ((file.unpacked_bytes or 0) if file.unpack else 0)


def by_hand(file: RemoteFile, folder: Path) -> str:
    """One sentence on getting a file that has no address."""
    return f"{folder / file.name} has to be put there by hand: {file.instructions.rstrip('.')}."


def _require_space(file: RemoteFile, folder: Path, option: str) -> None:
    needed, free = needed_bytes(file, folder), free_bytes(folder)
    if needed > free:
        unpacked = " with what is in it" if file.unpack else ""
        raise DownloadError(
            f"{file.name} takes {decimal(needed)}{unpacked}, but the disk of {folder} has {decimal(free)} free; free "
            f"some space there, or name a directory on another disk with {option}."
        )


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
    """A transfer that ended too early; another try, after `pause` seconds or more, may bring the rest.

    It will hardly if this machine is `offline`.
    """

    def __init__(self, reason: str, *, pause: float = 0.0, offline: bool = False) -> None:
        super().__init__(reason)
        self.pause = pause
        self.offline = offline


class _Origin(Frozen):
    """What a part is the beginning of: an address, and the mark of its content at that time if the server gave one."""

    url: str
    validator: str | None


class _Part:
    """The beginning of a file, on disk beside the place of the whole.

    Attributes:
        file: what it is to become.
        url: where it comes from.
        target: the place of the whole.
        length: bytes that are there.
        validator: a strong ETag or a date, as the server gave it.
        complete: nothing is missing.
    """

    def __init__(self, file: RemoteFile, url: str, target: Path) -> None:
        self.file, self.url, self.target = file, url, target
        self._path = _part_of(target)
        self._record = self._path.with_name(f"{self._path.name}.json")
        self._opened = self._path.open("a+b")
        self._hashes = _hashes(file)
        self.length = self._path.stat().st_size
        self.validator: str | None = None
        self.complete = False
        if self.length:
            self._take_up()

    def _take_up(self) -> None:
        """Go on from what an earlier call has left, if it is the beginning of this file."""
        origin = self._origin()
        if origin is None or origin.url != self.url or self.length > (self.file.size or self.length):
            self.restart(None)
            return
        self.validator = origin.validator
        self.complete = self.length == self.file.size
        if self._hashes:
            self._opened.seek(0)
            with progress.stage(f"checking {self._path.name}", total=self.length, unit="bytes") as advance:
                while chunk := self._opened.read(CHUNK):
                    self._update(chunk)
                    advance(len(chunk))

    def _origin(self) -> _Origin | None:
        try:
            return _Origin.model_validate_json(self._record.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    @property
    def continues(self) -> bool:
        """Whether it may be continued: only where bytes of another state of the file would be noticed."""
        return self.length > 0 and bool(self.validator or self._hashes)

    def restart(self, validator: str | None) -> None:
        """Throw away what is there, and note what is going to come."""
        self._opened.truncate(0)  # before the note: old bytes must not be found under a new one
        self._hashes = _hashes(self.file)
        self.length = 0
        self.validator = validator
        self.complete = False
        write_text(self._record, _Origin(url=self.url, validator=validator).model_dump_json() + "\n")

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        self._opened.write(chunk)
        self.length += len(chunk)
        self._update(chunk)

    def _update(self, chunk: bytes) -> None:
        for digest in self._hashes.values():
            digest.update(chunk)

    def refuse_size(self, size: int) -> None:
        """Delete the part and raise if the whole has another size than the published file.

        Raises:
            DamagedFileError: then.
        """
        if self.file.size not in (None, size):
            self.discard()
            raise DamagedFileError(
                f"{self.url} has {size:,} bytes, but the published file has {self.file.size:,}; what has come is "
                f"deleted: the publisher has put another file there, so get the published one and put it at "
                f"{self.target}."
            )

    def finish(self, inspect: Callable[[Path], object]) -> None:
        """Give the whole its name, if it is the published file.

        Raises:
            DamagedFileError: if it is not; it is deleted then.
            BenchError: if `inspect` refuses it; it is deleted then, too.
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
        self._path.replace(self.target)
        self._record.unlink(missing_ok=True)

    def _compare_hashes(self) -> None:
        for name, published in self.file.hashes.items():
            found = self._hashes[name].hexdigest()
            if not found.startswith(published):
                raise DamagedFileError(
                    f"{self.url} came with {name} {found}, but the published file has {published}; what has come is "
                    "deleted: run the same command again, and if this is repeated, the publisher has changed the file."
                )

    def discard(self) -> None:
        """Delete what is there."""
        self._path.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; what is there stays, if it is anything."""
        self._opened.close()
        if self.length == 0:
            self.discard()


def _part_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _hashes(file: RemoteFile) -> "dict[str, hashlib._Hash]":
    return {name: hashlib.new(name, usedforsecurity=False) for name in file.hashes}


def _receive(part: _Part) -> None:
    """Ask once for what is missing, and append what comes.

    Raises:
        _CutError: if something is still missing then.
    """
    # Without `identity` a server may compress on the fly, and neither sizes nor ranges would be those of the file.
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
    status = response.status_code
    if status == 416 and part.continues:
        _end_beyond_range(response, part)
        return
    _require_file(response, part)
    total = _position_at_start(response, part) if status == 206 else _start_anew(response, part)
    if total is not None:
        part.refuse_size(total)
    expected = total or part.file.size
    about = expected or part.file.about_bytes or 0
    with progress.stage(part.file.name, total=max(about, part.length), unit="bytes") as advance:
        advance(part.length)
        for chunk in response.raw.stream(CHUNK, decode_content=False):
            part.write(chunk)
            advance(len(chunk))
            if part.length > (expected or part.length):  # it may go on for ever
                break
    if expected is not None and part.length > expected:
        part.refuse_size(part.length)
        part.restart(None)
        raise _CutError("it sends more than it announces")
    if expected is not None and part.length < expected:
        raise _CutError("the connection was cut")
    part.complete = True


def _require_file(response: requests.Response, part: _Part) -> None:
    """Refuse an answer that holds no file."""
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
    """Begin with the first byte; gives the size of the whole in bytes, if the server tells it.

    That is the answer to the first request, of a server that cannot go on, and of one whose file has changed since.
    """
    part.restart(_validator(response.headers))
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _position_at_start(response: requests.Response, part: _Part) -> int | None:
    """Check that what comes continues the part; gives the size of the whole in bytes, if the server tells it."""
    start, total = _content_range(response.headers)
    marks = {response.headers.get("ETag"), response.headers.get("Last-Modified")} - {None}
    changed = part.validator is not None and bool(marks) and part.validator not in marks
    if start != part.length or changed:
        part.restart(None)
        raise _CutError("the file has changed" if changed else "it does not go on where it stopped")
    return total


def _end_beyond_range(response: requests.Response, part: _Part) -> None:
    """The server has nothing behind the part: that is the whole, or of another state of the file."""
    _, total = _content_range(response.headers)
    if total != part.length:
        part.restart(None)
        raise _CutError("it does not go on where it stopped")
    part.complete = True


def _content_range(headers: Mapping[str, str]) -> tuple[int | None, int | None]:
    """First byte and size of the whole, as far as the server tells them."""
    match = re.fullmatch(r"bytes\s+(?:(\d+)-\d+|\*)/(?:(\d+)|\*)", headers.get("Content-Range", "").strip())
    if match is None:
        return None, None
    return (int(match[1]) if match[1] else None, int(match[2]) if match[2] else None)


def _validator(headers: Mapping[str, str]) -> str | None:
    """What `If-Range` can compare; a weak ETag also stands for files that differ in bytes."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _reason(error: BaseException) -> str:
    """Why a request failed, from below the layers that wrapped it."""
    if isinstance(error, requests.Timeout | ReadTimeoutError):
        return "no answer in time"
    reasons = [cause.strerror for cause in _causes(error) if isinstance(cause, OSError) and cause.strerror]
    return reasons[0] if reasons else "the connection was cut"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it came from."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


@contextmanager
def _writing(target: Path, option: str) -> Iterator[None]:
    """Make one sentence of what the disk refuses."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DownloadError(
                f"no space is left for {target} ({error.strerror}); free some and run the same command again, it goes "
                "on from what has come."
            ) from error
        raise DownloadError(
            f"{target} cannot be written ({error.strerror}); name another directory with {option}."
        ) from error
