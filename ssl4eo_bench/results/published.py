"""Numbers from the literature with their sources, and how they differ from a run."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, ValidationError

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.canonical import Frozen, first_fault
from ssl4eo_bench.config.task import SPLITS
from ssl4eo_bench.errors import ResultError, SpecError
from ssl4eo_bench.files.reading import read_bytes, reading

PUBLISHED: Final = "published.csv"

ADDRESS: Final = r"^https?://[^\s<>\"`|]+$"
"""A regular expression of addresses that can be linked to; other schemes than http could be programs."""

Text = Annotated[str, Field(min_length=1)]
Positive = Annotated[float, Field(gt=0, le=1)]


class PublishedNumber(Frozen):
    """One number of the literature; docs/results.md says what goes into each column.

    Task, checkpoint, protocol and metric have this suite's names, as far as it has them, and splits those of the task.
    What is not known of pretraining method, checkpoint or fraction is empty.
    """

    task: Text
    checkpoint: str
    model: Text
    method: str
    protocol: Text
    split: Text
    metric: Text
    value: Annotated[float, Field(ge=0, le=1)]
    fraction: Positive | None = None
    source: Text
    url: Annotated[str, Field(pattern=ADDRESS)]
    note: str

    @property
    def percent(self) -> str:
        """The value in percent, in the digits of its source."""
        return f"{100 * self.value:.2f}".removesuffix("0")


COLUMNS: Final = tuple(PublishedNumber.model_fields)


def published_numbers(results: Path) -> list[PublishedNumber]:
    """The published numbers of a results directory: those in its `published.csv`, or else those of the package.

    Raises:
        ResultError: if a row is not valid.
    """
    own = results / PUBLISHED
    return read_published(own if own.is_file() else _shipped())


def read_published(file: Path) -> list[PublishedNumber]:
    """The numbers in a file, in its order.

    Raises:
        ResultError: if it cannot be read, has other columns, or a row is not valid or there twice.
    """
    with reading(f"{file} cannot be read", cure="restore it", error=ResultError):
        text = read_bytes(file).decode("utf-8")
        rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        if tuple(rows.fieldnames or ()) != COLUMNS:
            raise ResultError(f"{file} must have the columns {', '.join(COLUMNS)}, in this order.")
        numbers = [(rows.line_num, _number(row, f"{file}, line {rows.line_num}")) for row in rows]
    _refuse_twice(numbers, file)
    return [number for _, number in numbers]


def differences(number: PublishedNumber, *, task: str, protocol: str, metric: str) -> tuple[str, ...]:
    """Why a published number does not compare with a metric of a run on all training samples; nothing if it does.

    Task and protocol are without version; runs are scored on `test`.
    """
    found = []
    if (number.task, number.split) != (task, "test"):
        found.append(f"split {number.split}" + (f" of {number.task}" if number.split in SPLITS else ""))
    if number.protocol != protocol:
        found.append(f"protocol {number.protocol}")
    if number.metric != metric:
        found.append(f"metric {number.metric}")
    if number.fraction != 1:
        found.append("fraction not stated" if number.fraction is None else f"fraction {number.fraction:g}")
    return tuple(found)


def _number(row: dict[str, Any], where: str) -> PublishedNumber:
    if None in row or None in row.values():
        raise ResultError(f"{where}: expected {len(COLUMNS)} cells; put text with commas in quotes.")
    try:
        stated = {name: text for name, text in row.items() if text or name != "fraction"}
        number = PublishedNumber.model_validate_strings(stated)
        catalogue.task(number.task)
    except ValidationError as error:
        raise ResultError(f"{where}: {first_fault(error)}; correct the row, or remove it.") from None
    except SpecError as error:
        raise ResultError(f"{where}: {error}") from None
    return number


def _refuse_twice(numbers: Sequence[tuple[int, PublishedNumber]], file: Path) -> None:
    seen: dict[tuple[object, ...], int] = {}
    for line, number in numbers:
        key = (number.task, number.model, number.protocol, number.split, number.metric, number.fraction, number.source)
        if (first := seen.setdefault(key, line)) != line:
            raise ResultError(f"{file}, line {line}: the same number as in line {first}; remove one of them.")


def _shipped() -> Path:
    package = Path(__file__).parents[1]
    beside = package.parent / "results" / PUBLISHED  # in a checkout
    return beside if beside.is_file() else package / PUBLISHED
