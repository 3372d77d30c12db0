"""Runs on folders and CSV files of one's own images, from the command line to the report."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import ssl4eo_bench as bench
from ssl4eo_bench import provenance
from ssl4eo_bench.models.plugin import Inputs
from tests.conftest import ROOT
from tests.documents import commands, words
from tests.own_data import CLASSES, draw, draw_folder

Command = Callable[..., tuple[int, str, str]]


def test_two_folders_of_one_name_share_nothing(command: Command, tmp_path: Path) -> None:
    first, second = (draw_folder(tmp_path / place / "mine") for place in ("a", "b"))
    draw(second / CLASSES[0] / "more.png", 35, 11)
    run = ("run", "--protocol", "knn", "--checkpoint", "bandstats")
    code, _, err = command(*run, "--task", f"folder:{first}", f"folder:{second}", "--fraction", 0.5, 1)
    assert code == 0, err
    assert " ".join(err.split()).count("bands B04 B03 B02 in byte") == 2
    names = {file.parent.parent.parent.name for file in Path("results/runs").rglob("*.json")}
    assert len(names) == 2
    assert all(name.startswith("folder-mine-") for name in names)
    digests = {json.loads(file.read_text())["digest"] for file in Path("results/runs").rglob("*.json")}
    assert len(digests) == 4
    code, listed, _ = command("cache", "list", "--json")
    entries = json.loads(listed)
    assert {entry["task"] for entry in entries if entry["kind"] == "features"} == names
    assert "skipped      1 of " in command(*run, "--task", f"folder:{first}", "--fraction", 1)[1]
    assert command("check")[0] == 0
    assert bench.load_results("results")["task"].nunique() == 2


def test_markup_in_labels_is_text_in_the_report(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "commit", lambda: ("0" * 40, False))  # only such results are reported
    place = f"folder:{draw_folder(tmp_path / '[i]<i>mine')}"
    options = ("--task", place, "--protocol", "linear", "--checkpoint", "bandstats")
    assert command("run", *options)[0] == 0
    assert command("report", "--out", "report.html")[0] == 0
    page = Path("report.html").read_text(encoding="utf-8")
    assert "forest [b]&lt;b&gt;é&amp;" in page
    assert "<b>é" not in page


def test_data_commands_and_features_take_folders(command: Command, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "mine")
    place = f"folder:{root}"
    assert "12 of 12" in command("data", "status", place)[1]
    code, out, err = command("data", "verify", place)
    assert (code, "whole" in out) == (0, True), err
    assert command("data", "prepare", place, "--data-dir", "packs")[0] == 0
    options = ("--task", place, "--checkpoint", "bandstats", "--split", "train")
    for data_dir in ("packs", "nowhere"):
        code, _, err = command("features", *options, "--out", f"{data_dir}.npz", "--data-dir", data_dir, "--force")
        assert code == 0, err
    with np.load("packs.npz") as packed, np.load("nowhere.npz") as loose:
        np.testing.assert_array_equal(packed["features"], loose["features"])
        assert set(packed["targets"].tolist()) == {0, 1}
    file = root / CLASSES[0] / "00.png"
    file.write_bytes(file.read_bytes()[:-30])
    code, out, _ = command("data", "verify", place)
    assert (code, "is cut off or damaged" in out) == (1, True)


def test_bands_of_other_sensors_reach_networks_that_take_any(command: Command, tmp_path: Path) -> None:
    for level, label in enumerate(CLASSES, 1):
        for number in range(6):
            draw(tmp_path / "planet" / label / f"{number}.tif", 1000 * level, number, bands=2, dtype="uint16")
    place = f"folder:{tmp_path / 'planet'}"
    run = ("run", "--task", place, "--protocol", "knn", "--data-bands", "red=665nm", "nir=865nm")
    code, out, err = command(*run, "--checkpoint", "resnet18.random", "--image-size", 32, "--json")
    assert code == 0, err
    scaling = "{mean: {red=665nm: 1000, nir=865nm: 900}, std: {red=665nm: 500, nir=865nm: 400}}"
    own = (
        "--arch",
        "resnet18",
        "--weights",
        "random",
        "--bands",
        "nir=865nm",
        "red=665nm",
        "--scaling",
        scaling,
        "--name",
        "two",
    )
    assert command(*run, *own, "--dry-run")[0] == 0
    (outcome,) = json.loads(out)
    channels = outcome["result"]["spec"]["inputs"]["channels"]
    assert [channel["source"] for channel in channels] == ["red=665nm", "nir=865nm"]
    code, _, err = command(*run, "--checkpoint", "tf_efficientnet_lite0.in1k")
    assert (code, "wants B04, B03, B02, which the task does not have: it gives red=665nm, nir=865nm" in err) == (
        2,
        True,
    )
    assert [channel.wavelength for channel in Inputs.of(["red=665nm", "B8A"], 32).channels] == [665, 865]


def test_the_commands_of_the_page_run(command: Command) -> None:
    calls = commands(ROOT / "docs" / "own_data.md")
    root = draw_folder(Path("photos"))
    rows = [f"{label}/{number:02d}.png,{label}" for label in CLASSES for number in range(10)]
    (root / "labels.csv").write_text("\n".join(["path,label", *rows]), encoding="utf-8")
    for level, label in enumerate(CLASSES, 1):
        for number in range(4):
            for place in ("tiles", "planet"):
                draw(Path(place, label, f"{number}.tif"), 1000 * level, number, bands=4, dtype="uint16")
    assert len(calls) == 4
    for call in calls:
        code, _, err = command(*words(call), "--dry-run")
        assert code == 0, err


def test_what_is_said_of_images_needs_images_of_ones_own(command: Command) -> None:
    options = ("--protocol", "linear", "--sample", "--data-unit", "dn")
    code, _, err = command("run", "--task", "eurosat-rgb", *options)
    assert (code, "are of --task folder:DIR or csv:FILE" in err) == (2, True)
    code, _, err = command("run", "--task", "folder:nothing", "--protocol", "linear")
    assert (code, "nothing is not a folder" in err) == (2, True)


def test_own_images_have_no_embedded_sample(command: Command, tmp_path: Path) -> None:
    place = f"folder:{draw_folder(tmp_path / 'mine')}"
    code, _, err = command("run", "--task", place, "--protocol", "linear", "--checkpoint", "bandstats", "--sample")
    assert (code, "has no embedded sample; leave --sample away" in err) == (2, True)


def test_a_network_from_python_on_a_csv_file(tmp_path: Path) -> None:
    import torch
    from torch import nn

    root = draw_folder(tmp_path / "mine")
    rows = [f"{label}/{number:02d}.png,{label[:5]}" for label in CLASSES for number in range(10)]
    (root / "labels.csv").write_text("\n".join(["path,label", *rows]))
    torch.manual_seed(0)
    results = bench.evaluate(
        nn.Conv2d(3, 8, 3),
        task=f"csv:{root / 'labels.csv'}",
        protocol="linear",
        name="mine",
        bands=["B02", "B03", "B04"],
        scaling={"divide": 3000},
        image_size=16,
        data_bands=["B04", "B03", "B02"],
        data_stretch=(0, 3000),
        results=tmp_path / "results",
        cache_dir=tmp_path / "cache",
        quiet=True,
    )
    assert results[0].spec.task.name.startswith("csv-labels-")
    assert [channel.source for channel in results[0].spec.inputs.channels] == ["B02", "B03", "B04"]
