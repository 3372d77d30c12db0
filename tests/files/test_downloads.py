import errno
import hashlib
import os
import random
import shutil
import threading
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from pydantic import ValidationError

from ssl4eo_bench.config.remote_files import RemoteFile
from ssl4eo_bench.errors import DamagedFileError, DownloadError, MissingDataError, RefusedError, WeightsError
from ssl4eo_bench.files import downloads
from ssl4eo_bench.files.downloads import fetch, is_there
from tests.conftest import Recorder
from tests.remote import Remote

CONTENT = random.Random(1).randbytes(500_000)
OTHER = random.Random(2).randbytes(500_000)
NAME = "lists/data.bin"

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "PAUSES", (0.0, 0.0, 0.0, 0.0))


def offered(
    remote: Remote, *, content: bytes = CONTENT, size: bool = True, md5: bool = True, **more: Any
) -> RemoteFile:
    """The file as published, put on the server."""
    remote.files["data.bin"] = content
    return RemoteFile(
        name=NAME,
        url=f"{remote.url}data.bin",
        size=len(CONTENT) if size else None,
        md5=hashlib.md5(CONTENT).hexdigest() if md5 else None,
        **more,
    )


def left(folder: Path) -> list[str]:
    """What a user sees in the folder."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name != ".lock")


def fetched(file: RemoteFile, folder: Path) -> None:
    """Fetch a file and compare it."""
    fetch(file, folder)
    found = (folder / NAME).read_bytes()
    assert found == CONTENT, "another content"  # without showing it
    assert left(folder) == ["data.bin"]
    assert is_there(file, folder)


def test_a_machine_without_a_network_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("nothing will come"))
    file = RemoteFile(name="data.bin", url="http://nowhere.invalid/data.bin")
    with pytest.raises(DownloadError, match=r"data\.bin cannot be fetched \([^,]+\); check network and proxy"):
        fetch(file, tmp_path)


def test_a_file_is_fetched_once_and_told_in_bytes(progress: Recorder, remote: Remote, tmp_path: Path) -> None:
    file = offered(remote)
    assert fetch(file, tmp_path) == tmp_path / NAME
    fetched(file, tmp_path)
    assert progress.stages == [[NAME, len(CONTENT), len(CONTENT)]]
    assert remote.seen[0]["Accept-Encoding"] == "identity"
    fetch(file, tmp_path)
    assert remote.asked == [None]


@pytest.mark.parametrize("marks", [{"ETag": '"one"'}, {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}, {}])
def test_a_transfer_that_is_cut_off_goes_on(
    progress: Recorder, remote: Remote, tmp_path: Path, marks: dict[str, str]
) -> None:
    remote.marks = marks
    remote.cuts = [200_000, 0, 200_000]
    fetched(offered(remote), tmp_path)
    starts = [int(asked.removeprefix("bytes=").removesuffix("-")) for asked in remote.asked if asked]
    assert len(starts) == 3
    assert 0 < starts[0] == starts[1] < starts[2]
    assert all(headers.get("If-Range") == next(iter(marks.values()), None) for headers in remote.seen[1:])
    assert len(progress.notes) == 3
    assert "data.bin: the connection was cut after" in progress.notes[0]


def test_a_later_call_goes_on_too(progress: Recorder, remote: Remote, tmp_path: Path) -> None:
    remote.cuts = [300_000, 0, 0, 0, 0]
    file = offered(remote)
    with pytest.raises(DownloadError, match=r"data\.bin cannot be fetched \(the connection was cut, 5 times in a row"):
        fetch(file, tmp_path)
    assert left(tmp_path) == ["data.bin.part", "data.bin.part.json"]
    begun = (tmp_path / f"{NAME}.part").stat().st_size
    assert 200_000 < begun <= 300_000
    fetched(file, tmp_path)
    assert remote.asked[-1] == f"bytes={begun}-"
    assert progress.stages[-1] == [NAME, len(CONTENT), len(CONTENT)]


def test_tries_that_bring_something_do_not_count(remote: Remote, tmp_path: Path) -> None:
    remote.cuts = [70_000] * 7
    fetched(offered(remote), tmp_path)


@pytest.mark.parametrize("compares", [True, False])
def test_a_file_that_changes_between_two_tries_is_not_glued(remote: Remote, tmp_path: Path, compares: bool) -> None:
    def change(number: int) -> None:
        if number == 2:
            remote.files["data.bin"], remote.marks = CONTENT, {"ETag": '"two"'}

    remote.cuts, remote.compares, remote.before = [300_000], compares, change
    fetched(offered(remote, content=OTHER, md5=False), tmp_path)
    assert remote.seen[1]["If-Range"] == '"one"'


def test_without_mark_and_checksum_a_file_is_started_again(remote: Remote, tmp_path: Path) -> None:
    remote.marks, remote.cuts = {"ETag": 'W/"one"'}, [300_000]
    fetched(offered(remote, md5=False), tmp_path)
    assert remote.asked == [None, None]


def test_a_part_of_another_address_is_not_continued(remote: Remote, tmp_path: Path) -> None:
    remote.cuts = [300_000, 0, 0, 0, 0]
    file = offered(remote)
    remote.files["moved.bin"] = CONTENT
    with pytest.raises(DownloadError):
        fetch(file, tmp_path)
    moved = file.model_copy(update={"url": f"{remote.url}moved.bin"})
    fetched(moved, tmp_path)
    assert remote.asked[-1] is None


@pytest.mark.parametrize("note", [None, "{", "{}"], ids=str)
def test_a_part_of_unknown_origin_is_not_continued(remote: Remote, tmp_path: Path, note: str | None) -> None:
    file = offered(remote)
    part = tmp_path / f"{NAME}.part"
    part.parent.mkdir()
    part.write_bytes(OTHER[:1000])
    if note:
        part.with_name("data.bin.part.json").write_text(note)
    fetched(file, tmp_path)
    assert remote.asked == [None]


def begin(remote: Remote, folder: Path, content: bytes) -> None:
    """Leave a part as a killed process does."""
    part = folder / f"{NAME}.part"
    part.parent.mkdir()
    part.write_bytes(content)
    part.with_name("data.bin.part.json").write_text(f'{{"url":"{remote.url}data.bin","validator":"\\"one\\""}}')


def test_a_server_without_ranges_starts_again(remote: Remote, tmp_path: Path) -> None:
    remote.ranges, remote.cuts = False, [300_000]
    fetched(offered(remote), tmp_path)
    assert remote.asked[0] is None
    assert remote.asked[1] is not None


def test_a_server_without_ranges_that_always_cuts_is_given_up(remote: Remote, tmp_path: Path) -> None:
    remote.ranges, remote.cuts = False, [300_000] * 100
    with pytest.raises(DownloadError, match="5 times in a row"):
        fetch(offered(remote), tmp_path)
    assert len(remote.seen) == 5


def test_a_range_that_starts_elsewhere_is_not_appended(remote: Remote, tmp_path: Path) -> None:
    remote.honest_ranges, remote.cuts = False, [300_000]
    fetched(offered(remote, md5=False), tmp_path)
    assert remote.asked[2] is None


@pytest.mark.parametrize(
    ("more", "size", "asked"),
    [
        (0, True, []),  # whole
        (0, False, ["bytes=500000-"]),  # whole, as the server's 416 says
        (4, False, ["bytes=500004-", None]),
        (4, True, [None]),
    ],
)
def test_a_part_that_is_whole_is_taken_and_a_longer_one_is_started_again(
    remote: Remote, tmp_path: Path, more: int, size: bool, asked: list[str | None]
) -> None:
    begin(remote, tmp_path, CONTENT + bytes(more))
    fetched(offered(remote, size=size), tmp_path)
    assert remote.asked == asked


@pytest.mark.parametrize("size", [True, False])
@pytest.mark.parametrize("cuts", [[], [300_000]])
def test_one_wrong_byte_is_refused_and_nothing_is_left(
    remote: Remote, tmp_path: Path, size: bool, cuts: list[int]
) -> None:
    wrong = bytearray(CONTENT)
    wrong[100_000] ^= 1
    remote.cuts = cuts
    file = offered(remote, content=bytes(wrong), size=size)
    with pytest.raises(DamagedFileError) as refusal:
        fetch(file, tmp_path)
    assert hashlib.md5(wrong).hexdigest() in str(refusal.value)
    assert str(file.md5) in str(refusal.value)
    assert left(tmp_path) == []
    remote.files["data.bin"] = CONTENT
    fetched(file, tmp_path)


@pytest.mark.parametrize("digits", [8, 64])
@pytest.mark.parametrize("cuts", [[], [300_000]])
def test_a_sha256_or_its_beginning_is_compared_too(
    remote: Remote, tmp_path: Path, digits: int, cuts: list[int]
) -> None:
    start = hashlib.sha256(CONTENT).hexdigest()[:digits]
    remote.marks, remote.cuts = {}, list(cuts)
    file = offered(remote, content=OTHER, md5=False, sha256=start)
    found = hashlib.sha256(OTHER).hexdigest()
    with pytest.raises(DamagedFileError, match=f"came with sha256 {found}, but the published file has {start};"):
        fetch(file, tmp_path)
    assert left(tmp_path) == []
    remote.files["data.bin"], remote.cuts = CONTENT, list(cuts)
    fetched(file, tmp_path)
    assert len(remote.asked) == 2 + 2 * len(cuts)
    assert (remote.asked[-1] is None) == (not cuts)  # a hash is enough to go on with


@pytest.mark.parametrize("start", ["0123456", "0" * 65, "ABCDEF01"])
def test_a_beginning_that_proves_nothing_is_no_sha256(start: str) -> None:
    with pytest.raises(ValidationError):
        RemoteFile(name=NAME, sha256=start)


def test_what_an_inspection_refuses_is_deleted_before_it_has_a_name(remote: Remote, tmp_path: Path) -> None:
    def inspect(part: Path) -> None:
        assert part.read_bytes() == CONTENT
        assert not (tmp_path / NAME).exists()
        raise WeightsError("no weights")

    file = offered(remote)
    with pytest.raises(WeightsError, match="no weights"):
        fetch(file, tmp_path, inspect=inspect)
    assert left(tmp_path) == []


def test_a_damaged_part_is_noticed(remote: Remote, tmp_path: Path) -> None:
    begin(remote, tmp_path, OTHER[:1000])
    with pytest.raises(DamagedFileError, match="md5"):
        fetch(offered(remote), tmp_path)
    assert left(tmp_path) == []


@pytest.mark.parametrize("announces", [True, False])
@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + bytes(5_000_000)], ids=["short", "long"])
def test_another_size_is_refused(
    progress: Recorder, remote: Remote, tmp_path: Path, content: bytes, announces: bool
) -> None:
    remote.announces = announces
    file = offered(remote, content=content, md5=False)
    with pytest.raises(DamagedFileError, match=r"bytes, but the published file has 500,000"):
        fetch(file, tmp_path)
    assert left(tmp_path) == []
    assert sum(told for _, _, told in progress.stages) < 1_200_000  # the disk is not filled with what has no end


@pytest.mark.parametrize("cuts", [[], [300_000]])
def test_an_unannounced_size_is_no_hindrance(remote: Remote, tmp_path: Path, cuts: list[int]) -> None:
    remote.announces, remote.cuts = False, cuts
    fetched(offered(remote), tmp_path)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_an_answer_that_will_not_change_is_one_sentence(remote: Remote, tmp_path: Path, status: int) -> None:
    remote.statuses = [status]
    with pytest.raises(RefusedError, match=rf"data\.bin answers {status} .*put it at .*lists/data\.bin\.$"):
        fetch(offered(remote), tmp_path)
    assert len(remote.seen) == 1
    assert left(tmp_path) == []


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(remote: Remote, tmp_path: Path, status: int) -> None:
    remote.statuses = [status, status]
    fetched(offered(remote), tmp_path)
    assert len(remote.seen) == 3


def test_a_web_page_is_no_file(remote: Remote, tmp_path: Path) -> None:
    remote.headers = {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(RefusedError, match="answers with a web page instead of the file"):
        fetch(offered(remote, size=False, md5=False), tmp_path)
    assert not (tmp_path / NAME).exists()


def test_a_server_that_is_not_there_is_one_sentence(remote: Remote, tmp_path: Path) -> None:
    file = offered(remote).model_copy(update={"url": "http://127.0.0.1:9/data.bin"})
    with pytest.raises(DownloadError, match=r"data\.bin cannot be fetched \(Connection refused, 5 times in a row\)"):
        fetch(file, tmp_path)


def test_a_file_in_another_size_is_replaced_when_the_whole_is_there(remote: Remote, tmp_path: Path) -> None:
    file = offered(remote)
    (tmp_path / "lists").mkdir()
    (tmp_path / NAME).write_bytes(b"old")
    remote.statuses = [404]
    with pytest.raises(DownloadError):
        fetch(file, tmp_path)
    assert (tmp_path / NAME).read_bytes() == b"old"
    fetched(file, tmp_path)


def test_a_file_without_address_is_refused_with_its_instructions(tmp_path: Path) -> None:
    file = RemoteFile(name=NAME, instructions="log in at https://example.org and take data.bin")
    with pytest.raises(MissingDataError, match=r"lists/data\.bin has to be put there by hand: log in .* data\.bin\.$"):
        fetch(file, tmp_path)
    (tmp_path / "lists").mkdir()
    (tmp_path / NAME).touch()
    assert fetch(file, tmp_path) == tmp_path / NAME


@pytest.mark.parametrize(
    ("update", "needed"),
    [
        ({}, 500_000),
        ({"size": None, "about_bytes": 499_000}, 499_000),
        ({"unpack": True, "unpacked_bytes": 7}, 500_007),
    ],
    ids=["size", "about", "unpacked"],
)
def test_a_disk_too_small_is_noticed_before_anything_is_fetched(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, update: dict[str, Any], needed: int
) -> None:
    file = offered(remote).model_copy(update=update)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**6, 0, needed - 1))
    with pytest.raises(DownloadError, match=r"takes .* but the disk of .* has .* free"):
        fetch(file, tmp_path)
    assert remote.seen == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**6, 0, needed))
    fetch(file, tmp_path)


def test_what_is_there_of_a_file_needs_no_more_space(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(remote, tmp_path, CONTENT[:400_000])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**6, 0, 100_000))
    fetched(offered(remote), tmp_path)


def test_a_disk_that_fills_up_is_one_sentence(remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = offered(remote)
    with monkeypatch.context() as patched:
        patched.setattr(downloads._Part, "write", full)
        with pytest.raises(
            DownloadError, match=r"cannot be written \(No space left on device\); free some space, or name"
        ):
            fetch(file, tmp_path)
    assert not (tmp_path / NAME).exists()
    fetched(file, tmp_path)


def test_a_folder_that_cannot_be_made_is_one_sentence(remote: Remote, tmp_path: Path) -> None:
    (tmp_path / "lists").touch()
    with pytest.raises(DownloadError, match=r"cannot be written \(.*\); name another directory with --data-dir"):
        fetch(offered(remote), tmp_path)
    with pytest.raises(DownloadError, match=r"name another directory with --cache-dir\.$"):
        fetch(offered(remote), tmp_path, option="--cache-dir")


def test_two_processes_do_not_write_one_part(progress: Recorder, remote: Remote, tmp_path: Path) -> None:
    file = offered(remote)
    (tmp_path / "lists").mkdir()
    with FileLock(tmp_path / "lists" / ".lock"):
        thread = threading.Thread(target=fetch, args=(file, tmp_path))
        thread.start()
        while not progress.notes:
            time.sleep(0.01)
        assert remote.seen == []
        (tmp_path / NAME).write_bytes(CONTENT)  # the other process is done
    thread.join()
    assert progress.notes == [f"another process is at work in {tmp_path / 'lists'}; waiting for it"]
    assert remote.seen == []
    fetched(file, tmp_path)
