"""The suite from Python, and that it is the one of the command line."""

import importlib.util
import json
import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import ssl4eo_bench as bench
from ssl4eo_bench.errors import IncompleteError, SpecError, UnknownNameError
from ssl4eo_bench.results.files import RunResult
from tests.conftest import ROOT

Command = Callable[..., tuple[int, str, str]]

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.conv = nn.Conv2d(3, 16, 5, stride=4)
        self.norm = nn.BatchNorm2d(16)

    def forward(self, images):
        return torch.relu(self.norm(self.conv(images)))
"""
BANDS = ("B04", "B03", "B02")


@pytest.fixture
def options(tmp_path: Path, shared_samples: Path) -> dict[str, Any]:
    """Options of a quick run on the embedded sample."""
    cache = tmp_path / "cache of python"
    cache.mkdir()
    (cache / "samples").symlink_to(shared_samples)
    return {"sample": True, "limit": 60, "cache_dir": cache, "results": tmp_path / "results of python", "quiet": True}


def entry(size: int = 32) -> dict[str, Any]:
    return {"bands": BANDS, "scaling": {"divide": 3000}, "image_size": size}


def test_a_network_of_this_process_is_evaluated_and_kept_apart(options: dict[str, Any]) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.ReLU())
    first = bench.evaluate(network, "eurosat-rgb", name="mine", **entry(), **options)
    assert [result.spec.protocol.name for result in first] == ["linear", "knn"]
    assert all(result.spec.checkpoint.name == "mine" for result in first)
    again = bench.evaluate(network, "eurosat-rgb", name="mine", **entry(), **options)
    assert [one.digest for one in again] == [one.digest for one in first]
    other = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.GELU())
    other.load_state_dict(network.state_dict())
    with pytest.raises(IncompleteError, match="under the same name"):
        bench.evaluate(other, "eurosat-rgb", name="mine", **entry(), **options)
    named = bench.evaluate(other, "eurosat-rgb", "knn", name="other", **entry(), **options)
    assert named[0].provenance.features_computed > 0
    frame = bench.load_results(options["results"])
    assert set(frame["checkpoint"]) == {"mine", "other"}
    assert pd.api.types.is_float_dtype(frame["accuracy"])


def test_a_network_of_this_process_is_not_sent_to_a_cluster(options: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="cannot be sent to a cluster"):
        bench.evaluate(nn.Identity(), "eurosat-rgb", executor="ray", **entry(), **options)


def test_the_same_class_by_file_is_the_same_checkpoint(
    options: dict[str, Any], tmp_path: Path, command: Command
) -> None:
    (tmp_path / "net_of_api.py").write_text(NET)
    spec = importlib.util.spec_from_file_location("net_of_api", tmp_path / "net_of_api.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["net_of_api"] = module
    spec.loader.exec_module(module)
    try:
        live = bench.evaluate(module.Net(), "eurosat-rgb", name="net", **entry(), **options)
        code, out, err = command(
            *("run", "--task", "eurosat-rgb", "--protocol", "linear", "knn", "--sample", "--limit", "60", "--json"),
            *("--backbones-dir", str(tmp_path), "--arch", "python:net_of_api:Net", "--bands", *BANDS),
            *("--scaling", "divide=3000", "--image-size", "32", "--name", "net"),
        )
    finally:
        del sys.modules["net_of_api"]
    assert code == 0, err
    by_file = [RunResult.model_validate_json(json.dumps(one["result"])) for one in json.loads(out)]
    assert [one.digest for one in by_file] == [one.digest for one in live]
    assert [one.metrics for one in by_file] == [one.metrics for one in live]


def test_features_are_those_of_the_command(options: dict[str, Any], tmp_path: Path, command: Command) -> None:
    del options["results"]
    found = bench.features("eurosat-rgb", "timm:test_resnet.random", "val", seed=3, image_size=32, **options)
    code, _, err = command(
        *("features", "--task", "eurosat-rgb", "--checkpoint", "timm:test_resnet.random", "--split", "val"),
        *("--seed", "3", "--image-size", "32", "--sample", "--limit", "60", "--out", "f.npz"),
    )
    assert code == 0, err
    with np.load("f.npz") as stored:
        assert np.array_equal(stored["features"], found.features)
        assert stored["ids"].tolist() == list(found.ids)


def test_a_checkpoint_takes_raw_pixels(options: dict[str, Any]) -> None:
    module = bench.load_checkpoint("timm:test_resnet.random", size=64, seed=2)
    found = bench.features("eurosat-rgb", "timm:test_resnet.random", seed=2, **{**options, "limit": 5})
    task = bench.load_task("eurosat-rgb")
    source = task.open(next((options["cache_dir"] / "samples").glob("eurosat-rgb-*[0-9]")))
    (pixels,) = source.read(found.ids, [band.name for band in task.bands])
    digital = torch.from_numpy(pixels.astype(np.float32)) * 2750 / 255  # a byte of this task is so much
    with torch.inference_mode():
        features = module(digital)
    assert np.allclose(features, found.features, atol=2e-3)


def test_a_checkpoint_of_another_sensor_takes_digital_numbers(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "checkpoints:\n  mine:\n    arch: test_resnet\n    weights: {random: true}\n    bands: [red=665nm, nir=0.84um]\n"
        "    image_size: 48\n    scaling: {divide: 10000}\n"
    )
    module = bench.load_checkpoint("mine", checkpoint_files=[file])
    assert torch.allclose(module.preprocess(torch.full((1, 2, 48, 48), 2500.0)), torch.tensor(0.25))


def test_lists_and_cards() -> None:
    assert "bigearthnet" in bench.list_tasks()
    assert set(bench.list_checkpoints("offline")) < set(bench.list_checkpoints())
    assert bench.load_task("so2sat").kind == "multiclass"
    with pytest.raises(UnknownNameError):
        bench.load_task("eurosatt")
    with pytest.raises(SpecError, match="has no network"):
        bench.load_checkpoint("bandstats")
    assert {"run", "evaluate", "features"} <= set(dir(bench))
    with pytest.raises(AttributeError, match="no attribute 'evaluat'"):
        bench.evaluat  # noqa: B018


def test_a_hook_sees_each_new_result_and_may_fail(options: dict[str, Any]) -> None:
    seen: list[str] = []

    def hook(result: RunResult) -> None:
        seen.append(result.digest)
        raise ConnectionError("offline")

    done = bench.run("eurosat-rgb", ["linear", "knn"], "bandstats", on_result=hook, **options)
    assert seen == [result.digest for result in done]
    bench.run("eurosat-rgb", ["linear", "knn"], "bandstats", on_result=hook, **options)
    assert len(seen) == 2  # they were there


def test_what_fails_is_raised_when_the_others_are_done(options: dict[str, Any]) -> None:
    class Broken(nn.Module):
        def forward(self, images: torch.Tensor) -> None:
            """Give nothing."""

    with pytest.raises(IncompleteError, match="gives a NoneType; let its forward return"):
        bench.evaluate(Broken(), "eurosat-rgb", name="broken", **entry(), **options)
    with pytest.raises(IncompleteError) as raised:
        bench.run("eurosat-rgb", "linear", ["bandstats", "resnet50.ssl4eo_s12-moco_v2-s1grd"], **options)
    assert [result.spec.checkpoint.name for result in raised.value.results] == ["bandstats"]


@pytest.mark.parametrize("name", ["log_to_wandb", "log_to_mlflow"])
def test_the_trackers_log_every_metric(name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    logged: dict[str, object] = {}

    @contextmanager
    def started(*_: object, **__: object) -> Iterator[types.SimpleNamespace]:
        yield types.SimpleNamespace(log=logged.update, summary=logged)

    tracker = types.SimpleNamespace(
        init=started, start_run=started, log_params=logged.update, log_metrics=logged.update
    )
    for module in ("wandb", "mlflow"):
        monkeypatch.setitem(sys.modules, module, tracker)
    spec = importlib.util.spec_from_file_location("trackers", ROOT / "examples" / "trackers.py")
    assert spec is not None
    assert spec.loader is not None
    trackers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(trackers)
    (result,) = bench.run("eurosat-rgb", "knn", "bandstats", on_result=getattr(trackers, name), **options)
    assert logged["digest"] == result.digest
    assert result.main_value.value in logged.values()


def test_the_notebook_runs(tmp_path: Path, shared_samples: Path) -> None:
    (tmp_path / "notebook" / "cache").mkdir(parents=True)
    (tmp_path / "notebook" / "cache" / "samples").symlink_to(shared_samples)
    notebook = json.loads((ROOT / "examples" / "evaluate_your_network.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    code = "\n".join(cells) + "\nassert len(frame) == 4"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr


def test_what_is_no_option_is_not_ignored(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="there is no option 'checkpoint'; did you mean 'checkpoints'?"):
        bench.run("eurosat-rgb", "knn", checkpoint="bandstats", **options)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="there is no option 'seed'; did you mean 'seeds'?"):
        bench.evaluate(nn.Identity(), "eurosat-rgb", seed=3, **entry(), **options)  # type: ignore[call-arg]
    with pytest.raises(SpecError, match="is no torch.nn.Module; give an instance of one, such as"):
        bench.evaluate(nn.Identity, "eurosat-rgb", **entry(), **options)  # type: ignore[arg-type]


def test_a_network_that_reads_wavelengths_is_evaluated(options: dict[str, Any]) -> None:
    class Weighted(nn.Module):
        reads = ("wavelength",)

        def __init__(self, inputs: bench.Inputs) -> None:
            super().__init__()
            self.register_buffer("nm", torch.tensor([channel.wavelength for channel in inputs.channels]))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(2)[:, :, ::16].transpose(1, 2) @ self.get_buffer("nm") / 1000

    network = Weighted(bench.Inputs.of(BANDS, 32))
    (result,) = bench.evaluate(network, "eurosat-rgb", "knn", name="weighted", **entry(), **options)
    assert "accuracy" in repr(result)
    assert len(repr(result)) < 200


def test_a_wrong_reference_is_noticed_although_features_are_cached(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net_of_reference.py").write_text(NET)
    monkeypatch.setenv("SSL4EO_BENCH_BACKBONES", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    fields = "arch: 'python:net_of_reference:Net', weights: {own: true}, bands: [B04, B03, B02], image_size: 32"
    for name, reference in {"good": "", "bad": ", reference: {seed: 0, features: [1.0, 2.0]}"}.items():
        text = f"checkpoints: {{net: {{{fields}, scaling: {{divide: 3000}}{reference}}}}}"
        (tmp_path / f"{name}.yaml").write_text(text)
    bench.run("eurosat-rgb", "knn", "net", checkpoint_files=[tmp_path / "good.yaml"], **options)
    options["results"] = tmp_path / "others"
    with pytest.raises(IncompleteError, match="from the features of its original implementation"):
        bench.run("eurosat-rgb", "knn", "net", checkpoint_files=[tmp_path / "bad.yaml"], **options)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore:.*torch.jit.*:FutureWarning")
def test_a_torchscript_program_is_refused_with_its_cure() -> None:
    with pytest.raises(SpecError, match="is a TorchScript program, .* give an nn.Module whose forward calls it"):
        bench.evaluate(torch.jit.script(torch.nn.Conv2d(3, 8, 3)), task="eurosat", bands=["B04"], scaling={"divide": 1})


def test_a_scaling_that_is_no_mapping_is_told_its_keys() -> None:
    with pytest.raises(bench.BenchError, match="scaling: a mapping with one of the keys divide, stretch, .* is needed"):
        bench.evaluate(torch.nn.Conv2d(3, 8, 3), task="eurosat", bands=["B04"], scaling=3000)  # type: ignore[arg-type]
