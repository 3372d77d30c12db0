"""What kind of file a weight file is, told from its bytes before anything in it is believed, unpacked or run."""

import codecs
import json
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Literal

from ssl4eo_bench.errors import WeightsError

Container = Literal["zip", "legacy", "safetensors"]
"""PyTorch's format since 1.6, the one before it, and safetensors."""

HEAD = 4096
"""Bytes that tell what a file is."""

WEB_PAGES = (b"<!doctype html", b"<html", b"<head", b"<?xml")
LONGEST_HEADER = 100_000_000
"""Bytes; what safetensors itself accepts."""

LOCAL_HEADER = 30
"""Bytes before the name of each member of a zip archive, at least."""


class _NoneError(Exception):
    """What a file is instead of weights, and what to do: a sentence without its subject."""


def examine(file: Path, *, name: str = "") -> Container:
    """What kind of weight file this is. Nothing is unpickled.

    Args:
        file: to be looked at.
        name: what to call it in a refusal, if not by its place.

    Raises:
        WeightsError: if it is none, or not a whole one.
        OSError: if it cannot be read.
    """
    try:
        return _container(file)
    except _NoneError as refusal:
        raise WeightsError(f"{name or file} {refusal}") from refusal.__cause__


def pickles(names: Iterable[str]) -> list[str]:
    """Which members of a zip archive of PyTorch's say what is in it: one, in a whole archive."""
    return [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]


def is_web_page(file: Path) -> bool:
    """Whether a file begins as HTML or XML does."""
    with file.open("rb") as opened:
        return _begins_a_web_page(opened.read(HEAD))


def _begins_a_web_page(head: bytes) -> bool:
    return head.removeprefix(codecs.BOM_UTF8).lstrip().lower().startswith(WEB_PAGES)


def _container(file: Path) -> Container:
    with file.open("rb") as opened:
        head = opened.read(HEAD)
    size = file.stat().st_size
    header = int.from_bytes(head[:8], "little")
    # Before pickles: the length of a header may begin with the bytes of one.
    if head[8:9] == b"{" and header <= LONGEST_HEADER:
        _require_whole_safetensors(file, header, size)
        return "safetensors"
    if head.startswith(b"PK\x03\x04"):
        members = _members(file)
        _require_members_in_place(members, size)
        _require_plain_members(members)
        _require_torch({member.filename for member in members})
        return "zip"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):  # a pickle and its protocol
        return "legacy"
    raise _NoneError(_what_else(head))


def _what_else(head: bytes) -> str:
    if not head:
        return "is empty, not weights; get it again."
    if _begins_a_web_page(head):
        return (
            "is a web page, not weights: a server sends one instead of a file that has moved or needs a login; open "
            "its address in a browser and get the file from there."
        )
    if head.startswith(b"version https://git-lfs"):
        return (
            "is a Git LFS pointer, not the weights it stands for; run `git lfs pull` where it comes from, or download "
            "the file itself."
        )
    if head[257:262] == b"ustar":
        return (
            "is a tar archive, not weights as they are written today; unpack it if they lie inside, or save them again "
            "with PyTorch 1.6 or later."
        )
    return (
        "is no weight file: it begins neither as PyTorch's format nor as safetensors; save the backbone's "
        "`state_dict()` with `torch.save`."
    )


def _cut_off(how: str) -> _NoneError:
    return _NoneError(f"is cut off ({how}); get it again.")


def _require_whole_safetensors(file: Path, length: int, size: int) -> None:
    if 8 + length > size:
        raise _cut_off(f"a safetensors header of {length:,} bytes in a file of {size:,}")
    with file.open("rb") as opened:
        opened.seek(8)
        text = opened.read(length)
    try:
        header = json.loads(text)
        end = max(
            (int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"), default=0
        )
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise _NoneError("is damaged: its safetensors header cannot be read; get it again.") from error
    if 8 + length + end > size:
        raise _cut_off(f"tensors up to byte {8 + length + end:,} in a file of {size:,}")


def _members(file: Path) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, EOFError, struct.error) as error:
        raise _cut_off("a zip archive whose table of contents, at its end, is missing or damaged") from error


def _require_members_in_place(members: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse an archive that is not whole. PyTorch stores members one after the other."""
    end = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        if member.header_offset < end:
            raise _NoneError(
                "is no weight file: members of this zip archive overlap, which PyTorch never writes; do not "
                "use it, and get the weights from another place."
            )
        end = member.header_offset + LOCAL_HEADER + len(member.filename) + member.compress_size
        if end > size:
            raise _cut_off(f"a zip archive whose member {member.filename!r} reaches beyond the file")


def _require_plain_members(members: list[zipfile.ZipInfo]) -> None:
    """Refuse members that are not stored as they are, or two of one name: readers differ in which they take.

    PyTorch's own reader does not tell upper case from lower.
    """
    names: set[str] = set()
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise _NoneError(
                f"is no weight file: member {member.filename!r} of this zip archive is compressed, which PyTorch never "
                "does; do not use it, and get the weights from another place."
            )
        if member.filename.lower() in names:
            raise _NoneError(
                f"is no weight file: this zip archive has two members {member.filename!r}, which PyTorch never "
                "writes; do not use it, and get the weights from another place."
            )
        names.add(member.filename.lower())


def _require_torch(names: set[str]) -> None:
    inside = {PurePosixPath(name).parts[1] for name in names if len(PurePosixPath(name).parts) > 1}
    if {"constants.pkl", "code"} <= inside:
        raise _NoneError(
            "is a TorchScript program, not weights; load it with `torch.jit.load` where you trust it, and save "
            "its `state_dict()` with `torch.save`."
        )
    if len(pickles(names)) != 1:
        raise _NoneError(
            "is a zip archive, but none that `torch.save` wrote (it does not hold one data.pkl); unpack it if the "
            "weights lie inside."
        )
