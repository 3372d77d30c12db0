"""The files that hold embeddings, at their seams."""

from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from ssl4eo_bench.data.embeddings import GROUP_ROWS, WRITERS, Embeddings, write_embeddings
from ssl4eo_bench.errors import WriteError


def embeddings(count: int) -> Embeddings:
    features = np.arange(3 * count, dtype=np.float32).reshape(count, 3)
    targets = np.zeros((count, 2), dtype=np.uint8)
    targets[:, 1] = np.arange(count) % 2
    return Embeddings(tuple(f"é{n}" for n in range(count)), features, targets, ("a", "b"), {"seed": 0})


def test_a_parquet_file_is_read_row_group_by_row_group(tmp_path: Path) -> None:
    written = embeddings(GROUP_ROWS + 5)
    write_embeddings(tmp_path / "x.parquet", written)
    file = parquet.ParquetFile(tmp_path / "x.parquet")
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [GROUP_ROWS, 5]
    last = file.read_row_group(1).to_pydict()
    assert last["id"] == list(written.ids[-5:])
    assert written.targets is not None
    assert last["target"] == written.targets[-5:].tolist()
    assert last["features"] == written.features[-5:].tolist()


@pytest.mark.parametrize("ending", WRITERS)
def test_the_same_embeddings_give_the_same_bytes(tmp_path: Path, ending: str) -> None:
    for name in ("first", "second"):
        write_embeddings(tmp_path / f"{name}{ending}", embeddings(3))
    assert (tmp_path / f"first{ending}").read_bytes() == (tmp_path / f"second{ending}").read_bytes()


@pytest.mark.parametrize("ending", WRITERS)
def test_what_cannot_be_written_whole_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    file = tmp_path / f"x{ending}"
    file.write_bytes(b"before")

    def full(opened: object, *arguments: object) -> None:
        raise OSError("no space left")

    monkeypatch.setitem(WRITERS, ending, full)
    with pytest.raises(WriteError, match="cannot be written"):
        write_embeddings(file, embeddings(3))
    assert file.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [file]
