"""A task: a dataset with a fixed split, classes and metrics, and the contract its reader fulfils."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Protocol

import numpy as np
from pydantic import Field

from ssl4eo_bench.config.bands import Band, sensor_of
from ssl4eo_bench.config.canonical import Frozen, ids_digest
from ssl4eo_bench.config.inputs import DisplayStretch, PerImage
from ssl4eo_bench.config.recipe import Recipe
from ssl4eo_bench.config.remote_files import RemoteFile
from ssl4eo_bench.errors import SpecError

Kind = Literal["multiclass", "multilabel", "segmentation"]
SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")

MAIN_METRIC: dict[Kind, str] = {"multiclass": "accuracy", "multilabel": "micro_map", "segmentation": "miou"}
"""The metric that hyper-parameters are chosen by and that the leaderboard ranks by."""

SHARED_METRICS = ("micro_map", "macro_f1")
"""In every table and on the leaderboard, beside the task's main metric."""

TaskName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=100)]
"""A name that can be a part of file names, and means nothing in CSV, Markdown, LaTeX or HTML."""

LESS_IS_BETTER = frozenset({"ece"})
"""Metrics that nothing is ranked by; of all others, more is better."""

WORDS_OF_METRICS = {"map": "mAP", "f1": "F1", "miou": "mIoU", "ece": "ECE", "tuned": "(tuned)"}
"""Parts of the names of metrics that people write otherwise."""


def metric_label(name: str) -> str:
    """A metric as people write it, such as `micro mAP` for `micro_map`."""
    return " ".join(WORDS_OF_METRICS.get(word, word) for word in name.split("_"))


Groups = tuple[np.ndarray, ...]
"""Stored pixels of a batch, one array `[N, C, H, W]` for each sensor and resolution, as `Task.groups` orders them."""


IGNORED = 255
"""The label of a pixel that has no class: it is neither fitted nor scored."""


OWN_DATA = ("folder", "csv")
"""The first parts of names of tasks that are made of a user's own images."""


def is_own_data(name: str) -> bool:
    """Whether the task of this name is made of a user's own images, which are in no catalogue."""
    return name.split("-")[0] in OWN_DATA


class Split(Frozen):
    """A split: the number of its distinct ids, and the sha256 of the sorted ids joined by newlines."""

    count: int
    digest: str

    @classmethod
    def of(cls, ids: Sequence[str]) -> "Split":
        """The split made of these ids."""
        return cls(count=len(ids), digest=ids_digest(ids))


class UnlistedSplit(Frozen):
    """A split with ids that nobody published, and perhaps not even their `count`.

    Results hold the digest of the ids that were used, and results that differ in them never share a table.
    """

    count: int | None = None


class Source(Protocol):
    """A dataset opened for reading. Picklable, torch-free, and safe to read from several threads at once."""

    def ids(self, split: SplitName) -> list[str]:
        """The ids that the split list on disk names, in list order, unchecked.

        Raises:
            MissingDataError: if the list is not there.
        """
        ...

    def absent(self, ids: Sequence[str]) -> list[str]:
        """The ids among `ids` that have no files."""
        ...

    def targets(self, ids: Sequence[str]) -> np.ndarray:
        """Labels, as the task's kind wants them.

        Class numbers `[N]` int64 (multiclass), indicators `[N, C]` uint8 (multilabel), or maps `[N, H, W]` uint8 of
        class numbers and `IGNORED` (segmentation).
        """
        ...

    def read(self, ids: Sequence[str], bands: Sequence[str]) -> Groups:
        """Stored pixels, one array `[N, C, H, W]` for each group in `Task.groups(bands)`, not resized.

        Raises:
            DamagedFileError: if a file cannot be read or holds something else than the task expects.
        """
        ...

    def fingerprint(self, ids: Sequence[str]) -> str:
        """A digest that changes when the stored bytes of these samples change; cheap, so cached features trust it."""
        ...


class PlacedSource(Source, Protocol):
    """A source of a task that tells the place or the date of its samples."""

    def place_and_date(self, ids: Sequence[str]) -> np.ndarray:
        """Longitude and latitude in degrees, and days since 1970-01-01, `[N, 3]` float64; NaN for what is not known."""
        ...


class Sample(Frozen):
    """The embedded sample: how a small dataset in the task's official layout is made, and what its splits are.

    Attributes:
        make: writes the dataset below an existing, empty folder.
        splits: of the sample.
        version: raised whenever its files change, so that no cached files or results of other ones are taken for it.
    """

    make: Callable[[Path], None]
    splits: dict[SplitName, Split]
    version: int = 1


class Clusters(Frozen):
    """Which samples are not independent of each other, as far as their ids tell.

    Intervals and comparisons resample whole clusters; no metric depends on them.

    Attributes:
        what: they are, in the plural.
        of: the cluster of the sample of an id.
    """

    what: str
    of: Callable[[str], str]


class Task(Frozen):
    """A dataset with a fixed split, classes and metrics.

    Attributes:
        name: as asked for on the command line; the module is named like its part before the first hyphen.
        version: bumped whenever a number can move; the module's docstring says what changed.
        title: one line for lists.
        kind: what the labels are.
        classes: in label order.
        bands: what the reader yields, in the order it yields them.
        level: processing level of the imagery, such as `L1C`.
        image_size: side of a sample in 10 m pixels.
        tells: what its reader tells of a sample beside pixels; then it is a `PlacedSource`.
        display: how bytes were made from digital numbers, for tasks in bytes.
        splits: the official ones.
        class_counts: the official number of samples of each class, or of its pixels in label maps, in some splits
            taken together, as far as it is known; `data verify` compares it.
        open: opens the dataset below a data directory; raises MissingDataError where there is none.
        sample: the embedded sample, if it has one.
        clusters: of samples that depend on each other; none where ids do not tell.
        headline: whether it counts for the leaderboard's mean.
        folder: where its files lie below a data directory; empty if they lie elsewhere.
        files: what is published, for downloads.
        recipes: that published numbers on the dataset were made with.
        licence: of the data, if others may have them.
        citation: of the data and of the split.
        how_to_get: one sentence on where the files come from and where they go.
    """

    name: TaskName
    version: Annotated[int, Field(ge=1)]
    title: str
    kind: Kind
    classes: tuple[str, ...]
    bands: tuple[Band, ...]
    level: str
    image_size: int
    tells: tuple[PerImage, ...] = ()
    display: DisplayStretch | None = None
    splits: Mapping[SplitName, Split | UnlistedSplit]
    class_counts: Mapping[tuple[SplitName, ...], tuple[int, ...]] = {}
    open: Callable[[Path], Source]
    sample: Sample | None = None
    clusters: Clusters | None = None
    headline: bool = False
    folder: str = ""
    files: tuple[RemoteFile, ...] = ()
    recipes: tuple[Recipe, ...] = ()
    licence: str = ""
    citation: str = ""
    how_to_get: str = "put its files there by hand"

    @property
    def main_metric(self) -> str:
        """The metric that everything is chosen and ranked by."""
        return MAIN_METRIC[self.kind]

    def embedded(self) -> Sample:
        """Return the embedded sample.

        Raises:
            SpecError: if it has none.
        """
        if not self.sample:
            raise SpecError(
                f"task {self.name!r} has no embedded sample; leave --sample away, and name its data with --data-dir."
            )
        return self.sample

    def units(self, ids: Sequence[str]) -> tuple[np.ndarray, str]:
        """Return what a bootstrap draws: the number `[N]` of the unit of each sample, and what units are.

        Units are clusters where the task knows them and there is more than one, and samples otherwise.
        """
        if self.clusters:
            numbers: np.ndarray = np.unique([self.clusters.of(id_) for id_ in ids], return_inverse=True)[1]
            if numbers.max() > 0:
                return numbers, self.clusters.what
        return np.arange(len(ids)), "tiles" if self.kind == "segmentation" else "samples"

    def groups(self, bands: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """`bands` grouped by sensor, in the task's order, and by resolution, finest first.

        Each group is in the task's band order. Sensors have groups of their own, since their numbers differ in type.
        """
        sensors = list(dict.fromkeys(sensor_of(band.name) for band in self.bands))
        found: dict[tuple[int, int], list[str]] = {}
        for band in self.bands:
            if band.name in bands:
                found.setdefault((sensors.index(sensor_of(band.name)), band.resolution), []).append(band.name)
        return tuple(tuple(found[place]) for place in sorted(found))
