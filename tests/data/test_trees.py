import pickle
import re
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ssl4eo_bench.data.trees import Tree, find_tree, gather_files
from ssl4eo_bench.errors import DamagedFileError, MissingDataError

FILES = {"A/A_1.jpg": b"one", "A/A_2.jpg": b"two", "B/B_1.jpg": b"three"}


def folder(root: Path, inside: str = "") -> Path:
    for name, content in FILES.items():
        file = root / inside / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return root


def archive(file: Path, inside: str = "2750/") -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in FILES.items():
            opened.writestr(inside + name, content)
    return file


def found(root: Path) -> Tree:
    tree = find_tree(root, folders=["A", "B"], suffix=".jpg")
    assert tree is not None
    return tree


def check(tree: Tree) -> None:
    assert set(tree) == set(FILES)
    assert tree["A/A_2.jpg"].read() == b"two"
    assert tree["A/A_1.jpg"].stamp() != tree["B/B_1.jpg"].stamp()
    with pytest.raises(MissingDataError, match="A_9"):
        tree["A/A_9.jpg"].read()


@pytest.mark.parametrize("inside", ["", "2750/", "ds/images/remote_sensing/otherDatasets/sentinel_2/tif/"])
def test_a_tree_is_found_by_what_it_holds_in_folders_and_archives(tmp_path: Path, inside: str) -> None:
    folder(tmp_path / "f", inside)
    (tmp_path / "z").mkdir()
    archive(tmp_path / "z" / "any.zip", inside)
    for tree in (found(tmp_path / "f"), found(tmp_path / "z")):
        check(tree)
        check(pickle.loads(pickle.dumps(tree)))
    assert find_tree(tmp_path / "z", folders=["A", "B"], suffix=".tif") is None


def test_the_fuller_tree_wins_and_a_folder_on_a_tie(tmp_path: Path) -> None:
    archive(tmp_path / "a.zip")
    file = folder(tmp_path / "unpacked") / "A" / "A_1.jpg"
    assert found(tmp_path)["A/A_2.jpg"].where == str(file.with_name("A_2.jpg"))
    file.unlink()
    assert found(tmp_path)["A/A_2.jpg"].where == f"{tmp_path}/a.zip:2750/A/A_2.jpg"


def test_a_half_unpacked_archive_is_no_tree(tmp_path: Path) -> None:
    folder(tmp_path, ".a.zip.unpacking/2750/")
    assert find_tree(tmp_path, folders=["A", "B"], suffix=".jpg") is None


def test_changed_bytes_have_another_stamp_and_deleted_files_are_named(tmp_path: Path) -> None:
    tree, file = found(folder(tmp_path)), tmp_path / "A" / "A_1.jpg"
    before = tree["A/A_1.jpg"].stamp()
    file.write_bytes(b"longer")
    assert tree["A/A_1.jpg"].stamp() != before
    file.unlink()
    with pytest.raises(MissingDataError, match=r"A_1\.jpg is not there; fetch it again"):
        tree["A/A_1.jpg"].read()


def test_threads_read_one_archive_at_once(tmp_path: Path) -> None:
    archive(tmp_path / "a.zip")
    tree = found(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda name: tree[name].read(), list(FILES) * 200)) == list(FILES.values()) * 200


def test_a_cut_off_archive_is_refused_by_name(tmp_path: Path) -> None:
    file = archive(tmp_path / "a.zip")
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(DamagedFileError, match=r"a\.zip is not a readable zip archive"):
        found(tmp_path)


def test_a_member_with_altered_bytes_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr("A/A_1.jpg", b"some content to alter")
    file.write_bytes(file.read_bytes().replace(b"some content", b"same content"))
    with pytest.raises(DamagedFileError, match=r"a\.zip:A/A_1\.jpg cannot be read"):
        found(tmp_path)["A/A_1.jpg"].read()


def test_files_are_gathered_by_name_from_folders_and_archives(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    archive(tmp_path / "deep" / "er" / "a.zip")
    (tmp_path / "deep" / "A_1.jpg").write_bytes(b"unpacked")
    with zipfile.ZipFile(tmp_path / "mac.zip", "w") as opened:
        opened.writestr("__MACOSX/B/B_9.jpg", b"no image")
        opened.writestr("B/._B_1.jpg", b"no image")
    tree = gather_files(tmp_path, re.compile(r"[AB]_\d\.jpg"))
    assert set(tree) == {"A_1.jpg", "A_2.jpg", "B_1.jpg"}
    assert (tree["A_1.jpg"].read(), tree["B_1.jpg"].read()) == (b"unpacked", b"three")
    assert tree["B_1.jpg"].where == f"{tmp_path}/deep/er/a.zip:2750/B/B_1.jpg"
    assert tree["A_2.jpg"].stamp() != tree["B_1.jpg"].stamp()
    assert pickle.loads(pickle.dumps(tree))["A_2.jpg"].read() == b"two"
    with pytest.raises(MissingDataError, match=r"B_9.jpg is in none of the folders"):
        tree["B_9.jpg"].read()
