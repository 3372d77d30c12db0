"""Bringing published weight files to this machine: from the web, from Google Drive, from Hugging Face.

A file gets its name when it has been looked into and its hash is the published one; anything else is deleted.
"""

import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from ssl4eo_bench import progress
from ssl4eo_bench.config.remote_files import RemoteFile
from ssl4eo_bench.config.weights import DriveWeights, HubFileWeights, RemoteWeights, UrlWeights
from ssl4eo_bench.errors import DataError, RefusedError, WeightsError
from ssl4eo_bench.files.downloads import fetch
from ssl4eo_bench.files.hashing import file_hash
from ssl4eo_bench.models.containers import examine, is_web_page

DRIVE = "https://drive.usercontent.google.com/download"
"""Where Google Drive gives files to programs."""

INCOMING = ".incoming-"
"""Begins the name of the folder that the hub's own client fills, beside the place of the file."""

LOOK = 0.25
"""Seconds between two looks at what the hub's own client has brought."""


def address(weights: RemoteWeights) -> str:
    """Where a person with a browser gets the file."""
    if isinstance(weights, UrlWeights):
        return weights.url
    if isinstance(weights, DriveWeights):
        return f"https://drive.google.com/file/d/{weights.drive}/view"
    return f"https://huggingface.co/{weights.repository}/resolve/{weights.revision}/{weights.file}"


def fetch_weights(weights: RemoteWeights, checkpoint: str, folder: Path) -> None:
    """Put a file that is not there at its place below `folder`.

    Raises:
        WeightsError: if it cannot be brought, or is not the published one, or no weights.
    """
    target = folder / weights.place
    try:
        if isinstance(weights, UrlWeights):
            _from_web(weights, folder)
        elif isinstance(weights, DriveWeights):
            _from_drive(weights, folder)
        else:
            _from_hub(weights, target)
    except RefusedError as error:
        if not isinstance(weights, DriveWeights):
            raise _absent(checkpoint, str(error)) from error
        raise _absent(
            checkpoint,
            "Google Drive does not give them without a browser, as its quota is used up or it wants a sign-in; open "
            f"{address(weights)}, and put the file at {target}.",
        ) from error
    except (DataError, _HubError) as error:
        raise _absent(checkpoint, str(error).replace("another way", f"from {address(weights)}")) from error


def _absent(checkpoint: str, why: str) -> WeightsError:
    return WeightsError(f"the weights of checkpoint {checkpoint!r} are not here: {why}")


def _look_into(file: Path, weights: RemoteWeights, target: Path) -> None:
    examine(file, name=f"{target}, as it came from {address(weights)},")


def _from_web(weights: UrlWeights, folder: Path) -> None:
    file = RemoteFile(name=str(weights.place), url=weights.url, md5=weights.md5, sha256=weights.sha256)
    target = folder / weights.place
    fetch(file, folder, option="--cache-dir", inspect=lambda part: _look_into(part, weights, target))


def _from_drive(weights: DriveWeights, folder: Path) -> None:
    url = f"{DRIVE}?id={weights.drive}&export=download&confirm=t"
    file = RemoteFile(name=str(weights.place), url=url, sha256=weights.sha256)

    def inspect(part: Path) -> None:
        if is_web_page(part):
            raise RefusedError(f"{url} answers with a web page instead of the file.")
        _look_into(part, weights, folder / weights.place)

    fetch(file, folder, option="--cache-dir", inspect=inspect)


class _HubError(Exception):
    """Why the hub does not give a file: one sentence."""


def _from_hub(weights: HubFileWeights, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    for old in target.parent.glob(f"{INCOMING}*"):  # of a process that was killed: we are alone here
        shutil.rmtree(old, ignore_errors=True)
    with TemporaryDirectory(prefix=INCOMING, dir=target.parent, ignore_cleanup_errors=True) as incoming:
        came, published = _download(weights, Path(incoming), target)
        _look_into(came, weights, target)
        found = file_hash(came)
        if not all(found.startswith(sha256) for sha256 in (published, weights.sha256) if sha256):
            raise _HubError(
                f"{address(weights)} came with sha256 {found}, but the published file has {published or weights.sha256}"
                "; what has come is deleted: run the same command again."
            )
        came.replace(target)


def _download(weights: HubFileWeights, incoming: Path, target: Path) -> tuple[Path, str | None]:
    """The file below `incoming`, and the sha256 that the hub says it has; it says so of large files only."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url  # slow

    try:
        url = hf_hub_url(weights.repository, weights.file, revision=weights.revision)
        told = get_hf_file_metadata(url)
        published = told.etag if told.etag and re.fullmatch("[0-9a-f]{64}", told.etag) else None
        if not published or published.startswith(weights.sha256 or ""):
            with _quiet(), _growing(incoming, str(weights.place), told.size or 0):
                came = hf_hub_download(
                    weights.repository,
                    weights.file,
                    revision=told.commit_hash or weights.revision,  # a branch may move between two requests
                    local_dir=incoming,
                )
            return Path(came), published
    except Exception as error:  # the hub's client raises what its HTTP stack raises
        raise _HubError(
            f"Hugging Face does not give {weights.hf} ({_reason(error)}); cure that, or get the file from "
            f"{address(weights)} and put it at {target}."
        ) from error
    raise _HubError(
        f"Hugging Face says that {weights.hf} has sha256 {published}, but the catalogue says {weights.sha256}: its "
        "owner has changed it, so correct the revision or the hash of the entry."
    )


def _reason(error: Exception) -> str:
    from huggingface_hub import utils

    known = {
        utils.OfflineModeIsEnabled: "HF_HUB_OFFLINE is set",
        utils.GatedRepoError: "its owner wants terms to be accepted, and HF_TOKEN to be set",
        utils.RepositoryNotFoundError: "there is no such repository, or none without HF_TOKEN",
        utils.RevisionNotFoundError: "there is no such revision",
        utils.LocalEntryNotFoundError: "the network is in the way",
        utils.EntryNotFoundError: "there is no such file",
    }
    for kind, reason in known.items():
        if isinstance(error, kind):
            return reason
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__).rstrip(".")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the bars of the hub's client, which would disturb ours."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


@contextmanager
def _growing(folder: Path, what: str, total: int) -> Iterator[None]:
    """Show how a folder fills, whoever fills it and however."""
    over = threading.Event()
    with progress.stage(what, total=total, unit="bytes") as advance:

        def watch() -> None:
            shown, last = 0, False
            while not last:
                last = over.wait(LOOK)
                size = min(_bytes_in(folder), total or _bytes_in(folder))
                advance(max(size - shown, 0))
                shown = max(size, shown)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _bytes_in(folder: Path) -> int:
    with suppress(OSError):  # a file may be renamed meanwhile
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return 0
