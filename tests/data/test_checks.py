"""`data status`, `data verify` and `data prepare`, as a user calls them."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.remote_files import MadeOf, RemoteFile
from ssl4eo_bench.config.task import SPLITS, Task
from ssl4eo_bench.data.checks import Fault, survey, verify
from ssl4eo_bench.data.releases import make_files
from ssl4eo_bench.tasks.eurosat import EuroSAT

SampleOf = Callable[[str], Path]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def dataset(sample_of: SampleOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Task, Path]]:
    """A sample that passes for the dataset itself, known under the task's name."""

    def get(name: str = "eurosat", **changes: object) -> tuple[Task, Path]:
        known = catalogue.task(name)
        task = known.model_copy(update={"splits": known.embedded().splits, "files": (), **changes})
        shutil.copytree(sample_of(name), tmp_path / "data")
        monkeypatch.setattr(catalogue, "task", lambda _: task)
        return task, tmp_path / "data"

    return get


Dataset = Callable[..., tuple[Task, Path]]


def tif(data_dir: Path, id_: str) -> Path:
    return next(data_dir.rglob(f"{id_}.tif"))


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
    (fault,) = verify(task, data_dir)
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
    faults = verify(task, data_dir)
    assert [Path(fault.where).name for fault in faults] == ["archive.tar"]
    (data_dir / "eurosat" / "archive.tar").write_bytes(content)
    assert verify(task, data_dir) == []


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
    assert verify(task, data_dir) == []
    cut = tif(data_dir, sorted(task.open(data_dir).ids("val"))[0])
    content = cut.read_bytes()
    cut.write_bytes(content[:2000])
    assert [fault.where for fault in verify(task, data_dir)] == [cut.stem]
    cut.write_bytes(content)
    array = folder / "00000-10m.npy"
    flipped = bytearray(array.read_bytes())
    flipped[-1] ^= 1
    array.write_bytes(flipped)
    assert verify(task, data_dir) == [Fault(str(array), "not what was packed; pack again")]


def test_batches_that_share_a_fingerprint_are_not_taken_for_changed_ones(
    dataset: Dataset, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EuroSAT, "fingerprint", lambda *_: "always the same")
    task, data_dir = dataset()
    for _ in range(2):
        assert verify(task, data_dir) == []
    _, out, _ = command("data", "prepare", "eurosat", "--data-dir", data_dir)
    array = Path(out.strip()) / "00000-10m.npy"
    array.write_bytes(array.read_bytes()[:-1] + b"?")
    assert verify(task, data_dir) == [Fault(str(array), "not what was packed; pack again")]


def unwrapped(printed: str) -> str:
    """Notes without the line breaks that a narrow terminal gets."""
    return printed.replace("\n", "")


def swap_bytes(file: Path) -> None:
    """Change the end of a file, and neither its size nor its time of last change."""
    status, content = file.stat(), bytearray(file.read_bytes())
    content[-2:] = content[-1], content[-2]
    assert content != file.read_bytes()
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


CHANGED = "bytes changed though size and time of last change did not; fetch them again"


def test_bytes_that_changed_under_the_same_size_and_time_are_a_fault(dataset: Dataset, command: Command) -> None:
    task, data_dir = dataset()
    ids = sorted(task.open(data_dir).ids("train"))
    file = tif(data_dir, ids[70])
    assert verify(task, data_dir) == []
    assert (data_dir / "eurosat" / ".verified-eurosat-v1.json").is_file()
    swap_bytes(file)
    expected = Fault(f"{ids[64]} to {ids[127]}", CHANGED)
    assert verify(task, data_dir) == [expected]
    code, out, _ = command("data", "verify", "eurosat", "--data-dir", data_dir)
    assert (code, out) == (1, f"eurosat: {expected.where}: {CHANGED}\neurosat: 1 faults\n")
    swap_bytes(file)  # as it was
    assert verify(task, data_dir) == []
    swap_bytes(file)
    os.utime(file)  # fetched again, in its new state
    assert verify(task, data_dir) == []


def test_labels_that_changed_under_the_same_size_and_time_are_a_fault(dataset: Dataset) -> None:
    name = "dfc2020-cobench-s1"
    task, data_dir = dataset(name, class_counts={})
    assert verify(task, data_dir) == []
    file = next(data_dir.rglob("ROIs0000_test_dfc_0_p17.tif"))
    status, content = file.stat(), bytearray(file.read_bytes())
    codes = np.frombuffer(content, dtype="<i4", offset=len(content) - 256 * 256 * 4).copy()
    content[-256 * 256 * 4 :] = np.where(codes == 10, 9, 10).astype("<i4").tobytes()
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    (fault,) = verify(task, data_dir)
    assert fault == Fault("ROIs0000_test_p16 to ROIs0000_test_p23", CHANGED)


def test_what_cannot_be_read_now_is_compared_later(dataset: Dataset) -> None:
    task, data_dir = dataset()
    file = tif(data_dir, sorted(task.open(data_dir).ids("val"))[0])
    status, content = file.stat(), file.read_bytes()
    assert verify(task, data_dir) == []
    found = []
    for now in (b"0" * len(content), content[:-2] + b"00", content):
        file.write_bytes(now)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        found.append([fault.what for fault in verify(task, data_dir)])
    assert len(found[0]) == 1
    assert "is no GeoTIFF" in found[0][0]
    assert found[1:] == [[CHANGED], []]


def test_a_record_that_cannot_be_kept_is_no_fault(dataset: Dataset, command: Command) -> None:
    _, data_dir = dataset()
    record = data_dir / "eurosat" / ".verified-eurosat-v1.json"
    for content in ("{", "[]", '{"digests": 5}'):
        record.write_text(content, encoding="utf-8")
        code, _, err = command("data", "verify", "eurosat", "--data-dir", data_dir)
        assert code == 0
        assert f"{record} cannot be read, so what was read before is not compared" in unwrapped(err)
        assert len(json.loads(record.read_text(encoding="utf-8"))["digests"]) == 10  # 240, 120 and 240 samples
    record.unlink()
    record.mkdir()
    code, out, err = command("data", "verify", "eurosat", "--data-dir", data_dir)
    assert (code, out) == (0, "eurosat: whole\n")
    assert f"what was read is not written down for later calls: {record} cannot be written" in unwrapped(err)


def test_class_counts_are_compared_where_all_samples_are_there(dataset: Dataset) -> None:
    counts = {("train", "val"): (36,) * 10, ("test",): (25, *(24,) * 8, 23)}
    task, data_dir = dataset(class_counts=counts)
    (fault,) = verify(task, data_dir)
    assert fault.where == "labels of test"
    assert fault.what == (
        "class 'AnnualCrop' has 24 samples, officially 25; class 'SeaLake' has 24 samples, officially 23; "
        "fetch them again"
    )
    wrong = task.model_copy(update={"class_counts": {("train", "val"): (35,) * 10}})
    (fault,) = verify(wrong, data_dir)
    assert fault.where == "labels of train and val"
    tif(data_dir, sorted(task.open(data_dir).ids("val"))[0]).unlink()
    assert [fault.where for fault in verify(wrong, data_dir)] == ["val"]


def test_pixels_of_label_maps_are_counted(dataset: Dataset) -> None:
    task, data_dir = dataset("dfc2020-cobench-s1", class_counts={})
    source = task.open(data_dir)
    labels = np.concatenate([source.targets(source.ids(split)).ravel() for split in SPLITS])
    counts = [int((labels == number).sum()) for number in range(8)]
    right = task.model_copy(update={"class_counts": {SPLITS: tuple(counts)}})
    assert verify(right, data_dir) == []
    wrong = task.model_copy(update={"class_counts": {SPLITS: (*counts[:7], counts[7] + 1)}})
    (fault,) = verify(wrong, data_dir)
    assert fault.what == f"class 'Water' has {counts[7]:,} pixels, officially {counts[7] + 1:,}; fetch them again"


def halves(folder: Path) -> bytes:
    return (folder / "first").read_bytes() + (folder / "second").read_bytes()


def test_lists_are_made_before_packing(dataset: Dataset, command: Command) -> None:
    name = "eurosat-val.txt"
    made = RemoteFile(name=name, made=MadeOf(what="its halves", make=halves))
    task, data_dir = dataset(files=(made,))
    content = (data_dir / "eurosat" / name).read_bytes()
    (data_dir / "eurosat" / "first").write_bytes(content[:100])
    (data_dir / "eurosat" / "second").write_bytes(content[100:])
    (data_dir / "eurosat" / name).unlink()
    code, _, err = command("data", "prepare", "eurosat", "--data-dir", data_dir)
    assert code == 0, err
    assert (data_dir / "eurosat" / name).read_bytes() == content
    task = task.model_copy(update={"files": (made.model_copy(update={"size": 5}),)})
    (data_dir / "eurosat" / "first").unlink()
    make_files(task, data_dir)  # which has nothing to do: a copy is there, if in another size
    assert (data_dir / "eurosat" / name).read_bytes() == content


def test_without_a_dataset_verify_says_how_to_get_it(command: Command, tmp_path: Path) -> None:
    code, _, err = command("data", "verify", "eurosat", "--data-dir", tmp_path)
    assert code == 2
    assert "EuroSATallBands.zip" in err
