"""Small files and short answers that stand for much memory, time or disk."""

import io
import tarfile
import time
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from ssl4eo_bench.config.layouts import Layout
from ssl4eo_bench.config.remote_files import RemoteFile
from ssl4eo_bench.errors import DamagedFileError, WeightsError
from ssl4eo_bench.files import downloads
from ssl4eo_bench.files.archives import unpack
from ssl4eo_bench.files.downloads import fetch
from ssl4eo_bench.models import state_dict
from ssl4eo_bench.models.weight_reader import read_weights
from tests.remote import Remote


def with_pickle(file: Path, pickled: bytes) -> Path:
    """A weight file with another content."""
    torch.save({}, file)
    with zipfile.ZipFile(file) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(file, "w") as changed:
        for name, content in members.items():
            changed.writestr(name, pickled if name.endswith("/data.pkl") else content)
    return file


def test_no_function_is_called_on_what_a_weight_file_holds(tmp_path: Path) -> None:
    """A list that holds a list eight times, which holds another eight times, and so on, has few bytes; not as text."""
    lists = b"]q\x00" + b"".join(b"](" + 8 * bytes([104, level]) + bytes([101, 113, level + 1]) for level in range(7))
    pickled = b"\x80\x02}(X\x05\x00\x00\x00lists(" + lists + b"tX\x04\x00\x00\x00textc__builtin__\nstr\nh\x07\x85Ru."
    file = with_pickle(tmp_path / "bomb.pth", pickled)
    tracemalloc.start()
    with pytest.raises(WeightsError, match="holds no tensors by name, found lists, text"):
        read_weights(file)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000  # of 4 * 8 ** 7 for the text
    tracemalloc.stop()


def test_renames_do_not_take_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Layout(renames=(("a*a*a*$", "b"),))
    names = [f"{'a' * 190}{number}." for number in range(10)]
    started = time.process_time()
    assert slow.backbone_name("a" * 10**5 + ".") == "a" * 10**5 + "."
    monkeypatch.setattr(state_dict, "PATIENCE", 0.0)
    with pytest.raises(WeightsError, match="the renames of layout 'of the entry' take too long"):
        state_dict.load({"": dict.fromkeys(names, torch.zeros(1))}, nn.Linear(1, 1), slow, "mine")
    assert time.process_time() - started < 10


def tar_file(file: Path, **headers: str) -> Path:
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("a.txt")
        member.pax_headers, member.size = headers, 1
        archive.addfile(member, io.BytesIO(b"a"))
    return file


def test_the_head_of_an_archives_member_is_short(tmp_path: Path) -> None:
    unpack(tar_file(tmp_path / "short.tar", comment="a" * 1000), tmp_path / "short", limit=None)
    with pytest.raises(DamagedFileError, match="a header of 2,000,"):
        unpack(tar_file(tmp_path / "long.tar", comment="a" * 2_000_000), tmp_path / "long", limit=None)


def test_an_archive_may_be_neither_deep_nor_endless_in_its_heads(tmp_path: Path) -> None:
    deep = zipfile.ZipFile(tmp_path / "deep.zip", "w")
    with deep:
        deep.writestr("a/" * 2000 + "b", b"")
    with tarfile.open(tmp_path / "deep.tar", "w") as archive:
        for depth in range(1, 1100):
            folder = tarfile.TarInfo("/".join(["a"] * depth))
            folder.type = tarfile.DIRTYPE
            archive.addfile(folder)
    head = tarfile.TarInfo("a.txt").create_pax_global_header({"comment": "a"})
    (tmp_path / "heads.tar").write_bytes(head * 5000)
    for name, message in {"deep.zip": "folders deep", "deep.tar": "folders deep", "heads.tar": "damaged"}.items():
        with pytest.raises(DamagedFileError, match=message):
            unpack(tmp_path / name, tmp_path / f"{name}-unpacked", limit=None)
        assert not [file for file in (tmp_path / f"{name}-unpacked").iterdir() if not file.name.startswith(".")]


def test_a_name_that_no_disk_takes_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "long.zip", "w") as archive:
        archive.writestr("a" * 300, b"")
    with pytest.raises(DamagedFileError, match="255 bytes"):
        unpack(tmp_path / "long.zip", tmp_path / "long", limit=None)


def test_a_download_of_unknown_size_ends(remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "LARGEST", 100_000)
    remote.files["endless.bin"], remote.announces = bytes(200_000), False
    for file in (
        RemoteFile(name="endless.bin", url=f"{remote.url}endless.bin"),
        RemoteFile(name="endless.bin", url=f"{remote.url}endless.bin", about_bytes=50_000),
    ):
        with pytest.raises(DamagedFileError, match="may have 100,000 at most"):
            fetch(file, tmp_path)
        assert not list(tmp_path.glob("endless*"))
