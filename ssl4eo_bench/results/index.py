"""What of a results directory was checked and generated before, in its folder `.index`, so that it is not done again.

The index holds no number and no name: only digests of bytes that were read, and of files that were written. So one
that is stale, damaged or of another directory names nothing that is there, and everything is read and generated as
without it. It lies beside the results, since all who share them share it, and git ignores it by the file that it has
for that. `check` does not read it: whoever can write an index could vouch for a file that was edited.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from ssl4eo_bench.errors import WriteError
from ssl4eo_bench.files.atomic import write_text
from ssl4eo_bench.files.reading import read_bytes

FOLDER = ".index"
CHECKED = "checked"
GENERATED = "generated.json"

SOURCES = ("config", "metrics", "results")
"""Packages that decide which result files are valid, and what is generated from them."""


def fingerprint(place: str, stored: bytes) -> str:
    """The digest of a file below a results directory: of its place and its bytes."""
    return hashlib.sha256(place.encode("utf-8", "surrogateescape") + b"\0" + stored).hexdigest()


def checked_before(results: Path) -> frozenset[str]:
    """The fingerprints of result files that this very code has found valid; none where there is no such index."""
    try:
        code, *found = read_bytes(results / FOLDER / CHECKED).decode("ascii").split()
    except (OSError, ValueError):
        return frozenset()
    return frozenset(found) if code == _code() else frozenset()


def keep_checked(results: Path, fingerprints: Iterable[str]) -> None:
    """Keep the fingerprints of all valid result files."""
    _write(results / FOLDER / CHECKED, "\n".join([_code(), *fingerprints]))


def generated_before(results: Path, inputs: Iterable[str], files: Iterable[Path]) -> bool:
    """Whether these inputs gave exactly these files, and all of them are as they were written."""
    try:
        kept = json.loads(read_bytes(results / FOLDER / GENERATED))
        there = {file.relative_to(results).as_posix(): file for file in files}
        if kept["inputs"] != _digest(inputs) or kept["files"].keys() != there.keys():
            return False
        return all(kept["files"][place] == fingerprint(place, read_bytes(file)) for place, file in there.items())
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False


def keep_generated(results: Path, inputs: Iterable[str], texts: Mapping[str, str]) -> None:
    """Keep which files, by place below the results directory, were generated from these inputs."""
    files = {place: fingerprint(place, text.encode()) for place, text in texts.items()}
    _write(results / FOLDER / GENERATED, json.dumps({"inputs": _digest(inputs), "files": files}))


def _write(file: Path, text: str) -> None:
    with suppress(WriteError):  # who may not write here reads everything each time
        write_text(file.parent / ".gitignore", "*\n")
        write_text(file, text)


def _digest(inputs: Iterable[str]) -> str:
    return hashlib.sha256("\n".join([_code(), *inputs]).encode("utf-8", "surrogateescape")).hexdigest()


@cache
def _code() -> str:
    """The digest of the code that checks results and generates files from them."""
    package = Path(__file__).parents[1]
    sources = (file for name in SOURCES for file in sorted((package / name).rglob("*")) if file.is_file())
    found = hashlib.sha256()
    for file in sources:
        if file.suffix != ".pyc":
            found.update(fingerprint(file.relative_to(package).as_posix(), file.read_bytes()).encode())
    return found.hexdigest()
