"""Reading a task's samples. Every batch is checked against the task's card."""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from ssl4eo_bench.config.inputs import LARGEST_FILLED_SHARE, InputMapping, PerImage
from ssl4eo_bench.config.task import IGNORED, Groups, PlacedSource, Source, SplitName, Task
from ssl4eo_bench.errors import DamagedFileError, DataError

PIXEL_SIZE = 10
"""Metres. The size of the pixels that `Task.image_size` counts."""


class Reader:
    """Reads from a task's source and checks what it gives. Picklable, and safe to use from several threads.

    Attributes:
        not_finite: the number of NaN and infinite values by the id of their sample.
    """

    def __init__(self, task: Task, source: Source) -> None:
        self._task = task
        self._source = source
        self.not_finite: dict[str, int] = {}

    def ids(self, split: SplitName) -> list[str]:
        """The ids that the split list names, in list order."""
        return self._source.ids(split)

    def absent(self, ids: Sequence[str]) -> list[str]:
        """Return the ids among `ids` that have no files."""
        return self._source.absent(ids)

    def fingerprint(self, ids: Sequence[str]) -> str:
        """A digest that changes when the stored bytes of these samples change."""
        return self._source.fingerprint(ids)

    def targets(self, ids: Sequence[str]) -> np.ndarray:
        """Labels, as `Source.targets` gives them.

        Raises:
            DataError: if shape, type or values do not fit the task's kind of labels.
        """
        labels, classes = self._source.targets(ids), len(self._task.classes)
        if not isinstance(labels, np.ndarray):
            fits = inside = False
        elif self._task.kind == "multiclass":
            fits = labels.shape == (len(ids),) and labels.dtype.kind in "iu"
            inside = fits and bool(((labels >= 0) & (labels < classes)).all())
        elif self._task.kind == "multilabel":
            fits = labels.shape == (len(ids), classes) and labels.dtype.kind in "iub"
            inside = fits and bool(((labels >= 0) & (labels <= 1)).all())
        else:
            fits = labels.ndim == 3 and len(labels) == len(ids) and labels.dtype == np.uint8
            inside = fits and bool(((labels < classes) | (labels == IGNORED)).all())
        if not inside:
            values = f" from {labels.min()} to {labels.max()}" if fits else ""
            raise DataError(
                f"the reader of task {self._task.name!r} gives labels {_described(labels)}{values} for {len(ids)} "
                f"samples, which are no {self._task.kind} labels of {classes} classes; correct its "
                "`targets`, as docs/tasks.md describes it."
            )
        return labels

    def read(self, ids: Sequence[str], bands: Sequence[str]) -> Groups:
        """Stored pixels, as `Source.read` gives them. Values that are not finite are counted and not changed.

        Raises:
            DataError: if groups, bands, size or type do not fit the task.
            DamagedFileError: if all bands of a sample are without a finite value, or more than one band and more than
                a quarter of them.
        """
        groups = self._stored(ids, bands)
        self._count(ids, bands, groups)
        return groups

    def _stored(self, ids: Sequence[str], bands: Sequence[str]) -> Groups:
        """The pixels that the source reads, with their shapes and types checked."""
        groups = self._source.read(ids, bands)
        side = self._task.image_size * PIXEL_SIZE
        resolution = {band.name: band.resolution for band in self._task.bands}
        expected = [
            (len(ids), len(names), side // resolution[names[0]], side // resolution[names[0]])
            for names in self._task.groups(bands)
        ]
        given = groups if isinstance(groups, Sequence) else ()
        found = [group.shape if isinstance(group, np.ndarray) else None for group in given]
        if found != expected or any(group.dtype.kind not in "uif" for group in groups):
            types = ", ".join(map(_described, given)) or _described(groups)
            raise DataError(
                f"the reader of task {self._task.name!r} gives {types} for {len(ids)} samples and the bands "
                f"{', '.join(bands)}, but {', '.join(str(list(shape)) for shape in expected)} is expected; correct its "
                "`read`, as docs/tasks.md describes it."
            )
        return groups

    def read_inputs(self, ids: Sequence[str], inputs: InputMapping) -> Groups:
        """Stored pixels for a backbone, and place and date `[N, 3]` after them where the inputs have metadata.

        A pixel that is not finite becomes the one that is zero after scaling.
        """
        pixels = self._finite(ids, inputs)
        return (*pixels, self._place_and_date(ids, inputs.metadata)) if inputs.metadata else pixels

    def place_and_date(self, ids: Sequence[str]) -> np.ndarray:
        """Longitude, latitude and days since 1970-01-01 `[N, 3]`, as `PlacedSource` gives them.

        Raises:
            DataError: if they are not such an array.
        """
        found = cast(PlacedSource, self._source).place_and_date(ids)
        fits = isinstance(found, np.ndarray) and found.shape == (len(ids), 3) and found.dtype == np.float64
        if not fits or (np.abs(found[:, :2]) > (180, 90)).any():
            raise DataError(
                f"the reader of task {self._task.name!r} gives place and date as {_described(found)} for {len(ids)} "
                "samples, but degrees and days, float64 [N, 3], are expected; correct its `place_and_date`."
            )
        return found

    def _place_and_date(self, ids: Sequence[str], wanted: Sequence[PerImage]) -> np.ndarray:
        """What of place and date is wanted; the rest is NaN."""
        columns = [name for name, width in (("lonlat", 2), ("date", 1)) for _ in range(width)]
        kept: np.ndarray = np.where([name in wanted for name in columns], self.place_and_date(ids), np.nan)
        return kept.astype(np.float32)

    def _finite(self, ids: Sequence[str], inputs: InputMapping) -> Groups:
        groups = self.read(ids, inputs.sources)
        if all(id_ not in self.not_finite for id_ in ids):
            return groups
        neutral = {channel.source: channel.neutral for channel in inputs.channels if channel.source}
        return tuple(
            _replaced(group, names, neutral)
            for group, names in zip(groups, self._task.groups(inputs.sources), strict=True)
        )

    def require_selection(self, ids: Sequence[str]) -> None:
        """Refuse a reader that gives other bands or samples than it is asked for.

        Each sample is read alone with all bands, and the first one also band by band: a reader that does not select
        bands gives other pixels then, or too many. Then the samples are read together in both orders: a reader that
        sorts or shuffles samples gives the pixels of another one in one of them.

        Raises:
            DataError: if pixels differ. The message names the band or the order of the samples.
        """
        names = [band.name for band in self._task.bands]
        alone = {id_: self._stored([id_], names) for id_ in ids}
        together = self._planes(alone[ids[0]], names)
        for name in names if len(names) > 1 else ():
            plane = self._planes(self._stored(ids[:1], [name]), [name])[name]
            if not np.array_equal(plane, together[name], equal_nan=True):
                raise DataError(
                    f"the reader of task {self._task.name!r} gives other pixels for band {name} alone than among all "
                    f"bands (sample {ids[0]}); correct its `read`, as docs/tasks.md describes it."
                )
        for order in (ids, ids[::-1]) if len(ids) > 1 else ():
            for position, group in enumerate(self._stored(order, names)):
                expected = np.concatenate([alone[id_][position] for id_ in order])
                if not np.array_equal(group, expected, equal_nan=True):
                    raise DataError(
                        f"the reader of task {self._task.name!r} gives other pixels for the samples "
                        f"{', '.join(order)}, read together in this order, than for each alone; correct its `read`, "
                        "as docs/tasks.md describes it."
                    )

    def _planes(self, groups: Groups, bands: Sequence[str]) -> dict[str, np.ndarray]:
        """The pixels `[H, W]` of the first sample by band."""
        named = zip(groups, self._task.groups(bands), strict=True)
        return {name: plane for group, names in named for name, plane in zip(names, group[0], strict=True)}

    def _count(self, ids: Sequence[str], bands: Sequence[str], groups: Groups) -> None:
        floats = [group.reshape(len(ids), -1) for group in groups if group.dtype.kind == "f"]
        if not floats:
            return
        # A sum is not finite if one of its values is not; this is one pass over the pixels, a mask would take three.
        with np.errstate(all="ignore"):
            suspicious = ~np.isfinite(np.sum([group.sum(axis=1, dtype=np.float64) for group in floats], axis=0))
        for row in np.flatnonzero(suspicious).tolist():
            finite = self._planes(tuple(np.isfinite(group[row : row + 1]) for group in groups), bands)
            empty = [name for name, plane in finite.items() if not plane.any()]
            if len(empty) == len(finite) or len(empty) > max(1, LARGEST_FILLED_SHARE * len(finite)):
                raise DamagedFileError(
                    f"sample {ids[row]} of task {self._task.name!r} has no finite value in {len(empty)} of "
                    f"{len(finite)} bands ({', '.join(empty)}), and no more than one or a quarter may be empty; fetch "
                    "it again, or remove it and use --partial."
                )
            if count := sum(int(np.count_nonzero(~plane)) for plane in finite.values()):
                self.not_finite[ids[row]] = count


def _described(value: object) -> str:
    """Type and shape of an array, or the class of another object, for messages."""
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__


def _replaced(group: np.ndarray, names: Sequence[str], neutral: Mapping[str, float]) -> np.ndarray:
    """Pixels `[N, C, H, W]` with each value that is not finite replaced by the neutral value of its band."""
    values = np.array([neutral[name] for name in names], dtype=group.dtype)[:, None, None]
    return np.where(np.isfinite(group), group, values) if group.dtype.kind == "f" else group
