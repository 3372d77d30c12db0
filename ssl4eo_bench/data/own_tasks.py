"""Tasks made of a user's own images, without code: `folder:DIR` and `csv:FILE`.

Such a task has no author who would raise a version. So its name ends in a digest of everything in it: ids, bytes of
files, labels, splits, bands and units. Other data are another task, with other results, features and rows in tables.
"""

import hashlib
import re
import unicodedata
from bisect import bisect
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path

from ssl4eo_bench import progress
from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.canonical import digest
from ssl4eo_bench.config.task import OWN_DATA, SPLITS, Kind, Source, Split, SplitName, Task
from ssl4eo_bench.data.own_images import NOTHING_SAID, ImageFile, ImageFiles, ImageFormat, StoredBands, read_layouts
from ssl4eo_bench.data.own_listings import Listing, csv_listing, folder_listing
from ssl4eo_bench.errors import DataError, SplitError, shortlist
from ssl4eo_bench.files.cached_items import LISTINGS

SHARES: tuple[tuple[SplitName, float], ...] = (("train", 0.6), ("val", 0.2), ("test", 0.2))
"""The shares of splits that are drawn; where only `val` is missing, it is drawn from `train`."""

SEED = 0
"""Of the draw. Like the shares, it is the same for everybody, so that equal files are equal tasks."""

FEWEST = 4
"""Images of a class, so that each split gets some of them."""

DIGITS = 12
"""Of the digest in a name."""


def find_task(name: str, said: ImageFormat = NOTHING_SAID, cache_dir: Path | None = None) -> Task:
    """The task of a name in the catalogue, or of the images of `folder:DIR` or `csv:FILE`, which are all read once.

    What is in the files is remembered in the cache, if one is given.

    Raises:
        UnknownNameError: if there is none.
        DataError: if images, labels and splits do not make a task.
        SpecError: if what is said of them does not fit them.
    """
    kind, _, place = name.partition(":")
    if kind not in OWN_DATA or not place:
        return catalogue.task(name)
    path = Path(place).expanduser().resolve()  # workers have another working directory
    listing, labels = (folder_listing if kind == "folder" else csv_listing)(path)
    if not listing:
        raise DataError(f"{path} has no images; put PNG, JPEG or GeoTIFF files into one folder for each class.")
    _require_names(path, listing)
    index = cache_dir and cache_dir / LISTINGS / f"{hashlib.sha256(str(path).encode()).hexdigest()}.json"
    read = read_layouts([image.path for image in listing.values()], f"files of {path}", index)
    files = dict(zip(listing, read, strict=True))
    return catalogue.add(
        _task(_plain(path.name if kind == "folder" else path.stem, kind), path, files, listing, labels, said)
    )


def _plain(name: str, kind: str) -> str:
    """A name of a task made of the letters and digits of another one."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return f"{kind}-{re.sub('[^a-z0-9]+', '-', plain).strip('-')[:60].strip('-') or 'data'}"


def _task(
    name: str, place: Path, files: Mapping[str, ImageFile], listing: Listing, kind: Kind, said: ImageFormat
) -> Task:
    layout = next(iter(files.values())).layout
    stored = StoredBands.of(layout, said)
    _require_agreement(files, {id_: image.labels for id_, image in listing.items()}, "with the labels", DataError)
    listing, drawn = _with_splits(place, listing, files)
    # A test image that was trained on tells nothing.
    _require_agreement(files, {id_: (str(image.split),) for id_, image in listing.items()}, "in", SplitError)
    classes = tuple(sorted({label for image in listing.values() for label in image.labels}))
    _require_classes(place, listing, classes)
    source = _source(files, listing, classes, stored.positions, kind)
    task = Task(
        name=f"{name}-{_identity(source, classes, stored)[:DIGITS]}",
        version=1,
        title=f"{place.name}, {len(classes)} classes",
        kind=kind,
        classes=classes,
        bands=stored.bands(),
        level="unknown",
        image_size=layout.shape[1],
        display=stored.display,
        splits={split: Split.of(source.ids(split)) for split in SPLITS},
        open=partial(_opened, source),
    )
    bands = f"bands {' '.join(stored.positions)} in {' and '.join(dict.fromkeys(band.unit for band in task.bands))}"
    unsaid = [f"--data-{name}" for name in ("bands", "unit") if not getattr(said, name)]
    guess = f" (say {' and '.join(unsaid)} if they are others)" if unsaid else ""
    counts = ", ".join(f"{split.count:,} {name}" for name, split in task.splits.items())
    progress.note(
        f"{place} is task {task.name}: {layout}, {kind}, {len(classes)} classes ({shortlist(classes)}); "
        f"{bands}{guess}; {counts}{drawn}"
    )
    return task


def _source(
    files: Mapping[str, ImageFile], listing: Listing, classes: Sequence[str], positions: Mapping[str, int], kind: Kind
) -> ImageFiles:
    numbers = {label: number for number, label in enumerate(classes)}
    return ImageFiles(
        files={id_: files[id_] for id_ in listing},
        labels={id_: tuple(sorted(numbers[label] for label in image.labels)) for id_, image in listing.items()},
        splits={split: sorted(id_ for id_, image in listing.items() if image.split == split) for split in SPLITS},
        positions=positions,
        kind=kind,
        classes=len(classes),
    )


def _identity(source: ImageFiles, classes: Sequence[str], stored: StoredBands) -> str:
    """The digest of everything in a task that can move a number."""
    return digest(
        {
            "kind": source.kind,
            "classes": classes,
            "bands": stored.positions,
            "unit": stored.unit,
            "display": stored.display,
            "splits": source.splits,
            "samples": {id_: [file.sha256, *source.labels[id_]] for id_, file in source.files.items()},
        }
    )


def _opened(source: Source, data_dir: Path) -> Source:
    """The files of a task, wherever the data directory is."""
    del data_dir
    return source


def _require_names(place: Path, listing: Listing) -> None:
    names = {name for id_, image in listing.items() for name in (id_, *image.labels)}
    if odd := sorted(name for name in names if not name.isprintable()):
        raise DataError(f"{place}: the name {odd[0]!r} has characters that cannot be printed; rename it.")


def _require_agreement(
    files: Mapping[str, ImageFile], facts: Mapping[str, tuple[str, ...]], how: str, error: type[DataError]
) -> None:
    """Refuse images of the same bytes of which different facts are said."""
    first: dict[str, str] = {}
    pairs = [
        (first[files[id_].sha256], id_)
        for id_, fact in facts.items()
        if sorted(facts[first.setdefault(files[id_].sha256, id_)]) != sorted(fact)
    ]
    if pairs:
        one, other = pairs[0]
        more = f" (and {len(pairs) - 1:,} more pairs)" if len(pairs) > 1 else ""
        raise error(
            f"{one} and {other} hold the same bytes, {how} {_said(facts[one])} and {_said(facts[other])}{more}; remove "
            "one of them, or correct it."
        )


def _said(names: Collection[str]) -> str:
    return ", ".join(names) or "none"


def _with_splits(place: Path, listing: Listing, files: Mapping[str, ImageFile]) -> tuple[Listing, str]:
    """The images with the splits that the user says, or with drawn ones where nothing is said; and what was drawn.

    Raises:
        SplitError: if only a part of the splits is said, or a class has too few images to draw.
    """
    counts = Counter(image.split for image in listing.values())
    missing = [split for split in SPLITS if not counts[split]]
    if counts[None] == len(listing):
        _require_enough(place, listing)
        return _draw(listing, files, SHARES), ", drawn by the bytes of the files"
    if counts[None]:
        unsaid = next(id_ for id_, image in listing.items() if image.split is None)
        raise SplitError(f"{place} says no split of {unsaid} and others; say it of all images, or of none.")
    if missing == ["val"]:
        train, val, _ = SHARES
        own = {id_: image for id_, image in listing.items() if image.split == "train"}
        return listing | _draw(own, files, (train, val)), ", val drawn from train by the bytes of the files"
    if missing:
        raise SplitError(f"{place} has no {' and no '.join(missing)} images; add them, or say no splits at all.")
    return listing, ""


def _require_enough(place: Path, listing: Listing) -> None:
    if few := [
        (label, count)
        for label, count in Counter(label for image in listing.values() for label in image.labels).items()
        if count < FEWEST
    ]:
        label, count = few[0]
        raise SplitError(
            f"class {label!r} of {place} has {count} image{'s' if count > 1 else ''}, and a drawn split needs "
            f"{FEWEST}; add some, remove the class, or say the splits."
        )


def _draw(listing: Listing, files: Mapping[str, ImageFile], shares: Sequence[tuple[SplitName, float]]) -> Listing:
    """The images with drawn splits; each class has its share in each, where classes of a sample count by the rarest.

    Samples of a class are ordered by the sha256 of the seed and the sha256 of their file. So names do not matter, and
    copies of a file come into one split.
    """
    counts = Counter(label for image in listing.values() for label in image.labels)
    strata: dict[str, set[str]] = {}
    for id_, image in listing.items():
        rarest = min(image.labels, key=lambda label: (counts[label], label), default="")
        strata.setdefault(rarest, set()).add(files[id_].sha256)
    ends, split_of = list(accumulate(share for _, share in shares)), {}
    for members in strata.values():
        ordered = sorted(members, key=lambda sha256: hashlib.sha256(f"{SEED} {sha256}".encode()).hexdigest())
        for place, sha256 in enumerate(ordered):
            position = (place + 0.5) / len(ordered) * ends[-1]
            split_of[sha256] = shares[min(bisect(ends, position), len(shares) - 1)][0]
    return {id_: image._replace(split=split_of[files[id_].sha256]) for id_, image in listing.items()}


def _require_classes(place: Path, listing: Listing, classes: Sequence[str]) -> None:
    if len(classes) < 2:
        raise DataError(
            f"{place} has {len(classes)} class ({_said(classes)}); at least two can be told apart: add one."
        )
    known = {label for image in listing.values() if image.split == "train" for label in image.labels}
    if unknown := [label for label in classes if label not in known]:
        raise SplitError(
            f"class {unknown[0]!r} of {place} has no training image, so nothing can learn it; correct the label, or "
            "put some of its images into train."
        )
