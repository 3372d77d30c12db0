"""Embeddings as a user asks for them: what the file holds, where it comes from, and what is refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pyarrow import parquet

from ssl4eo_bench import __version__
from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.inputs import InputMapping
from ssl4eo_bench.config.task import SplitName
from ssl4eo_bench.data.sample_dataset import ensure_sample
from ssl4eo_bench.data.splits import OpenSplit, open_splits
from ssl4eo_bench.extraction.store import FeatureCache
from ssl4eo_bench.models.pooled import feature_module
from tests.conftest import ROOT
from tests.test_cli import refused

Command = Callable[..., tuple[int, str, str]]
LIMIT = 12


def export(command: Command, out: str, *options: object, task: str = "eurosat-rgb", checkpoint: str) -> str:
    """What is printed after the path of the file."""
    arguments = ("--task", task, "--checkpoint", checkpoint, "--sample", "--limit", LIMIT, "--out", out)
    code, printed, err = command("features", *arguments, *options)
    assert code == 0, err
    path, line = printed.splitlines()
    assert path == out
    return line


def arrays(file: str) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as stored:
        return dict(stored)


def about(stored: dict[str, np.ndarray]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(str(stored["about"]))
    return found


@pytest.fixture
def samples(tmp_path: Path) -> Callable[[str, SplitName], OpenSplit]:
    """A split of the sample that the commands of this test read."""

    def get(name: str, split: SplitName) -> OpenSplit:
        task = catalogue.task(name)
        folder = ensure_sample(task, tmp_path / "cache")
        return open_splits(task, folder, sample=True, limit=LIMIT)[split]

    return get


Of = Callable[[str, SplitName], OpenSplit]


def test_ids_and_targets_are_those_of_the_split(command: Command, samples: Of) -> None:
    split: SplitName
    for split in ("test", "val"):
        line = export(command, f"{split}.npz", "--split", split, checkpoint="bandstats")
        assert line == f"12 × 21 features of split {split}, computed"
        stored, expected = arrays(f"{split}.npz"), samples("eurosat-rgb", split)
        assert tuple(stored["ids"].tolist()) == expected.ids
        np.testing.assert_array_equal(stored["targets"], expected.targets())
        assert stored["targets"].dtype == np.int64
        assert stored["features"].dtype == np.float32
        assert tuple(stored["classes"].tolist()) == catalogue.task("eurosat-rgb").classes
        assert about(stored)["split_digest"] == expected.record.digest


def test_features_are_a_forward_pass_of_what_the_file_is_about(command: Command, samples: Of) -> None:
    options = ("--image-size", 32, "--seed", 3)
    assert export(command, "test.npz", *options, checkpoint="resnet18.random") == (
        "12 × 512 features of split test, computed"
    )
    stored, found = arrays("test.npz"), samples("eurosat-rgb", "test")
    said = about(stored)
    checkpoint = Checkpoint.model_validate(said["checkpoint"])
    inputs = InputMapping.model_validate_json(json.dumps(said["inputs"]))
    assert (checkpoint.name, said["seed"]) == ("resnet18.random@32", 3)
    groups = found.reader.read(found.ids, inputs.sources)
    bands = catalogue.task("eurosat-rgb").groups(inputs.sources)
    module = feature_module(checkpoint, inputs, bands, [(64, 64)], seed=3)
    with torch.inference_mode():
        expected = module(*map(torch.from_numpy, groups)).numpy()
    np.testing.assert_allclose(stored["features"], expected, rtol=1e-3, atol=1e-4)


def test_features_are_those_of_the_probe_and_shared_with_it_through_the_cache(command: Command, tmp_path: Path) -> None:
    arguments = ("--task", "eurosat-rgb", "--protocol", "linear", "--checkpoint", "bandstats", "--sample")
    code, out, err = command("run", *arguments, "--limit", LIMIT, "--json")
    assert code == 0, err
    assert export(command, "test.npz", checkpoint="bandstats") == "12 × 21 features of split test, from the cache"
    entries = FeatureCache(tmp_path / "cache").entries()
    (folder,) = (entry.store.folder for entry in entries if entry.key.split == "test")
    stored = arrays("test.npz")
    np.testing.assert_array_equal(stored["features"], np.load(folder / "shard-00000.npy"))
    said, (outcome,) = about(stored), json.loads(out)
    spec, made = outcome["result"]["spec"], outcome["result"]["provenance"]
    assert {key: said[key] for key in ("checkpoint", "inputs", "seed", "sample", "partial", "limit")} == {
        key: spec.get(key) for key in ("checkpoint", "inputs", "seed", "sample", "partial", "limit")
    }
    assert said["split_digest"] == spec["task"]["splits"]["test"]["digest"]
    assert (said["weights_sha256"], said["runners"]) == (made["weights_sha256"], made["runners"])
    assert (said["task"], said["kind"], said["split"]) == ("eurosat-rgb-v1", "multiclass", "test")
    assert said["version"] == __version__


def test_what_is_missing_in_the_cache_is_computed(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssl4eo_bench.extraction.store.SHARD_ROWS", 8)
    export(command, "first.npz", checkpoint="bandstats")
    next((tmp_path / "cache" / "features").rglob("shard-00001.npy")).unlink()
    line = export(command, "second.npz", checkpoint="bandstats")
    assert line == "12 × 21 features of split test, 4 of them computed, the others from the cache"
    assert Path("first.npz").read_bytes() == Path("second.npz").read_bytes()


def test_files_load_as_documented(command: Command) -> None:
    page = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")
    for out, code in zip(
        ("test.npz", "test.parquet"), re.findall(r"```python\n(.*?)```", page, re.DOTALL), strict=True
    ):
        export(command, out, checkpoint="bandstats")
        names: dict[str, Any] = {}
        exec(code, names)
        assert names["features"].shape == (LIMIT, 21)
        assert names["about"]["task"] == "eurosat-rgb-v1"


@pytest.mark.parametrize("task", ["eurosat-rgb", "bigearthnet"])
def test_both_formats_hold_the_same(command: Command, samples: Of, task: str) -> None:
    export(command, "test.npz", task=task, checkpoint="bandstats")
    assert export(command, "test.parquet", task=task, checkpoint="bandstats").endswith("from the cache")
    stored, frame = arrays("test.npz"), pd.read_parquet("test.parquet")
    assert list(frame.columns) == ["id", "target", "features"]
    assert frame["id"].tolist() == stored["ids"].tolist()
    np.testing.assert_array_equal(np.stack(frame["target"].tolist()), stored["targets"])
    features = np.stack(frame["features"].tolist())
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, stored["features"])
    schema = parquet.read_schema("test.parquet")
    assert str(schema.field("features").type).startswith("fixed_size_list<")
    assert schema.metadata[b"ssl4eo_bench.about"].decode() == str(stored["about"])
    assert json.loads(schema.metadata[b"ssl4eo_bench.classes"]) == stored["classes"].tolist()
    np.testing.assert_array_equal(stored["targets"], samples(task, "test").targets())
    if task == "bigearthnet":  # several labels of one image are indicators
        assert {(row.dtype, row.shape) for row in frame["target"]} == {(np.dtype(np.uint8), (19,))}


@pytest.mark.parametrize(("checkpoint", "width"), [("bandstats", 14), ("radar.random", 96)])
def test_label_maps_are_left_out_and_that_is_said(
    command: Command, samples: Of, tmp_path: Path, checkpoint: str, width: int
) -> None:
    (tmp_path / "radar.yaml").write_text(
        "checkpoints:\n  radar.random:\n    arch: test_resnet\n    weights: {random: true}\n    bands: [VV, VH]\n"
        "    image_size: 64\n    scaling: {mean: {VV: -12.0, VH: -18.0}, std: {VV: 5.0, VH: 5.0}}\n"
    )
    task = "dfc2020-cobench-s1"
    arguments = ("features", "--task", task, "--checkpoint", checkpoint, "--checkpoints", tmp_path / "radar.yaml")
    for out in ("test.npz", "test.parquet"):
        code, _, err = command(*arguments, "--sample", "--limit", LIMIT, "--out", out, "--quiet")
        assert code == 0
        assert err == f"the labels of {task} are of pixels: {out} gets no targets\n"
    stored, frame = arrays("test.npz"), pd.read_parquet("test.parquet")
    assert set(stored) == {"ids", "features", "classes", "about"}
    assert list(frame.columns) == ["id", "features"]
    assert tuple(stored["ids"].tolist()) == samples(task, "test").ids
    assert stored["features"].shape == (len(stored["ids"]), width)
    np.testing.assert_array_equal(np.stack(frame["features"].tolist()), stored["features"])


ARGUMENTS = ("features", "--task", "eurosat-rgb", "--sample", "--limit", LIMIT)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("bandstats", "--out", "test.csv"), "--out test.csv ends neither in .npz nor in .parquet"),
        (("bandstats", "--out", "folder.npz", "--force"), "folder.npz is a directory; name a file with --out"),
        (("bandstats", "--out", "file/test.npz"), "file/test.npz cannot be written, since no file can be made in "),
        (("bandstats", "--out", "test.npz", "--split", "all"), "--split: 'all' is none of train, val, test"),
        (("bandstats", "resnet18.random", "--out", "test.npz"), "unrecognized arguments: resnet18.random"),
        (("bandstat", "--out", "test.npz"), "did you mean 'bandstats'"),
        (("bandstats", "--out", "test.npz", "--device", "cuda:7"), "device 'cuda:7' cannot be used here"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_written_is_refused_in_one_sentence(
    command: Command, options: tuple[str, ...], message: str
) -> None:
    Path("folder.npz").mkdir()
    Path("file").write_text("in the way")
    assert message in refused(command, *ARGUMENTS, "--checkpoint", *options)
    assert sorted(path.name for path in Path().iterdir()) == ["file", "folder.npz"]


def test_a_file_that_is_there_is_replaced_only_when_asked_for(command: Command) -> None:
    file = Path("deep/er/test.npz")
    export(command, str(file), checkpoint="bandstats")
    before = file.read_bytes()
    again = (*ARGUMENTS, "--checkpoint", "bandstats", "--out", file, "--split", "val")
    assert f"{file} exists; name another file with --out, or replace it with --force" in refused(command, *again)
    assert file.read_bytes() == before
    assert command(*again, "--force")[0] == 0
    assert about(arrays(str(file)))["split"] == "val"
    assert [path.name for path in file.parent.iterdir()] == ["test.npz"]


def test_real_images(command: Command, real_data: Path) -> None:
    arguments = ("--task", "eurosat-rgb", "--checkpoint", "bandstats", "--data-dir", real_data, "--limit", 20)
    code, _, err = command("features", *arguments, "--out", "test.npz", "--quiet")
    assert code == 0, err
    stored, classes = arrays("test.npz"), catalogue.task("eurosat-rgb").classes
    assert stored["features"].shape == (20, 21)
    named = [id_.rpartition("_")[0] for id_ in stored["ids"].tolist()]
    assert [classes[target] for target in stored["targets"]] == named
    assert not any(about(stored)[mark] for mark in ("sample", "partial"))
