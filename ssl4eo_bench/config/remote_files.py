"""What publishers offer for download."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ssl4eo_bench.config.canonical import Frozen, Written

Sha256Start = Annotated[str, Written(r"[0-9a-f]{8,64}", "a sha256 or its first 8 digits or more, in lower case")]
"""A sha256, or as much of its beginning as was published."""


class MadeOf(Frozen):
    """How a file that nobody publishes any more is made from others.

    Attributes:
        what: it is made from, in words, such as `the official lists`.
        make: returns its bytes, given the folder of the task; raises MissingDataError if something is not there.
    """

    what: str
    make: Callable[[Path], bytes]


class RemoteFile(Frozen):
    """One published file.

    Attributes:
        name: of the file, below the folder of its task or of all weights.
        url: http or https; none where a login, a form or another protocol stands before it.
        size: in bytes, where published; without an exact size a download is checked by its hashes alone.
        md5: of the file, in hexadecimal, where published.
        sha256: of the file, in hexadecimal, or its beginning, where published.
        about_bytes: what to expect where the exact size is not published; for questions and disk space.
        unpack: whether readers want the content of the archive, not the archive.
        unpacked_bytes: the most that unpacking may write; an archive that holds more is not the published one.
        made: how it is made from files that come before it, where there is no `url`.
        accepted: patterns of the other names that readers take it under, below the same folder, such as `train.csv.gz`.
        instructions: one sentence on getting it where there is neither.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$")]
    url: Annotated[str | None, Field(pattern=r"^https?://")] = None
    size: Annotated[int | None, Field(gt=0)] = None
    md5: Annotated[str | None, Field(pattern=r"^[0-9a-f]{32}$")] = None
    sha256: Sha256Start | None = None
    about_bytes: Annotated[int | None, Field(gt=0)] = None
    unpack: bool = False
    unpacked_bytes: Annotated[int | None, Field(gt=0)] = None
    made: MadeOf | None = None
    accepted: tuple[str, ...] = ()
    instructions: str = ""

    @property
    def hashes(self) -> dict[str, str]:
        """What is published of its hashes, by algorithm: whole, or the beginning."""
        return {name: value for name, value in (("md5", self.md5), ("sha256", self.sha256)) if value}
