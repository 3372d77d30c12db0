"""Fetching published weight files: from the web, from Google Drive, from Hugging Face.

A file gets its name once it is known to be a weight file with the published hash; anything else is deleted.
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
from ssl4eo_bench.errors import DataError, DownloadError, RefusedError, WeightsError
from ssl4eo_bench.files.downloads import fetch
from ssl4eo_bench.files.hashing import file_hash
from ssl4eo_bench.models.containers import examine, head_of, is_web_page

DRIVE = "https://drive.usercontent.google.com/download"
"""Where Google Drive gives files to programs."""

INCOMING = ".incoming-"
"""The beginning of the name of the folder that the hub's client writes to, beside the place of the file."""

INTERVAL = 0.25
"""Seconds after which the size of what the hub's client has written is looked at again."""


def address(weights: RemoteWeights) -> str:
    """The address of a file for a person with a browser."""
    if isinstance(weights, UrlWeights):
        return weights.url
    if isinstance(weights, DriveWeights):
        return f"https://drive.google.com/file/d/{weights.drive}/view"
    return f"https://huggingface.co/{weights.repository}/resolve/{weights.revision}/{weights.file}"


def fetch_weights(weights: RemoteWeights, checkpoint: str, folder: Path) -> None:
    """Put a file that is not there at its place below `folder`.

    Raises:
        WeightsError: if it cannot be fetched, or is not the published one, or no weight file.
    """
    target = folder / weights.place
    try:
        if isinstance(weights, HubFileWeights):
            _from_hub(weights, target)
        else:
            _from_web(weights, folder)
    except DataError as error:
        reason = str(error)
        if not isinstance(error, RefusedError):
            reason = reason.replace("another way", f"from {address(weights)}")
        elif isinstance(weights, DriveWeights):
            reason = (
                "Google Drive does not give them without a browser, as its quota is used up or it wants a sign-in; "
                f"open {address(weights)}, and put the file at {target}."
            )
        raise WeightsError(f"the weights of checkpoint {checkpoint!r} are not here: {reason}") from error


def _examine(file: Path, weights: RemoteWeights, target: Path) -> None:
    examine(file, name=f"{target}, as it came from {address(weights)},")


def _from_web(weights: UrlWeights | DriveWeights, folder: Path) -> None:
    place = str(weights.place)
    if isinstance(weights, UrlWeights):
        file = RemoteFile(name=place, url=weights.url, md5=weights.md5, sha256=weights.sha256)
    else:
        url = f"{DRIVE}?id={weights.drive}&export=download&confirm=t"
        file = RemoteFile(name=place, url=url, sha256=weights.sha256)

    def inspect(part: Path) -> None:
        if isinstance(weights, DriveWeights) and is_web_page(head_of(part)):
            raise RefusedError(f"{file.url} answers with a web page instead of the file.")
        _examine(part, weights, folder / place)

    fetch(file, folder, option="--cache-dir", inspect=inspect)


def _from_hub(weights: HubFileWeights, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    for old in target.parent.glob(f"{INCOMING}*"):  # of a process that was killed: the cache is locked
        shutil.rmtree(old, ignore_errors=True)
    with TemporaryDirectory(prefix=INCOMING, dir=target.parent, ignore_cleanup_errors=True) as incoming:
        file, published = _download(weights, Path(incoming), target)
        _examine(file, weights, target)
        found = file_hash(file)
        if not all(found.startswith(sha256) for sha256 in (published, weights.sha256) if sha256):
            raise DownloadError(
                f"{address(weights)} came with sha256 {found}, but the published file has {published or weights.sha256}"
                "; what has come is deleted: run the same command again."
            )
        file.replace(target)


def _download(weights: HubFileWeights, incoming: Path, target: Path) -> tuple[Path, str | None]:
    """The file below `incoming`, and its sha256 as the hub states it, which it does for large files only."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url  # slow

    try:
        stated = get_hf_file_metadata(hf_hub_url(weights.repository, weights.file, revision=weights.revision))
        published = stated.etag if stated.etag and re.fullmatch("[0-9a-f]{64}", stated.etag) else None
        if not published or published.startswith(weights.sha256 or ""):
            with _without_bars(), _growth_shown(incoming, str(weights.place), stated.size or 0):
                file = hf_hub_download(
                    weights.repository,
                    weights.file,
                    revision=stated.commit_hash or weights.revision,  # a branch may move between two requests
                    local_dir=incoming,
                )
            return Path(file), published
    except Exception as error:  # the hub's client raises what its HTTP stack raises
        raise DownloadError(
            f"Hugging Face does not give {weights.hf} ({_reason(error)}); cure that, or get the file from "
            f"{address(weights)} and put it at {target}."
        ) from error
    raise DownloadError(
        f"Hugging Face says that {weights.hf} has sha256 {published}, but the catalogue says {weights.sha256}: its "
        "owner has changed it, so correct the revision or the hash of the entry."
    )


def _reason(error: Exception) -> str:
    """The reason of an error of the hub's client, as part of a sentence."""
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
def _without_bars() -> Iterator[None]:
    """Hide the progress bars of the hub's client, which would disturb ours."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()


@contextmanager
def _growth_shown(folder: Path, what: str, total: int) -> Iterator[None]:
    """Show the growth of a folder while other code fills it."""
    over = threading.Event()
    with progress.stage(what, total=total, unit="bytes") as advance:

        def watch() -> None:
            shown, last = 0, False
            while not last:
                last = over.wait(INTERVAL)
                size = _bytes_in(folder)
                size = min(size, total or size)
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
