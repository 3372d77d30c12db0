"""Result files: one JSON for each run, in a place that follows from its content."""

import gc
import json
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from ssl4eo_bench import progress
from ssl4eo_bench.config.canonical import Frozen, digest, first_fault
from ssl4eo_bench.config.protocols import Knn, Linear
from ssl4eo_bench.config.recipe import Recipe
from ssl4eo_bench.config.records import (
    ClassResult,
    Cost,
    FigureData,
    MetricValue,
    NotFinite,
    ReferenceResult,
    Resampled,
    Selection,
)
from ssl4eo_bench.config.run_spec import RunSpec
from ssl4eo_bench.config.task import MAIN_METRIC, SHARED_METRICS, SPLITS, Split, SplitName, metric_label
from ssl4eo_bench.errors import ResultError, ResultFileError, WriteError, guess
from ssl4eo_bench.files.atomic import write_text
from ssl4eo_bench.files.locks import LOCK, locked
from ssl4eo_bench.files.reading import read_bytes
from ssl4eo_bench.results import index, schema
from ssl4eo_bench.results.figure_data import write_figure_data
from ssl4eo_bench.results.schema import Content

CURRENT, CHECKSUM = f'{{\n "schema_version": {schema.SCHEMA_VERSION},'.encode(), b',\n "checksum":'
"""How a file of the current schema begins, and what ends its content."""

LOCKS = ".locks"
"""The folder of locks in a results directory."""

CURE = "restore it, or remove it and run again"

CONTROL = re.compile(rb"[\x00-\x09\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\\u00[01]")
"""Characters that would be commands to the terminal that shows a result; JSON writes most of them as numbers."""

MetricName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=100)]
"""A name that means nothing in CSV, Markdown, LaTeX or HTML."""


class Provenance(Frozen):
    """What produced the numbers; none of it enters the digest.

    Attributes:
        dirty: whether the checkout of `commit` had changes in code, tasks or checkpoints.
        runners: what ran the backbone, now or when its features were cached.
        weights_sha256: of all parameters and buffers of the backbone that was run.
        started: UTC time, ISO 8601.
        seconds: by stage.
        features_computed: images whose features were not in the cache.
    """

    versions: dict[str, str]
    commit: str | None = None
    dirty: bool = False
    device: str
    runners: tuple[str, ...]
    weights_sha256: tuple[str, ...]
    cost: Cost | None = None
    threads: int
    started: str
    seconds: dict[str, float]
    features_computed: int
    peak_memory_bytes: int


class RunResult(Frozen):
    """The result of one run, as it is stored.

    Attributes:
        digest: of `spec`.
        counts: samples by split.
        subset: the training samples that were used, if not all.
        resampled: the main metric on test in resamples; none in what schema 1 wrote.
        classes: of the test split, in label order; `confusion` is of it, too.
        reference: what the published code would have reported.
        figures: of a result that was just made; they have a file of their own.
    """

    schema_version: Literal[2]
    digest: str
    spec: RunSpec
    counts: dict[SplitName, int]
    subset: Split | None = None
    not_finite: dict[SplitName, NotFinite] = Field(default_factory=dict)
    metrics: dict[SplitName, dict[MetricName, MetricValue]]
    resampled: Resampled | None = None
    classes: tuple[ClassResult, ...]
    confusion: tuple[tuple[int, ...], ...] | None = None
    selection: Selection
    reference: ReferenceResult | None = None
    warnings: tuple[str, ...] = ()
    provenance: Provenance
    figures: FigureData | None = Field(default=None, exclude=True, repr=False)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "RunResult":
        if set(self.metrics) != {"val", "test"}:
            raise ValueError(f"metrics are of {', '.join(self.metrics) or 'nothing'}, not of val, test")
        if self.main_metric not in self.metrics["val"]:
            raise ValueError(f"val has no {self.main_metric}")
        if missing := {self.main_metric, *SHARED_METRICS} - set(self.metrics["test"]):
            raise ValueError(f"test has no {', '.join(sorted(missing))}")
        if self.selection.metric != self.main_metric:
            raise ValueError(f"{self.selection.metric} was chosen by, not the main metric {self.main_metric}")
        if set(self.counts) != set(SPLITS):
            raise ValueError(f"counts are of {', '.join(self.counts) or 'nothing'}, not of {', '.join(SPLITS)}")
        if self.counts != {split: found.count for split, found in self.spec.task.splits.items()}:
            raise ValueError("counts are not those of the splits")
        if self.spec.protocol.name in ("linear", "finetune") and (self.selection.C is None or not self.selection.path):
            raise ValueError("the path that C was chosen from is empty")
        if self.spec.protocol.name not in ("linear", "knn") and not self.selection.history:
            raise ValueError("the history that rate and epoch were chosen from is empty")
        if isinstance(self.spec.protocol, Recipe) != (self.reference is not None):
            raise ValueError("only recipes have, and must have, what the published code would report")
        if (self.spec.fraction is None) != (self.subset is None):
            raise ValueError("the subset is not what the fraction says")
        return self

    def __repr__(self) -> str:
        """A line for notebooks: the whole content is long."""
        spec = self.spec
        value = f"{metric_label(self.main_metric)} {self.main_value.percent} %"
        return f"RunResult({spec.task_slug} · {spec.protocol_slug} · {spec.label}: {value})"

    @property
    def main_metric(self) -> str:
        """The metric that decides on `val`; replicates are kept of it."""
        return MAIN_METRIC[self.spec.task.kind]

    @property
    def main_value(self) -> MetricValue:
        """The main metric on the test split."""
        return self.metrics["test"][self.main_metric]

    @property
    def fraction(self) -> float:
        """The share of the training samples that was used."""
        return 1.0 if self.spec.fraction is None else self.spec.fraction

    @property
    def images_per_second(self) -> float | None:
        """Images per second that features were computed at, with reading and without the start of the backbone.

        None where a network was trained, or the cost of the backbone is not known: earlier versions measured otherwise.
        """
        made = self.provenance
        seconds = made.seconds.get("features")
        if not (isinstance(self.spec.protocol, Linear | Knn) and made.cost and made.features_computed and seconds):
            return None
        return made.features_computed / seconds

    @property
    def content(self) -> Content:
        """What its file holds, without the checksum of that."""
        return self.model_dump(mode="json", exclude_none=True)

    @property
    def checksum(self) -> str:
        """The sha256 of the whole content."""
        return digest(self.content)

    @property
    def in_short(self) -> "RunResult":
        """Without classes, confusion matrix and what was chosen from: more than half of the memory, and in no table."""
        chosen = self.selection.model_copy(update={"path": (), "history": None})
        return self.model_copy(update={"classes": (), "confusion": None, "selection": chosen, "figures": None})

    @property
    def enters_tables(self) -> bool:
        """Whether it is official: on the whole official splits, by code as committed."""
        return self.spec.is_official and not self.provenance.dirty


@dataclass(frozen=True)
class RunFilter:
    """Which runs are wanted; an empty field fits all. Tasks and protocols are named with or without their version."""

    tasks: Collection[str] = ()
    protocols: Collection[str] = ()
    checkpoints: Collection[str] = ()
    seeds: Collection[int] = ()
    fractions: Collection[float] = ()

    def matches(self, result: RunResult) -> bool:
        """Whether a result is wanted."""
        spec = result.spec
        return (
            (not self.tasks or spec.task.name in self.tasks or spec.task_slug in self.tasks)
            and (not self.protocols or spec.protocol.name in self.protocols or spec.protocol_slug in self.protocols)
            and (not self.checkpoints or spec.checkpoint.name in self.checkpoints)
            and (not self.seeds or spec.seed in self.seeds)
            and (not self.fractions or result.fraction in self.fractions)
        )


ALL = RunFilter()


def check_writable(results: Path) -> None:
    """Refuse a results directory that cannot be written, before hours of computing.

    Raises:
        ResultError: if files cannot be made below `results`.
    """
    try:
        results.mkdir(parents=True, exist_ok=True)
        probe = results / ".writable"
        probe.touch()
        probe.unlink(missing_ok=True)  # another process probes at the same time
    except OSError as error:
        raise ResultError(
            f"results directory {results} cannot be written ({error.strerror}); name another with --results."
        ) from error


def write_result(results: Path, result: RunResult) -> Path:
    """Write a result to the place that follows from its specification, and return the file.

    The data of its figures, if it has some, goes first: a run is done once its result is there.
    """
    file = results / result.spec.path
    if result.figures:
        write_figure_data(results, result.digest, result.checksum, result.figures)
    write_text(file, _as_written(result.content, result.checksum))
    return file


def _as_written(content: Content, checksum: str) -> str:
    return json.dumps(content | {"checksum": checksum}, indent=1, ensure_ascii=False) + "\n"


def read_result(file: Path) -> RunResult:
    """The result in a file, checked.

    Raises:
        ResultFileError: if it cannot be read, comes from a newer version, was edited, or lies in the wrong place.
    """
    return parse_result(result_bytes(file), file)


def result_bytes(file: Path) -> bytes:
    """The bytes of a result file, unchecked; a ResultFileError if it cannot be read."""
    try:
        return read_bytes(file)
    except OSError as error:
        raise ResultFileError(file, f"cannot be read ({error.strerror})", CURE) from error


def parse_result(stored: bytes, file: PurePath) -> RunResult:
    """The result in the bytes of a file, checked: every byte must be as it was written.

    Raises:
        ResultFileError: if they come from a newer version, were edited, or belong to another place.
    """
    if CONTROL.search(stored):
        raise ResultFileError(file, "cannot be read (it holds control characters)", CURE)
    try:
        raw = json.loads(stored.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ResultFileError(file, f"cannot be read ({error})", CURE) from error
    if not isinstance(raw, dict):
        raise ResultFileError(file, "cannot be read (it holds no keys)", CURE)
    checksum = raw.pop("checksum", None)
    version = raw.get("schema_version")
    if isinstance(version, int) and version > schema.SCHEMA_VERSION:
        upgrade = f"has schema {version}, this version reads up to {schema.SCHEMA_VERSION}"
        raise ResultFileError(file, upgrade, "upgrade ssl4eo-bench")
    if checksum != _checksum(raw):
        raise ResultFileError(file, "was edited: its checksum is not that of its content", CURE)
    try:
        result = RunResult.model_validate_json(json.dumps(schema.updated(raw)))
    except ValidationError as error:
        raise ResultFileError(file, f"is not valid: {first_fault(error)}", CURE) from None
    except ValueError as error:
        raise ResultFileError(file, f"is not valid: {error}", CURE) from None
    if result.digest != result.spec.digest:
        raise ResultFileError(file, "was edited: its digest is not that of its specification", CURE)
    # An old file is formatted like those of today, but has other keys.
    whole = result.content if version == schema.SCHEMA_VERSION else raw
    if stored != _as_written(whole, checksum).encode():
        raise ResultFileError(file, "was formatted anew: its bytes are not those that were written", CURE)
    if version != 1 and result.resampled is None:
        raise ResultFileError(file, "has no replicates (`resampled`), which only files of schema 1 lack", CURE)
    place = result.spec.path
    if version == 1:  # had no such mark: such a result keeps its place, and enters no table
        place = place.with_stem(place.stem.removesuffix("-filled-bands"))
    if file.parts[-len(place.parts) :] != place.parts:
        taken = any(Path(parent / place).is_file() for parent in file.parents)
        cure = "remove it, for that place is taken" if taken else "move it back"
        raise ResultFileError(file, f"belongs at {place}", cure)
    return result


def _checksum(content: Content) -> str | None:
    """The digest of the content of a file of any version; none if no result can have this content."""
    try:
        return digest(content)
    except (TypeError, ValueError, RecursionError):
        return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dictionary of unique keys: JSON would silently replace the first value of a key by the second."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} is given twice")
    return found


def require_directory(results: Path) -> None:
    """Refuse a results directory that is not there, with a ResultError."""
    if not results.is_dir():
        what = "is not a directory" if results.exists() else "does not exist"
        raise ResultError(
            f"results directory {results} {what}; name yours with --results, or make one with `ssl4eo-bench run`."
        )


def result_files(results: Path) -> list[Path]:
    """The files of all results below a results directory, in order; a ResultError if the directory is absent."""
    require_directory(results)
    return sorted((results / "runs").rglob("*.json"))


def read_results(results: Path, *, in_short: bool = False) -> list[RunResult]:
    """All results below a results directory, in the order of their files; all of each, or as in `RunResult.in_short`.

    Raises:
        ResultError: if the directory is absent or one of the files cannot be used.
    """
    with uncollected():
        return [result.in_short if in_short else result for result, _ in _read(results)]


def read_and_keep(results: Path) -> tuple[list[RunResult], list[str]]:
    """All results in short, and the fingerprints of their files, which are kept in the index.

    It is for who holds the lock of the directory, that of `generating`, and raises what `read_results` does.
    """
    with uncollected():
        found = [(result.in_short, fingerprint) for result, fingerprint in _read(results)]
    fingerprints = [fingerprint for _, fingerprint in found]
    index.keep_checked(results, fingerprints)
    return [result for result, _ in found], fingerprints


@contextmanager
def uncollected() -> Iterator[None]:
    """Put off Python's search for circles of objects: results have none, and it takes as long as reading them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def fingerprints_of(results: Path) -> list[str]:
    """The fingerprints of all result files, in the order of the files, unchecked."""
    return [_fingerprint(file, results, result_bytes(file)) for file in result_files(results)]


def _fingerprint(file: Path, results: Path, stored: bytes) -> str:
    return index.fingerprint(file.relative_to(results).as_posix(), stored)


def _read(results: Path) -> Iterator[tuple[RunResult, str]]:
    """All results, each with its fingerprint: values come from the files, also of those that were checked before."""
    files, checked = result_files(results), index.checked_before(results)
    with progress.stage("result files", total=len(files), unit="files") as advance:
        for file in files:
            yield read_checked(file, results, checked)
            advance(1)


def read_checked(file: Path, results: Path, checked: Collection[str]) -> tuple[RunResult, str]:
    """The result in a file and its fingerprint; of those `checked` before, only the values are read.

    Raises:
        ResultFileError: as `read_result`.
    """
    stored = result_bytes(file)
    fingerprint = _fingerprint(file, results, stored)
    known = _known_result(stored) if fingerprint in checked else None
    return known or parse_result(stored, file), fingerprint


def _known_result(stored: bytes) -> RunResult | None:
    """The result in bytes that were checked before; none if they are of an earlier schema, or no result after all."""
    content, _, _ = stored.rpartition(CHECKSUM)
    try:
        return RunResult.model_validate_json(content + b"}") if content.startswith(CURRENT) else None
    except ValidationError:
        return None


def lock_file(results: Path, name: str) -> Path:
    """The file of a lock in a results directory, in a folder that git ignores by the file it has for that."""
    folder = results / LOCKS
    if not (folder / ".gitignore").exists():
        with suppress(WriteError):  # then no lock can be made either
            write_text(folder / ".gitignore", "*\n")
    return folder / f"{name}{LOCK}"


@contextmanager
def generating(results: Path) -> Iterator[None]:
    """Keep other processes from generating files of these results while this one reads results and generates.

    The last process has then read the results of all others; otherwise older tables could replace newer ones.
    """
    require_directory(results)
    with locked(
        lock_file(results, "generated"), note=f"another process generates files from {results}; waiting for it"
    ):
        yield


def find_result(results: Path, name: str) -> RunResult:
    """The result that `name` means: a file, a place below `runs/` with or without `.json`, or the start of a digest.

    Raises:
        ResultError: if it means none or several.
    """
    places = (Path(name), results / name, results / "runs" / name, results / "runs" / f"{name}.json")
    if file := next((place for place in places if place.is_file()), None):
        return read_result(file)
    found = [result for result in read_results(results) if len(name) >= 4 and result.digest.startswith(name)]
    if len(found) != 1:
        what = f"{len(found)} results have digests that start with" if found else "no result is called"
        known = [file.relative_to(results / "runs").with_suffix("").as_posix() for file in result_files(results)]
        cure = f"; `ssl4eo-bench list runs --results {results}` shows what there is."
        raise ResultError(f"{what} {name!r}{guess(name, known) or cure}")
    return found[0]
