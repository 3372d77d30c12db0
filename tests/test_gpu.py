"""What runs on a GPU gives what runs on a processor gives. Skipped where there is no GPU."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from ssl4eo_bench.config import protocols
from ssl4eo_bench.config.protocols import Finetune, Knn, Linear
from ssl4eo_bench.config.task import Kind
from ssl4eo_bench.data.batches import prefetch
from ssl4eo_bench.models.runtime import TorchRunner, make_runner
from ssl4eo_bench.results.files import RunResult, read_result
from tests import probes

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

Command = Callable[..., tuple[int, str, str]]


class Network(nn.Module):
    """A ResNet on pixels of 8 bits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = timm.create_model("resnet18", num_classes=0)

    def forward(self, pixels: Tensor) -> Tensor:
        """Features of pixels."""
        features: Tensor = self.backbone(pixels / 255)
        return features


def pixels(count: int, side: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, 3, side, side), dtype=np.uint8)


def test_a_runner_gives_the_features_of_the_processor() -> None:
    images = pixels(24)
    expected = TorchRunner(Network().eval(), torch.device("cpu"))((images,))
    exact = TorchRunner(Network().eval(), torch.device("cuda"))((images,))
    fast = make_runner(Network().eval(), (images,), "cuda", print)
    assert fast.name == "torch-cuda-bf16"
    assert make_runner(Network().eval(), (images,), "cuda", print, precision="float32").name == "torch-cuda"
    scale = np.abs(expected).max()
    assert np.abs(exact - expected).max() / scale < 1e-4  # TF32 would not be
    assert np.abs(fast((images,)) - expected).max() / scale < 3e-2


def test_threads_with_streams_of_their_own_give_the_same_bits() -> None:
    run = TorchRunner(Network().eval(), torch.device("cuda"), bfloat16=True)
    parts = [(pixels(64)[start : start + 8],) for start in range(0, 64, 8)] * 8
    expected = [run(part) for part in parts]
    for _ in range(3):
        found = list(prefetch(run, parts, threads=2))
        assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


def test_a_batch_larger_than_the_memory_goes_through_in_parts() -> None:
    run = TorchRunner(Network().eval(), torch.device("cuda"))
    images = pixels(256, 224)
    expected = np.concatenate([run((images[start : start + 16],)) for start in range(0, 256, 16)])
    torch.cuda.empty_cache()
    try:
        torch.cuda.set_per_process_memory_fraction(1.5e9 / torch.cuda.mem_get_info()[1])
        found = run((images,))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert run._at_once < 256
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def problem(kind: Kind, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(9)
    features = rng.normal(size=(count, 64)).astype(np.float32) * np.linspace(0.01, 3, 64, dtype=np.float32) + 5
    logits = (features - 5) @ fixed.normal(size=(64, 6)) / 3 + rng.normal(size=(count, 6))
    return features, (logits > 1).astype(np.uint8) if kind == "multilabel" else logits.argmax(1)


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_the_probes_are_those_of_the_processor(kind: Kind) -> None:
    train, val = problem(kind, 3000, 0), problem(kind, 1000, 1)
    here, there = (probes.linear(Linear(), kind, 6, train, val, device=device) for device in ("cpu", "cuda"))
    assert here.head.C == there.head.C
    assert [point.C for point in here.path] == [point.C for point in there.path]
    found = [probes.probabilities(kind, probe, val[0]) for probe in (here, there)]
    np.testing.assert_allclose(found[1], found[0], atol=2e-4)
    voted = [probes.knn(Knn(), kind, 6, train, device) for device in ("cpu", "cuda")]
    np.testing.assert_allclose(voted[1].probabilities(val[0]), voted[0].probabilities(val[0]), atol=2e-3)


@pytest.mark.parametrize("task", ["eurosat-rgb", "so2sat", "dfc2020"])
@pytest.mark.parametrize("protocol", ["linear", "finetune"])
def test_whole_runs(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, task: str, protocol: str
) -> None:
    if task == "dfc2020":
        pytest.importorskip("rasterio")
    monkeypatch.setitem(protocols.ON_SAMPLES, "finetune", Finetune(rates=(1e-3,), epochs=4, warmup=1, batch=32))
    results: dict[str, RunResult] = {}
    for device in ("cpu", "cuda"):
        place = ("--results", tmp_path / device, "--cache-dir", tmp_path / f"cache-{device}", "--device", device)
        what = ("run", "--task", task, "--protocol", protocol, "--sample", "--json", "--image-size", 64)
        code, out, err = command(*what, "--checkpoint", "resnet18.random", *place)
        assert code == 0, err
        results[device] = read_result(Path(json.loads(out)[0]["file"]))
    here, there = results["cpu"], results["cuda"]
    assert here.digest == there.digest  # where it ran is no part of what it is
    assert set(there.provenance.runners) <= {"torch-cuda-bf16", "torch-cuda"}
    main = here.selection.metric
    assert there.metrics["test"][main].value == pytest.approx(here.metrics["test"][main].value, abs=0.08)
