"""The versions of the format of result files, and how the content of an old file becomes that of today.

A change of the format raises `SCHEMA_VERSION` and adds one function to `UPDATES`. It adds a few result files of the
format before to `tests/results/frozen/` as well: they are read for ever.
"""

from collections.abc import Callable
from typing import Any, Final

SCHEMA_VERSION: Final = 1

Content = dict[str, Any]
"""What the JSON of a result file holds, but the checksum."""

UPDATES: dict[int, Callable[[Content], Content]] = {}
"""By the version that it makes, what makes content of that version from content of the one before (`update_to_2`, …).

The digest of the specification stays what it is: equal digests are the same experiment, in a file of any version.
"""


def updated(content: Content) -> Content:
    """Content of the current version, from content of that version or one before.

    Raises:
        ValueError: if it has no version, or one that never was.
    """
    version = content.get("schema_version")
    if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
        raise ValueError(f"schema_version {version!r} is none from 1 to {SCHEMA_VERSION}")
    for following in range(version + 1, SCHEMA_VERSION + 1):
        content = UPDATES[following](content) | {"schema_version": following}
    return content
