"""Hashes of files, with progress for large ones."""

import hashlib
from contextlib import nullcontext
from pathlib import Path

from ssl4eo_bench import progress
from ssl4eo_bench.files.reading import open_regular

CHUNK = 1 << 22
"""Bytes that are read at once."""

LARGE = 1 << 28
"""Bytes. Hashing a larger file can take seconds, so its progress is shown."""


def file_hash(file: Path, algorithm: str = "sha256", *, what: str | None = None) -> str:
    """The hash of a file's bytes in hexadecimal digits; `what` is the title of the progress of a large one.

    Raises:
        OSError: if the file cannot be read.
    """
    digest, size = hashlib.new(algorithm, usedforsecurity=False), file.stat().st_size
    title = what or f"checksum {file.name}"
    shown = progress.stage(title, total=size, unit="bytes") if size >= LARGE else nullcontext(lambda _: None)
    with shown as advance, open_regular(file) as opened:
        while chunk := opened.read(CHUNK):
            digest.update(chunk)
            advance(len(chunk))
    return digest.hexdigest()
