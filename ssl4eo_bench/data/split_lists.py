"""Split lists: reading one, and making one where nobody has published it. Tasks import this, so it loads little."""

import csv
import gzip
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssl4eo_bench.data.trees import read_file
from ssl4eo_bench.errors import SplitError
from ssl4eo_bench.files.reading import LARGEST, reading, require_regular, require_size

MOST_ROWS = 20_000_000
"""Of a Parquet file, which can repeat a value a billion times in a few bytes."""


def held_out(id_: str) -> bool:
    """Whether a sample is held out for validation: a random tenth, by the sha256 of the id.

    This is for datasets without a published validation split.
    """
    return int(hashlib.sha256(id_.encode()).hexdigest(), 16) % 10 == 0


def read_list(file: Path) -> list[str]:
    """The lines of a list file without surrounding white space and without empty lines.

    Raises:
        MissingDataError: if it is not there.
        DamagedFileError: if it cannot be read.
        SplitError: if it is not a text in UTF-8.
    """
    content = read_file(file)
    with reading(f"{file} is not a text in UTF-8", cure="fetch the list again", error=SplitError):
        return [line.strip() for line in content.decode("utf-8-sig").splitlines() if line.strip()]


def csv_rows(content: bytes, file: Path, *, cure: str) -> list[list[str]]:
    """The rows of the content of a CSV file without empty ones; line ends may be LF or CRLF.

    Raises:
        DamagedFileError: if it is not CSV in UTF-8.
    """
    with reading(f"{file} is not CSV in UTF-8", cure=cure):
        return [row for row in csv.reader(content.decode("utf-8-sig").splitlines()) if row]


def unpacked(file: Path) -> bytes:
    """The content of a gzip file.

    Raises:
        MissingDataError: if it is not there.
        DamagedFileError: if it cannot be read, or holds too much.
    """
    with reading(f"{file} is not a readable gzip file"), gzip.GzipFile(fileobj=io.BytesIO(read_file(file))) as opened:
        content = opened.read(LARGEST + 1)
        require_size(len(content), file)
        return content


def parquet_columns(file: Path, names: Sequence[str]) -> list[list[Any]]:
    """Columns of a Parquet file, as Python values.

    Raises:
        DamagedFileError: if it is no such file, lacks one of them, or has too many rows.
    """
    from pyarrow import parquet  # takes a while: not where no table is read

    with reading(f"{file} is no Parquet file with the columns {', '.join(names)}"):
        require_regular(file)
        with parquet.ParquetFile(file) as opened:
            if opened.metadata.num_rows > MOST_ROWS:
                raise ValueError(f"it has {opened.metadata.num_rows:,} rows")
            table = opened.read(list(names))
            return [table[name].to_pylist() for name in names]
