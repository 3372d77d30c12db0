import errno
import hashlib
import os
import re
import stat
from pathlib import Path

import pytest

from ssl4eo_bench.errors import WriteError
from ssl4eo_bench.files import atomic, hashing
from ssl4eo_bench.files.atomic import making, replacing, write_text
from ssl4eo_bench.files.hashing import file_hash
from ssl4eo_bench.files.places import cache_root, data_root
from tests.conftest import Recorder


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "file.txt"
    write_text(file, "first\n")

    def fail_half_way() -> None:
        with replacing(file) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        fail_half_way()
    assert file.read_text() == "first\n"
    write_text(file, "second\n")
    assert file.read_text() == "second\n"
    assert [path.name for path in file.parent.iterdir()] == ["file.txt"]


def test_what_a_dead_writer_left_is_removed_and_what_others_write_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (child := os.fork()) == 0:
        with replacing(tmp_path / "a.npz") as temporary, making(tmp_path / "sample") as folder:
            temporary.write_bytes(b"half")
            (folder / "file").write_bytes(b"half")
            os._exit(9)
    os.waitpid(child, 0)
    left = {file.name for file in tmp_path.iterdir()}
    assert len(left) == 2
    foreign = {name: tmp_path / name for name in (re.sub("-[0-9a-f]{8}", "-0badcafe", name) for name in left)}
    for file in foreign.values():
        file.write_bytes(b"of a living writer on another host")
    with replacing(tmp_path / "b.npz") as temporary:  # another file of the folder
        assert {file.name for file in tmp_path.iterdir()} == {*foreign, temporary.name}
        temporary.write_bytes(b"whole")
    old = min(foreign.values())
    os.utime(old, (0, 0))
    monkeypatch.setattr(atomic, "_swept", set())
    write_text(tmp_path / "c.txt", "whole")
    assert {file.name for file in tmp_path.iterdir()} == {*foreign, "b.npz", "c.txt"} - {old.name}


def test_files_have_the_permissions_of_the_users_mask(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        write_text(tmp_path / "file.txt", "x")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "file.txt").stat().st_mode) == 0o640


def test_line_ends_are_the_same_on_every_platform(tmp_path: Path) -> None:
    write_text(tmp_path / "file.txt", "a\nb\n")
    assert (tmp_path / "file.txt").read_bytes() == b"a\nb\n"


def test_directories_are_chosen_by_option_then_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL4EO_BENCH_CACHE", "/from/variable")
    monkeypatch.setenv("SSL4EO_BENCH_DATA", "/data/variable")
    assert cache_root(Path("/chosen")) == Path("/chosen")
    assert cache_root() == Path("/from/variable")
    assert data_root() == Path("/data/variable")
    monkeypatch.delenv("SSL4EO_BENCH_CACHE")
    monkeypatch.delenv("SSL4EO_BENCH_DATA")
    assert cache_root().name == "ssl4eo-bench"
    assert data_root() == Path("data")


def test_what_cannot_be_written_is_one_sentence_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "x.json"
    file.write_text("before", encoding="utf-8")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match=r"x.json cannot be written \(No space left on device\)"):
        write_text(file, "after")
    assert [found.name for found in tmp_path.iterdir()] == ["x.json"]
    assert file.read_text(encoding="utf-8") == "before"


@pytest.mark.parametrize("told", ["by NumPy", "behind an error of PyTorch"])
def test_a_full_disk_is_told_whatever_library_meets_it(tmp_path: Path, told: str) -> None:
    def write() -> None:
        with replacing(tmp_path / "x"):
            if told == "by NumPy":
                raise OSError("3840 requested and 1984 written")
            try:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                raise RuntimeError("unexpected pos 1728 vs 1622")

    with pytest.raises(WriteError, match=r"x cannot be written \(No space left on device\); free some space"):
        write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("large", [True, False])
def test_a_file_has_one_hash_and_a_large_one_shows_its_progress(
    progress: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    content = bytes(range(256)) * 100
    (tmp_path / "a.bin").write_bytes(content)
    monkeypatch.setattr(hashing, "CHUNK", 10_000)
    monkeypatch.setattr(hashing, "LARGE", len(content) + (0 if large else 1))
    assert file_hash(tmp_path / "a.bin") == hashlib.sha256(content).hexdigest()
    assert file_hash(tmp_path / "a.bin", "md5", what="checking") == hashlib.md5(content).hexdigest()
    shown = [["checksum a.bin", 25_600, 25_600], ["checking", 25_600, 25_600]]
    assert progress.stages == (shown if large else [])


def test_on_windows_no_signal_asks_whether_a_writer_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("there, this signal ends a process"))
    assert atomic._lives(os.getpid())
