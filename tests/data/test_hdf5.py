"""The HDF5 reader, on made-up files."""

import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest

from ssl4eo_bench.data.hdf5 import Hdf5File, write_hdf5
from ssl4eo_bench.errors import DamagedFileError, MissingDataError

VALUES = np.arange(40 * 6, dtype=np.float64).reshape(40, 2, 3)


@pytest.fixture(params=[None, (1, 2, 3), (7, 1, 2)], ids=["in one piece", "by row", "across rows"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "a.h5", "w") as opened:
        opened.create_dataset("x", data=VALUES, chunks=request.param)
        opened.create_group("group")
        opened["scalar"] = 1.0
        opened.attrs["note"] = "said"
    return tmp_path / "a.h5"


@pytest.mark.parametrize(
    "rows", [[0, 1, 2], [39], [3, 4, 6, 7], [0, 20, 39], [39, 0], [7, 5, 6], [4, 4, 4], []], ids=lambda rows: str(rows)
)
def test_rows_come_as_asked_for_and_as_stored(path: Path, rows: list[int]) -> None:
    read = Hdf5File(path).rows("x", rows)
    assert read.dtype == np.float64
    np.testing.assert_array_equal(read, VALUES[rows])


@pytest.mark.parametrize("row", [-1, 40])
def test_a_row_that_is_not_there_is_a_fault_of_the_caller(path: Path, row: int) -> None:
    with pytest.raises(IndexError, match=f"rows {row} to {row} of 40"):
        Hdf5File(path).rows("x", [row])


def test_dense_rows_are_one_read_and_sparse_ones_are_not(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    plain = h5py.Dataset.__getitem__

    def spy(self: h5py.Dataset, key: object, new_dtype: object = None) -> object:
        asked.append(key)
        return plain(self, key)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", spy)
    file = Hdf5File(path)
    file.rows("x", [2, 3, 5])
    assert asked == [slice(2, 6)]
    file.rows("x", [2, 30])
    assert asked[1:] == [2, 30]


def test_shapes_and_attributes(path: Path) -> None:
    file = Hdf5File(path)
    assert file.shape("x") == (40, 2, 3)
    assert file.attribute("note") == "said"
    assert file.attribute("other") is None


@pytest.mark.parametrize("name", ["y", "group", "scalar"])
def test_what_is_no_array_is_refused_with_what_there_is(path: Path, name: str) -> None:
    with pytest.raises(DamagedFileError, match=rf"a\.h5 holds no array '{name}', only group, scalar, x; this is"):
        Hdf5File(path).shape(name)


@pytest.mark.parametrize("keep", [0, 100, 1500])
def test_a_cut_off_file_is_refused_by_name(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DamagedFileError, match=r"a\.h5 is no HDF5 file, or a cut-off one .*; fetch it again"):
        Hdf5File(path).shape("x")


def test_another_kind_of_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_text("<html>Log in</html>" * 100)
    with pytest.raises(DamagedFileError, match=r"a\.h5 is no HDF5 file"):
        Hdf5File(tmp_path / "a.h5").shape("x")


def test_altered_bytes_in_compressed_rows_are_refused_by_name(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).random((8, 50, 50))
    write_hdf5(tmp_path / "a.h5", {"x": noise}, {})
    content = bytearray((tmp_path / "a.h5").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    (tmp_path / "a.h5").write_bytes(content)
    file = Hdf5File(tmp_path / "a.h5")
    with pytest.raises(DamagedFileError, match=r"a\.h5 cannot be read at 'x'"):
        file.rows("x", range(8))


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "new" / "a.h5", {"x": VALUES, "y": VALUES[:, 0]}, {"note": 1})
    file = Hdf5File(tmp_path / "new" / "a.h5")
    np.testing.assert_array_equal(file.rows("x", range(40)), VALUES)
    np.testing.assert_array_equal(file.rows("y", range(40)), VALUES[:, 0])
    assert file.attribute("note") == 1


def test_stamps_change_with_the_bytes(path: Path) -> None:
    file = Hdf5File(path)
    before, status = file.stamp(), path.stat()
    assert file.stamp() == before
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    altered = file.stamp()
    assert altered != before
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert file.stamp() not in (before, altered)


def test_threads_read_one_file_at_once(path: Path) -> None:
    file = Hdf5File(path)
    with ThreadPoolExecutor(8) as pool:
        read = pool.map(lambda start: file.rows("x", range(start, start + 5)), [start % 8 for start in range(400)])
        assert all(np.array_equal(rows, VALUES[start % 8 : start % 8 + 5]) for start, rows in enumerate(read))


def _total(file: Hdf5File) -> float:
    return float(file.rows("x", range(40)).sum())


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_other_processes_open_the_file_for_themselves(path: Path, method: str) -> None:
    file = Hdf5File(path)
    assert _total(file) == VALUES.sum()  # it is open here, and must not be the child's
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(_total, [file] * 4) == [VALUES.sum()] * 4
    assert _total(file) == VALUES.sum()


def test_a_copy_by_pickle_is_closed_until_it_is_read(path: Path) -> None:
    file = Hdf5File(path)
    file.shape("x")
    copy = pickle.loads(pickle.dumps(file))
    path.unlink()
    with pytest.raises(MissingDataError, match=r"a\.h5 is not there"):
        copy.shape("x")
