"""A weight file of one's own: looked into, and run without any catalogue."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from timm import create_model

from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.weights import DriveWeights
from ssl4eo_bench.models.build import build
from ssl4eo_bench.models.timm_model import classifier_prefixes, create_empty
from ssl4eo_bench.models.weight_files import weights_place
from ssl4eo_bench.results.files import read_results
from tests.models.layouts import WRITERS, State, decur, filled, moco_v2, timm

Command = Callable[..., tuple[int, str, str]]
S2 = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"]
FAMILIES = {
    "resnet": "resnet50",
    "vit": "vit_small_patch16_224",
    "dinov2": "vit_small_patch14_dinov2",
    "beit": "beit_small_patch16_224",
}


UNSEEN = [*(("dino-student", family) for family in FAMILIES), ("torchvision", "resnet")]
"""A student's file has a teacher, which comes first; torchvision's ResNets have timm's names."""


def initialised(arch: str, channels: int, seed: int = 0) -> State:
    """Values that a network can run with."""
    torch.manual_seed(seed)
    module = create_model(arch, in_chans=channels)
    return {
        name: tensor for name, tensor in module.state_dict().items() if not name.startswith(classifier_prefixes(module))
    }


def backbone(arch: str, channels: int) -> State:
    module = create_empty(arch, channels, 224)
    return {name: tensor for name, tensor in filled(module).items() if not name.startswith(classifier_prefixes(module))}


@pytest.mark.parametrize(
    ("layout", "family"),
    [(layout, family) for layout, writers in WRITERS.items() for family in writers if (layout, family) not in UNSEEN],
)
def test_inspect_finds_layout_architecture_and_channels(
    command: Command, tmp_path: Path, layout: str, family: str
) -> None:
    torch.save(WRITERS[layout][family](backbone(FAMILIES[family], 13)), tmp_path / "w.pth")
    code, out, err = command("checkpoint", "inspect", tmp_path / "w.pth", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)["readings"]
    assert (layout, FAMILIES[family], 13) in [(one["layout"], one["arch"], one["channels"]) for one in found]
    assert all(one["loads"] for one in found)


def test_inspect_writes_an_entry_that_loads(command: Command, tmp_path: Path) -> None:
    torch.save(moco_v2(initialised("resnet18", 13)), tmp_path / "w.pth")
    code, out, _ = command("checkpoint", "inspect", tmp_path / "w.pth")
    assert code == 0
    assert "not needed    encoder_k (124), encoder_q.fc (4), queue (1), queue_ptr (1)" in out
    entry = out[out.index("checkpoints:") :]
    assert list(yaml.safe_load(entry)["checkpoints"]) == ["resnet18.mine"]
    (tmp_path / "mine.yaml").write_text(entry)
    code, out, err = command(
        *("run", "--task", "eurosat", "--protocol", "linear", "--sample", "--checkpoints", tmp_path / "mine.yaml"),
        *("--checkpoint", "resnet18.mine", "--image-size", "32", "--limit", "20"),
    )
    assert code == 0, err
    told = "weights of resnet18.mine@32: 120 tensors, layout moco-v2 under 'state_dict', 130 others not needed"
    assert told in " ".join(err.split())


def test_inspect_shows_both_networks_of_a_file(command: Command, tmp_path: Path) -> None:
    torch.save(decur("backbone_1", "backbone_2")(backbone("resnet18", 2)), tmp_path / "w.pth")
    code, out, _ = command("checkpoint", "inspect", tmp_path / "w.pth")
    assert code == 0
    assert "layout        decur-s1 under 'model'" in out
    assert "layout        decur-s2 under 'model'" in out
    assert "bands: [VV, VH]" in out


def test_inspect_says_what_would_not_load(command: Command, tmp_path: Path) -> None:
    state = backbone("vit_tiny_patch16_224", 3)
    state["blocks.3.more"] = state.pop("blocks.3.norm1.bias")
    torch.save(timm(state), tmp_path / "w.pth")
    code, out, _ = command("checkpoint", "inspect", tmp_path / "w.pth")
    assert code == 1
    assert "missing       blocks.3.norm1.bias" in out
    assert "no place for  blocks.3.more" in out
    assert "attention     3 heads in vit_tiny_patch16_224" in out
    code, out, _ = command("checkpoint", "inspect", tmp_path / "w.pth", "--arch", "vit_small_patch16_224")
    assert code == 1
    assert "other shape   cls_token (1, 1, 192) instead of (1, 1, 384)" in out


def test_inspect_of_a_network_it_does_not_know_asks_for_its_name(command: Command, tmp_path: Path) -> None:
    torch.save(backbone("efficientnet_lite0", 3), tmp_path / "w.pth")
    code, out, _ = command("checkpoint", "inspect", tmp_path / "w.pth")
    assert code == 1
    assert "architecture  not known from names and shapes; name it with --arch" in out
    assert command("checkpoint", "inspect", tmp_path / "w.pth", "--arch", "efficientnet_lite0")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.pth"], "absent.pth is not a file; name a weight file."),
        (["w.pth", "--arch", "resnet81"], "timm architecture 'resnet81' not found; did you mean"),
        (["w.pth", "--layout", "mooc-v2"], "layout 'mooc-v2' not found; did you mean 'moco-v2'"),
        (["w.pth", "--layout", "mae"], "w.pth shows nothing of layout mae; leave --layout away"),
        (["page.pth"], "page.pth is a web page, not weights"),
        (["numbers.pth"], "numbers.pth holds no tensors by name, found list"),
        (["whole.pth"], "whole.pth cannot be read as tensors: it needs code (torch.nn.modules.linear.Linear)"),
    ],
)
def test_inspect_refuses_in_one_sentence(command: Command, arguments: list[str], message: str) -> None:
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, "w.pth")
    Path("page.pth").write_text("<html></html>")
    torch.save([1, 2], "numbers.pth")
    torch.save(torch.nn.Linear(2, 2), "whole.pth")
    code, out, err = command("checkpoint", "inspect", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    sentence, *_ = err.split("\n\n")  # code that helps comes after it
    assert len(sentence.splitlines()) == 1


RUN = ("run", "--task", "eurosat", "--protocol", "linear", "--sample", "--limit", "20", "--image-size", "32")
OWN = ("--weights", "w.pth", "--arch", "resnet18", "--bands", *S2, "--scaling", "divide=10000")


def test_a_weight_file_runs_without_any_catalogue(command: Command) -> None:
    torch.save(moco_v2(initialised("resnet18", 13)), "w.pth")
    code, _, err = command(*RUN, *OWN)
    assert code == 0, err
    (result,) = read_results(Path("results"))
    checkpoint = result.spec.checkpoint
    assert (checkpoint.name, checkpoint.image_size, checkpoint.bands) == ("resnet18.w", 32, tuple(S2))
    assert checkpoint.scaling.model_dump() == {"divide": 10000.0}
    code, out, _ = command("features", "--task", "eurosat", "--sample", "--limit", "20", "--image-size", "32", *OWN,
                           "--out", "f.npz")  # fmt: skip
    assert code == 0
    assert "from the cache" in out
    assert np.load("f.npz")["features"].shape == (20, 512)
    torch.save(moco_v2(initialised("resnet18", 13, seed=1)), "w.pth")
    code, _, err = command(*RUN, *OWN)
    assert code == 2
    assert "holds the result of another specification under the same name" in err
    assert command(*RUN, *OWN, "--name", "resnet18.second")[0] == 0


def test_position_embeddings_follow_the_input_size_when_asked(command: Command) -> None:
    torch.save(timm(initialised("vit_tiny_patch16_224", 3)), "w.pth")
    own = (*("--weights", "w.pth", "--arch", "vit_tiny_patch16_224", "--feature", "cls"),
           *("--bands", "B04,B03,B02", "--scaling", "{uint8: 10000}"))  # fmt: skip
    code, _, err = command(*RUN, *own)
    assert code == 2
    assert "of another shape: pos_embed (1, 197, 192) instead of (1, 5, 192)" in err
    code, out, err = command(*RUN, *own, "--resize-pos-embed")
    assert code == 0, err
    assert "position embeddings resized from 14 × 14 to 2 × 2 patches" in " ".join(err.split())
    assert "warning      vit_tiny_patch16_224.w: position embeddings are resized to an input of 32 pixels" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arch", "resnet18"], "--arch says something about a weight file; name it with --weights FILE."),
        (["--weights", "w.pth"], "--weights w.pth does not say all: --arch, --bands, --scaling are needed as well"),
        (["--weights", "no.pth", *OWN[2:]], "--weights no.pth is not a file"),
        ([*OWN[:-1], "divide"], "--weights w.pth: scaling"),
        ([*OWN[:-1], "divide=many"], "--scaling 'divide=many' is not known; write divide=10000"),
        ([*OWN[:-1], "{divide"], "--scaling '{divide' is not known"),
        ([*OWN[:-1], "{divide: 1, divide: 2}"], "is not known (key 'divide' is given twice"),
        ([*OWN[:-1], "[" * 4000], "is not known (it is nested too deeply); write divide=10000"),
        ([*OWN[:-1], f"{{divide: {'1:' * 400}1.0}}"], "is not known (int too large to convert to float); write divide"),
        ([*OWN[:-1], "{divide: " + "9" * 400 + "}"], "is not known (a number has 400 digits); write divide"),
        ([*OWN[:-1], "multiply=2"], "one of the keys divide, stretch"),
        ([*OWN, "--layout", "none"], "layout must be one of auto, timm-by-order, own, moco-v2"),
        ([*OWN, "--feature", "last"], "feature"),
        ([*OWN, "--name", "resnet18.random"], "'resnet18.random' is already in the catalogue; choose another name"),
        ([*OWN, "--name", "../up"], "a checkpoint name is made of letters"),
        ([*OWN, "--name", "timm:resnet18.a1_in1k"], "has ':' in it, which marks the models of timm; choose another"),
        ([*OWN, "--name", "resnet18.random@64"], "has '@' in it, which marks another input size or precision"),
        ([word.replace("resnet18", "resnet81") for word in OWN], "timm architecture 'resnet81' not found"),
        ([*OWN, "--bands", "NDVI"], "band 'NDVI' is not known"),
        ([*OWN[:5], "B04", "B03", "B02", *OWN[-2:]], "conv1.weight (64, 13, 7, 7) instead of (64, 3, 7, 7)"),
    ],
    ids=range(20),
)
def test_what_is_said_of_a_weight_file_must_make_a_checkpoint(
    command: Command, arguments: list[str], message: str
) -> None:
    torch.save(moco_v2(backbone("resnet18", 13)), "w.pth")
    code, _, err = command(*RUN, "--quiet", *arguments)
    assert code == 2
    assert message in err
    assert not Path("results/runs").exists()


def test_options_that_do_not_go_together_are_refused(command: Command) -> None:
    torch.save(moco_v2(backbone("resnet18", 13)), "w.pth")
    features: tuple[Any, ...] = ("features", "--task", "eurosat", "--sample", "--out", "f.npz")
    run = ("run", "--task", "eurosat", "--protocol", "linear", "--sample")
    either = "name it with either --checkpoint NAME or --weights FILE"
    for arguments, message in (
        (features, either),
        ((*features, *OWN, "--checkpoint", "bandstats"), either),
        ((*run, "--resize-pos-embed"), "--resize-pos-embed resizes to what --image-size N says; add that."),
    ):
        code, _, err = command(*arguments)
        assert (code, message in err) == (2, True)


def test_features_follow_a_file_that_is_not_pinned(command: Command, tmp_path: Path) -> None:
    weights = DriveWeights(drive="1aB2_cD3-eF4gH5iJ6kL7mN8oP9", file="w.pth")
    place = weights_place(weights, tmp_path / "cache")
    place.parent.mkdir(parents=True)
    Path("mine.yaml").write_text(
        "checkpoints:\n  resnet18.mine: {arch: resnet18, weights: "
        f"{{drive: {weights.drive}, file: w.pth}}, bands: {S2}, image_size: 32, scaling: {{divide: 10000}}}}\n"
    )
    arguments = ("features", "--task", "eurosat", "--sample", "--limit", "12", "--checkpoints", "mine.yaml",
                 "--checkpoint", "resnet18.mine", "--out", "f.npz", "--force")  # fmt: skip
    found = []
    for seed in (0, 1):
        torch.save(timm(initialised("resnet18", 13, seed)), place)
        for origin in ("computed", "from the cache"):
            code, out, err = command(*arguments)
            assert code == 0, err
            assert out.splitlines()[1].endswith(origin)
        found.append(np.load("f.npz")["features"])
        place.with_name("w.pth.sha256").unlink()  # the new file is meant
    assert not np.allclose(*found)


def test_inspect_of_two_copies_writes_an_entry_for_each(command: Command, tmp_path: Path) -> None:
    state = initialised("vit_tiny_patch16_224", 13)
    decoder = {"decoder_embed.weight": torch.zeros(2)}
    average = {name: tensor + 1 for name, tensor in state.items()}
    torch.save({"model": state | decoder, "model_ema": average | decoder}, "w.pth")
    code, out, _ = command("checkpoint", "inspect", "w.pth")
    assert code == 0
    first, second = (yaml.safe_load(part) for part in re.findall(r"^checkpoints:(?:\n .*)+", out, re.MULTILINE))
    for written, biases in ((first, state), (second, average)):
        entry = Checkpoint.model_validate({"name": "mine"} | written["checkpoints"]["vit_tiny_patch16_224.mine"])
        assert torch.equal(build(entry, seed=0).state_dict()["network.norm.bias"], biases["norm.bias"])


def vit(**tensors: torch.Tensor) -> State:
    return backbone("vit_tiny_patch16_224", 3) | {name.replace("__", "."): tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("state", "arguments"),
    [
        (vit(patch_embed__proj__weight=torch.zeros(192, 0, 16, 16)), ()),
        (vit(patch_embed__proj__weight=torch.zeros(192, 1, 16, 16).expand(-1, 10**9, -1, -1)), ()),
        (vit(patch_embed__proj__weight=torch.zeros(192, 0, 16, 16)), ("--arch", "vit_tiny_patch16_224")),
        (vit(patch_embed__proj__weight=torch.zeros(192)), ()),
        (vit(patch_embed__proj__weight=torch.zeros(192, 3, 16, 0)), ()),
        (vit(pos_embed=torch.zeros(1, 0, 192)), ()),
        (vit(pos_embed=torch.zeros(1, 1, 192).expand(-1, 10**12, -1)), ()),
        (vit(pos_embed=torch.zeros(1, 5, 192)), ("--arch", "swin_tiny_patch4_window7_224")),
        (vit(patch_embed__proj__weight=torch.zeros(192, 3, 16, 16).to_sparse()), ()),
        (vit() | {"": torch.zeros(2), ".": torch.zeros(2), ".x": torch.zeros(2)}, ()),
        ({".relative_position_index": torch.zeros(2), "rel_pos_bias.x": torch.zeros(2)}, ("--layout", "data2vec")),
        ({"conv1.weight": torch.zeros(2), "layer4.0.conv2.weight": torch.zeros(())}, ()),
        ({"weight": torch.zeros(3)}, ("--arch", "resnet18")),
    ],
    ids=range(13),
)
def test_inspect_of_an_odd_file_says_that_it_does_not_load(
    command: Command, state: State, arguments: tuple[str, ...]
) -> None:
    torch.save(state, "w.pth")
    code, _, err = command("checkpoint", "inspect", "w.pth", *arguments)
    assert code == 1 or (code == 2 and len(err.splitlines()) == 1)


def test_the_size_that_position_embeddings_tell_has_a_limit(command: Command) -> None:
    torch.save(vit(pos_embed=torch.zeros(1, 1, 192).expand(-1, 100 * 100 + 1, -1)), "w.pth")
    _, out, _ = command("checkpoint", "inspect", "w.pth", "--json")
    assert json.loads(out)["readings"][0]["image_size"] == 1024


def test_an_empty_file_is_not_run(command: Command) -> None:
    Path("w.pth").touch()
    for arguments in (("checkpoint", "inspect", "w.pth"), (*RUN, *OWN, "--quiet")):
        code, _, err = command(*arguments)
        assert code == 2
        assert "w.pth is empty, not weights; get it again." in err


def test_a_layout_may_be_written_out_on_the_command_line(command: Command) -> None:
    state = {f"net.{name}": tensor for name, tensor in initialised("resnet18", 13).items()}
    torch.save(state | {"head.weight": torch.zeros(2, 2)}, "w.pth")
    layout = "{prefix: net., leftovers: ['head.*', 'net.fc.*']}"
    code, _, err = command(*RUN, *OWN, "--layout", layout, "--dry-run")
    assert code == 0, err
    code, _, err = command(*RUN, *OWN, "--layout", layout)
    assert code == 0, err
    code, _, err = command(*RUN, *OWN, "--layout", "{prefix: [}", "--name", "other")
    assert code == 2
    assert "--layout '{prefix: [}' is not known" in err


def test_a_file_is_no_architecture(command: Command) -> None:
    Path("net.pt").write_bytes(b"PK")
    options = ("--task", "eurosat-rgb", "--protocol", "knn", "--sample", "--bands", "B04", "--scaling", "divide=1")
    code, _, err = command("run", *options, "--arch", "net.pt", "--weights", "random")
    assert (code, "--arch net.pt is a file, and an architecture is a name; give the file with --weights" in err) == (
        2,
        True,
    )
