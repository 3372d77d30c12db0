"""`data status`, `data verify` and `data prepare`, as a user calls them."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ssl4eo_bench.data.checks import Fault, survey, verify
from ssl4eo_bench.progress import Silent
from ssl4eo_bench.spec import catalogue
from ssl4eo_bench.spec.downloads import MadeOf, RemoteFile
from ssl4eo_bench.spec.tasks import Task

SampleOf = Callable[[str], Path]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def dataset(sample_of: SampleOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Task, Path]]:
    """A sample that passes for the dataset itself, known under the task's name."""

    def get(name: str = "eurosat", **changes: object) -> tuple[Task, Path]:
        known = catalogue.task(name)
        task = known.model_copy(update={"splits": known.sample.splits, "files": (), **changes})
        shutil.copytree(sample_of(name), tmp_path / "data")
        monkeypatch.setattr(catalogue, "task", lambda _: task)
        return task, tmp_path / "data"

    return get


Dataset = Callable[..., tuple[Task, Path]]


def tif(data_dir: Path, id_: str) -> Path:
    return next(data_dir.rglob(f"{id_}.tif"))


def test_a_whole_dataset_has_no_fault(dataset: Dataset, command: Command) -> None:
    _, data_dir = dataset()
    code, out, _ = command("data", "verify", "eurosat", "--data-dir", data_dir)
    assert (code, out.strip()) == (0, "eurosat: whole")


def test_every_fault_is_named(dataset: Dataset, command: Command, tmp_path: Path) -> None:
    task, data_dir = dataset()
    train = sorted(task.open(data_dir).ids("train"))
    cut, gone = train[3], train[70]
    tif(data_dir, cut).write_bytes(tif(data_dir, cut).read_bytes()[:2000])
    tif(data_dir, gone).unlink()
    report = tmp_path / "report.json"
    code, out, _ = command("data", "verify", "eurosat", "--data-dir", data_dir, "--report", report)
    assert code == 1
    assert "eurosat: 2 faults" in out
    found = {entry["where"]: entry["what"] for entry in json.loads(report.read_text(encoding="utf-8"))}
    assert set(found) == {"train", cut}
    assert found["train"] == f"1 samples absent, such as {gone}"
    assert "cut-off" in found[cut]


def test_a_list_that_is_not_the_official_one_is_a_fault(dataset: Dataset) -> None:
    task, data_dir = dataset()
    file = data_dir / "eurosat" / "eurosat-val.txt"
    file.write_text("\n".join(file.read_text().split()[:-1]), encoding="utf-8")
    (fault,) = verify(task, data_dir, Silent())
    assert fault.where == "val list"


@pytest.mark.parametrize(("name", "digits"), [("md5", 32), ("sha256", 64), ("sha256", 8)])
def test_published_files_are_compared_with_their_checksums(dataset: Dataset, name: str, digits: int) -> None:
    content = b"as published"
    published = hashlib.new(name, content).hexdigest()[:digits]
    file = RemoteFile(name="archive.zip", url="http://localhost/").model_copy(update={name: published})
    task, data_dir = dataset(files=(file,))
    (data_dir / "eurosat" / "archive.zip").write_bytes(content[::-1])
    # Readers would look into a zip archive; for them this is none.
    (data_dir / "eurosat" / "archive.zip").rename(data_dir / "eurosat" / "archive.tar")
    task = task.model_copy(update={"files": (file.model_copy(update={"name": "archive.tar"}),)})
    faults = verify(task, data_dir, Silent())
    assert [Path(fault.where).name for fault in faults] == ["archive.tar"]
    (data_dir / "eurosat" / "archive.tar").write_bytes(content)
    assert verify(task, data_dir, Silent()) == []


def test_status_counts_what_is_there(dataset: Dataset, command: Command, tmp_path: Path) -> None:
    task, data_dir = dataset(files=catalogue.task("eurosat").files)
    tif(data_dir, sorted(task.open(data_dir).ids("val"))[0]).unlink()
    found = survey(task, data_dir)
    assert found.present == {"train": 240, "val": 119, "test": 240}
    assert found.listed == {"train": 240, "val": 120, "test": 240}
    code, out, _ = command("data", "status", "eurosat", "--data-dir", data_dir)
    assert code == 0
    assert "119 of 120" in out
    assert "EuroSATallBands.zip" in out
    code, out, _ = command("data", "status", "eurosat", "--data-dir", tmp_path / "nowhere", "--json")
    assert code == 0
    (status,) = json.loads(out).values()
    assert status["present"] == {"train": None, "val": None, "test": None}
    assert status["listed"]["test"] == 240
    assert "EuroSATallBands.zip" in status["missing"]
    assert status["free"] > 0


def test_a_pack_is_made_once_and_checked(dataset: Dataset, command: Command) -> None:
    task, data_dir = dataset()
    code, out, err = command("data", "prepare", "eurosat", "--data-dir", data_dir)
    assert code == 0, err
    folder = Path(out.strip())
    assert (folder / "manifest.json").is_file()
    assert survey(task, data_dir).packed
    code, out, _ = command("data", "prepare", "eurosat", "--data-dir", data_dir)
    assert (code, "complete already" in out) == (0, True)
    assert verify(task, data_dir, Silent()) == []
    cut = tif(data_dir, sorted(task.open(data_dir).ids("val"))[0])
    content = cut.read_bytes()
    cut.write_bytes(content[:2000])
    assert [fault.where for fault in verify(task, data_dir, Silent())] == [cut.stem]
    cut.write_bytes(content)
    array = folder / "00000-10m.npy"
    flipped = bytearray(array.read_bytes())
    flipped[-1] ^= 1
    array.write_bytes(flipped)
    assert verify(task, data_dir, Silent()) == [Fault(str(array), "not what was packed; pack again")]


def halves(folder: Path) -> bytes:
    return (folder / "first").read_bytes() + (folder / "second").read_bytes()


def test_lists_are_made_before_packing(dataset: Dataset, command: Command) -> None:
    name = "eurosat-val.txt"
    made = RemoteFile(name=name, made=MadeOf(what="its halves", make=halves))
    _, data_dir = dataset(files=(made,))
    content = (data_dir / "eurosat" / name).read_bytes()
    (data_dir / "eurosat" / "first").write_bytes(content[:100])
    (data_dir / "eurosat" / "second").write_bytes(content[100:])
    (data_dir / "eurosat" / name).unlink()
    code, _, err = command("data", "prepare", "eurosat", "--data-dir", data_dir)
    assert code == 0, err
    assert (data_dir / "eurosat" / name).read_bytes() == content


def test_without_a_dataset_verify_says_how_to_get_it(command: Command, tmp_path: Path) -> None:
    code, _, err = command("data", "verify", "eurosat", "--data-dir", tmp_path)
    assert code == 2
    assert "EuroSATallBands.zip" in err
