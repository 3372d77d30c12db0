"""The kind of a weight file, found from its bytes before anything in it is trusted, unpacked or run."""

import codecs
import json
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Literal

from ssl4eo_bench.errors import WeightsError
from ssl4eo_bench.files.reading import open_regular
from ssl4eo_bench.models import foreign_networks
from ssl4eo_bench.models.foreign_networks import Advice

Container = Literal["zip", "legacy", "safetensors"]
"""PyTorch's format since 1.6, the one before it, and safetensors."""

HEAD = 4096
"""Bytes at the beginning of a file, enough to recognise its kind."""

WEB_PAGES = (b"<!doctype html", b"<html", b"<head", b"<?xml")
PICKLES = tuple(bytes([0x80, protocol]) for protocol in (2, 3, 4, 5))
ONNX = b"\x08"
"""The first field of ONNX's message, its version; too short to tell more without the name of the file."""
LONGEST_HEADER = 100_000_000
"""Bytes; the limit of safetensors itself."""

LOCAL_HEADER = 30
"""Bytes before the name of each member of a zip archive, at least."""


class _NotWeightsError(Exception):
    """The rest of a sentence that begins with the file: what it is instead of weights; and Python that reads it."""

    def __init__(self, sentence: str, lines: str = "") -> None:
        super().__init__(sentence)
        self.lines = lines


def examine(file: Path, *, name: str = "") -> Container:
    """The kind of a weight file, which an error calls by its path or `name`. Nothing is unpickled.

    Raises:
        WeightsError: if it is no weight file, or not a complete one.
        OSError: if it cannot be read.
    """
    try:
        return _container(file)
    except _NotWeightsError as error:
        raise WeightsError(f"{name or file} {error}", error.lines) from error.__cause__


def pickles(names: Iterable[str]) -> list[str]:
    """The members of PyTorch's zip archive that describe its content: one, in a complete archive."""
    return [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]


def head_of(file: Path) -> bytes:
    """The bytes at the beginning of a file that show its kind."""
    with open_regular(file) as opened:
        return opened.read(HEAD)


def is_web_page(head: bytes) -> bool:
    """Whether a file begins as HTML or XML does."""
    return head.removeprefix(codecs.BOM_UTF8).lstrip().lower().startswith(WEB_PAGES)


def _container(file: Path) -> Container:
    head, size = head_of(file), file.stat().st_size
    header = int.from_bytes(head[:8], "little")
    # Before pickles: the length of a header may begin with the bytes of one.
    if head[8:9] == b"{" and header <= LONGEST_HEADER:
        _require_whole_safetensors(file, header, size)
        return "safetensors"
    if head.startswith(b"PK\x03\x04"):
        members = _members(file)
        names = {member.filename for member in members}
        _refuse_programs(file, names)
        _require_stored(members, size)
        if len(pickles(names)) != 1:
            raise _NotWeightsError(
                "is a zip archive, but none that `torch.save` wrote (it does not hold one data.pkl); unpack it if the "
                "weights lie inside."
            )
        return "zip"
    if head.startswith(PICKLES):
        return "legacy"
    raise _NotWeightsError(*_other_kind(file, head))


def _other_kind(file: Path, head: bytes) -> Advice:
    if not head:
        return Advice("is empty, not weights; get it again.")
    if head.startswith(foreign_networks.HDF5):
        return foreign_networks.hdf5()
    if head.startswith(ONNX) and file.suffix == ".onnx":
        return foreign_networks.onnx(file)
    if is_web_page(head):
        return Advice(
            "is a web page, not weights: a server sends one instead of a file that has moved or needs a login; open "
            "its address in a browser and get the file from there."
        )
    if head.startswith(b"version https://git-lfs"):
        return Advice(
            "is a Git LFS pointer, not the weights it stands for; run `git lfs pull` where it comes from, or download "
            "the file itself."
        )
    if head[257:262] == b"ustar":
        return Advice(
            "is a tar archive, not weights as they are written today; unpack it if they lie inside, or save them again "
            "with PyTorch 1.6 or later."
        )
    return Advice(
        "is no weight file: it begins neither as PyTorch's format nor as safetensors; save the backbone's "
        "`state_dict()` with `torch.save`."
    )


def _cut_off(how: str) -> _NotWeightsError:
    return _NotWeightsError(f"is cut off ({how}); get it again.")


def _forged(what: str) -> _NotWeightsError:
    return _NotWeightsError(f"is no weight file: {what}; do not use it, and get the weights from another place.")


def _require_whole_safetensors(file: Path, length: int, size: int) -> None:
    if 8 + length > size:
        raise _cut_off(f"a safetensors header of {length:,} bytes in a file of {size:,}")
    with open_regular(file) as opened:
        opened.seek(8)
        text = opened.read(length)
    try:
        tensors = [entry for name, entry in json.loads(text).items() if name != "__metadata__"]
        end = 8 + length + max((int(tensor["data_offsets"][1]) for tensor in tensors), default=0)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise _NotWeightsError("is damaged: its safetensors header cannot be read; get it again.") from error
    if end > size:
        raise _cut_off(f"tensors up to byte {end:,} in a file of {size:,}")


def _members(file: Path) -> list[zipfile.ZipInfo]:
    """The members of a zip archive, in the order of their places."""
    try:
        with zipfile.ZipFile(file) as archive:
            return sorted(archive.infolist(), key=lambda member: member.header_offset)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, EOFError, struct.error) as error:
        raise _cut_off("a zip archive whose table of contents, at its end, is missing or damaged") from error


def _require_stored(members: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse an archive that is not complete, or whose members PyTorch did not store one after the other.

    Of two members of one name, readers differ in which they take; PyTorch's own ignores case.
    """
    end = 0
    for member in members:
        if member.header_offset < end:
            raise _forged("members of this zip archive overlap, which PyTorch never writes")
        end = member.header_offset + LOCAL_HEADER + len(member.filename) + member.compress_size
        if end > size:
            raise _cut_off(f"a zip archive whose member {member.filename!r} reaches beyond the file")
    names: set[str] = set()
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise _forged(f"member {member.filename!r} of this zip archive is compressed, which PyTorch never does")
        if member.filename.lower() in names:
            raise _forged(f"this zip archive has two members {member.filename!r}, which PyTorch never writes")
        names.add(member.filename.lower())


def _refuse_programs(file: Path, names: set[str]) -> None:
    """Refuse an archive of a whole network, whose code PyTorch compresses."""
    inside = {PurePosixPath(name).parts[1] for name in names if len(PurePosixPath(name).parts) > 1}
    if {"constants.pkl", "code"} <= inside:
        raise _NotWeightsError(*foreign_networks.torchscript(file))
    if {"archive_format", "models"} <= inside:
        raise _NotWeightsError(*foreign_networks.exported(file))
