"""Which images a user has, with their labels and splits: from folders named like classes, or from a CSV file."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ssl4eo_bench.config.task import SPLITS, Kind, SplitName
from ssl4eo_bench.data.split_lists import csv_rows, read_list
from ssl4eo_bench.data.trees import read_file
from ssl4eo_bench.errors import DataError, MissingDataError, SplitError, shortlist

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""Of files in folders, in any case; others are left out."""

SPLIT_NAMES: dict[str, SplitName] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""What folders, lists and cells of CSV files may call a split."""

SEPARATOR = ";"
"""Between the labels of one sample."""


class ListedImage(NamedTuple):
    """An image, with its labels, and its split if the user says it."""

    path: Path
    labels: tuple[str, ...]
    split: SplitName | None


Listing = dict[str, ListedImage]
"""Images by the id of their sample."""


def folder_listing(root: Path) -> tuple[Listing, Kind]:
    """The images of a folder with one folder for each class, and the kind of its labels.

    Their splits are those of folders `train`, `val`, `test` above the classes, or those of lists `train.txt`, … beside
    them; of images in no list nothing is used. An id is the path below the folder.

    Raises:
        DataError: if there is no such folder, a class has no image, or lists name images that are not there.
    """
    folders = {folder.name: folder for folder in _folders(root)}
    above = {name: split for name, split in SPLIT_NAMES.items() if name in folders}
    if {"train", "test"} <= set(above):
        if others := set(folders) - set(above):
            raise DataError(f"{root} has folders of splits, and beside them {shortlist(sorted(others))}; move these.")
        found: Listing = {}
        for name, split in above.items():
            found |= _classes(root, folders[name], split)
        return found, "multiclass"
    images = _classes(root, root, None)
    if empty := folders.keys() - {label for image in images.values() for label in image.labels}:
        raise DataError(
            f"{root / min(empty)} holds no PNG, JPEG or GeoTIFF; every folder in {root} is a class: fill or remove it."
        )
    lists = {split: root / f"{name}.txt" for name, split in SPLIT_NAMES.items() if (root / f"{name}.txt").is_file()}
    return _listed(images, lists) if lists else images, "multiclass"


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise MissingDataError(f"{root} is not a folder; name one that has a folder for each class.")
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _classes(root: Path, folder: Path, split: SplitName | None) -> Listing:
    """The images in the folders of classes in a folder."""
    return {
        id_: ListedImage(path, (label.name,), split) for label in _folders(folder) for id_, path in _images(root, label)
    }


def _images(root: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """The images in a folder and below it, without hidden ones: their paths below `root`, and whole."""
    for place, inside, names in os.walk(folder):
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        here = Path(place)
        below = here.relative_to(root).as_posix()  # not for each image: there may be a million
        images = sorted(name for name in names if name.lower().endswith(ENDINGS) and not name.startswith("."))
        yield from ((f"{below}/{name}", here / name) for name in images)


def _listed(images: Listing, lists: Mapping[SplitName, Path]) -> Listing:
    """The images that lists name by their path below the folder, or by their file name if no other has it."""
    known: dict[str, list[str]] = {}
    for id_ in images:
        known.setdefault(id_.rpartition("/")[2], []).append(id_)
    found: Listing = {}
    for split, file in lists.items():
        for line in read_list(file):
            ids = [line] if line in images else known.get(line, [])
            if len(ids) != 1:
                what = f"{len(ids)} images are called so" if ids else "there is no such image"
                raise SplitError(f"{file} names {line!r}, but {what}; write its path below {file.parent}.")
            if ids[0] in found:
                raise SplitError(f"{file} names {line!r}, which a list has named before; remove it from one.")
            found[ids[0]] = images[ids[0]]._replace(split=split)
    return found


def csv_listing(file: Path) -> tuple[Listing, Kind]:
    """The images of a CSV file, and the kind of its labels.

    Its columns are `path`, below the folder of the file; `label`, or `labels` separated by semicolons; and perhaps
    `split`. Others are left out. An id is the path as it is written.

    Raises:
        DataError: if it is no such file.
    """
    rows = csv_rows(read_file(file, cure="name a CSV file"), file, cure="write it as CSV, in UTF-8")
    header = [name.strip() for name in rows[0]] if rows else []
    named = [name for name in ("label", "labels") if name in header]
    if "path" not in header or len(named) != 1 or len(set(header)) < len(header):
        raise DataError(
            f"{file} has the columns {', '.join(header) or '(none)'}; write path, then either label or labels, and "
            "perhaps split, separated by commas."
        )
    if named == ["labels"]:
        _require_separated(file, [row[header.index("labels")] for row in rows[1:] if len(row) == len(header)])
    found: Listing = {}
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(header):
            raise DataError(
                f"{file}: row {number} has {len(row)} cells instead of {len(header)}; put text with commas in quotes, "
                "and separate labels by ';'."
            )
        cells = dict(zip(header, (cell.strip() for cell in row), strict=True))
        if cells["path"] in found:
            raise DataError(f"{file}: row {number} names {cells['path']!r} a second time; remove one of the rows.")
        try:
            found[cells["path"]] = _row(cells, named[0], file.parent)
        except ValueError as error:
            raise DataError(f"{file}: row {number} {error}.") from None
    return found, "multiclass" if named == ["label"] else "multilabel"


def _require_separated(file: Path, cells: Sequence[str]) -> None:
    """Refuse labels that seem to be separated by something else: each set of them would be a class of its own.

    Names of classes may hold commas, so where labels are separated, only one made of other labels is refused.
    """
    labels = sorted({label.strip() for cell in cells for label in cell.split(SEPARATOR)})
    separated = any(SEPARATOR in cell for cell in cells)
    for label in labels:
        parts = [part.strip() for part in re.split("[,|]", label)]
        if len(parts) > 1 and (not separated or all(part in labels for part in parts)):
            raise DataError(
                f"{file} has {label!r} in its column labels, without {SEPARATOR!r}; separate labels by {SEPARATOR!r}, "
                "or call the column label if each cell is one class."
            )


def _row(cells: Mapping[str, str], column: str, folder: Path) -> ListedImage:
    text, split = cells[column], cells.get("split", "")
    labels = [text] if column == "label" else [label.strip() for label in text.split(SEPARATOR) if label.strip()]
    if labels == [""]:
        raise ValueError("has no label; write one, or use the column labels for samples of none or several")
    if split and split not in SPLIT_NAMES:
        raise ValueError(f"has the split {split!r}; write {', '.join(SPLITS)}, or leave all cells of the column empty")
    return ListedImage(folder / cells["path"], tuple(dict.fromkeys(labels)), SPLIT_NAMES.get(split))
