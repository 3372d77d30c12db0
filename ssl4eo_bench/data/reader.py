"""Reading a task's samples: every batch is checked against what the task promises."""

from collections.abc import Mapping, Sequence

import numpy as np

from ssl4eo_bench.errors import DamagedFileError, DataError
from ssl4eo_bench.spec.inputs import InputMapping
from ssl4eo_bench.spec.tasks import IGNORED, Groups, Source, SplitName, Task

METRES = 10
"""Of a pixel that `Task.image_size` counts."""


class Reader:
    """A task's source, checked. Picklable, torch-free, and safe to read from several threads at once.

    Attributes:
        not_finite: values that are NaN or infinite, by the id of the sample they were found in.
    """

    def __init__(self, task: Task, source: Source) -> None:
        self._task = task
        self._source = source
        self.not_finite: dict[str, int] = {}

    def ids(self, split: SplitName) -> list[str]:
        """The ids that the split list names, in list order."""
        return self._source.ids(split)

    def absent(self, ids: Sequence[str]) -> list[str]:
        """Those of `ids` whose files are not there."""
        return self._source.absent(ids)

    def fingerprint(self, ids: Sequence[str]) -> str:
        """A digest that changes when the stored bytes of these samples change."""
        return self._source.fingerprint(ids)

    def targets(self, ids: Sequence[str]) -> np.ndarray:
        """Labels, as `Source.targets` gives them.

        Raises:
            DataError: if they are not what the task's kind of labels is made of.
        """
        labels, classes = self._source.targets(ids), len(self._task.classes)
        if self._task.kind == "multiclass":
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
                f"the reader of task {self._task.name!r} gives labels {labels.dtype} {list(labels.shape)}{values} for "
                f"{len(ids)} samples, which are no {self._task.kind} labels of {classes} classes; correct its "
                "`targets`, as docs/tasks.md describes it."
            )
        return labels

    def read(self, ids: Sequence[str], bands: Sequence[str]) -> Groups:
        """Stored pixels, as `Source.read` gives them. Values that are not finite are counted and stay as they are.

        Raises:
            DataError: if groups, bands, size or type are not those of the task.
            DamagedFileError: if a sample has no finite value at all.
        """
        groups = self._stored(ids, bands)
        self._count(ids, groups)
        return groups

    def _stored(self, ids: Sequence[str], bands: Sequence[str]) -> Groups:
        """What the source reads, of the shape and type that the task promises."""
        groups = self._source.read(ids, bands)
        side = self._task.image_size * METRES
        resolution = {band.name: band.resolution for band in self._task.bands}
        expected = [
            (len(ids), len(names), side // resolution[names[0]], side // resolution[names[0]])
            for names in self._task.groups(bands)
        ]
        found = [group.shape for group in groups]
        if found != expected or any(group.dtype.kind not in "uif" for group in groups):
            types = ", ".join(f"{group.dtype} {list(group.shape)}" for group in groups) or "nothing"
            raise DataError(
                f"the reader of task {self._task.name!r} gives {types} for {len(ids)} samples and the bands "
                f"{', '.join(bands)}, but {', '.join(str(list(shape)) for shape in expected)} is expected; correct its "
                "`read`, as docs/tasks.md describes it."
            )
        return groups

    def read_inputs(self, ids: Sequence[str], inputs: InputMapping) -> Groups:
        """Stored pixels for a backbone: those that are not finite hold the value that is zero after scaling."""
        groups = self.read(ids, inputs.sources)
        if all(id_ not in self.not_finite for id_ in ids):
            return groups
        neutral = {channel.source: channel.neutral for channel in inputs.channels if channel.source}
        return tuple(
            _replaced(group, names, neutral)
            for group, names in zip(groups, self._task.groups(inputs.sources), strict=True)
        )

    def require_selection(self, id_: str) -> None:
        """Refuse a reader that does not give the bands it is asked for.

        All bands of a sample are read at once, and then each one alone: a reader that forgets to select gives other
        pixels than before, or too many.

        Raises:
            DataError: naming the band that differs.
        """
        names = [band.name for band in self._task.bands]
        together = self._planes(id_, names)
        for name in names if len(names) > 1 else ():
            if not np.array_equal(self._planes(id_, [name])[name], together[name], equal_nan=True):
                raise DataError(
                    f"the reader of task {self._task.name!r} gives other pixels for band {name} alone than among all "
                    f"bands (sample {id_}); correct its `read`, as docs/tasks.md describes it."
                )

    def _planes(self, id_: str, bands: Sequence[str]) -> dict[str, np.ndarray]:
        """The pixels `[H, W]` of each of these bands of a sample."""
        groups = zip(self._stored([id_], bands), self._task.groups(bands), strict=True)
        return {name: plane for group, names in groups for name, plane in zip(names, group[0], strict=True)}

    def _count(self, ids: Sequence[str], groups: Groups) -> None:
        floats = [group.reshape(len(ids), -1) for group in groups if group.dtype.kind == "f"]
        if not floats:
            return
        # The sum is not finite where one value is not: one pass over the pixels, where a mask would take three.
        with np.errstate(all="ignore"):
            suspicious = ~np.isfinite(np.sum([group.sum(axis=1, dtype=np.float64) for group in floats], axis=0))
        for row in np.flatnonzero(suspicious).tolist():
            values = np.concatenate([group[row] for group in floats])
            count = int(np.count_nonzero(~np.isfinite(values)))
            if count == len(values) and len(floats) == len(groups):
                raise DamagedFileError(
                    f"sample {ids[row]} of task {self._task.name!r} has no finite value at all; fetch it again, or "
                    "remove it and use --partial."
                )
            if count:
                self.not_finite[ids[row]] = count


def _replaced(group: np.ndarray, names: Sequence[str], neutral: Mapping[str, float]) -> np.ndarray:
    """Pixels `[N, C, H, W]` with the neutral value of its band for each that is not finite."""
    values = np.array([neutral[name] for name in names], dtype=group.dtype)[:, None, None]
    return np.where(np.isfinite(group), group, values) if group.dtype.kind == "f" else group
