"""The examples: networks of one's own with real weights, on real patches."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import ssl4eo_bench as bench
from ssl4eo_bench.config.catalogue import load_catalogue
from ssl4eo_bench.config.weights import FileWeights, UrlWeights
from ssl4eo_bench.models.plugin import Inputs, Meta, resolved
from ssl4eo_bench.models.self_test import run_checks
from tests.conftest import ROOT
from tests.real_patches import eurosat_features

Command = Callable[..., tuple[int, str, str]]
EXAMPLES = ROOT / "examples" / "backbones"
REFERENCE = os.environ.get("SSL4EO_BENCH_TEST_GALILEO", "")
"""A copy of single_file_galileo.py of nasaharvest/galileo."""


@pytest.fixture
def files(tmp_path: Path, real_data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the examples, with the real weights where their entries look for them; it has `cache` beside it."""
    folder = tmp_path / "backbones"
    shutil.copytree(EXAMPLES, folder)
    known = load_catalogue(folder / "checkpoints.yaml").checkpoints
    galileo, resnet = known["galileo_nano"].weights, known["so2sat_resnet20"].weights
    assert isinstance(galileo, UrlWeights)
    assert isinstance(resnet, FileWeights)
    fetched = tmp_path / "cache" / "weights" / galileo.place
    fetched.parent.mkdir(parents=True)
    fetched.symlink_to(real_data / "galileo_nano" / "encoder.pt")
    Path(resnet.path).symlink_to(real_data / "so2sat_resnet20" / Path(resnet.path).name)
    monkeypatch.setenv("SSL4EO_BENCH_BACKBONES", str(folder))
    path = list(sys.path)
    yield folder
    sys.path[:] = path
    for name in ("galileo", "so2sat_resnet20"):
        sys.modules.pop(name, None)


def accuracy(checkpoint: str, files: Path, real_data: Path) -> float:
    """The cross-validated accuracy of a logistic probe on all real patches."""
    features, targets = eurosat_features(checkpoint, files / "checkpoints.yaml", real_data, files.parent / "cache")
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return float(cross_val_score(probe, features, targets, cv=folds).mean())


@pytest.mark.parametrize("name", ["galileo_nano", "so2sat_resnet20"])
def test_real_weights_tell_land_covers_apart(name: str, files: Path, real_data: Path) -> None:
    trained, random = (accuracy(f"{name}{ending}", files, real_data) for ending in ("", ".random"))
    assert trained >= 0.85
    assert trained - random >= 0.12


def test_they_pass_their_self_tests(files: Path) -> None:
    known = load_catalogue(files / "checkpoints.yaml").checkpoints
    for name in ("galileo_nano", "so2sat_resnet20"):
        found = dict(run_checks(resolved(known[name]), cache_dir=files.parent / "cache"))
        assert not any(found.values())
        assert (found["features are those of the original"] is None) == (name != "galileo_nano")


def test_galileo_gives_what_its_reference_code_gives(files: Path, real_data: Path) -> None:
    if not REFERENCE:
        pytest.skip("needs single_file_galileo.py of nasaharvest/galileo, named by SSL4EO_BENCH_TEST_GALILEO")
    spec = importlib.util.spec_from_file_location("single_file_galileo", REFERENCE)
    assert spec is not None
    assert spec.loader is not None
    original = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(original)
    encoder = original.Encoder.load_from_folder(real_data / "galileo_nano", torch.device("cpu")).eval()
    checkpoint = load_catalogue(files / "checkpoints.yaml").checkpoints["galileo_nano"]
    module = bench.load_checkpoint(
        "galileo_nano", size=64, checkpoint_files=[files / "checkpoints.yaml"], cache_dir=files.parent / "cache"
    )
    task = bench.load_task("eurosat")
    source = task.open(real_data)
    ids = [id_ for id_ in source.ids("test") if not source.absent([id_])][:16]
    names = [band.name for band in task.bands]
    (pixels,) = source.read(ids, names)
    stored = torch.from_numpy(pixels[:, [names.index(band) for band in checkpoint.bands]].astype(np.float32))
    images = module.preprocess(stored)
    for month, day in ((5, float("nan")), (0, 17_180.0)):  # 2017-01-14
        count, side = len(images), images.shape[-1]
        space_time = torch.zeros(count, side, side, 1, 13)
        space_time[..., 0, 2:12] = images.permute(0, 2, 3, 1)
        masks = torch.ones(count, side, side, 1, 7)
        masks[..., 1:6] = 0
        others = torch.zeros(count, side, side, 16), torch.zeros(count, 1, 6), torch.zeros(count, 18)
        hidden = torch.ones(count, side, side, 3), torch.ones(count, 1, 3), torch.ones(count, 4)
        months = torch.full((count, 1), month)
        with torch.inference_mode():
            tokens = encoder(space_time, *others, masks, *hidden, months, 8)
            expected = encoder.average_tokens(*tokens[:-1])
            told = torch.tensor([[float("nan"), float("nan"), day]]).expand(count, 3)
            found = module.backbone.pooled(images, told)
        assert float((found - expected).abs().max()) < 1e-5


def test_galileo_refuses_other_bands(files: Path) -> None:
    sys.path.append(str(files))
    galileo = importlib.import_module("galileo").Galileo
    with pytest.raises(ValueError, match="look at B01"):
        galileo(Inputs.of(("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"), 64))
    network = galileo(Inputs.of(("B12", "B11", "B8A", "B08", "B07", "B06", "B05", "B04", "B03", "B02"), 64))
    other = galileo(Inputs.of(("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"), 64))
    other.load_state_dict(network.state_dict())
    images = torch.randn(2, 10, 64, 64)
    unknown = Meta(torch.full((2, 2), torch.nan), torch.full((2,), torch.nan))
    with torch.inference_mode():  # by name, not by position
        assert torch.allclose(network(images, unknown).pooled, other(images.flip(1), unknown).pooled, atol=1e-6)


def test_the_command_of_the_examples_runs(command: Command, files: Path) -> None:
    code, _, err = command(
        *("run", "--task", "eurosat", "--protocol", "knn", "--sample", "--limit", "20"),
        *("--backbones-dir", str(files), "--checkpoints", str(files / "checkpoints.yaml")),
        *("--checkpoint", "so2sat_resnet20"),
    )
    assert code == 0, err
