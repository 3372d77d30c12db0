"""The encoders of ukis-csmask, against the package's own ONNX graphs and on real patches."""

import json
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ssl4eo_bench.config.catalogue import load_catalogue
from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.scaling import ZScore
from ssl4eo_bench.config.weights import PackagedWeights
from ssl4eo_bench.errors import SpecError, WeightsError
from ssl4eo_bench.files.hashing import file_hash
from ssl4eo_bench.models.build import build
from ssl4eo_bench.models.plugin import create, resolved
from ssl4eo_bench.models.self_test import run_checks
from tests.real_patches import eurosat_features

onnx = pytest.importorskip("onnx")

SIX = "tf_efficientnet_b4.ukis_csmask-s2l1c-6"
LAST = f"{SIX}-last"
NAMES = tuple(f"tf_efficientnet_b4.ukis_csmask-s2{level}-{bands}" for bands in (6, 4) for level in ("l1c", "l2a"))
STAGES = (1, 5, 9, 21, 31)
"""The last blocks before the size of the maps halves, and the last of all, in the count of the files."""
TOLERANCE = 1e-4

each = pytest.mark.parametrize("name", NAMES)


def entry(name: str, **changes: object) -> Checkpoint:
    return Checkpoint.model_validate(load_catalogue().checkpoint(name).model_dump() | changes)


@pytest.fixture(scope="module")
def package() -> Path:
    """The folder of the package, which need not be imported."""
    found = find_spec("ukis_csmask")
    if found is None or found.origin is None:
        pytest.skip("needs ukis-csmask (extra `ukis`)")
    return Path(found.origin).parent


def file_of(name: str, package: Path) -> Path:
    weights = entry(name).weights
    assert isinstance(weights, PackagedWeights)
    return package / weights.file


def in_float32(file: Path, outputs: Sequence[str]) -> bytes:
    """A graph of the package that computes in float32 instead of float16, and gives these values."""
    halves, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    model: Any = onnx.load(file)
    attributes = [one for node in model.graph.node for one in node.attribute]
    for tensor in (*model.graph.initializer, *(one.t for one in attributes if one.name == "value")):
        if tensor.data_type == halves:
            values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    for one in attributes:
        if one.name == "to" and one.i == halves:  # of a cast
            one.i = single
    del model.graph.value_info[:], model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, single, None) for name in outputs)
    whole: bytes = model.SerializeToString()
    return whole


@each
@torch.inference_mode()
def test_maps_are_those_of_the_packages_own_graph(name: str, package: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    checkpoint = entry(name, image_size=256)  # that of the graph
    images = torch.randn(2, len(checkpoint.bands), 256, 256, generator=torch.Generator().manual_seed(0))
    outputs = [f"/model/encoder/_blocks.{block}/Add_output_0" for block in STAGES]
    session = runtime.InferenceSession(in_float32(file_of(name, package), outputs), providers=["CPUExecutionProvider"])
    expected = session.run(outputs, {"input": images.numpy()})
    found = build(checkpoint, seed=0).maps(images, range(5))
    for index, theirs in enumerate(map(torch.from_numpy, expected)):
        largest = theirs.abs().max()
        torch.testing.assert_close(found[index] / largest, theirs / largest, rtol=0, atol=TOLERANCE)


@each
def test_scaling_is_that_of_the_package_in_digital_numbers(name: str, package: Path) -> None:
    scaling = entry(name).scaling
    assert isinstance(scaling, ZScore)
    about = json.loads(file_of(name, package).with_suffix(".json").read_text())
    reflectance = about["data"]["dataset_statistics"]["img"]
    for ours, theirs in zip((scaling.mean, scaling.std), reflectance, strict=True):
        found = [ours[band] / 10000 for band in entry(name).bands]
        assert found == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("change", ["one less", "one more", "another shape"])
def test_a_file_has_to_hold_exactly_the_encoder(change: str, package: Path, tmp_path: Path) -> None:
    model = onnx.load(file_of(SIX, package))
    tensors = model.graph.initializer
    stem = tensors[0]
    if change == "one less":
        del tensors[0]
    elif change == "one more":
        tensors.append(onnx.numpy_helper.from_array(np.zeros(2, np.float16), "model.encoder._blocks.32._bn2.bias"))
    else:
        stem.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(stem)[:, :4], stem.name))
    file = tmp_path / "model.onnx"
    onnx.save(model, file)
    weights = {"path": str(file), "sha256": file_hash(file, "sha256"), "layout": "own"}
    odd = "_blocks.32._bn2.bias" if change == "one more" else "conv_stem.weight"
    with pytest.raises(WeightsError, match=f"cannot load .*model.onnx.*{odd}"):
        build(entry(SIX, weights=weights), seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bands": ("B04", "B03", "B02", "B08")}, "takes B02, B03, B04, B08, B11, B12, or the first four"),
        ({"bands": ("B02", "B03", "B04")}, "takes B02, B03, B04, B08, B11, B12, or the first four"),
        ({"image_size": 120}, "120 pixels cannot be halved five times; take a multiple of 32"),
    ],
)
def test_what_the_network_cannot_take_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        create(entry(SIX, **changes))


def test_layers_hold_every_parameter_once() -> None:
    network: Any = create(entry(SIX))
    listed = [parameter for layer in network.layers() for parameter in layer]
    assert len(network.layers()) == 33
    assert len(listed) == len(set(listed))
    assert set(listed) == set(network.parameters())


def test_the_self_tests_pass(package: Path, tmp_path: Path) -> None:
    assert not any(dict(run_checks(resolved(entry(SIX)), cache_dir=tmp_path)).values())


def accuracy(name: str, folder: Path, real_data: Path) -> float:
    """The cross-validated accuracy of a logistic probe on all real patches, over four draws of the folds."""
    features, targets = eurosat_features(name, folder / "random.yaml", real_data, folder)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=4, random_state=0)
    return float(cross_val_score(probe, features, targets, cv=folds).mean())


def test_the_third_stage_tells_land_covers_apart_and_the_last_does_not(
    package: Path, tmp_path: Path, real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # it takes longer to start than it saves here
    untrained = entry(SIX, weights={"random": True}).model_dump(mode="json", exclude_none=True, exclude={"name"})
    (tmp_path / "random.yaml").write_text(yaml.safe_dump({"checkpoints": {"untrained": untrained}}))
    third, last, random = (accuracy(name, tmp_path, real_data) for name in (SIX, LAST, "untrained"))
    assert third >= 0.80
    assert third - last >= 0.30
    assert third - random >= 0.12


def test_each_name_says_which_file_it_means() -> None:
    known = load_catalogue()
    for name in NAMES:
        checkpoint = known.checkpoint(name)
        assert isinstance(checkpoint.weights, PackagedWeights)
        assert checkpoint.weights.file == f"model_{name[-1]}b_{name[-5:-2]}.onnx"
    assert known.checkpoint(LAST) == known.checkpoint(SIX).model_copy(update={"name": LAST, "feature": "pooled"})
