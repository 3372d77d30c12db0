"""Vectors read from files: look-up by id, and every fault in one sentence."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from ssl4eo_bench.config.weights import EmbeddingFile
from ssl4eo_bench.data import embedding_files
from ssl4eo_bench.data.embedding_files import embeddings_sha256, read_vectors, require_vectors
from ssl4eo_bench.errors import WeightsError

IDS = ["a", "b", "c"]
VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


def entry(file: Path) -> EmbeddingFile:
    return EmbeddingFile(path=str(file), sha256=embeddings_sha256(file))


def npz(file: Path, **arrays: Any) -> EmbeddingFile:
    np.savez(file, **({"ids": np.array(IDS), "features": VALUES} | arrays))
    return entry(file)


def table(file: Path, **columns: Any) -> EmbeddingFile:
    parquet.write_table(pa.table({"id": IDS, "features": VALUES.tolist()} | columns), file)
    return entry(file)


Write = Callable[..., EmbeddingFile]
formats = pytest.mark.parametrize(("write", "ending"), [(npz, ".npz"), (table, ".parquet")])


@formats
def test_vectors_are_looked_up_by_id_over_all_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write, ending: str
) -> None:
    monkeypatch.setattr(embedding_files, "ROWS", 2)  # several blocks
    key = "ids" if ending == ".npz" else "id"
    first = write(tmp_path / f"first{ending}")
    second = write(tmp_path / f"second{ending}", **{key: np.array(["d", "c", "e"])}, features=(VALUES[::-1]).tolist())
    # `c` is in both, with the same vector in neither: it is not asked for.
    found = read_vectors([second, first], ["b", "e", "a", "d"], "vectors")
    np.testing.assert_array_equal(found, VALUES[[1, 0, 0, 2]])
    assert found.dtype == np.float32


@pytest.mark.parametrize("kind", ["float16", "float64", "int32", ">f4"])
def test_any_numbers_become_float32(tmp_path: Path, kind: str) -> None:
    file = npz(tmp_path / "x.npz", features=VALUES.astype(kind))
    np.testing.assert_array_equal(read_vectors([file], IDS, "vectors"), VALUES)


def test_archives_that_are_compressed_or_stored_by_column_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding_files, "ROWS", 2)
    np.savez_compressed(tmp_path / "small.npz", ids=np.array(IDS), features=VALUES)
    for file in (entry(tmp_path / "small.npz"), npz(tmp_path / "x.npz", features=np.asfortranarray(VALUES))):
        np.testing.assert_array_equal(read_vectors([file], IDS[::-1], "vectors"), VALUES[::-1])


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.list_(pa.float32(), 4), pa.large_list(pa.int64())])
def test_lists_of_any_kind_are_read(tmp_path: Path, kind: Any) -> None:
    file = table(tmp_path / "x.parquet", features=pa.array(VALUES.astype(int).tolist(), kind))
    np.testing.assert_array_equal(read_vectors([file], ["c", "a"], "vectors"), VALUES[[2, 0]])


def nan(row: int) -> list[list[float]]:
    values = VALUES.copy()
    values[row, 1] = np.nan
    return values.tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": VALUES[:, 0]}, "`features` is 3, not one row for each of 3 ids"),
        ({"features": VALUES[:2]}, "`features` is 2 × 4, not one row for each of 3 ids"),
        ({"features": VALUES[:, :0]}, "0 values of type float32 are no vector"),
        ({"features": VALUES > 1}, "4 values of type bool are no vector; write float32"),
        ({"features": VALUES.astype(str)}, "are no vector; write float32"),
        ({"features": VALUES.astype(object)}, "`features` is pickled, and nothing is unpickled here; save an array of"),
        ({"features": nan(1)}, "has vectors that are not finite numbers, such as those of b; correct these"),
        (
            {"features": VALUES.astype(np.float64) * 1e300},
            "has vectors that are not finite numbers, such as those of a",
        ),
        ({"ids": np.arange(3)}, "`ids` is not a list of texts"),
        (
            {"ids": np.array(IDS, dtype=object)},
            "`ids` is pickled, and nothing is unpickled here; save an array of text",
        ),
        ({"ids": np.array(["a", "b", "b"])}, "has other vectors than there are for the same ids, such as those of b"),
    ],
)
def test_faults_of_an_archive_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    file = npz(tmp_path / "x.npz", **changes)
    with pytest.raises(WeightsError) as error:
        read_vectors([file], ["a", "b"], "vectors")
    assert message in str(error.value)
    assert str(tmp_path / "x.npz") in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": [1.0, 2.0, 3.0]}, "does not hold one list of numbers, of one length, in every row"),
        ({"features": [[1.0], [1.0, 2.0], [1.0]]}, "does not hold one list of numbers, of one length, in every row"),
        ({"features": [[1.0], None, [1.0]]}, "does not hold one list of numbers, of one length, in every row"),
        ({"features": [["x"], ["y"], ["z"]]}, "are no vector; write float32"),
        ({"features": [[1.0], [None], [1.0]]}, "not finite numbers, such as those of b"),
        ({"features": nan(0)}, "not finite numbers, such as those of a"),
        ({"id": [1, 2, 3]}, "the column `id` does not hold texts only"),
        ({"id": ["a", None, "b"]}, "the column `id` does not hold texts only"),
        ({"id": ["a", "b", "a"]}, "has other vectors than there are for the same ids, such as those of a"),
    ],
)
def test_faults_of_a_table_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    file = table(tmp_path / "x.parquet", **changes)
    with pytest.raises(WeightsError) as error:
        read_vectors([file], ["a", "b"], "vectors")
    assert message in str(error.value)


@formats
def test_files_must_agree_with_each_other(tmp_path: Path, write: Write, ending: str) -> None:
    first = write(tmp_path / f"first{ending}")
    same = write(tmp_path / f"same{ending}")
    np.testing.assert_array_equal(read_vectors([first, same], IDS, "vectors"), VALUES)
    other = write(tmp_path / f"other{ending}", features=(VALUES + 1).tolist())
    with pytest.raises(WeightsError, match="other vectors than there are for the same ids, such as those of a, b, c"):
        read_vectors([first, other], IDS, "vectors")
    narrow = write(tmp_path / f"narrow{ending}", features=VALUES[:, :2].tolist())
    with pytest.raises(WeightsError, match="has vectors of 2 numbers, where others have 4"):
        read_vectors([first, narrow], IDS, "vectors")
    with pytest.raises(WeightsError, match="2 of the 3 samples have no vector in first.*, such as x, y; add a file"):
        read_vectors([first], ["x", "a", "y"], "vectors")


@formats
@pytest.mark.parametrize("damage", ["cut", "text", "lacking"])
def test_damaged_files_are_refused(tmp_path: Path, write: Write, ending: str, damage: str) -> None:
    file = tmp_path / f"x{ending}"
    write(file)
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-40])
    elif damage == "text":
        file.write_text("<html>not found</html>")
    elif ending == ".npz":
        np.savez(file, ids=np.array(IDS), vectors=VALUES)
    else:
        parquet.write_table(pa.table({"id": IDS, "vectors": VALUES.tolist()}), file)
    message = (
        r"has no (array|column) `features` \(it has ids?, vectors\)" if damage == "lacking" else "cannot be read as"
    )
    with pytest.raises(WeightsError, match=message):
        read_vectors([entry(file)], IDS, "vectors")


def test_a_flipped_byte_is_noticed_where_the_hash_is_that_of_the_damaged_file(tmp_path: Path) -> None:
    npz(tmp_path / "x.npz")
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[content.index(VALUES.tobytes()) + 20] ^= 1
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(WeightsError, match="cannot be read as .npz"):
        read_vectors([entry(tmp_path / "x.npz")], IDS, "vectors")


def test_a_file_that_changes_is_hashed_again(tmp_path: Path) -> None:
    before = npz(tmp_path / "x.npz")
    npz(tmp_path / "x.npz", features=np.zeros((3, 5), dtype=np.float32))
    with pytest.raises(WeightsError, match=f"and its entry says {before.sha256}"):
        read_vectors([before], IDS, "vectors")


@formats
def test_what_files_are_about_is_checked_where_it_is_said(tmp_path: Path, write: Write, ending: str) -> None:
    about = {"task": "eurosat-v1"}
    require_vectors([write(tmp_path / f"x{ending}")], about, {"train": ["a"], "test": ["b"]})
    with pytest.raises(WeightsError, match="1 of the 2 test samples have no vector in x.*, such as z; add a file"):
        require_vectors([write(tmp_path / f"x{ending}")], about, {"train": ["a"], "test": ["b", "z"]})
    foreign = npz(tmp_path / "y.npz", about=np.array("no JSON of ours"))
    require_vectors([foreign], about, {"test": ["a"]})


def test_memory_holds_the_vectors_that_are_asked_for_and_one_block(tmp_path: Path) -> None:
    count, width = 40_000, 256  # 41 MB
    ids = [f"{number:06d}" for number in range(count)]
    rows = np.random.default_rng(0).normal(size=(count, width)).astype(np.float32)
    file = npz(tmp_path / "x.npz", ids=np.array(ids), features=rows)
    tracemalloc.start()
    found = read_vectors([file], ids[:1000], "vectors")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(found, rows[:1000])
    assert peak < rows.nbytes
