"""What every task promises, as checks that its author can run."""

import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import numpy as np

from ssl4eo_bench import progress
from ssl4eo_bench.config.bands import Unit, canonical_band
from ssl4eo_bench.config.task import IGNORED, SPLITS, Groups, Split, SplitName, Task
from ssl4eo_bench.data.sample_dataset import write_sample
from ssl4eo_bench.data.splits import OpenSplit, open_splits
from ssl4eo_bench.errors import BenchError, DataError, MissingDataError, shortlist
from ssl4eo_bench.files.reading import reason

Finding: TypeAlias = str | None
"""What is wrong, as a sentence without full stop; empty if nothing is, none where a check is not for such a task."""

LEVELS: dict[Unit, tuple[float, float]] = {"dn": (1, 20_000), "reflectance": (0, 3), "db": (-60, 20), "byte": (0, 255)}
"""Between what the median of pixels in a unit lies, in any scene."""

SEEN = 6
"""Samples whose pixels are looked at."""

LISTS = (".txt", ".csv", ".json", ".yaml", ".xml")
"""Endings of files that hold no pixels."""


@dataclass(frozen=True)
class Trial:
    """A task that is opened to try it: its splits in a data directory, which may hold the embedded sample."""

    task: Task
    folder: Path
    sample: bool
    splits: dict[SplitName, OpenSplit]

    @property
    def bands(self) -> list[str]:
        """All bands of the task."""
        return [band.name for band in self.task.bands]

    def opened_at(self, folder: Path) -> dict[SplitName, OpenSplit]:
        """The splits of the same data in another directory."""
        return open_splits(self.task, folder, sample=self.sample)


def _card(trial: Trial) -> Finding:
    task, bands = trial.task, trial.bands
    splits = [split.digest for split in task.splits.values() if isinstance(split, Split)]
    faults = {
        "classes are listed twice": len(set(task.classes)) < len(task.classes),
        "one class is nothing to tell apart": len(task.classes) < 2,
        "a band is listed twice": len(set(bands)) < len(bands),
        "bands are not in their canonical names": [canonical_band(band) for band in bands] != bands,
        "`splits` has to name train, val and test": set(task.splits) != set(SPLITS),
        "two splits are the same": len(set(splits)) < len(splits),
        "`display` is of tasks in bytes": bool(task.display) and {band.unit for band in task.bands} != {"byte"},
    }
    return ", ".join(fault for fault, found in faults.items() if found)


def _counts(trial: Trial) -> Finding:
    task = trial.task
    if not task.class_counts:
        return None
    for splits, counts in task.class_counts.items():
        sizes = [task.splits[split].count for split in splits]
        if len(counts) != len(task.classes):
            return f"`class_counts` has {len(counts)} numbers for {len(task.classes)} classes"
        if task.kind == "multiclass" and None not in sizes and sum(counts) != sum(filter(None, sizes)):
            return f"`class_counts` adds up to {sum(counts):,} for {' and '.join(splits)}, which have other sizes"
    return ""


def _labels(trial: Trial) -> Finding:
    absent: dict[SplitName, list[str]] = {}
    for split, samples in trial.splits.items():
        labels = samples.targets()
        if trial.task.kind == "multilabel":
            found = np.flatnonzero(labels.any(axis=0))
        else:
            found = np.unique(labels[labels != IGNORED] if trial.task.kind == "segmentation" else labels)
        absent[split] = [name for number, name in enumerate(trial.task.classes) if number not in found]
    if absent["train"]:
        return f"train has no sample of {shortlist(absent['train'], at_most=3)}"
    lacking = [f"{split} has none of {shortlist(names, at_most=3)}" for split, names in absent.items() if names]
    return ", ".join(lacking) if trial.sample else ""


def _pixels(trial: Trial) -> Finding:
    samples = trial.splits["train"]
    groups = samples.reader.read(samples.ids[:SEEN], trial.bands)
    units = {band.name: band.unit for band in trial.task.bands}
    faults = []
    for group, names in zip(groups, trial.task.groups(trial.bands), strict=True):
        for unit in dict.fromkeys(units[name] for name in names):
            chosen = group[:, [position for position, name in enumerate(names) if units[name] == unit]]
            median, (low, high) = float(np.nanmedian(chosen)), LEVELS[unit]
            if not low <= median <= high:
                faults.append(f"pixels said to be in {unit} have the median {median:g}, not one of {low:g} to {high:g}")
    return ", ".join(faults)


def _independent(trial: Trial) -> Finding:
    samples = trial.splits["test"]
    ids = samples.ids[:SEEN]
    together = samples.reader.read(ids, trial.bands)
    for row, id_ in enumerate(ids):
        if not _equal(tuple(group[row : row + 1] for group in together), samples.reader.read([id_], trial.bands)):
            return f"`read` gives other pixels for {id_} alone than among others"
    return ""


def _equal(groups: Groups, others: Groups) -> bool:
    """Whether two readings gave the same pixels."""
    pairs = zip(groups, others, strict=True)
    return all(np.array_equal(group, other, equal_nan=group.dtype.kind == "f") for group, other in pairs)


def _fingerprint(trial: Trial) -> Finding:
    samples = trial.splits["test"]
    first, again = (samples.reader.fingerprint(samples.ids) for _ in range(2))
    return "" if isinstance(first, str) and first == again else "`fingerprint` is no text, or another the second time"


def _clusters(trial: Trial) -> Finding:
    if trial.task.clusters is None:
        return None
    ids = trial.splits["test"].ids
    found = {trial.task.clusters.of(id_) for id_ in ids}
    named = all(isinstance(cluster, str) and cluster for cluster in found)
    return "" if named and len(found) < len(ids) else "`clusters.of` names no groups: each test sample has its own"


def _pickles(trial: Trial) -> Finding:
    samples = trial.splits["test"]
    copy = pickle.loads(pickle.dumps((trial.task, samples.reader)))[1]
    same = _equal(*(reader.read(samples.ids[:1], trial.bands) for reader in (samples.reader, copy)))
    return "" if same else "a reader that went through pickle gives other pixels"


def _made_again(trial: Trial) -> Finding:
    if not trial.sample:
        return None
    with TemporaryDirectory() as place:
        write_sample(trial.task, Path(place, "sample"))
        again = trial.opened_at(Path(place, "sample"))["val"]
        first = trial.splits["val"]
        same = _equal(*(one.reader.read(one.ids, trial.bands) for one in (first, again)))
        same = same and np.array_equal(first.targets(), again.targets())
    return "" if same else "the embedded sample is another each time it is made; seed what draws it"


def _kept_apart(trial: Trial) -> Finding:
    if not trial.sample:
        return None
    return "" if _refused(lambda: open_splits(trial.task, trial.folder)) else "its sample is taken for the dataset"


def _absence(trial: Trial) -> Finding:
    if not trial.task.folder:
        return None
    with TemporaryDirectory() as place:
        found = _refused(lambda: open_splits(trial.task, Path(place)))
    if isinstance(found, MissingDataError):
        return ""
    return "an empty data directory has to raise MissingDataError, with a sentence on where the data come from"


def _cut_off(files: Sequence[Path]) -> None:
    for file in files:
        os.truncate(file, file.stat().st_size // 2)


def _remove(files: Sequence[Path]) -> None:
    for file in files[::2]:
        file.unlink()


def _after(trial: Trial, change: Callable[[Sequence[Path]], None], what: str) -> Finding:
    """What is wrong with how a changed copy of the sample is refused."""
    if not trial.sample:
        return None
    with TemporaryDirectory() as place:
        copy = Path(shutil.copytree(trial.folder, Path(place, "copy")))
        change(sorted(file for file in copy.rglob("*") if file.is_file() and file.suffix not in LISTS))

        def read() -> None:
            samples = trial.opened_at(copy)["train"]
            samples.reader.read(samples.ids, trial.bands)

        found = _refused(read)
    if not found:
        return f"nothing is said of files that are {what}"
    return f"files that are {what} are not told in one sentence: {found}" if "\n" in str(found) else ""


def _refused(action: Callable[[], object]) -> DataError | None:
    """The error of an action; any but a DataError passes through."""
    try:
        action()
    except DataError as error:
        return error
    return None


CHECKS: dict[str, Callable[[Trial], Finding]] = {
    "card": _card,
    "class counts": _counts,
    "labels": _labels,
    "pixels": _pixels,
    "samples alone": _independent,
    "fingerprint": _fingerprint,
    "clusters": _clusters,
    "pickle": _pickles,
    "sample again": _made_again,
    "sample apart": _kept_apart,
    "no data": _absence,
    "cut-off files": partial(_after, change=_cut_off, what="cut off"),
    "absent files": partial(_after, change=_remove, what="absent"),
}
"""The checks after opening, by what they are called; opening checks lists, overlaps, bands, shapes and order."""


def run_checks(task: Task, folder: Path, *, sample: bool) -> Iterator[tuple[str, Finding]]:
    """Yield each check that a task is put to, with what it found; nothing more if the task cannot be opened.

    `folder` is a data directory; `sample` says whether that holds the embedded sample.
    """
    found: list[Trial] = []

    def opened() -> str:
        found.append(Trial(task, folder, sample, open_splits(task, folder, sample=sample)))
        return ""

    yield "opening", _said(opened)
    with progress.stage(f"checks of {task.name}", total=len(CHECKS) * len(found), unit="checks") as advance:
        for trial in found:
            for name, check in CHECKS.items():
                yield name, _said(partial(check, trial))
                advance(1)


def _said(check: Callable[[], Finding]) -> Finding:
    """What a check finds, or what stops it."""
    try:
        return check()
    except BenchError as error:
        return str(error).removesuffix(".")
    except Exception as error:  # a reader may raise anything
        return f"{type(error).__name__}: {reason(error)}"
