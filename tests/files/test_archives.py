import gzip
import io
import os
import shutil
import struct
import tarfile
import threading
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from ssl4eo_bench.errors import DamagedFileError, DataError
from ssl4eo_bench.files import archives
from ssl4eo_bench.files.archives import is_unpacked, unpack
from tests.conftest import Recorder

FILES = {"Set/a/one.tif": b"one" * 1000, "Set/b/two.tif": b"two" * 1000, "list.csv": b"a,b\n"}
SIZE = sum(map(len, FILES.values()))
FORMATS = [".tar", ".tar.gz", ".tgz", ".zip"]


def packed(file: Path, members: dict[str, bytes] = FILES) -> Path:
    """An archive of these members, in the format that its name says."""
    if file.suffix == ".zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return file
    return tarred(file, *((regular(name, content), content) for name, content in members.items()))


def tarred(file: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(file, "w" if file.suffix == ".tar" else "w:gz") as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return file


def regular(name: str, content: bytes = b"") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def symlink(name: str, target: str) -> tarfile.TarInfo:
    return special(name, tarfile.SYMTYPE, target)


def hardlink(name: str, target: str) -> tarfile.TarInfo:
    return special(name, tarfile.LNKTYPE, target)


def unpacked(archive: Path, *, limit: int | None = SIZE) -> Path:
    folder = archive.parent / "data"
    unpack(archive, folder, limit=limit)
    return folder


def content_of(folder: Path) -> dict[str, bytes]:
    """What a reader sees: hidden entries of the folder itself are ours."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.relative_to(folder).parts[0].startswith(".")
    }


def refused(archive: Path, message: str, *, limit: int | None = SIZE) -> None:
    """The archive is refused with its name, and nothing of it is left, neither in the folder nor anywhere else."""
    before = everything(archive.parent)
    with pytest.raises(DamagedFileError, match=message) as refusal:
        unpacked(archive, limit=limit)
    assert archive.name in str(refusal.value)
    assert everything(archive.parent) - before <= {"data", "data/.lock"}
    assert not is_unpacked(archive, archive.parent / "data")


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_archive_is_unpacked_once(progress: Recorder, tmp_path: Path, suffix: str) -> None:
    archive, folder = packed(tmp_path / f"set{suffix}"), tmp_path / "data"
    unpack(archive, folder, limit=SIZE)
    assert content_of(folder) == FILES
    assert is_unpacked(archive, folder)
    assert everything(folder) - {".lock", f".unpacked-set{suffix}.json"} == {"Set", "Set/a", "Set/b", *FILES}
    size = archive.stat().st_size
    ((what, total, told),) = progress.stages
    assert (what, total) == (f"unpacking set{suffix}", size)
    assert 0.5 * size < told <= size
    (folder / "list.csv").write_text("mine")
    unpack(archive, folder, limit=SIZE)
    assert (folder / "list.csv").read_text() == "mine"


@pytest.mark.parametrize("suffix", FORMATS)
def test_permissions_are_the_users(tmp_path: Path, suffix: str) -> None:
    folder = unpacked(packed(tmp_path / f"set{suffix}"))  # members of tar have mode 0644, those of zip 0600
    (tmp_path / "plain").touch()
    assert (folder / "list.csv").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_another_archive_of_the_same_name_is_unpacked(tmp_path: Path) -> None:
    folder = unpacked(packed(tmp_path / "set.zip"))
    archive = packed(tmp_path / "set.zip", {"list.csv": b"x,y\n"})
    os.utime(archive, ns=(1, 1))
    assert not is_unpacked(archive, folder)
    unpacked(archive)
    assert content_of(folder) == FILES | {"list.csv": b"x,y\n"}


def test_an_archive_may_be_deleted_but_not_what_was_in_it(tmp_path: Path) -> None:
    archive = packed(tmp_path / "set.zip")
    folder = unpacked(archive)
    archive.unlink()
    assert is_unpacked(archive, folder)
    (folder / "list.csv").unlink()
    assert not is_unpacked(archive, folder)


def test_archives_may_share_directories(tmp_path: Path) -> None:
    unpacked(packed(tmp_path / "first.zip"))
    folder = unpacked(packed(tmp_path / "second.tar", {"Set/a/three.tif": b"3", "Set/b/two.tif": b"2"}))
    assert content_of(folder) == FILES | {"Set/a/three.tif": b"3", "Set/b/two.tif": b"2"}


@pytest.mark.parametrize("suffix", FORMATS)
def test_names_are_taken_as_they_are(tmp_path: Path, suffix: str) -> None:
    members = {"./Set//x.TIF": b"1", "Set/x.tif": b"2", "Set/ü ..tif": b"3", "Set/...": b"4"}
    folder = unpacked(packed(tmp_path / f"set{suffix}", members))
    assert content_of(folder) == {"Set/x.TIF": b"1", "Set/x.tif": b"2", "Set/ü ..tif": b"3", "Set/...": b"4"}


def test_links_inside_are_made(tmp_path: Path) -> None:
    archive = tarred(
        tmp_path / "set.tar",
        (regular("Set/a/one.tif", b"1"), b"1"),
        (symlink("Set/b/up.tif", "../a/one.tif"), b""),
        (symlink("Set/all", "./a"), b""),
        (hardlink("Set/hard.tif", "Set/a/one.tif"), b""),
    )
    folder = unpacked(archive)
    assert {name: (folder / name).read_bytes() for name in ("Set/b/up.tif", "Set/all/one.tif", "Set/hard.tif")} == {
        "Set/b/up.tif": b"1",
        "Set/all/one.tif": b"1",
        "Set/hard.tif": b"1",
    }


def test_the_last_of_two_members_with_one_name_counts(tmp_path: Path) -> None:
    members = [(regular("Set/x", content), content) for content in (b"first", b"last")]
    assert content_of(unpacked(tarred(tmp_path / "set.tar", *members))) == {"Set/x": b"last"}


@pytest.mark.parametrize("name", ["../out.txt", "Set/../../out.txt"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    archive = packed(tmp_path / "set.tar", {"Set/a": b"x", name: b"x"})
    refused(archive, rf"holds '{name}', which is not safe to unpack \(.*outside the destination\).*delete it and get")


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_absolute_path_lies_inside(tmp_path: Path, suffix: str) -> None:
    outside = tmp_path / "outside.txt"
    folder = unpacked(packed(tmp_path / f"set{suffix}", {str(outside): b"x"}))
    assert not outside.exists()
    assert (folder / str(outside).lstrip("/")).read_bytes() == b"x"


@pytest.mark.parametrize("name", ["../out.txt", "Set/../../out.txt", "/out.txt"])
def test_a_path_of_a_zip_lies_inside(tmp_path: Path, name: str) -> None:
    folder = unpacked(packed(tmp_path / "set.zip", {name: b"x"}))
    assert [Path(found).name for found in content_of(folder)] == ["out.txt"]
    assert everything(tmp_path) == {"set.zip", "data"} | {f"data/{name}" for name in everything(folder)}


LINKS: dict[str, tuple[tarfile.TarInfo, ...]] = {
    "absolute": (symlink("Set/link", "/etc"),),
    "climbing": (symlink("Set/link", "../../out"),),
    "climbing through a link": (symlink("Set/here", "."), symlink("Set/link", "here/here/../../../out")),
    "hard, climbing": (hardlink("Set/link", "../secret.txt"),),
    "hard, to nothing": (hardlink("Set/link", "Set/nothing"),),
    "hard, to a directory": (special("Set", tarfile.DIRTYPE), hardlink("link", "Set")),
    "hard, to a link": (regular("Set/x"), symlink("Set/soft", "x"), hardlink("link", "Set/soft")),
    "hard, through a link": (regular("Set/x"), symlink("soft", "Set"), hardlink("link", "soft/x")),
    "file on a link": (symlink("soft", "Set"), regular("soft")),
    "file below a link": (special("Set", tarfile.DIRTYPE), symlink("soft", "Set"), regular("soft/x")),
    "file below a climbing link": (symlink("first", "second/.."), symlink("second", "."), regular("/first/out")),
    "directory on a link": (symlink("soft", "Set"), special("soft", tarfile.DIRTYPE)),
    "pipe": (special("Set/pipe", tarfile.FIFOTYPE),),
    "device": (special("Set/device", tarfile.CHRTYPE),),
    "unknown": (special("Set/x", b"Q"),),
}


@pytest.mark.parametrize("case", LINKS)
def test_links_and_devices_are_refused(tmp_path: Path, case: str) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    members = LINKS[case]
    archive = tarred(tmp_path / "set.tar", *((member, b"") for member in members))
    refused(archive, f"holds {members[-1].name!r}, .*(link|special file)")


def test_a_file_in_place_of_a_directory_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be unpacked into"):
        unpacked(tarred(tmp_path / "set.tar", (regular("Set"), b""), (regular("Set/x"), b"")))
    assert everything(tmp_path / "data") == {".lock"}


def test_a_python_without_the_filter_unpacks_no_tar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(tarfile, "data_filter")
    with pytest.raises(DataError, match=r"no extraction filter; update Python to 3\.11\.4 or later, or unpack it into"):
        unpacked(packed(tmp_path / "set.tar"))
    assert content_of(unpacked(packed(tmp_path / "set.zip"))) == FILES


@pytest.mark.parametrize("mode", [0o120777, 0o010666, 0o020666], ids=["link", "pipe", "device"])
def test_special_members_of_zips_are_refused(tmp_path: Path, mode: int) -> None:
    member = zipfile.ZipInfo("Set/special")
    member.external_attr = mode << 16
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr(member, "target")
    refused(tmp_path / "set.zip", "holds 'Set/special', a link, a device")


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    archive = packed(tmp_path / "set.zip")
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    refused(archive, "which is encrypted")


@pytest.mark.parametrize("suffix", FORMATS)
def test_more_bytes_than_allowed_are_refused(tmp_path: Path, suffix: str) -> None:
    archive = packed(tmp_path / f"set{suffix}", {"Set/a": bytes(1000), "Set/b": bytes(1000)})
    refused(archive, "holds 'Set/b', with which it has more than the 1,999 bytes", limit=1999)
    assert len(content_of(unpacked(archive, limit=2000))) == 2


def lying(file: Path, content: bytes, *, told: int, method: int) -> Path:
    """A zip archive with one member that has another size than its headers say, and a checksum that fits the lie."""
    name = b"Set/lie"
    packer = zlib.compressobj(wbits=-15)
    body = packer.compress(content) + packer.flush() if method == zipfile.ZIP_DEFLATED else content
    crc = zlib.crc32(content[:told])
    common = struct.pack("<HHHHHIIIHH", 20, 0, method, 0, 33, crc, len(body), told, len(name), 0)
    local = b"PK\x03\x04" + common + name + body
    central = b"PK\x01\x02" + struct.pack("<H", 20) + common + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)
    file.write_bytes(local + central + end)
    return file


def sparse(file: Path, content: bytes, *, told: int) -> Path:
    """A tar archive with one sparse member that becomes a file of `told` bytes, its content at the start."""
    member = regular("Set/sparse", content)
    member.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.map": f"0,{len(content)}",
        "GNU.sparse.size": str(told),
    }
    with tarfile.open(file, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member, io.BytesIO(content))
    return file


BOMB = bytes(50_000_000)
BOMBS: dict[str, Callable[[Path], Path]] = {
    "tar": lambda folder: packed(folder / "set.tar.gz", {"Set/bomb": BOMB}),
    "zip": lambda folder: packed(folder / "set.zip", {"Set/bomb": BOMB}),
    "lying zip": lambda folder: lying(folder / "set.zip", BOMB, told=10, method=zipfile.ZIP_DEFLATED),
    "holes": lambda folder: sparse(folder / "set.tgz", b"x" * 512, told=10**12),
    "lying holes": lambda folder: sparse(folder / "set.tgz", BOMB, told=10),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_stopped_at_the_limit(tmp_path: Path, bomb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    archive, sizes, rmtree = BOMBS[bomb](tmp_path), [], shutil.rmtree
    assert archive.stat().st_size < 100_000

    def measured(folder: Path, **options: Any) -> None:
        sizes.append(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
        rmtree(folder, **options)

    monkeypatch.setattr(shutil, "rmtree", measured)
    refused(archive, "more than the 3,000,000 bytes|Set/lie", limit=3_000_000)
    assert max(sizes) <= 3_000_000


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED], ids=["deflated", "stored"])
def test_a_zip_member_larger_than_its_header_says_is_refused(tmp_path: Path, method: int) -> None:
    archive = lying(tmp_path / "set.zip", bytes(100_000), told=10, method=method)
    with zipfile.ZipFile(archive) as opened:
        assert opened.read("Set/lie") == bytes(10)  # the lie is believed by who does not look
    refused(archive, "Set/lie", limit=None)


def test_a_zip_member_smaller_than_its_header_says_is_refused(tmp_path: Path) -> None:
    archive = lying(tmp_path / "set.zip", b"x" * 10, told=100, method=zipfile.ZIP_DEFLATED)
    refused(archive, "holds 'Set/lie', which has 10 bytes, but 100 in its header", limit=None)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("keep", [0, 100, 0.3, 0.7, -1025], ids=str)
def test_a_cut_off_archive_is_refused(tmp_path: Path, suffix: str, keep: float) -> None:
    members = {f"Set/{number}.tif": os.urandom(3000) for number in range(8)}
    archive = packed(tmp_path / f"set{suffix}", members)
    content = archive.read_bytes()
    end = int(keep * len(content)) if 0 < keep < 1 else int(keep)
    if suffix == ".tar" and keep == -1025:
        end = 8 * 3584  # all members, but not the end mark
    archive.write_bytes(content[:end])
    refused(archive, "is damaged or cut off", limit=None)


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_tar_without_its_second_header_is_refused(tmp_path: Path, damage: str) -> None:
    archive = packed(tmp_path / "set.tar", {"Set/a": bytes(512), "Set/b": bytes(512)})
    content = bytearray(archive.read_bytes())
    content[1024] ^= 1
    archive.write_bytes(content[:1024] if damage == "cut" else content)
    refused(archive, "is damaged or cut off")


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
def test_altered_bytes_are_refused(tmp_path: Path, suffix: str) -> None:
    archive = packed(tmp_path / f"set{suffix}", {"Set/a": os.urandom(30_000)})
    content = bytearray(archive.read_bytes())
    content[15_000] ^= 1
    archive.write_bytes(content)
    refused(archive, "is damaged or cut off", limit=None)


def test_a_wrong_checksum_behind_the_end_mark_is_refused(tmp_path: Path) -> None:
    plain = packed(tmp_path / "plain.tar").read_bytes()
    content = bytearray(gzip.compress(plain.ljust(3 * archives.CHUNK, b"\0")))
    archive = tmp_path / "set.tar.gz"
    archive.write_bytes(content)
    assert content_of(unpacked(archive)) == FILES
    shutil.rmtree(tmp_path / "data")
    content[-6] ^= 1
    archive.write_bytes(content)
    refused(archive, r"is damaged or cut off \(CRC check failed")


@pytest.mark.parametrize(("where", "what"), [(archives, "_move_in"), (zipfile.ZipFile, "extract")])
def test_an_interrupted_unpacking_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: object, what: str
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    archive, folder = packed(tmp_path / "set.zip"), tmp_path / "data"
    with monkeypatch.context() as patched:
        patched.setattr(where, what, interrupted)
        with pytest.raises(KeyboardInterrupt):
            unpacked(archive)
    assert everything(folder) == {".lock"}
    assert not is_unpacked(archive, folder)
    assert content_of(unpacked(archive)) == FILES


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    archive, folder = packed(tmp_path / "set.zip"), tmp_path / "data"
    half = folder / ".set.zip.unpacking" / "Set"
    half.mkdir(parents=True)
    (half / "torn.tif").touch()
    unpacked(archive)
    assert everything(folder) == {".lock", ".unpacked-set.zip.json", "Set", "Set/a", "Set/b", *FILES}


def test_what_is_in_the_way_is_one_sentence(tmp_path: Path) -> None:
    archive, folder = packed(tmp_path / "set.zip"), tmp_path / "data"
    folder.mkdir()
    (folder / "Set").touch()
    with pytest.raises(DataError, match=r"cannot be unpacked into .* \(Not a directory.*move what is in the way"):
        unpacked(archive)
    assert not is_unpacked(archive, folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("set.tar.zst", r"unpack it with `tar --zstd -xf .*set\.tar\.zst -C .*data`"),
        ("set.rar", r"is none of \.tar, \.tar\.gz, \.tgz, \.zip"),
        ("set.csv.gz", r"is none of \.tar, \.tar\.gz, \.tgz, \.zip"),
    ],
)
def test_other_formats_are_refused_with_the_way_out(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(DataError, match=message):
        unpacked(tmp_path / name)


def test_two_processes_do_not_unpack_at_once(progress: Recorder, tmp_path: Path) -> None:
    archive, folder = packed(tmp_path / "set.zip"), tmp_path / "data"
    folder.mkdir()
    with FileLock(folder / ".lock"):
        thread = threading.Thread(target=unpack, args=(archive, folder), kwargs={"limit": SIZE})
        thread.start()
        while not progress.notes:
            time.sleep(0.01)
        assert everything(folder) == {".lock"}
    thread.join()
    assert content_of(folder) == FILES
