"""Folders and CSV files of one's own images as tasks: what they become, and what is refused."""

import hashlib
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ssl4eo_bench as bench
from ssl4eo_bench.config.inputs import DisplayStretch
from ssl4eo_bench.config.task import SPLITS, Task
from ssl4eo_bench.data.own_images import ImageFile, Layout
from ssl4eo_bench.data.own_listings import ListedImage
from ssl4eo_bench.data.own_tasks import SHARES, _draw, find_task
from ssl4eo_bench.data.splits import open_splits
from ssl4eo_bench.errors import BenchError, DamagedFileError
from tests.conftest import Recorder
from tests.own_data import CLASSES, draw, draw_folder

FIRST, SECOND = CLASSES


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return draw_folder(tmp_path / "My data & more")


def opened(task: Task) -> dict[str, list[str]]:
    found = open_splits(task, Path("nowhere"))
    return {split: list(samples.ids) for split, samples in found.items()}


def test_a_folder_of_classes_is_a_task_and_says_what_it_takes_the_files_for(root: Path, progress: Recorder) -> None:
    task = bench.load_task(f"folder:{root}")
    assert task.name.startswith("folder-my-data-more-")
    assert (task.kind, task.classes, task.image_size) == ("multiclass", CLASSES, 8)
    assert [(band.name, band.unit) for band in task.bands] == [("B04", "byte"), ("B03", "byte"), ("B02", "byte")]
    assert len(progress.notes) == 1
    assert "bands B04 B03 B02 in byte (say --data-bands and --data-unit if they are others)" in progress.notes[0]
    assert f"multiclass, 2 classes ({', '.join(CLASSES)})" in progress.notes[0]
    assert "12 train, 4 val, 4 test, drawn by the bytes of the files" in progress.notes[0]
    samples = open_splits(task, Path("nowhere"))["train"]
    assert np.bincount(samples.targets()).tolist() == [6, 6]
    (pixels,) = samples.reader.read(samples.ids, ["B02", "B04"])
    with Image.open(root / samples.ids[0]) as image:
        np.testing.assert_array_equal(pixels[0], np.asarray(image)[..., [0, 2]].transpose(2, 0, 1))
    assert bench.load_task(task.name) == task  # known to this process
    assert pickle.loads(pickle.dumps(task)).name == task.name


def test_the_split_is_always_the_same_whatever_files_are_called(root: Path) -> None:
    def contents() -> dict[str, set[bytes]]:
        splits = opened(bench.load_task(f"folder:{root}"))
        return {split: {(root / id_).read_bytes() for id_ in ids} for split, ids in splits.items()}

    before = contents()
    for number, file in enumerate(sorted((root / FIRST).iterdir())):
        file.rename(root / FIRST / f"other{9 - number}.PNG")
    assert contents() == before
    layout = Layout((3, 8, 8), "uint8")
    files = {str(number): ImageFile(root, hashlib.sha256(b"%d" % number).hexdigest(), layout) for number in range(10)}
    drawn = _draw({id_: ListedImage(root, ("a",), None) for id_ in files}, files, SHARES)
    assert {id_ for id_, image in drawn.items() if image.split == "test"} == {"1", "4"}
    assert {id_ for id_, image in drawn.items() if image.split == "val"} == {"2", "3"}


def test_the_same_files_elsewhere_are_the_same_task_and_anything_else_is_another(root: Path, tmp_path: Path) -> None:
    def name(place: Path = root, **said: object) -> str:
        return bench.load_task(f"folder:{place}", **said).name  # type: ignore[arg-type]

    first = name()
    assert name(Path(shutil.copytree(root, tmp_path / "copy" / root.name))) == first
    others = [
        name(data_bands=["B02", "B03", "B04"]),
        name(data_bands=["skip", "B04", "B03"]),
        name(data_bands=["skip", "B04", "B02"]),
        name(data_unit="dn"),
        name(data_stretch=(0.0, 3000.0)),
    ]
    (root / FIRST).rename(root / "meadow")
    others.append(name())
    draw(root / "meadow" / "00.png", 30, 99)
    others.append(name())
    (root / "meadow" / "01.png").unlink()
    others.append(name())
    lists = {"train": range(5), "val": range(5, 7), "test": range(7, 10)}
    for split, numbers in lists.items():
        names = [f"{label}/{number:02d}.png" for label in ("meadow", SECOND) for number in numbers if number != 1]
        (root / f"{split}.txt").write_text("\n".join(names), encoding="utf-8")
    others.append(name())
    assert len({first, *others}) == 1 + len(others)


def test_folders_or_lists_name_the_splits(root: Path, tmp_path: Path, progress: Recorder) -> None:
    for label in CLASSES:
        (root / label / "extra.png").write_bytes((root / label / "00.png").read_bytes())
    for split, numbers in {"train": range(5), "validation": range(5, 7), "test": range(7, 10)}.items():
        for number in numbers:
            for level, label in enumerate(CLASSES, 1):
                draw(tmp_path / "above" / split / label / f"{number:02d}.png", 30 * level, number)
        names = [f"{label}/{number:02d}.png" for label in CLASSES for number in numbers]
        (root / f"{split}.txt").write_text("\n".join(names), encoding="utf-8")
    above, listed = bench.load_task(f"folder:{tmp_path / 'above'}"), bench.load_task(f"folder:{root}")
    assert opened(listed)["val"] == [f"{label}/{number:02d}.png" for label in CLASSES for number in (5, 6)]
    assert opened(above)["val"] == [f"validation/{id_}" for id_ in opened(listed)["val"]]
    assert all("10 train, 4 val, 6 test" in note and "drawn" not in note for note in progress.notes)
    shutil.rmtree(tmp_path / "above" / "validation")
    assert len(opened(bench.load_task(f"folder:{tmp_path / 'above'}"))["val"]) == 2
    assert "8 train, 2 val, 6 test, val drawn from train" in progress.notes[-1]


def test_a_csv_file_has_one_label_or_several(root: Path) -> None:
    rows = [f"{label}/{number:02d}.png" for label in CLASSES for number in range(10)]
    single, several = root / "single.csv", root / "several.csv"
    single.write_text("split,path,label\n" + "".join(f"{SPLITS[n % 3]},{row},c{n % 2}\n" for n, row in enumerate(rows)))
    labels = ["", "b", "a; b", "c"]
    several.write_text("path,labels\r\n" + "".join(f"{row},{labels[n % 4]}\r\n" for n, row in enumerate(rows)))
    one, many = bench.load_task(f"csv:{single}"), bench.load_task(f"csv:{several}")
    assert (one.kind, one.classes, one.name[:11]) == ("multiclass", ("c0", "c1"), "csv-single-")
    assert opened(one)["train"] == sorted(rows[::3])
    assert (many.kind, many.classes) == ("multilabel", ("a", "b", "c"))
    samples = open_splits(many, root)["train"]
    by_id = dict(zip(samples.ids, samples.targets().tolist(), strict=True))
    assert all(by_id[id_] == [[0, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1]][rows.index(id_) % 4] for id_ in by_id)
    assert samples.targets().any(axis=0).all()
    lines = several.read_text().splitlines()
    several.write_text("\n".join([lines[0], *reversed(lines[1:])]))
    assert bench.load_task(f"csv:{several}").name == many.name  # the order of rows is no other task


def test_geotiffs_of_any_bands_and_of_two_sensors(tmp_path: Path) -> None:
    for level, label in enumerate(CLASSES, 1):
        for number in range(4):
            draw(tmp_path / "tiffs" / label / f"{number}.tif", 3 * level, number, bands=4, dtype="float32")
    place = f"folder:{tmp_path / 'tiffs'}"
    task = bench.load_task(place, data_bands=["VV", "B8a", "skip", "red=0.665um"], data_unit="reflectance")
    assert [(band.name, band.unit) for band in task.bands] == [
        ("VV", "db"),
        ("B8A", "reflectance"),
        ("red=665nm", "reflectance"),
    ]
    samples = open_splits(task, tmp_path)["train"]
    groups = samples.reader.read(samples.ids, ["red=665nm", "VV"])
    whole = samples.reader.read(samples.ids, ["VV", "B8A", "red=665nm"])
    assert [group.shape[1] for group in groups] == [1, 1]
    np.testing.assert_array_equal(np.concatenate(groups, axis=1), np.concatenate(whole, axis=1)[:, [0, 2]])
    stretched = bench.load_task(f"folder:{draw_folder(tmp_path / 'rgb')}", data_stretch=(0.0, 3000.0))
    assert stretched.display == DisplayStretch(dn_range=(0.0, 3000.0), byte_range=(0.0, 255.0))


def test_what_is_in_files_is_remembered(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    of = ImageFile.of

    def counted(path: Path) -> ImageFile:
        read.append(path)
        return of(path)

    monkeypatch.setattr(ImageFile, "of", counted)

    def name() -> str:
        read.clear()
        return find_task(f"folder:{root}", cache_dir=tmp_path / "cache").name

    first = name()
    assert len(read) == 20
    assert (name(), read) == (first, [])
    draw(root / FIRST / "00.png", 30, 77)
    assert name() != first
    assert read == [root / FIRST / "00.png"]
    (index,) = (tmp_path / "cache" / "listings").iterdir()
    index.write_text("[[1]]", encoding="utf-8")
    assert name() != first
    assert len(read) == 20


def test_a_file_that_changes_after_it_was_opened_is_refused(root: Path) -> None:
    samples = open_splits(bench.load_task(f"folder:{root}"), root)["train"]
    draw(root / samples.ids[0], 30, 50)
    with pytest.raises(DamagedFileError, match="has changed since it was read first"):
        samples.reader.read(samples.ids[:1], ["B04"])


def write_csv(root: Path, header: str, *rows: str) -> str:
    (root / "data.csv").write_text("\n".join([header, *rows]), encoding="utf-8")
    return f"csv:{root / 'data.csv'}"


def truncated(root: Path) -> None:
    file = draw(root / FIRST / "00.tif", 30, 0)
    os.truncate(file, 40)


def lists(root: Path, **names: str) -> None:
    for split, name in names.items():
        (root / f"{split}.txt").write_text(name, encoding="utf-8")


def empty(root: Path) -> None:
    for label in CLASSES:
        shutil.rmtree(root / label)


def sixteen_bits(root: Path) -> None:
    Image.fromarray(np.full((8, 8), 300, dtype=np.uint16)).save(root / FIRST / "00.png")


def palette(root: Path) -> None:
    Image.new("P", (8, 8)).save(root / FIRST / "00.png")


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no image": (lambda root: (root / FIRST / "00.png").write_text("no image"), "00.png is no PNG, JPEG or GeoTIFF"),
    "empty file": (lambda root: (root / FIRST / "00.png").write_bytes(b""), "00.png is no PNG, JPEG or GeoTIFF"),
    "cut-off header": (truncated, "00.tif is no GeoTIFF, or a cut-off one"),
    "palette": (palette, "has the mode P; save it as 8-bit PNG"),
    "16 bits": (
        sixteen_bits,
        r"00.png has 1 bands of 8 × 8 pixels in uint16, but .* all files of a task have the same",
    ),
    "other size": (lambda root: draw(root / FIRST / "00.png", 30, 0, size=9), "resize, cut or convert the others"),
    "empty class": (lambda root: (root / "water").mkdir(), "water holds no PNG, JPEG or GeoTIFF; every folder"),
    "one image": (lambda root: draw(root / "water" / "0.png", 90, 0), "class 'water' of .* has 1 image, and a drawn"),
    "one class": (lambda root: shutil.rmtree(root / SECOND), "at least two can be told apart"),
    "no classes": (empty, "has no images; put PNG, JPEG"),
    "line break": (lambda root: (root / FIRST).rename(root / "a\nb"), "cannot be printed; rename it"),
    "two labels": (
        lambda root: shutil.copy(root / FIRST / "00.png", root / SECOND / "copy.png"),
        "hold the same bytes, with the labels field and forest \\[b\\]",
    ),
    "no test list": (lambda root: lists(root, train=f"{FIRST}/00.png"), "has no val and no test images"),
    "unknown in list": (lambda root: lists(root, train="x.png"), "names 'x.png', but there is no such image"),
    "ambiguous": (lambda root: lists(root, train="00.png"), "names '00.png', but 2 images are called so"),
    "listed twice": (
        lambda root: lists(root, train=f"{FIRST}/00.png", val=f"{FIRST}/00.png"),
        "which a list has named before",
    ),
    "not in train": (
        lambda root: lists(root, train=f"{FIRST}/00.png", val=f"{FIRST}/01.png", test=f"{SECOND}/00.png"),
        "has no training image, so nothing can learn it",
    ),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_folder_that_makes_no_task_is_refused_with_its_cure(root: Path, what: str) -> None:
    spoil, message = SPOILT[what]
    spoil(root)
    with pytest.raises(BenchError, match=message) as refusal:
        bench.load_task(f"folder:{root}")
    assert str(refusal.value).count("\n") == 0


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("path;label", ["a;b"], "has the columns path;label; write path, then either label or labels"),
        ("path,label,labels", [], "write path, then either label or labels"),
        ("path,label", [], "has no images"),
        ("path,label", ["field/00.png,a", "field/00.png,b"], "row 3 names 'field/00.png' a second time"),
        ("path,label", ["field/00.png"], "row 2 has 1 cells instead of 2"),
        ("path,label", ["field/00.png,"], "row 2 has no label"),
        ("path,label", ["nothing.png,a", "field/00.png,b"], "1 of 2 files are not there, such as .*nothing.png"),
        ("path,labels", ['field/00.png,"a,b"', "field/01.png,b"], "'a,b' in its column labels, without ';'; separate"),
        (
            "path,labels",
            ["field/00.png,a;b", 'field/01.png,"a,b"'],
            "'a,b' in its column labels, without ';'; separate",
        ),
        ("path,labels", ["field/00.png,a|b"], r"'a\|b' in its column labels, without ';'; separate"),
        ("path,label,split", ["field/00.png,a,dev"], "row 2 has the split 'dev'; write train, val, test"),
        ("path,label,split", ["field/00.png,a,train", "field/01.png,b,"], "says no split of field/01.png and others"),
    ],
)
def test_a_csv_file_that_makes_no_task_is_refused_with_its_cure(
    root: Path, header: str, rows: list[str], message: str
) -> None:
    with pytest.raises(BenchError, match=message):
        bench.load_task(write_csv(root, header, *rows))


def test_copies_of_an_image_in_two_splits_are_refused_and_stay_together_where_splits_are_drawn(root: Path) -> None:
    for number in range(10):
        shutil.copy(root / FIRST / f"{number:02d}.png", root / FIRST / f"copy{number}.png")
    splits = opened(bench.load_task(f"folder:{root}"))
    assert all((f"{FIRST}/copy3.png" in ids) == (f"{FIRST}/03.png" in ids) for ids in splits.values())
    lists(root, train=f"{FIRST}/00.png\n{SECOND}/00.png", val=f"{FIRST}/01.png", test=f"{FIRST}/copy0.png")
    with pytest.raises(BenchError, match="hold the same bytes, in train and test; remove one of them"):
        bench.load_task(f"folder:{root}")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"data_bands": ["B04", "B03"]}, "--data-bands names 2"),
        ({"data_bands": ["B04", "B03", "B99"]}, "band 'B99' is not known"),
        ({"data_bands": ["B04", "B03", "B4"]}, "names a band twice"),
        ({"data_bands": ["skip", "skip", "skip"]}, "or none; name each once"),
        ({"data_stretch": (10.0, 10.0)}, "LOW is below HIGH"),
        ({"data_unit": "dn", "data_stretch": (0.0, 10.0)}, "is of pixels in byte"),
        ({"data_unit": "metres"}, "is not possible .*unit: Input should be 'dn'"),
        ({"data_stretch": [1.0]}, "is not possible .*stretch"),
    ],
)
def test_what_does_not_fit_the_files_is_refused(root: Path, said: dict[str, object], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        bench.load_task(f"folder:{root}", **said)  # type: ignore[arg-type]


@pytest.mark.parametrize(("dtype", "message"), [("uint16", "name them in the order"), ("float32", "add --data-unit")])
def test_what_nobody_knows_of_the_files_has_to_be_said(tmp_path: Path, dtype: str, message: str) -> None:
    for level, label in enumerate(CLASSES, 1):
        for number in range(4):
            draw(tmp_path / label / f"{number}.tif", 30 * level, number, dtype=dtype)
    said = {"data_bands": ["B04", "B03", "B02"]} if dtype == "float32" else {}
    with pytest.raises(BenchError, match=message):
        bench.load_task(f"folder:{tmp_path}", **said)  # type: ignore[arg-type]
