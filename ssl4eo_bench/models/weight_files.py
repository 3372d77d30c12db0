"""Where weight files are, what proves that they are the right ones, and bringing those that are absent."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec
from pathlib import Path

from ssl4eo_bench.config.weights import (
    FileWeights,
    HubWeights,
    PackagedWeights,
    RandomWeights,
    RemoteWeights,
    StoredWeights,
    UrlWeights,
    Weights,
)
from ssl4eo_bench.errors import WeightsError
from ssl4eo_bench.files.atomic import write_text
from ssl4eo_bench.files.hashing import file_hash
from ssl4eo_bench.files.locks import LOCK, locked
from ssl4eo_bench.models.containers import examine
from ssl4eo_bench.models.fetching import address, fetch_weights

FOLDER = "weights"
"""Of a cache: every remote file at the place of its source."""

WHOLE = 64
"""Digits of a sha256."""


def weights_place(weights: StoredWeights | HubWeights, cache_dir: Path) -> Path:
    """Where the file is, or would be."""
    if isinstance(weights, FileWeights):
        return Path(weights.path)
    if isinstance(weights, PackagedWeights):
        package = _package(weights.package)
        folder = Path(package.origin).parent if package and package.origin else Path(weights.package)
        return folder / weights.file
    return cache_dir / FOLDER / weights.place


def is_here(weights: Weights | None, cache_dir: Path) -> bool:
    """Whether a checkpoint can be built without a network; no file is opened."""
    if weights is None or isinstance(weights, RandomWeights):
        return True
    if weights_place(weights, cache_dir).is_file():
        return True
    return isinstance(weights, HubWeights) and _hub_has(weights)


def checked_file(weights: StoredWeights, checkpoint: str, cache_dir: Path) -> Path:
    """The place of a weight file that is there and is the right one.

    Where its sha256 is not wholly published, the one it had first is noted beside it, and any other refused.

    Raises:
        WeightsError: if the file is absent, no weights, or has another hash than the catalogue says or than it had.
    """
    file = weights_place(weights, cache_dir)
    if not file.is_file():
        raise WeightsError(
            f"the weights of checkpoint {checkpoint!r} are not here ({file}); {_cure_of_absence(weights)}."
        )
    published = {"sha256": weights.sha256, "md5": weights.md5 if isinstance(weights, UrlWeights) else None}
    try:
        examine(file)
        found = {name: file_hash(file, name) for name, value in published.items() if value or name == "sha256"}
    except OSError as error:
        raise _unreadable(file, error) from error
    for name, value in published.items():
        if not found.get(name, "").startswith(value or ""):
            raise WeightsError(
                f"{file} of checkpoint {checkpoint!r} has {name} {found[name]}, but the catalogue says {value}: it is "
                "another file, or a damaged one; fetch it again, or correct the entry if it is the file you mean."
            )
    if isinstance(weights, RemoteWeights) and len(weights.sha256 or "") < WHOLE:
        _require_the_first(file, checkpoint, found["sha256"])
    return file


def unpinned_sha256(weights: Weights | None, cache_dir: Path) -> str | None:
    """The sha256 of the weight file that is here, where the entry leaves open which file that is.

    Raises:
        WeightsError: if the file cannot be read.
    """
    if weights is None or isinstance(weights, RandomWeights):
        return None
    if not isinstance(weights, HubWeights) and len(weights.sha256 or "") == WHOLE:
        return None
    file = weights_place(weights, cache_dir)
    try:
        return file_hash(file) if file.is_file() else None
    except OSError as error:
        raise _unreadable(file, error) from error


def obtain(weights: StoredWeights, checkpoint: str, cache_dir: Path) -> Path:
    """The place of a weight file that is the right one; a remote one that is absent is fetched.

    What is fetched and refused is deleted; a file that was there before stays.

    Raises:
        WeightsError: as from `checked_file` and `read_weights`, or if it cannot be fetched; then it says where to put
            it by hand.
    """
    from ssl4eo_bench.models.weight_reader import read_weights  # brings torch: not for what only looks for files

    place = weights_place(weights, cache_dir)
    if not isinstance(weights, RemoteWeights) or place.is_file():
        return checked_file(weights, checkpoint, cache_dir)
    with _alone(cache_dir):
        if place.is_file():  # another process has fetched it
            return checked_file(weights, checkpoint, cache_dir)
        try:
            fetch_weights(weights, checkpoint, cache_dir / FOLDER)
            read_weights(place)
            return checked_file(weights, checkpoint, cache_dir)
        except WeightsError:
            place.unlink(missing_ok=True)  # but not its note, which is about the file that was there first
            raise
        finally:
            (place.parent / LOCK).unlink(missing_ok=True)  # whoever wants this one has ours
            _remove_emptied(place.parent, cache_dir / FOLDER)


def _package(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None


def _hub_has(weights: HubWeights) -> bool:
    """Whether timm finds the weights in Hugging Face's own cache."""
    snapshots = _hub_cache() / f"models--timm--{weights.timm}" / "snapshots"
    return any(
        file.is_file() for name in ("model.safetensors", "pytorch_model.bin") for file in snapshots.glob(f"*/{name}")
    )


def _hub_cache() -> Path:
    if chosen := os.environ.get("HF_HUB_CACHE"):
        return Path(chosen).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{caches}/huggingface"
    return Path(home).expanduser() / "hub"


def _cure_of_absence(weights: StoredWeights) -> str:
    if isinstance(weights, FileWeights):
        return "put it there or correct the path in the entry"
    if isinstance(weights, PackagedWeights):
        return f"run `{weights.install}`"
    return f"get the file from {address(weights)} and put it there"


def _unreadable(file: Path, error: OSError) -> WeightsError:
    return WeightsError(f"{file} cannot be read ({error.strerror or error}); correct its permissions.")


def _note_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")


def _require_the_first(file: Path, checkpoint: str, found: str) -> None:
    note = _note_of(file)
    if not note.is_file():
        write_text(note, f"{found}  {file.name}\n")
        return
    first = note.read_text(encoding="utf-8", errors="replace").partition(" ")[0].strip()
    if first != found:
        raise WeightsError(
            f"{file} of checkpoint {checkpoint!r} is not the file that was there first: it had sha256 {first}, now "
            f"{found}; delete {note.name} beside it to take the new one, or both to fetch it again."
        )


@contextmanager
def _alone(cache_dir: Path) -> Iterator[None]:
    """Keep other processes from fetching weights into this cache."""
    note = f"another process is fetching weights into {cache_dir / FOLDER}; waiting for it"
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with locked(cache_dir / f"{FOLDER}{LOCK}", note=note):
            yield
    except OSError as error:
        raise WeightsError(
            f"{cache_dir / FOLDER} cannot be written ({error.strerror or error}); name another directory with "
            "--cache-dir."
        ) from error


def _remove_emptied(folder: Path, root: Path) -> None:
    with suppress(OSError):  # not empty, or not there
        while folder != root:
            folder.rmdir()
            folder = folder.parent
