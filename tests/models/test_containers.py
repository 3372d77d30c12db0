"""The kind of a weight file is recognised from its bytes; any other file is refused in a sentence that says what it is."""

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ssl4eo_bench.errors import WeightsError
from ssl4eo_bench.models.containers import examine, head_of, is_web_page

STATE = {"conv.weight": torch.arange(5000.0), "conv.bias": torch.zeros(3)}

PAGES = [
    b"<!DOCTYPE html><html></html>",
    b"\xef\xbb\xbf\n  <HTML lang='en'>",
    b"\r\n<head>",
    b"<?xml version='1.0'?><Error/>",
]


def zipped(file: Path, members: dict[str, bytes], *, compress: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(file, "w", compress) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


def refusal(file: Path) -> str:
    with pytest.raises(WeightsError) as refused:
        examine(file)
    sentence = str(refused.value)
    assert sentence.startswith(f"{file} is ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def written(file: Path, content: bytes | bytearray) -> Path:
    file.write_bytes(content)
    return file


def safetensors(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w"])
def test_each_kind_is_recognised_whatever_the_file_is_called(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    torch.save(STATE, file)
    assert examine(file) == "zip"
    torch.save(STATE, file, _use_new_zipfile_serialization=False)
    assert examine(file) == "legacy"
    save_file(STATE, file)
    assert examine(file) == "safetensors"


@pytest.mark.parametrize("length", [2, 0x280, 0x380])
def test_a_header_whose_length_looks_like_another_format_is_safetensors(tmp_path: Path, length: int) -> None:
    header = b"{}".ljust(length)
    assert examine(written(tmp_path / "w", safetensors(header))) == "safetensors"


@pytest.mark.parametrize("page", PAGES)
def test_a_web_page_is_refused(tmp_path: Path, page: bytes) -> None:
    file = written(tmp_path / "w.pth", page + bytes(1000))
    assert "is a web page, not weights" in refusal(file)
    assert is_web_page(head_of(file))


def test_weights_are_no_web_page(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "w.pth")
    assert not is_web_page(head_of(tmp_path / "w.pth"))


@pytest.mark.parametrize("kept", [0.01, 0.5, 0.999])
def test_a_zip_that_is_cut_off_is_refused(tmp_path: Path, kept: float) -> None:
    file = tmp_path / "w.pth"
    torch.save(STATE, file)
    content = file.read_bytes()
    assert "is cut off (a zip archive whose table" in refusal(written(file, content[: int(len(content) * kept)]))


def test_a_zip_whose_members_reach_beyond_its_end_is_refused(tmp_path: Path) -> None:
    file = zipped(tmp_path / "w.pth", {"archive/data.pkl": b"x" * 50})
    content = bytearray(file.read_bytes())
    directory = content.index(b"PK\x01\x02")
    struct.pack_into("<II", content, directory + 20, 10**6, 10**6)  # its sizes, packed and unpacked
    assert "is cut off (a zip archive whose member 'archive/data.pkl' reaches beyond" in refusal(written(file, content))


def test_compressed_members_are_refused(tmp_path: Path) -> None:
    members = {"archive/data.pkl": b"x", "archive/data/0": bytes(10**6)}
    file = zipped(tmp_path / "w.pth", members, compress=zipfile.ZIP_DEFLATED)
    assert "member 'archive/data.pkl' of this zip archive is compressed" in refusal(file)
    content = bytearray(zipped(file, members).read_bytes())
    struct.pack_into("<I", content, content.rindex(b"PK\x01\x02") + 24, 10**7)  # what it says to unpack to
    assert "member 'archive/data/0' of this zip archive is compressed" in refusal(written(file, content))


@pytest.mark.parametrize("second", ["archive/data/a", "archive/data/A"])
def test_two_members_of_one_name_are_refused(tmp_path: Path, second: str) -> None:
    file = tmp_path / "w.pth"
    zipped(file, {"archive/data.pkl": b"x", "archive/data/a": b"1", "archive/data/b": b"2"})
    content = file.read_bytes().replace(b"archive/data/b", second.encode())
    assert f"this zip archive has two members {second!r}" in refusal(written(file, content))


def test_two_pickles_are_refused(tmp_path: Path) -> None:
    assert "is a zip archive, but none that" in refusal(
        zipped(tmp_path / "w", {"a/data.pkl": b"x", "b/data.pkl": b"y"})
    )


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    file = zipped(tmp_path / "w.pth", {"archive/data.pkl": b"x" * 50, "archive/data/0": b"y" * 50})
    content = bytearray(file.read_bytes())
    second = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 4)
    struct.pack_into("<I", content, second + 42, 0)  # where it begins
    assert "members of this zip archive overlap" in refusal(written(file, content))


def test_a_zip_that_torch_did_not_write_is_refused(tmp_path: Path) -> None:
    for members in ({"w.pth": b"x"}, {"data.pkl": b"x"}, {"a/b/data.pkl": b"x"}, {"a.npy": b"x"}):
        assert "none that `torch.save` wrote" in refusal(zipped(tmp_path / "w.pth", members))


def test_a_program_is_refused(tmp_path: Path) -> None:
    members = {"w/data.pkl": b"x", "w/constants.pkl": b"x", "w/code/__torch__.py": b"x", "w/version": b"3"}
    assert "is a TorchScript program" in refusal(zipped(tmp_path / "w.pth", members))


@pytest.mark.parametrize("cut", [lambda n: 50, lambda n: n - 1, lambda n: n // 2])
def test_safetensors_that_are_cut_off_are_refused(tmp_path: Path, cut: Callable[[int], int]) -> None:
    file = tmp_path / "w.pth"
    save_file(STATE, file)
    content = file.read_bytes()
    assert "is cut off (" in refusal(written(file, content[: cut(len(content))]))


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b'{"a": 3}',
        b'{"a": {"data_offsets": [0]}}',
        b'{"a": {"data_offsets": "zz"}}',
        b'{"a": {"data_offsets": [0, null]}}',
        b'{"a": {"data_offsets": [0, NaN]}}',
        b'{"a": {"data_offsets": [0, Infinity]}}',
        b'{"a":' * 100_000,
        b'{"\xff": 1}',
    ],
    ids=range(9),
)
def test_a_safetensors_header_that_cannot_be_read_is_refused(tmp_path: Path, header: bytes) -> None:
    assert "its safetensors header cannot be read" in refusal(written(tmp_path / "w", safetensors(header)))


def test_metadata_is_no_tensor(tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {"format": "pt"}}).encode()
    assert examine(written(tmp_path / "w", safetensors(header))) == "safetensors"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty, not weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "is a Git LFS pointer"),
        (b"storages".ljust(257, b"\0") + b"ustar\0".ljust(767, b"\0"), "is a tar archive"),
        *((other, "is no weight file") for other in (b"hello", bytes(5000), b"\x80", b"\x80\x01", b"PK\x05\x06")),
    ],
    ids=range(8),
)
def test_anything_else_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    assert sentence in refusal(written(tmp_path / "w.pth", content))
