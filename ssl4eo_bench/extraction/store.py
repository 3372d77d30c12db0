"""The feature cache: features of one checkpoint on one split, computed once, in shards on disk.

An entry is a store of shards (`files.shards`) in a folder named by the digest of everything that decides its content,
so it never goes stale. A killed run continues at the next shard; a shard that is damaged or was edited is computed
again. A lock lets one process at a time complete an entry; the others wait and then find the shards. Where an executor
gives each process its own shards, they write them at the same time.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar, cast

import numpy as np
from pydantic import ValidationError

from ssl4eo_bench import progress
from ssl4eo_bench.config.canonical import Frozen, digest
from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.records import Cost
from ssl4eo_bench.data.batches import prefetch
from ssl4eo_bench.errors import CacheError, WeightsError
from ssl4eo_bench.files.cached_items import LOCK, CachedItem, Use
from ssl4eo_bench.files.locks import locked
from ssl4eo_bench.files.shards import MANIFEST, ShardedArray, ShardStore
from ssl4eo_bench.progress import Advance

SHARD_ROWS = 1024
"""Rows of features in a shard: one for each image, or as many for each tile as a key has pixels."""
EXTRACTION_VERSION = 3
"""Raised when the code between stored pixels and features changes what it computes."""
LARGEST_ERROR = 2.0**-10
"""Largest rounding error that `halved` accepts, relative to the standard deviation of a feature. A probe standardises
features, so this is the error that it sees."""

Batch = TypeVar("Batch")
Taken = TypeVar("Taken", contravariant=True)

Read = Callable[[int, int], Iterable[Batch]]
"""Gives the inputs of the backbone for samples start to stop, in order, batch by batch."""


class Extractor(Protocol[Taken]):
    """Turns batches, such as groups of stored pixels, into features."""

    def origin(self, samples: int) -> "Origin":
        """The origin of what it computed for so many samples; known after the first batch."""
        ...

    def __call__(self, batch: Taken, /) -> np.ndarray:
        """Features of a batch, float32: `[N, D]`, or `[N, K, D]` for K pixels of each sample."""
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
        pixels: number of pixels of each sample that have features; None for features of whole images.
        places: digest of the positions of these pixels.
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
        """The name of the entry, made of all attributes but those that are for people."""
        return digest(self.model_dump(exclude={"split", "checkpoint"}, exclude_none=True))

    @property
    def shard_bounds(self) -> list[tuple[int, int]]:
        """The first sample of each shard, and the one after its last."""
        return list(pairwise([*range(0, self.rows, max(1, SHARD_ROWS // (self.pixels or 1))), self.rows]))

    def rows_in(self, shards: Iterable[int]) -> int:
        """The number of samples in some shards."""
        bounds = self.shard_bounds
        return sum(bounds[shard][1] - bounds[shard][0] for shard in shards)


_installed = cache(version)  # reading the metadata of a package takes milliseconds


def backbone_digest(checkpoint: Checkpoint, seed: int) -> str:
    """The digest of a backbone for a key, with the versions of the libraries that build and compute it."""
    identity = checkpoint.identity() | {name: _installed(name) for name in ("torch", "timm")}
    if checkpoint.is_random:
        identity |= {"seed": seed}
    if checkpoint.is_plugin:
        from ssl4eo_bench.models.plugin import libraries  # imports torch: not to look into the cache

        identity |= {"libraries": libraries(checkpoint)}
    if checkpoint.reference:  # compared with when features are computed
        identity |= {"reference": checkpoint.reference.model_dump()}
    return digest(identity)


@dataclass(frozen=True)
class Origin:
    """Where features or predictions came from.

    Attributes:
        computed: number of samples that they were computed of just now.
        runners: what ran the backbone, now or when its features were stored.
        weights_sha256: of the backbones that were run.
        cost: of the backbone, as far as it is known.
    """

    computed: int
    runners: tuple[str, ...]
    weights_sha256: tuple[str, ...]
    cost: Cost | None = None


@dataclass(frozen=True)
class Features:
    """Features in the order of the samples, and where they came from.

    Values are `[N, D]`, or `[N · K, D]` for K pixels of each sample; float16 where `halved` found that this does no
    harm, else float32. Stored features are a `ShardedArray`: slices and rows are read when it is indexed.
    """

    values: np.ndarray
    origin: Origin


class Entry(NamedTuple):
    """A stored entry: its key and its shards."""

    key: FeatureKey
    store: ShardStore

    @property
    def rows(self) -> int:
        """The number of samples with stored features."""
        return sum(shard.facts["rows"] for shard in self.store.shards.values())

    def damaged(self) -> list[Path]:
        """The files that are absent or not what was written."""
        return [file for number in self.store.shards for file in self.store.damaged(number)]


@dataclass(frozen=True)
class Extraction(Generic[Batch]):
    """What the features of a split are computed from.

    Attributes:
        backbones: one for each device; each computes a part of the shards.
        read: gives their inputs.
        threads: run a backbone, and as many others store shards, while the next inputs are read; with 0 all is done
            one after another.
        ids: of the samples.
        not_finite: the reader's counts of values that are not finite, by id. Those of `ids` are stored with the
            features, and added again where features come from disk.
    """

    key: FeatureKey
    backbones: Sequence[Extractor[Batch]]
    read: Read[Batch]
    threads: int = 0
    ids: Sequence[str] = ()
    not_finite: dict[str, int] = field(default_factory=dict)


class FeatureCache:
    """The entries below a cache directory.

    Stored features are used where `renewed` is None. Else each entry is computed anew unless its digest is in this set,
    to which it is then added.
    """

    def __init__(self, root: Path, renewed: set[str] | None = None) -> None:
        self._root = root / "features"
        self._renewed = renewed

    def get(self, extraction: Extraction[Batch]) -> Features:
        """The features of a split: shards that are missing or damaged are computed and stored first.

        Raises:
            CacheError: if the directory cannot be written.
            WeightsError: if features are not finite.
        """
        key = extraction.key
        found = _stored(self._begun(key), extraction)  # without a lock, which a read-only cache cannot have
        if found is None:
            with self._locked(key):
                found = _completed(self._begun(key), extraction)
        if self._renewed is not None:
            self._renewed.add(key.digest)
        return found

    def compute(self, extraction: Extraction[Batch], numbers: Sequence[int]) -> int:
        """Compute and store those of these shards that are missing; gives the number of samples in them.

        Other processes may compute other shards of the entry at the same time. It raises what `get` raises.
        """
        key = extraction.key
        with self._locked(key):
            store = self._begun(key)
            use = Use(store.folder)
            if ShardStore.open(store.folder) is None or store.about != {"key": key.model_dump(mode="json")}:
                store.write_manifest()
        missing = [number for number in numbers if not store.is_sound(number)]
        rows = key.rows_in(missing)
        with progress.stage(f"features {key.checkpoint} · {key.split}", total=rows, unit="images") as advance:
            _compute(store, missing, extraction, advance)
        del use  # nobody could delete the entry meanwhile
        return rows

    def missing(self, key: FeatureKey) -> list[int]:
        """The numbers of the shards of an entry that are not there; none of their content is read."""
        store = self._begun(key)
        return [number for number in range(len(key.shard_bounds)) if number not in store.shards]

    @contextmanager
    def _locked(self, key: FeatureKey) -> Iterator[None]:
        """Keep other processes from the entry of a key."""
        folder = self._root / key.digest
        note = f"another process computes features {key.checkpoint} · {key.split}; waiting for it"
        with ExitStack() as held:
            try:
                held.enter_context(locked(folder / LOCK, note=note))
            except OSError as error:
                raise CacheError(
                    f"the cache directory {self._root} cannot be written ({error.strerror or error}); name another "
                    "with --cache-dir or SSL4EO_BENCH_CACHE."
                ) from error
            yield

    def _begun(self, key: FeatureKey) -> ShardStore:
        """The store to continue with: the stored one, unless it shall be renewed or was copied from another entry."""
        entry = _entry(self._root / key.digest)
        renew = self._renewed is not None and key.digest not in self._renewed
        if entry is None or renew or entry.key.digest != key.digest:
            return ShardStore(self._root / key.digest, {"key": key.model_dump(mode="json")})
        lengths = {number: stop - start for number, (start, stop) in enumerate(key.shard_bounds)}
        kept = {number: one for number, one in entry.store.shards.items() if one.facts["rows"] == lengths.get(number)}
        return ShardStore(entry.store.folder, entry.store.about, kept)

    def entries(self) -> list[Entry]:
        """The stored entries, newest first."""
        files = sorted(self._root.glob(f"*/{MANIFEST}"), key=lambda file: -file.stat().st_mtime)
        return [entry for file in files if (entry := _entry(file.parent))]

    def is_useless(self, item: CachedItem) -> bool:
        """Whether an item is an entry without a readable manifest, or of an earlier code: nothing will ask for it."""
        entry = _entry(self._root / item.name) if item.kind == "features" else None
        return item.kind == "features" and (entry is None or entry.key.extraction != EXTRACTION_VERSION)

    def is_of(self, item: CachedItem, checkpoint: str) -> bool:
        """Whether an item is an entry of a checkpoint."""
        entry = _entry(self._root / item.name) if item.kind == "features" else None
        return entry is not None and entry.key.checkpoint == checkpoint


def _entry(folder: Path) -> Entry | None:
    """The entry in a folder; None if its manifest is absent, unreadable or was edited."""
    store = ShardStore.open(folder)
    try:
        return Entry(FeatureKey.model_validate(store.about.get("key")), store) if store else None
    except ValidationError:
        return None


def _stored(store: ShardStore, work: Extraction[Batch]) -> Features | None:
    """The features of a store; None if shards are missing or damaged."""
    use, count = Use(store.folder), len(work.key.shard_bounds)
    if len(store.shards) < count:
        return None
    what = f"cached features {work.key.checkpoint} · {work.key.split}"
    with progress.stage(what, total=work.key.rows, unit="images") as advance:
        return None if _missing(store, work, advance) else _joined(store, work.key, use, computed=0)


def _completed(store: ShardStore, work: Extraction[Batch]) -> Features:
    """The features of a store; shards that are missing or damaged are computed first."""
    use = Use(store.folder)
    what = f"features {work.key.checkpoint} · {work.key.split}"
    with progress.stage(what, total=work.key.rows, unit="images") as advance:
        missing = _missing(store, work, advance)
        if missing:
            store.write_manifest()
        _compute(store, missing, work, advance)
    return _joined(store, work.key, use, computed=work.key.rows_in(missing))


def _missing(store: ShardStore, work: Extraction[Batch], advance: Advance) -> list[int]:
    """The numbers of the shards that are missing or damaged; what the others say of their samples is noted."""
    missing = []
    for number, (start, stop) in enumerate(work.key.shard_bounds):
        if store.is_sound(number):
            work.not_finite.update(store.shards[number].facts["not_finite"])
            advance(stop - start)
        else:
            missing.append(number)
    return missing


def _joined(store: ShardStore, key: FeatureKey, use: Use, *, computed: int) -> Features:
    """The features in all shards of a store, which nobody deletes while they are there."""
    numbers = range(len(key.shard_bounds))
    shards = [store.shards[number].facts for number in numbers]
    arrays = [store.array(number, _file(number)) for number in numbers]
    origin = Origin(
        computed=computed,
        runners=tuple(sorted({facts["runner"] for facts in shards})),
        weights_sha256=tuple(sorted({facts["weights_sha256"] for facts in shards})),
        cost=next((Cost.model_validate(facts["cost"]) for facts in shards if facts.get("cost")), None),
    )
    values = ShardedArray([array for array in arrays if array]).flattened()
    values.use = use
    return Features(cast(np.ndarray, values), origin)


def _compute(store: ShardStore, numbers: Sequence[int], work: Extraction[Batch], advance: Advance) -> None:
    """Compute and store shards; each backbone takes a part of them, all at the same time."""
    stopped = threading.Event()

    def advance_unless_stopped(count: int) -> None:
        if stopped.is_set():
            raise CancelledError
        advance(count)

    def compute(part: Sequence[int], backbone: Extractor[Batch]) -> None:
        for run in _runs(part):
            _compute_run(store, run, work, backbone, advance_unless_stopped)

    parts = [part.tolist() for part in np.array_split(np.array(numbers, dtype=int), len(work.backbones)) if len(part)]
    if len(parts) < 2:
        for part in parts:
            compute(part, work.backbones[0])
        return
    with ThreadPoolExecutor(len(parts)) as pool:
        running = [pool.submit(compute, part, backbone) for part, backbone in zip(parts, work.backbones, strict=False)]
        try:
            for one in as_completed(running):
                one.result()
        finally:  # also when Ctrl-C is pressed: the pool waits for its threads
            stopped.set()


def _compute_run(
    store: ShardStore, numbers: range, work: Extraction[Batch], backbone: Extractor[Batch], advance: Advance
) -> None:
    """Compute and store consecutive shards; each is written while the next ones are computed, if there are threads."""
    bounds = work.key.shard_bounds
    start, stop = bounds[numbers[0]][0], bounds[numbers[-1]][1]

    def write(shard: tuple[int, np.ndarray]) -> None:
        number, rows = shard
        ids, origin = work.ids[slice(*bounds[number])], backbone.origin(len(rows))
        facts = {
            "rows": len(rows),
            "runner": origin.runners[0],
            "weights_sha256": origin.weights_sha256[0],
            "cost": origin.cost and origin.cost.model_dump(),
            "not_finite": {id_: work.not_finite[id_] for id_ in ids if id_ in work.not_finite},
        }
        store.write(number, {_file(number): halved(rows)}, facts)

    def features() -> Iterator[np.ndarray]:
        for found in prefetch(backbone, work.read(start, stop), threads=work.threads):
            require_finite(found, work.key.checkpoint, work.key.task)
            advance(len(found))
            yield found

    rows = bounds[numbers[0]][1] - start
    for _ in prefetch(write, zip(numbers, _in_shards(features(), rows), strict=True), threads=work.threads):
        pass


def _in_shards(features: Iterable[np.ndarray], rows: int) -> Iterator[np.ndarray]:
    """The same features in arrays of `rows` rows; the last may be shorter."""
    held: list[np.ndarray] = []
    for found in features:
        held.append(found)
        while sum(map(len, held)) >= rows:
            joined = np.concatenate(held)
            held = [joined[rows:]] if len(joined) > rows else []
            yield joined[:rows]
    if held:
        yield np.concatenate(held)


def _runs(numbers: Sequence[int]) -> Iterator[range]:
    """The runs of consecutive numbers among ascending ones."""
    known = set(numbers)
    starts = [number for number in numbers if number - 1 not in known]
    stops = [number + 1 for number in numbers if number + 1 not in known]
    return map(range, starts, stops)


def _file(number: int) -> str:
    return f"shard-{number:05d}.npy"


def require_finite(features: np.ndarray, checkpoint: str, task: str) -> None:
    """Refuse features with NaN or infinities among them, which no protocol can use."""
    if not np.isfinite(features).all():
        raise WeightsError(
            f"checkpoint {checkpoint!r} gives features that are not finite on task {task!r}; its weights or its "
            "scaling are not what its entry says."
        )


def halved(features: np.ndarray) -> np.ndarray:
    """Features `[…, D]` float32 as float16, or unchanged if rounding would harm one of them.

    Half precision has eleven binary digits and ends at 65,504. A feature that varies little around a large value, or is
    very large or very small, would lose what distinguishes samples.
    """
    rows = features.reshape(-1, features.shape[-1])
    with np.errstate(over="ignore"):
        rounded = rows.astype(np.float16)
    error = np.sqrt(np.square(rounded - rows).mean(axis=0))  # infinite where a value was too large
    harmless = bool((error <= LARGEST_ERROR * rows.std(axis=0)).all())
    return rounded.reshape(features.shape) if harmless else features
