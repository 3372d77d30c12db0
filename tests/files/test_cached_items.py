import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ssl4eo_bench.files.cached_items import Use, items, mark_used, prune
from ssl4eo_bench.files.locks import locked
from ssl4eo_bench.files.npz_files import read_arrays, write_arrays

DAY = 86_400


def digest(number: int) -> str:
    return f"{number:064x}"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Items of all kinds, 1,000 bytes each, the first of them used 9 days ago, the next 8 …"""
    files = {
        9: tmp_path / "features" / digest(9) / "manifest.json",
        8: tmp_path / "probes" / f"{digest(8)}.npz",
        7: tmp_path / "scores" / f"{digest(7)}.npz",
        6: tmp_path / "finetuning" / f"{digest(6)}.pt",
        5: tmp_path / "samples" / "eurosat-v1" / "deep" / "file.tif",
        4: tmp_path / "features" / digest(4) / "manifest.json",
        1: tmp_path / "pictures" / f"{digest(1)}.png",
    }
    now = (tmp_path.stat()).st_mtime
    for days, file in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(1000))
        for path in (file, file.parent, file.parent.parent):
            os.utime(path, (now - days * DAY,) * 2)
    (tmp_path / "features" / "mine").mkdir()
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "w.pth").write_bytes(bytes(1000))
    return tmp_path


def kinds(root: Path) -> list[str]:
    return [item.kind for item in items(root)]


def test_what_was_used_last_stays(cache: Path) -> None:
    mark_used(cache / "probes" / f"{digest(8)}.npz")
    Use(cache / "features" / digest(9))
    sizes = {item.kind: item.bytes for item in items(cache)}
    some = partial(prune, cache, useless=lambda item: False, max_bytes=sum(sizes.values()) - 2500)
    would, _ = some(dry_run=True)
    assert {item.kind: item.bytes for item in items(cache)} == sizes
    gone, in_use = some()
    assert (sum(item.bytes for item in gone) > 2500, in_use) == (True, [])
    assert [item.name for item in would] == [item.name for item in gone]
    assert "scores" not in kinds(cache)
    assert {"probes", "features", "pictures"} <= set(kinds(cache))
    assert (cache / "features" / digest(9) / "manifest.json").exists()
    prune(cache, useless=lambda item: False, max_bytes=0)
    assert set(kinds(cache)) <= {"finetuning"}  # nothing but a training of the last day
    assert (cache / "weights" / "w.pth").exists()
    assert (cache / "features" / "mine").exists()


def test_age_is_counted_from_the_last_use(cache: Path) -> None:
    prune(cache, useless=lambda item: False, older_than=6.5 * DAY)
    assert kinds(cache) == ["finetuning", "samples", "features", "pictures"]
    prune(cache, useless=lambda item: False, older_than=0.5 * DAY)
    assert kinds(cache) == []
    assert [path.name for path in (cache / "samples").iterdir()] == []


def test_what_is_read_or_written_is_left_alone_and_told(cache: Path) -> None:
    read = Use(cache / "samples" / "eurosat-v1")
    with locked(cache / "features" / digest(9) / "lock", note=""):
        _, in_use = prune(cache, useless=lambda item: True)
    assert {item.kind for item in in_use} == {"features", "samples"}
    assert (cache / "features" / digest(9) / "manifest.json").exists()
    assert (cache / "samples" / "eurosat-v1" / "deep" / "file.tif").exists()
    del read
    assert prune(cache, useless=lambda item: True)[1] == []
    assert kinds(cache) == []


def test_a_training_of_the_last_day_is_in_use(cache: Path) -> None:
    (cache / "finetuning" / f"{digest(6)}-1.npz").write_bytes(b"logits")
    _, in_use = prune(cache, useless=lambda item: True)
    assert [item.kind for item in in_use] == ["finetuning"]
    assert (cache / "finetuning" / f"{digest(6)}.pt").exists()


def test_any_flipped_byte_of_arrays_is_noticed(tmp_path: Path) -> None:
    arrays = {"a": np.arange(40.0), "b": np.array(["x", "yz"])}
    expected = [(name, array.tobytes()) for name, array in arrays.items()]
    write_arrays(tmp_path / "x.npz", arrays)
    whole = (tmp_path / "x.npz").read_bytes()
    for place in range(len(whole)):
        (tmp_path / "x.npz").write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        found = read_arrays(tmp_path / "x.npz")
        assert found is None or [(name, array.tobytes()) for name, array in found.items()] == expected, place
    (tmp_path / "x.npz").write_bytes(whole[: len(whole) // 2])
    assert read_arrays(tmp_path / "x.npz") is None
