"""The feature cache: features of one checkpoint on one split, computed once, in shards on disk.

An entry's directory is named by the digest of everything that decides its content, so it never goes stale. Each shard
is written whole and listed with its checksum in the entry's manifest; a killed run goes on at the next shard, and a
shard that is torn or was edited is computed again. A lock lets one process at a time work on an entry; the others
wait and then find the shards.
"""

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from pydantic import Field, ValidationError

from ssl4eo_bench import progress
from ssl4eo_bench.config.canonical import Frozen, digest
from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.data.batches import prefetch
from ssl4eo_bench.errors import CacheError, WeightsError
from ssl4eo_bench.features.half_precision import halved
from ssl4eo_bench.files.atomic import replacing, write_text
from ssl4eo_bench.files.locks import locked
from ssl4eo_bench.progress import Advance

SHARD_ROWS = 1024
"""Rows of features in a shard: of one image each, or of as many pixels of each tile as a key says."""
EXTRACTION_VERSION = 3
"""Bumped when the code between stored pixels and features changes what it computes."""

Batch = TypeVar("Batch")
Taken = TypeVar("Taken", contravariant=True)

Read = Callable[[int, int], Iterable[Batch]]
"""Gives what the backbone takes of samples start to stop, in order, batch by batch."""


class Backbone(Protocol[Taken]):
    """Turns batches, such as groups of stored pixels, into features."""

    @property
    def runner(self) -> str:
        """Name of what runs it, known after the first batch."""
        ...

    @property
    def weights_sha256(self) -> str:
        """Of its parameters and buffers, known then, too."""
        ...

    def __call__(self, batch: Taken, /) -> np.ndarray:
        """Features `[N, D]`, or `[N, K, D]` of K pixels of each sample, float32 of a batch."""
        ...


class FeatureKey(Frozen):
    """Everything that decides the features of a split.

    Attributes:
        task: task and version.
        split: for people; the ids decide.
        rows: number of samples.
        ids: digest of the ids.
        data: fingerprint of the stored samples.
        checkpoint: name, for people.
        backbone: as `backbone_digest` gives it.
        weights: sha256 of the weight file, where the entry does not say all of it.
        inputs: digest of the input mapping.
        extraction: `EXTRACTION_VERSION`.
        pixels: how many of each sample have features of their own; none for features of whole images.
        places: digest of which pixels these are.
    """

    task: str
    split: str
    rows: int
    ids: str
    data: str
    checkpoint: str
    backbone: str
    weights: str | None = None
    inputs: str
    extraction: int = EXTRACTION_VERSION
    pixels: int | None = None
    places: str | None = None

    @property
    def digest(self) -> str:
        """The name of the entry; what is only for people is left out."""
        return digest(self.model_dump(exclude={"split", "checkpoint"}, exclude_none=True))

    @property
    def shard_samples(self) -> int:
        """How many samples make a shard."""
        return max(1, SHARD_ROWS // (self.pixels or 1))


def backbone_digest(checkpoint: Checkpoint, seed: int) -> str:
    """The digest of a backbone for a key, with the versions of the libraries that build and compute it."""
    identity = checkpoint.identity() | {"torch": version("torch"), "timm": version("timm")}
    if checkpoint.is_random:
        identity |= {"seed": seed}
    return digest(identity)


class Shard(Frozen):
    """One line of a manifest; `not_finite` counts values of the stored pixels that were none, by sample."""

    rows: int
    sha256: str
    runner: str
    weights_sha256: str
    not_finite: dict[str, int] = Field(default_factory=dict)


class Manifest(Frozen):
    """What an entry holds, beside the key it belongs to."""

    key: FeatureKey
    shards: dict[str, Shard]


@dataclass(frozen=True)
class CachedFeatures:
    """Features `[N, D]` or `[N, K, D]` in the order of the samples, and where they came from.

    Attributes:
        values: the features; float16 where `halved` found that to do no harm, else float32.
        computed: of how many samples they were computed just now.
        runners: what computed them, now or earlier.
        weights_sha256: of the backbones that did.
        repaired: how many shards were damaged and computed again.
    """

    values: np.ndarray
    computed: int
    runners: tuple[str, ...]
    weights_sha256: tuple[str, ...]
    repaired: int


class FeatureCache:
    """The entries below a cache directory.

    Args:
        root: the cache directory.
        renewed: the digests of the entries that were computed anew, where all are to be once whatever is stored of
            them; it is added to. None where what is stored is used.
    """

    def __init__(self, root: Path, renewed: set[str] | None = None) -> None:
        self._root = root / "features"
        self._renewed = renewed

    def get(
        self,
        key: FeatureKey,
        backbone: Backbone[Batch],
        read: Read[Batch],
        *,
        threads: int = 0,
        ids: Sequence[str] = (),
        not_finite: dict[str, int] | None = None,
    ) -> CachedFeatures:
        """The features of a key: from disk as far as they are there, else computed and stored.

        The backbone is called from so many `threads`, ahead of what is checked, and that ahead of what is recorded.
        What the reader of the samples `ids` counts as `not_finite` is stored with the features, and told to it again
        where they are cached.

        Raises:
            CacheError: if the directory cannot be written.
        """
        entry = self._root / key.digest
        note = f"another process computes features {key.checkpoint} · {key.split}; waiting for it"
        with ExitStack() as held:
            try:
                entry.mkdir(parents=True, exist_ok=True)
                held.enter_context(locked(entry / "lock", note=note))
            except OSError as error:
                raise CacheError(
                    f"the cache directory {self._root} cannot be written ({error.strerror or error}); name another "
                    "with --cache-dir or SSL4EO_BENCH_CACHE."
                ) from error
            manifest = _read_manifest(entry)
            renew = self._renewed is not None and key.digest not in self._renewed
            if renew or manifest is None or manifest.key.digest != key.digest:  # someone copied another entry here
                manifest = Manifest(key=key, shards={})
            missing = key.rows - sum(shard.rows for shard in manifest.shards.values())
            what = f"{'features' if missing else 'cached features'} {key.checkpoint} · {key.split}"
            with progress.stage(what, total=key.rows, unit="images") as advance:
                counts = {} if not_finite is None else not_finite
                found = _fill(entry, manifest, backbone, read, advance, threads, ids, counts)
        if self._renewed is not None:
            self._renewed.add(key.digest)
        return found

    def entries(self) -> list[tuple[Manifest, Path]]:
        """What is stored, newest first."""
        folders = sorted(self._root.glob("*/manifest.json"), key=lambda file: -file.stat().st_mtime)
        found = [(_read_manifest(file.parent), file.parent) for file in folders]
        return [(manifest, folder) for manifest, folder in found if manifest]

    def damaged(self, manifest: Manifest, folder: Path) -> list[str]:
        """The shards of an entry that are not what its manifest says."""
        return [name for name, shard in manifest.shards.items() if _read_shard(folder / name, shard) is None]

    def prune(self, *, checkpoint: str | None = None, everything: bool = False) -> int:
        """Delete entries and return the bytes freed.

        Without a choice: those without a readable manifest or made by an earlier extraction code, which nothing will
        ask for again.
        """
        freed = 0
        for folder in [folder for folder in self._root.glob("[0-9a-f]" * 64) if not folder.is_symlink()]:
            manifest = _read_manifest(folder)
            if checkpoint:
                useless = manifest is not None and manifest.key.checkpoint == checkpoint
            else:
                useless = everything or manifest is None or manifest.key.extraction != EXTRACTION_VERSION
            if useless:
                freed += sum(file.stat().st_size for file in folder.iterdir())
                shutil.rmtree(folder)
        return freed


def _fill(
    entry: Path,
    manifest: Manifest,
    backbone: Backbone[Batch],
    read: Read[Batch],
    advance: Advance,
    threads: int,
    ids: Sequence[str],
    not_finite: dict[str, int],
) -> CachedFeatures:
    key = manifest.key
    for half_written in entry.glob(".shard-*"):  # by a process that was killed
        half_written.unlink()
    values: np.ndarray | None = None
    computed = repaired = 0
    computing: Iterator[tuple[np.ndarray, str]] | None = None
    for start in range(0, key.rows, key.shard_samples):
        stop = min(start + key.shard_samples, key.rows)
        name = _shard_name(key, start)
        known = manifest.shards.get(name)
        rows = _read_shard(entry / name, known) if known else None
        if rows is None:
            repaired += known is not None
            if computing is None or known:
                batches = read(start, _next_known(manifest, stop))
                computing = _stored(entry, key, start, _computed(key, backbone, batches, advance, threads), threads)
            rows, sha256 = next(computing)
            shard = Shard(
                rows=len(rows),
                sha256=sha256,
                runner=backbone.runner,
                weights_sha256=backbone.weights_sha256,
                not_finite={id_: not_finite[id_] for id_ in ids[start:stop] if id_ in not_finite},
            )
            manifest = manifest.model_copy(update={"shards": manifest.shards | {name: shard}})
            write_text(entry / "manifest.json", json.dumps(manifest.model_dump(), indent=1) + "\n")
            computed += len(rows)
        else:
            assert known is not None  # rows were read by it
            not_finite |= known.not_finite
            advance(len(rows))
            computing = None
        if values is None:
            values = np.empty((key.rows, *rows.shape[1:]), dtype=rows.dtype)
        elif values.itemsize < rows.itemsize:
            values = values.astype(rows.dtype)
        values[start:stop] = rows
    assert values is not None  # a split has samples
    shards = manifest.shards.values()
    return CachedFeatures(
        values=values,
        computed=computed,
        runners=tuple(sorted({shard.runner for shard in shards})),
        weights_sha256=tuple(sorted({shard.weights_sha256 for shard in shards})),
        repaired=repaired,
    )


def _shard_name(key: FeatureKey, start: int) -> str:
    return f"shard-{start // key.shard_samples:05d}.npy"


def _next_known(manifest: Manifest, stop: int) -> int:
    """Where what is missing before the sample `stop`, the end of a shard, goes on to."""
    key = manifest.key
    while stop < key.rows and _shard_name(key, stop) not in manifest.shards:
        stop += key.shard_samples
    return min(stop, key.rows)


def _computed(
    key: FeatureKey, backbone: Backbone[Batch], batches: Iterable[Batch], advance: Advance, threads: int
) -> Iterator[np.ndarray]:
    """The features of each batch."""
    for features in prefetch(backbone, batches, threads=threads):
        require_finite(features, key.checkpoint, key.task)
        advance(len(features))
        yield features


def _stored(
    entry: Path, key: FeatureKey, first: int, features: Iterable[np.ndarray], threads: int
) -> Iterator[tuple[np.ndarray, str]]:
    """The shards that features make, from the sample `first` on, each with its checksum and already on disk."""

    def store(shard: tuple[int, np.ndarray]) -> tuple[np.ndarray, str]:
        number, rows = shard
        kept = halved(rows)
        return kept, _write_shard(entry / _shard_name(key, first + number * key.shard_samples), kept)

    return prefetch(store, enumerate(_shards(features, key.shard_samples)), threads=threads)


def _shards(features: Iterable[np.ndarray], rows: int) -> Iterator[np.ndarray]:
    """The same features, so many rows at a time; what is left comes last."""
    held: list[np.ndarray] = []
    for found in features:
        held.append(found)
        while sum(map(len, held)) >= rows:
            joined = np.concatenate(held)
            held = [joined[rows:]] if len(joined) > rows else []
            yield joined[:rows]
    if held:
        yield np.concatenate(held)


def require_finite(features: np.ndarray, checkpoint: str, task: str) -> None:
    """Refuse features that no protocol can use.

    Raises:
        WeightsError: if there are NaN or infinities among them.
    """
    if not np.isfinite(features).all():
        raise WeightsError(
            f"checkpoint {checkpoint!r} gives features that are not finite on task {task!r}; its weights or its "
            "scaling are not what its entry says."
        )


def _write_shard(file: Path, rows: np.ndarray) -> str:
    buffer = io.BytesIO()
    np.save(buffer, rows, allow_pickle=False)
    content = buffer.getvalue()
    with replacing(file) as temporary:
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def _read_shard(file: Path, shard: Shard) -> np.ndarray | None:
    """The rows of a shard, or nothing if it is absent, torn or edited."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(content).hexdigest() != shard.sha256:
        return None
    rows: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False)
    return rows if rows.ndim in (2, 3) and len(rows) == shard.rows else None


def _read_manifest(entry: Path) -> Manifest | None:
    try:
        return Manifest.model_validate_json((entry / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        return None
