"""Where weight files are, what proves that they are the right ones, and fetching those that are absent."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.weights import (
    OWN,
    EmbeddingWeights,
    FileWeights,
    HubWeights,
    OwnWeights,
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
from ssl4eo_bench.files.places import is_read_only
from ssl4eo_bench.models.containers import examine
from ssl4eo_bench.models.fetching import address, fetch_weights

FOLDER = "weights"
"""The folder in a cache that holds every remote file."""

WHOLE = 64
"""Digits of a sha256."""


def weights_place(weights: StoredWeights | HubWeights, cache_dir: Path) -> Path:
    """The path of a weight file, whether it is there or not."""
    if isinstance(weights, FileWeights):
        return Path(weights.path)
    if isinstance(weights, PackagedWeights):
        with suppress(ImportError, ValueError):
            package = importlib.util.find_spec(weights.package)
            if package and package.origin:
                return Path(package.origin).parent / weights.file
        return Path(weights.package) / weights.file
    return cache_dir / FOLDER / weights.place


def is_here(weights: Weights | None, cache_dir: Path) -> bool:
    """Whether a checkpoint can be built without a network connection; no file is opened."""
    if weights is None or isinstance(weights, RandomWeights | OwnWeights):
        return True
    if isinstance(weights, EmbeddingWeights):
        return all(Path(file.path).is_file() for file in weights.embeddings)
    return weights_place(weights, cache_dir).is_file() or (isinstance(weights, HubWeights) and _hub_has(weights))


def checked_file(weights: StoredWeights, checkpoint: str, cache_dir: Path) -> Path:
    """The path of a weight file that is there and is the right one.

    Where its sha256 is not fully published, the one of the first file is noted beside it, and any other refused.

    Raises:
        WeightsError: if the file is absent, no weight file, or has another hash than the catalogue says or than before.
    """
    file = weights_place(weights, cache_dir)
    if not file.is_file():
        raise WeightsError(
            f"the weights of checkpoint {checkpoint!r} are not here ({file}); {_cure_of_absence(weights)}."
        )
    published = {"sha256": weights.sha256, "md5": weights.md5 if isinstance(weights, UrlWeights) else None}
    with _reading(file):
        if weights.layout != OWN:
            examine(file)
        found = {name: file_hash(file, name) for name, value in published.items() if value or name == "sha256"}
    for name, value in published.items():
        if value and not found[name].startswith(value):
            raise WeightsError(
                f"{file} of checkpoint {checkpoint!r} has {name} {found[name]}, but the catalogue says {value}: it is "
                "another file, or a damaged one; fetch it again, or correct the entry if it is the file you mean."
            )
    if isinstance(weights, RemoteWeights) and len(weights.sha256 or "") < WHOLE:
        _require_first(file, checkpoint, found["sha256"])
    return file


def unpinned_sha256(weights: Weights | None, cache_dir: Path) -> str | None:
    """The sha256 of the weight file that is here, where the entry does not say which file that is."""
    if weights is None or isinstance(weights, RandomWeights | OwnWeights | EmbeddingWeights):
        return None
    if not isinstance(weights, HubWeights) and len(weights.sha256 or "") == WHOLE:
        return None
    file = weights_place(weights, cache_dir)
    with _reading(file):
        return file_hash(file, "sha256") if file.is_file() else None


def prepare_weights(checkpoint: Checkpoint, cache_dir: Path) -> None:
    """Fetch the weight file of a checkpoint if it has one that is absent, and check it; see `obtain`."""
    if isinstance(checkpoint.weights, StoredWeights):
        obtain(checkpoint.weights, checkpoint.name, cache_dir)


def obtain(weights: StoredWeights, checkpoint: str, cache_dir: Path) -> Path:
    """The path of a weight file that is the right one; a remote one that is absent is fetched.

    A file that is fetched and refused is deleted; a file that was there before stays.

    Raises:
        WeightsError: as from `checked_file` and `read_weights`, or if it cannot be fetched; then it says where to put
            it by hand.
    """
    from ssl4eo_bench.models.weight_reader import read_weights  # imports torch: not to look for files only

    file = weights_place(weights, cache_dir)
    if not isinstance(weights, RemoteWeights) or file.is_file():
        return checked_file(weights, checkpoint, cache_dir)
    with _locked_cache(cache_dir):
        if file.is_file():  # another process has fetched it
            return checked_file(weights, checkpoint, cache_dir)
        try:
            fetch_weights(weights, checkpoint, cache_dir / FOLDER)
            if weights.layout != OWN:
                read_weights(file)
            return checked_file(weights, checkpoint, cache_dir)
        except WeightsError:
            file.unlink(missing_ok=True)  # but not its note, which is about the file that was there first
            raise
        finally:
            (file.parent / LOCK).unlink(missing_ok=True)  # no other process waits for it: we hold the cache's lock
            with suppress(OSError):  # until a folder is not empty, or not there
                for folder in file.parents:
                    if folder == cache_dir / FOLDER:
                        break
                    folder.rmdir()


def _hub_has(weights: HubWeights) -> bool:
    """Whether timm finds the weights in Hugging Face's own cache."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{caches}/huggingface"
    cache = Path(os.path.expanduser(os.environ.get("HF_HUB_CACHE") or f"{home}/hub"))  # noqa: PTH111 - Path's fails without a home
    snapshots = cache / f"models--timm--{weights.timm}" / "snapshots"
    return any(
        file.is_file() for name in ("model.safetensors", "pytorch_model.bin") for file in snapshots.glob(f"*/{name}")
    )


def _cure_of_absence(weights: StoredWeights) -> str:
    if isinstance(weights, FileWeights):
        return "put it there or correct the path in the entry"
    if isinstance(weights, PackagedWeights):
        return f"run `{weights.install}`"
    return f"get the file from {address(weights)} and put it there"


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Turn the operating system's refusal to read a file into a sentence."""
    try:
        yield
    except OSError as error:
        raise WeightsError(f"{file} cannot be read ({error.strerror or error}); correct its permissions.") from error


def _require_first(file: Path, checkpoint: str, found: str) -> None:
    """Refuse a file with another sha256 than the one noted beside it; without a note, write one."""
    note = file.with_name(f"{file.name}.sha256")
    if not note.is_file():
        if not is_read_only(file.parent):
            write_text(note, f"{found}  {file.name}\n")
        return
    first = note.read_text(encoding="utf-8", errors="replace").partition(" ")[0].strip()
    if first != found:
        raise WeightsError(
            f"{file} of checkpoint {checkpoint!r} is not the file that was there first: it had sha256 {first}, now "
            f"{found}; delete {note.name} beside it to take the new one, or both to fetch it again."
        )


@contextmanager
def _locked_cache(cache_dir: Path) -> Iterator[None]:
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
