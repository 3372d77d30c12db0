"""`data download` as a user meets it: the plan, the question, what is fetched, and what is still missing."""

import hashlib
import io
import shutil
import zipfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.remote_files import MadeOf, RemoteFile
from ssl4eo_bench.errors import MissingDataError
from ssl4eo_bench.files import downloads
from tests.remote import Remote

Command = Callable[..., tuple[int, str, str]]
Offer = Callable[..., None]

LIST = b"Forest_1\nForest_2\n"
DOWNLOAD = ("data", "download", "mine", "--data-dir", "data")
Usage = namedtuple("Usage", "total used free")


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("images/Forest_1.tif", b"pixels")
    return buffer.getvalue()


@pytest.fixture
def offer(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> Offer:
    """Publishes the list `train.txt`, the archive `set.zip` and more files, as the files of the task `mine`."""
    monkeypatch.setattr(downloads, "PAUSES", (0.0,))
    real = catalogue.task

    def publish(*more: RemoteFile, **archive: object) -> None:
        remote.files |= {"train.txt": LIST, "set.zip": zipped()}
        files = (
            RemoteFile(name="train.txt", url=f"{remote.url}train.txt", md5=hashlib.md5(LIST).hexdigest()),
            RemoteFile(
                name="set.zip",
                url=f"{remote.url}set.zip",
                size=len(zipped()),
                md5=hashlib.md5(zipped()).hexdigest(),
                unpack=True,
                unpacked_bytes=6,
            ).model_copy(update=archive),
        )
        task = real("eurosat").model_copy(update={"name": "mine", "folder": "mine", "files": (*files, *more)})
        tasks = {"mine": task, "again": task, "none": task.model_copy(update={"name": "none", "files": ()})}
        monkeypatch.setattr(catalogue, "task", lambda name: tasks[name])

    return publish


def files() -> set[str]:
    """Those a user sees."""
    return {str(file) for file in Path("data").rglob("*") if file.is_file() and not file.name.startswith(".")}


WHOLE = {"data/mine/train.txt", "data/mine/set.zip", "data/mine/images/Forest_1.tif"}


def test_files_are_fetched_unpacked_and_not_fetched_again(command: Command, offer: Offer, remote: Remote) -> None:
    offer()
    code, out, err = command("data", "download", "mine", "again", "--data-dir", "data", "--quiet")
    assert (code, err) == (0, "")
    assert files() == WHOLE
    assert [line.split() for line in out.splitlines() if "data/mine" in line] == [
        ["data/mine/train.txt", "?", "missing", "fetch"],
        ["data/mine/set.zip", str(len(zipped())), "bytes", "missing", "fetch,", "unpack"],
    ]
    assert f"to fetch {len(zipped())} bytes, to write {len(zipped()) + 6} bytes, free " in out
    assert len(remote.seen) == 2
    code, out, err = command(*DOWNLOAD, "--quiet")
    assert (code, err) == (0, "")
    assert out.count("is there") == 2
    assert "is there, unpacked" in out
    assert "to fetch 0 bytes, to write 0 bytes" in out
    assert len(remote.seen) == 2


def test_progress_is_shown_in_bytes(command: Command, offer: Offer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl4eo_bench.progress_bars.PAUSE", 0.0)
    offer()
    _, _, err = command(*DOWNLOAD)
    assert f"train.txt: {len(LIST)} bytes of {len(LIST)} bytes" in err
    assert "unpacking set.zip" in err
    assert "kB/s" in err or "MB/s" in err


def test_an_unpacked_archive_may_be_deleted(command: Command, offer: Offer, remote: Remote) -> None:
    offer()
    command(*DOWNLOAD)
    Path("data/mine/set.zip").unlink()
    assert command(*DOWNLOAD)[0] == 0
    assert len(remote.seen) == 2
    shutil.rmtree("data/mine/images")
    assert command(*DOWNLOAD)[0] == 0
    assert files() == WHOLE


def test_an_archive_that_is_there_is_only_unpacked(command: Command, offer: Offer, remote: Remote) -> None:
    offer()
    Path("data/mine").mkdir(parents=True)
    Path("data/mine/set.zip").write_bytes(zipped())
    code, out, _ = command(*DOWNLOAD)
    assert code == 0
    row = next(line for line in out.splitlines() if "set.zip" in line)
    assert row.split() == ["data/mine/set.zip", str(len(zipped())), "bytes", "is", "there", "unpack"]
    assert "to write 6 bytes" in out
    assert files() == WHOLE
    assert len(remote.seen) == 1


def test_what_has_no_address_is_explained_and_the_rest_is_fetched(command: Command, offer: Offer) -> None:
    offer(
        RemoteFile(name="test.h5", about_bytes=52 * 10**9, instructions="log in at https://example.org, take test.h5")
    )
    code, out, err = command(*DOWNLOAD, "--quiet")
    assert code == 1
    assert "about 52.0 GB" in out
    assert "data/mine/test.h5 has to be put there by hand: log in at https://example.org, take test.h5.\n" in out
    assert err == "still missing: data/mine/test.h5\n"
    assert files() == WHOLE
    Path("data/mine/test.h5").touch()
    assert command(*DOWNLOAD)[0] == 0


def doubled(folder: Path) -> bytes:
    if not (folder / "train.txt").is_file():
        raise MissingDataError("train.txt is not there.")
    return 2 * (folder / "train.txt").read_bytes()


TWICE = RemoteFile(
    name="made/twice.txt",
    md5=hashlib.md5(2 * LIST).hexdigest(),
    size=2 * len(LIST),
    made=MadeOf(what="the training list", make=doubled),
)


def test_a_file_that_is_made_of_others_is_made_after_them(command: Command, offer: Offer) -> None:
    offer(TWICE)
    code, out, err = command(*DOWNLOAD, "--quiet")
    assert (code, err) == (0, "")
    row = next(line for line in out.splitlines() if "twice.txt" in line)
    assert row.split()[1:] == ["36", "bytes", "missing", "make", "from", "the", "training", "list"]
    assert "; 1 made from the training list" in out
    assert Path("data/mine/made/twice.txt").read_bytes() == 2 * LIST
    code, out, _ = command(*DOWNLOAD, "--quiet")
    assert "make from" not in out
    Path("data/mine/made/twice.txt").write_bytes(b"another")
    Path("data/mine/train.txt").write_bytes(LIST[::-1])
    code, out, err = command(*DOWNLOAD, "--quiet")
    assert code == 1
    assert "there in another size, will be replaced" in out
    assert "error: made/twice.txt, made from the training list in data/mine, has md5" in err
    assert Path("data/mine/made/twice.txt").read_bytes() == b"another"


def test_what_can_be_made_is_made_even_if_the_rest_does_not_fit(
    command: Command, offer: Offer, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(TWICE)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100, 0, 20))
    assert command(*DOWNLOAD, "--quiet")[0] == 2  # nothing can be made yet
    Path("data/mine").mkdir(parents=True)
    Path("data/mine/train.txt").write_bytes(LIST)
    code, out, err = command(*DOWNLOAD, "--quiet")
    assert code == 1
    assert "data/mine/made/twice.txt is made\n" in out
    refusal, last = err.splitlines()
    assert " are needed, but the disk of data has 20 bytes free" in refusal
    assert last == "still missing: data/mine/set.zip"
    assert Path("data/mine/made/twice.txt").read_bytes() == 2 * LIST
    assert remote.seen == []


def test_what_readers_take_under_another_name_is_there(command: Command, offer: Offer, remote: Remote) -> None:
    offer(RemoteFile(name="val.csv", url=f"{remote.url}val.csv", size=7, accepted=("val.csv.gz", "val.*.csv")))
    Path("data/mine").mkdir(parents=True)
    Path("data/mine/val.as-set.csv").write_bytes(b"another size")
    code, out, _ = command(*DOWNLOAD, "--quiet")
    assert code == 0
    assert "is there as val.as-set.csv" in out
    assert len(remote.seen) == 2  # the other files
    Path("data/mine/val.csv").write_bytes(b"readers take this one, which is damaged")
    code, out, err = command(*DOWNLOAD, "--quiet")
    assert (code, "still missing: data/mine/val.csv\n" in err) == (1, True)
    assert "there in another size, will be replaced" in out


def test_a_file_that_fails_does_not_stop_the_others(command: Command, offer: Offer, remote: Remote) -> None:
    offer()
    remote.statuses = [404]
    code, _, err = command(*DOWNLOAD, "--quiet")
    assert code == 1
    first, last = err.splitlines()
    assert first.startswith(f"error: {remote.url}train.txt answers 404 Not Found: ")
    assert last == "still missing: data/mine/train.txt"
    assert files() == WHOLE - {"data/mine/train.txt"}


def test_an_archive_that_cannot_be_unpacked_is_not_called_complete(command: Command, offer: Offer) -> None:
    offer(unpacked_bytes=5)
    code, _, err = command(*DOWNLOAD, "--quiet")
    assert code == 1
    assert "set.zip holds 'images/Forest_1.tif', with which it has more than the 5 bytes" in err
    assert "still missing: data/mine/set.zip\n" in err
    assert files() == WHOLE - {"data/mine/images/Forest_1.tif"}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


BIG = {"size": None, "about_bytes": 1_000_000_001}


def test_much_is_not_fetched_when_nobody_can_agree(
    command: Command, offer: Offer, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(**BIG)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    code, _, err = command(*DOWNLOAD)
    assert code == 2
    assert err == "error: 1.0 GB are to be fetched and nobody is there to agree; add --yes.\n"
    assert remote.seen == []
    code, out, err = command(*DOWNLOAD, "--yes")
    assert code == 0, out + err
    assert files() == WHOLE


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("Yes\n", 0), ("n\n", 1), ("", 1)])
def test_much_is_asked_about(
    command: Command, offer: Offer, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    offer(**BIG)
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    found, _, err = command(*DOWNLOAD, "--quiet")
    assert found == code
    assert err.startswith("Fetch 1.0 GB? [y/N] ")
    assert files() == (WHOLE if code == 0 else set())
    offer(**BIG | {"about_bytes": 1_000_000_000})  # little is not asked about
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    assert command(*DOWNLOAD)[0] == 0


def test_a_disk_too_small_for_all_is_refused_first(
    command: Command, offer: Offer, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(RemoteFile(name="more.bin", url=f"{remote.url}more.bin", size=1000))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**6, 0, 1005))
    code, out, err = command(*DOWNLOAD)
    assert code == 2
    assert err == (
        "error: 1.1 kB are needed, but the disk of data has 1.0 kB free; free some space there, or name a directory on "
        "another disk with --data-dir.\n"
    )
    assert "more.bin" in out
    assert remote.seen == []


def test_a_task_without_files_is_refused(command: Command, offer: Offer) -> None:
    offer()
    code, _, err = command("data", "download", "none")
    assert code == 2
    assert err.startswith("error: task 'none' names no files that could be fetched; get https://")


def test_the_data_directory_is_that_of_run(
    command: Command, offer: Offer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer()
    monkeypatch.setenv("SSL4EO_BENCH_DATA", str(tmp_path / "elsewhere"))
    assert command("data", "download", "mine")[0] == 0
    assert (tmp_path / "elsewhere" / "mine" / "images" / "Forest_1.tif").is_file()


def test_nothing_is_fetched_where_all_samples_are_there(command: Command, real_data: Path) -> None:
    Path("data/eurosat").mkdir(parents=True)
    for file in (real_data / "eurosat").iterdir():
        Path("data/eurosat", file.name).symlink_to(file)
    code, out, err = command("data", "download", "eurosat-rgb", "--data-dir", "data")
    assert (code, err) == (0, "")
    assert "nothing else is needed: all samples are there\nto fetch 0 bytes" in out
    assert "EuroSAT.zip" not in out
