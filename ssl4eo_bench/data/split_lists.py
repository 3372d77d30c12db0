"""Split lists: reading one, and making one where nobody has published it. Tasks import this, so it loads little."""

import hashlib
from pathlib import Path

from ssl4eo_bench.errors import SplitError


def held_out(id_: str) -> bool:
    """Whether a sample is held out for validation: a random tenth, by the sha256 of the id.

    This is for datasets without a published validation split.
    """
    return int(hashlib.sha256(id_.encode()).hexdigest(), 16) % 10 == 0


def read_list(file: Path) -> list[str]:
    """The lines of a list file without surrounding white space and without empty lines.

    Raises:
        SplitError: if the file is not a text in UTF-8.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SplitError(f"{file} is not a text in UTF-8; fetch the list again.") from error
    return [line.strip() for line in text.splitlines() if line.strip()]
