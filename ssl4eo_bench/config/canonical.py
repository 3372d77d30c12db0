"""Frozen models, canonical JSON, and the digests made from it."""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from types import NoneType
from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError


class Frozen(BaseModel):
    """A value that cannot change after construction and refuses unknown keys and wrong types."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True
    )


def OneOf(**by_key: type[Frozen]) -> BeforeValidator:  # noqa: N802 - reads as a type inside Annotated[...]
    """Choose among models by the first of these keys that a mapping has.

    A plain union would report the faults of every member; this reports those of the one that was meant.
    """

    def choose(value: Any) -> Any:
        if isinstance(value, Frozen):
            return value
        for key, model in by_key.items():
            if isinstance(value, dict) and key in value:
                return model.model_validate(value)
        raise ValueError(f"a mapping with one of the keys {', '.join(by_key)} is needed")

    return BeforeValidator(choose)


def Written(pattern: str, what: str) -> BeforeValidator:  # noqa: N802 - reads as a type inside Annotated[...]
    """Text of a pattern; what is not is refused with the words for it, not with the expression."""

    def check(value: Any) -> Any:
        if value is None or (isinstance(value, str) and re.fullmatch(pattern, value)):
            return value
        quotes = "" if isinstance(value, str) else ", in quotes"
        raise ValueError(f"{value!r} is not {what}{quotes}")

    return BeforeValidator(check)


LISTED = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
"""Takes lists, as YAML and JSON have them, for tuples."""


def first_fault(error: ValidationError) -> str:
    """The first fault that pydantic found, as half a sentence: where, and what is wrong there.

    An unknown key goes first: a misspelt key is a missing one as well.
    """
    faults = error.errors()
    fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    where = ".".join(str(part) for part in fault["loc"])
    what = {"extra_forbidden": "is not a known key", "missing": "is missing"}.get(fault["type"])
    if what:
        return f"key {where!r} {what}"
    message = fault["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def canonical_json(value: Any) -> str:
    """One JSON text for equal values, whatever the order of keys, the platform or how a float was written.

    Keys are sorted, there is no white space, and floats are the shortest decimals that read back as the same
    64-bit number (Python's `repr`), with -0.0 written as 0.0.

    Raises:
        TypeError: on anything but dicts with text keys, lists, tuples, text, bool, int, float and None.
        ValueError: on NaN and infinities, which JSON cannot hold.
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def digest(value: Any) -> str:
    """The sha256 of the canonical JSON of `value`, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def ids_digest(ids: Iterable[str]) -> str:
    """The digest of a split: sha256 of its sorted ids joined by newlines, so that list order does not matter."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


def _plain(value: Any) -> Any:
    kind = type(value)  # the usual types first: a result has a thousand values, and a board ten thousand results
    if kind in (str, int, bool, NoneType):
        return value
    if kind is float:
        if not math.isfinite(value):
            raise ValueError("canonical JSON cannot hold NaN or infinity")
        return value + 0.0  # -0.0 + 0.0 is 0.0
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, BaseModel):
        return _plain(value.model_dump())
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("canonical JSON has text keys only")
        return {key: _plain(item) for key, item in value.items()}
    raise TypeError(f"canonical JSON cannot hold a {kind.__name__}")
