"""Files of whole networks: each is named, and the lines that are offered work."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from ssl4eo_bench.errors import WeightsError
from ssl4eo_bench.models.foreign_networks import hint
from ssl4eo_bench.models.weight_reader import read_weights
from tests.conftest import ROOT


class Small(nn.Module):
    """A network that can be pickled."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self.conv(images).mean(dim=(2, 3))
        return pooled


def save(kind: str, file: Path, network: nn.Module) -> None:
    example = torch.zeros(2, 3, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "TorchScript":
            torch.jit.trace(network, example).save(str(file))  # type: ignore[no-untyped-call]
        elif kind == "torch.export":
            torch.export.save(torch.export.export(network, (example,)), str(file))
        else:
            torch.save(network, file)


def refusal(file: Path) -> WeightsError:
    with pytest.raises(WeightsError) as raised:
        read_weights(file)
    assert str(raised.value).endswith(".")
    assert "\n" not in str(raised.value)
    return raised.value


@pytest.mark.parametrize("kind", ["TorchScript", "pickled"])
def test_the_lines_make_a_network_that_gives_the_same(kind: str, tmp_path: Path) -> None:
    network = Small().eval()
    save(kind, tmp_path / "net.pt", network)
    error = refusal(tmp_path / "net.pt")
    assert ("TorchScript" if kind == "TorchScript" else "needs code (tests.models.test_foreign_networks.Small)") in str(
        error
    )
    (lines,) = error.__notes__
    space: dict[str, type[nn.Module]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec("if True:\n" + lines, space)
        found = space["Wrapped"]().eval()
    images = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        assert torch.equal(found(images), network(images))


def test_an_exported_program_gives_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Small()
    save("torch.export", tmp_path / "net.pt2", network)
    error = refusal(tmp_path / "net.pt2")
    assert "is a program of torch.export" in str(error)
    monkeypatch.chdir(tmp_path)
    exec("if True:\n" + error.__notes__[0])
    assert torch.equal(read_weights(tmp_path / "weights.pt")[""]["conv.weight"], network.conv.weight)


def test_an_onnx_graph_and_a_keras_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"\x08\x08\x12\x07pytorch" + bytes(100))
    error = refusal(tmp_path / "net.onnx")
    assert "is an ONNX graph" in str(error)
    assert "onnxruntime.InferenceSession" in error.__notes__[0]
    (tmp_path / "net.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert "is an HDF5 file, as Keras writes weights" in str(refusal(tmp_path / "net.h5"))


def test_names_tell_whose_network_it_is(tmp_path: Path) -> None:
    dofa = hint(["pos_embed", "patch_embed.weight_generator.weight_tokens"], tmp_path / "w.pt")
    assert dofa is not None
    assert "--arch python:ssl4eo_bench.backbones.dofa:Dofa" in dofa.sentence
    vit = hint(["vit.embeddings.cls_token", "vit.encoder.layer.0.attention.attention.query.weight"], tmp_path / "w.pt")
    assert vit is not None
    assert "AutoModel.from_pretrained" in vit.lines
    assert hint(["conv1.weight", "blocks.0.attn.qkv.weight"], tmp_path / "w.pt") is None


def test_the_command_line_shows_the_lines(tmp_path: Path) -> None:
    torch.save({"vit.embeddings.cls_token": torch.zeros(1, 1, 8)}, tmp_path / "vit.pt")
    save("pickled", tmp_path / "whole.pt", Small())
    for name in ("vit.pt", "whole.pt"):
        command = [sys.executable, "-m", "ssl4eo_bench", "checkpoint", "inspect", str(tmp_path / name)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode in (1, 2)
        assert "class Wrapped(nn.Module):" in done.stdout + done.stderr
