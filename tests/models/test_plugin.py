"""Backbones of any class: how they are found, built, loaded and refused."""

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.weights import OwnWeights
from ssl4eo_bench.errors import SpecError, WeightsError
from ssl4eo_bench.files.hashing import file_hash
from ssl4eo_bench.models.build import build
from ssl4eo_bench.models.plugin import (
    Inputs,
    alive,
    network_sha256,
    resolved,
    with_own_weights,
)
from ssl4eo_bench.models.plugin_source import FOLDER_VARIABLE, library_versions, require_current
from ssl4eo_bench.models.self_test import require_sound, run_checks

BANDS = ("B04", "B03", "B02")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of backbones; its modules are forgotten afterwards."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    before, path = set(sys.modules), list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def write(folder: Path, name: str, code: str) -> Path:
    file = folder / f"{name}.py"
    head = "import torch\nfrom torch import nn\nfrom ssl4eo_bench import Features, Inputs, Meta\n\n"
    file.write_text(head + textwrap.dedent(code))
    return file


def entry(module: str, **changes: object) -> Checkpoint:
    """A checkpoint of the class `Net` of a module."""
    fields: dict[str, object] = {
        "name": "mine",
        "arch": f"python:{module}:Net",
        "weights": {"random": True},
        "bands": BANDS,
        "image_size": 16,
        "scaling": {"divide": 10000},
    }
    return Checkpoint.model_validate(fields | changes)


def network(checkpoint: Checkpoint, seed: int = 0) -> Any:
    """The network that is built for a checkpoint."""
    return build(checkpoint, seed=seed).network


CONV = """
class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 4, stride=4)

    def forward(self, images):
        return self.conv(images)
"""


def test_a_map_is_pooled_by_its_mean(folder: Path) -> None:
    write(folder, "net_map", CONV)
    backbone = build(resolved(entry("net_map", options={"width": 5})), seed=1)
    images = torch.randn(2, 3, 16, 16)
    assert (backbone.strides, backbone.channels) == ((4,), (5,))
    assert torch.equal(backbone.pooled(images), backbone.maps(images, [0])[0].mean(dim=(2, 3)))
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_the_class_is_told_its_channels(folder: Path) -> None:
    code = """
    class Net(nn.Module):
        reads = ("wavelength",)

        def __init__(self, inputs: Inputs):
            super().__init__()
            self.register_buffer("nm", torch.tensor([channel.wavelength for channel in inputs.channels]))
            self.told = inputs

        def forward(self, images):
            return images.mean(dim=(2, 3)) * self.nm
    """
    write(folder, "net_told", code)
    checkpoint = resolved(entry("net_told", bands=["B8A", "B10"]))
    assert checkpoint.reads == ("wavelength",)
    told = network(checkpoint, 0).told
    assert told == Inputs.of(("B8A", "B10"), 16)
    assert told.channels[0] == ("B8A", "Sentinel-2", 865, 20, 20)


def test_radar_has_its_true_wavelength() -> None:
    inputs = Inputs.of(("VV", "B02"), 16)
    assert inputs.channels[0].sensor == "Sentinel-1"
    assert inputs.channels[0].wavelength == pytest.approx(299_792_458 / 5.405)  # nm, of 5.405 GHz
    assert (inputs.positions("Sentinel-1"), inputs.positions("Sentinel-2")) == ([0], [1])


def test_files_load_by_name_and_shape_alone(folder: Path, tmp_path: Path) -> None:
    write(folder, "net_file", CONV)
    planned = resolved(entry("net_file"))
    good = {"conv.weight": torch.ones(8, 3, 4, 4), "conv.bias": torch.zeros(8)}
    for name, state in {"good": good, "short": {"conv.weight": good["conv.weight"]}}.items():
        torch.save(state, tmp_path / f"{name}.pt")
    stored = {
        name: {"path": str(tmp_path / f"{name}.pt"), "sha256": file_hash(tmp_path / f"{name}.pt")}
        for name in ("good", "short")
    }
    loaded = network(entry("net_file", weights=stored["good"]), 0)
    assert torch.equal(loaded.conv.weight, good["conv.weight"])
    with pytest.raises(WeightsError, match="do not fit its architecture.*missing: conv.bias"):
        build(entry("net_file", weights=stored["short"]), seed=0)
    assert planned.arch == "python:net_file:Net"
    torch.save({f"model.{name}": tensor for name, tensor in good.items()}, tmp_path / "prefixed.pt")
    prefixed = {"path": str(tmp_path / "prefixed.pt"), "sha256": file_hash(tmp_path / "prefixed.pt")}
    with pytest.raises(WeightsError, match=r"the layout of the entry \(perhaps `layout: \{prefix: model.\}`\)"):
        build(entry("net_file", weights=prefixed), seed=0)


def test_a_class_may_load_its_file_itself(folder: Path, tmp_path: Path) -> None:
    code = (
        CONV
        + """
    def load_weights(self, file):
        self.conv.bias.data.fill_(float(file.read_text()))
"""
    )
    write(folder, "net_loads", code)
    write(folder, "net_does_not", CONV)
    for name, content in {"good": b"2.5", "bad": b"\x80"}.items():
        (tmp_path / name).write_bytes(content)
    weights = {
        name: {"path": str(tmp_path / name), "sha256": file_hash(tmp_path / name), "layout": "own"}
        for name in ("good", "bad")
    }
    assert (network(entry("net_loads", weights=weights["good"])).conv.bias == 2.5).all()
    with pytest.raises(WeightsError, match=r"cannot load .*UnicodeDecodeError.*net_loads.py line"):
        build(entry("net_loads", weights=weights["bad"]), seed=0)
    with pytest.raises(WeightsError, match=r"has no `load_weights\(self, file\)`"):
        build(entry("net_does_not", weights=weights["good"]), seed=0)


def test_weights_of_the_class_are_known_by_their_values(folder: Path) -> None:
    write(folder, "net_own", CONV.replace("        self.conv =", "        torch.manual_seed(7)\n        self.conv ="))
    own = entry("net_own", weights={"own": True})
    planned = with_own_weights(resolved(own), BANDS)
    assert isinstance(planned.weights, OwnWeights)
    built = network(planned)
    assert planned.weights.sha256 == network_sha256(network(planned, 5))
    with alive(built) as weights:
        assert weights == planned.weights


def test_weights_that_differ_each_time_are_refused(folder: Path) -> None:
    write(folder, "net_drawn", CONV)
    planned = with_own_weights(resolved(entry("net_drawn", weights={"own": True})), BANDS)
    torch.manual_seed(123)
    with pytest.raises(WeightsError, match=r"brings other weights .*if they are drawn at random, say"):
        build(planned, seed=0)


def test_random_weights_follow_the_seed(folder: Path) -> None:
    write(folder, "net_seed", CONV)
    first, same, other = (network(entry("net_seed"), seed).conv.weight for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_an_edit_changes_the_source(folder: Path) -> None:
    file = write(folder, "net_edit", CONV.replace("self.conv(images)", "layers_of_edit.scaled(self.conv(images))"))
    file.write_text("import layers_of_edit\n" + file.read_text())
    (folder / "layers_of_edit.py").write_text("def scaled(x):\n    return 2 * x\n")
    before = resolved(entry("net_edit"))
    (folder / "layers_of_edit.py").write_text("def scaled(x):\n    return 3 * x\n")
    after = resolved(entry("net_edit"))
    assert before.source_sha256 != after.source_sha256
    assert before.identity() != after.identity()
    pinned = entry("net_edit", source_sha256=before.source_sha256)
    with pytest.raises(WeightsError, match="the source of 'python:net_edit:Net' has sha256"):
        resolved(pinned)


def test_a_class_older_than_its_file_is_refused(folder: Path) -> None:
    two_of_a_name = "self.conv((lambda one: 2 * one)(images) - (lambda one: one)(images))"
    file = write(folder, "net_stale", CONV.replace("self.conv(images)", two_of_a_name))
    found = type(network(entry("net_stale"), 0))
    require_current(found)
    file.write_text(file.read_text() + "\n# a comment is no other code\n")
    require_current(found)
    file.write_text(file.read_text().replace("2 * one", "3 * one"))
    with pytest.raises(SpecError, match="was edited after Net was imported"):
        require_current(found)


def test_the_structure_is_part_of_the_identity() -> None:
    one, other = (nn.Sequential(nn.Conv2d(3, 4, 2), activation) for activation in (nn.ReLU(), nn.GELU()))
    other.load_state_dict(one.state_dict())
    assert network_sha256(one) != network_sha256(other)


def test_versions_of_imported_libraries_are_known(folder: Path) -> None:
    write(folder, "net_timm", "import timm\n" + textwrap.dedent(CONV))
    build(entry("net_timm"), seed=0)
    assert {"timm", "torch"} <= set(library_versions(sys.modules["net_timm"].Net))


HOSTILE = {
    "raises": (
        "        raise KeyError('no such layer')",
        r"fails on images \[2, 3, 16, 16\] \(KeyError: 'no such layer', .* line",
    ),
    "nan": (
        "        return self.conv(images).mean(dim=(2, 3)) * float('nan')",
        "gives features that are NaN or infinite",
    ),
    "tuple": ("        return self.conv(images), None", "gives a tuple; let its forward return a tensor"),
    "shape": ("        return self.conv(images).flatten()", r"gives pooled as torch.float32 \[256\] for 2 images"),
    "one": ("        return self.conv(images).mean(dim=(0, 2, 3)).unsqueeze(0)", "for 2 images; floats"),
    "constant": ("        return torch.ones(len(images), 8)", "gives the same features for two different images"),
    "drops": (
        "        return torch.dropout(self.conv(images), 0.5, True)",
        "gives other features for the same images the second time",
    ),
    "batch": (
        "        x = self.conv(images)\n        return x - x.mean(dim=0)",
        "(for an image alone than in a batch|for two different images)",
    ),
    "trains": (
        "        self.train()\n        return self.conv(images)",
        "puts network, network.conv into training mode",
    ),
    "updates": (
        "        self.conv.bias.data += 1\n        return self.conv(images)",
        "(changes its parameters|the second time)",
    ),
    "in_place": (
        "        out = self.conv(images)\n        images.zero_()\n        return out",
        "changes its input images in place",
    ),
    "blind": ("        return self.conv(images * torch.tensor([1.0, 0.0, 1.0])[:, None, None])", "does not see B03"),
    "gpu": ("        return self.conv(images.to('cuda:7'))", "fails on images"),
    "exits": ("        raise SystemExit(3)", "fails on images"),
    "integers": ("        return self.conv(images).mean(dim=(2, 3)).int()", "gives pooled as torch.int32"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_network_that_cannot_be_trusted_is_refused_in_one_sentence(kind: str, folder: Path) -> None:
    body, sentence = HOSTILE[kind]
    write(folder, f"hostile_{kind}", CONV.replace("        return self.conv(images)\n", f"{body}\n"))
    with pytest.raises(SpecError, match=sentence) as refusal:
        require_sound(resolved(entry(f"hostile_{kind}")), seed=0, cache_dir=folder)
    assert str(refusal.value).count("\n") == 0


CONSTRUCTORS = {
    "raises": ("raise ValueError('depth')", r"cannot be built \(ValueError: depth, .* line"),
    "exits": ("raise SystemExit(1)", "cannot be built"),
    "needs": ("open('/nonexistent/weights.pt')", "cannot be built .FileNotFoundError"),
}


@pytest.mark.parametrize("kind", CONSTRUCTORS)
def test_a_class_that_cannot_be_built_is_refused(kind: str, folder: Path) -> None:
    body, sentence = CONSTRUCTORS[kind]
    write(folder, f"class_{kind}", f"class Net(nn.Module):\n    def __init__(self):\n        {body}\n")
    with pytest.raises(SpecError, match=sentence):
        build(resolved(entry(f"class_{kind}")), seed=0)


def test_modules_and_classes_that_are_not_there_are_named(folder: Path) -> None:
    write(folder, "net_here", CONV)
    write(folder, "net_missing", "import a_library_that_is_not_here\n")
    write(folder, "net_broken", "1 / 0\n")
    write(folder, "json", CONV)
    write(folder, "net_function", "def Net():\n    return nn.Identity()\n")
    write(folder, "net_reads", CONV.replace("    def __init__", "    reads = ('colour',)\n\n    def __init__"))
    sentences = {
        "nowhere": "there is no Python module 'nowhere'.*--backbones-dir",
        "net_missing": "needs the Python package 'a_library_that_is_not_here'",
        "net_broken": r"cannot be imported \(ZeroDivisionError: division by zero, net_broken.py line 5\)",
        "json": "json.py has the name of another Python module",
        "net_function": "is a function, not a class",
        "net_reads": "`reads` of 'python:net_reads:Net' is",
    }
    for module, sentence in sentences.items():
        with pytest.raises(SpecError, match=sentence):
            resolved(entry(module))
    with pytest.raises(SpecError, match="python:net_here: class 'Other' not found"):
        resolved(entry("net_here", arch="python:net_here:Other"))


def test_wavelengths_and_not_positions_decide_where_a_class_says_so(folder: Path) -> None:
    code = """
    class Net(nn.Module):
        reads = ("wavelength",)

        def __init__(self, inputs: Inputs):
            super().__init__()
            nm = torch.tensor([channel.wavelength for channel in inputs.channels])
            self.register_buffer("weights", {weights}, persistent=False)

        def forward(self, images):
            return (images * self.weights[:, None, None]).sum(dim=1).flatten(1)
    """
    write(folder, "net_honest", code.format(weights="nm / 1000"))
    write(folder, "net_sloppy", code.format(weights="torch.arange(1.0, 1 + len(nm))"))
    assert not any(fault for _, fault in run_checks(resolved(entry("net_honest"))))
    faults = [fault for _, fault in run_checks(resolved(entry("net_sloppy"))) if fault]
    assert len(faults) == 1
    assert faults[0].startswith("reads wavelengths, but depends on the order of channels")


def test_a_port_is_proved_against_its_origin(folder: Path) -> None:
    write(folder, "net_port", CONV)
    checkpoint = resolved(entry("net_port"))
    image = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        values = build(checkpoint, seed=0).pooled(image)[0, :3].tolist()
    for shift, passes in ((0.0, True), (0.01, False)):
        reference = {"seed": 4, "features": [value + shift for value in values]}
        *_, (name, fault) = run_checks(entry("net_port", reference=reference), seed=0)
        assert name == "features are those of the original"
        assert (fault == "") is passes


def test_a_feature_that_is_not_there_is_refused(folder: Path) -> None:
    write(folder, "net_no_cls", CONV)
    with pytest.raises(SpecError, match="asks for feature 'cls', but python:net_no_cls:Net has no class token"):
        list(run_checks(resolved(entry("net_no_cls", feature="cls"))))


def test_layers_have_their_own_learning_rates(folder: Path) -> None:
    code = """
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 4, 4, stride=4), nn.Conv2d(4, 4, 1)
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, images):
            return self.last(self.first(images)) * self.scale

        def layers(self):
            return [self.first.parameters(), self.last.parameters()]
    """
    write(folder, "net_layers", code)
    backbone = build(resolved(entry("net_layers")), seed=0).requires_grad_(requires_grad=True)
    groups = backbone.parameter_groups(0.05, 0.5)
    assert [(group["weight_decay"], group["lr_scale"], len(group["params"])) for group in groups] == [
        (0.05, 0.25, 1),
        (0.0, 0.25, 2),  # with the scale, which no layer has
        (0.05, 0.5, 1),
        (0.0, 0.5, 1),
    ]


def test_a_live_network_is_not_changed() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 4, stride=4), nn.BatchNorm2d(4)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with alive(network) as weights:
        checkpoint = resolved(entry("x", arch="python:torch.nn.modules.container:Sequential", weights=weights))
        build(checkpoint, seed=0)
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
