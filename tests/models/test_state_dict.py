"""Every layout loads to the last tensor; a tensor that is missing, unexpected, renamed or of another shape is refused."""

import hashlib
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.layouts import DETECTED, LAYOUTS, Layout
from ssl4eo_bench.errors import WeightsError
from ssl4eo_bench.models.state_dict import load
from ssl4eo_bench.models.timm_model import classifier_prefixes, create_empty
from ssl4eo_bench.models.weight_reader import dicts_of_tensors, read_weights
from tests.conftest import Recorder
from tests.models.layouts import (
    WRITERS,
    State,
    decur,
    dino,
    dino_student,
    filled,
    mae,
    moco_v2,
    nested,
    other,
    put,
    tensors_of,
    timm,
)

ARCHITECTURES = {
    "resnet": "resnet18",
    "vit": "vit_tiny_patch16_224",
    "dinov2": "vit_small_patch14_dinov2",
    "beit": "beit_small_patch16_224",
}
CASES = [(layout, family) for layout, writers in WRITERS.items() for family in writers]


def entry(family: str, weights: dict[str, Any] | None = None, **changes: Any) -> Checkpoint:
    values: dict[str, Any] = {"name": "mine", "arch": ARCHITECTURES[family], "weights": weights or {"random": True}}
    values |= {"bands": ["B02", "B03", "B04", "B08"], "image_size": 224, "scaling": {"divide": 10000}}
    return Checkpoint.model_validate(values | changes)


@cache
def empty(family: str) -> nn.Module:
    return create_empty(ARCHITECTURES[family], 4, 224)


@cache
def backbone(family: str) -> State:
    """Random values for everything but the classifier."""
    module = empty(family)
    return {name: tensor for name, tensor in filled(module).items() if not name.startswith(classifier_prefixes(module))}


def saved(folder: Path, content: Any, name: str = "w.pth", **options: Any) -> dict[str, Any]:
    file = folder / name
    if name.endswith(".safetensors"):
        save_file({key: tensor.clone() for key, tensor in content.items()}, file)
    else:
        torch.save(content, file, **options)
    return {"path": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def built(folder: Path, family: str, content: Any, layout: Any = "auto", **changes: Any) -> State:
    """The tensors of the backbone that is built from a file with this content."""
    return tensors_of(entry(family, saved(folder, content) | {"layout": layout}, **changes))


def expected(layout: str, family: str) -> State:
    state = dict(backbone(family))
    if layout == "data2vec":  # its files do not have them
        state |= {"fc_norm.weight": torch.ones(384), "fc_norm.bias": torch.zeros(384)}
    if layout == "torchvision":  # nor its these
        counters = [name for name in state if name.endswith("num_batches_tracked")]
        state |= {name: torch.zeros((), dtype=torch.long) for name in counters}
    return state


def test_every_layout_has_a_file_here() -> None:
    assert set(WRITERS) == set(LAYOUTS)


WAYS = [(*case, "explicit") for case in CASES] + [(*case, "detected") for case in CASES if case[0] in DETECTED]


@pytest.mark.parametrize(("layout", "family", "way"), WAYS)
def test_every_tensor_comes_from_the_file(tmp_path: Path, layout: str, family: str, way: str) -> None:
    content = WRITERS[layout][family](backbone(family))
    loaded = built(tmp_path, family, content, layout if way == "explicit" else "auto")
    wanted = expected(layout, family)
    assert set(loaded) == set(wanted)
    for name, tensor in loaded.items():
        assert torch.equal(tensor, wanted[name]), name
        assert not tensor.is_meta


def last_weight(state: State) -> str:
    """A weight in the middle of the network."""
    return [name for name in state if name.endswith(("norm2.weight", "bn2.weight"))][-1]


def renamed(state: State) -> State:
    name = last_weight(state)
    return {key + ("x" if key == name else ""): tensor for key, tensor in state.items()}


def without_one(state: State) -> State:
    return {key: tensor for key, tensor in state.items() if key != last_weight(state)}


def with_one_more(state: State) -> State:
    return state | {last_weight(state).replace("weight", "more"): torch.zeros(2)}


def with_another_shape(state: State) -> State:
    return state | {last_weight(state): torch.zeros(7)}


MUTATIONS: list[tuple[Callable[[State], State], str]] = [
    (renamed, r"missing: \S*2\.weight; without a place: \S*2\.weightx"),
    (without_one, r"missing: \S*2\.weight\)"),
    (with_one_more, r"without a place: \S*2\.more\)"),
    (with_another_shape, r"of another shape: \S*2\.weight \(7,\) instead of \("),
]


@pytest.mark.parametrize(("mutate", "message"), MUTATIONS, ids=[mutation.__name__ for mutation, _ in MUTATIONS])
@pytest.mark.parametrize(("layout", "family", "way"), WAYS)
def test_one_wrong_tensor_is_refused(
    layout: str, family: str, way: str, mutate: Callable[[State], State], message: str
) -> None:
    content = WRITERS[layout][family](mutate(backbone(family)))
    with pytest.raises(WeightsError, match=message):
        load(in_memory(content), empty(family), layout if way == "explicit" else "auto", "mine")


def in_memory(content: Any) -> dict[str, State]:
    """What reading a file with this content gives."""
    return dicts_of_tensors(content, Path("w.pth"))


@pytest.mark.parametrize(("layout", "family"), [case for case in CASES if case[0] not in ("timm", "dinov2")])
def test_something_unexpected_beside_the_backbone_is_refused(layout: str, family: str) -> None:
    content = in_memory(WRITERS[layout][family](backbone(family)))
    for state in content.values():
        if len(state) > 5:
            prefix = "module." if all(name.startswith("module.") for name in state) else ""
            state[f"{prefix}surprise.weight"] = torch.zeros(2)
    with pytest.raises(WeightsError, match=r"without a place: \S*surprise.weight"):
        load(content, empty(family), layout, "mine")


def test_a_file_without_the_final_norm_is_refused() -> None:
    state = {name: tensor for name, tensor in backbone("vit").items() if not name.startswith("norm.")}
    with pytest.raises(WeightsError, match=r"missing: norm.weight, norm.bias\)"):
        load({"": state}, empty("vit"), "auto", "mine")


def test_one_missing_step_counter_is_refused_though_files_without_any_load() -> None:
    state = {name: tensor for name, tensor in backbone("resnet").items() if name != "bn1.num_batches_tracked"}
    with pytest.raises(WeightsError, match=r"missing: bn1.num_batches_tracked\)"):
        load({"": state}, empty("resnet"), "auto", "mine")


def by_order(state: State) -> State:
    """The tensors with names that have only their last part in common with timm's."""
    return {f"_{number}.{name.rpartition('.')[2]}": tensor for number, (name, tensor) in enumerate(state.items())}


def test_other_names_in_the_order_of_timm_load_by_order() -> None:
    state = filled(empty("resnet"))
    loaded = load({"": by_order(state)}, empty("resnet"), "timm-by-order", "mine").state
    assert set(loaded) == set(backbone("resnet"))
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.items())


def test_by_order_refuses_swapped_kinds_and_wrong_counts() -> None:
    state = filled(empty("resnet"))
    names = list(state)
    at = names.index("bn1.running_mean")
    names[at], names[at + 1] = names[at + 1], names[at]  # same shapes, other meaning
    swapped = {name: state[name] for name in names}
    for wrong, message in (
        (swapped, "running_var .* stands where bn1.running_mean"),
        (backbone("resnet"), "hold 120 tensors, but the architecture has 122"),
    ):
        with pytest.raises(WeightsError, match=message):
            load({"": by_order(wrong)}, empty("resnet"), "timm-by-order", "mine")


def test_a_classifier_in_the_file_is_left_out() -> None:
    found = load({"": filled(empty("resnet"))}, empty("resnet"), "auto", "mine")
    assert set(found.state) == set(backbone("resnet"))


def test_an_entry_can_write_its_layout_out(tmp_path: Path) -> None:
    content = {"nets": {"ours": put("net.encoder.", backbone("resnet")) | {"net.decoder.w": torch.zeros(1)}}}
    layout = {"keys": ["nets.ours"], "prefix": "net.encoder.", "leftovers": ["net.decoder.*"]}
    loaded = built(tmp_path, "resnet", content, layout)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in backbone("resnet").items())
    with pytest.raises(WeightsError, match="read as layout of the entry .*without a place: net.decoder.w"):
        built(tmp_path, "resnet", content, layout | {"leftovers": []})
    with pytest.raises(WeightsError, match="the file has no dict of that key"):
        built(tmp_path, "resnet", content, layout | {"keys": ["nets"]})


def test_a_teacher_is_detected_before_its_student_and_a_branch_by_its_bands(tmp_path: Path) -> None:
    told = built(tmp_path, "vit", dino_student(backbone("vit")))
    assert torch.equal(told["norm.bias"], backbone("vit")["norm.bias"] + 1), "the student's values are in the file, too"
    joint = decur("backbone_1", "backbone_2")(backbone("vit"))
    assert torch.equal(built(tmp_path, "vit", joint)["norm.bias"], backbone("vit")["norm.bias"])
    joint["model"] |= put("module.backbone_2.", other(backbone("vit")))  # the same number of bands
    with pytest.raises(WeightsError, match="under 'model' as layout decur-s1 and 'model' as layout decur-s2"):
        built(tmp_path, "vit", joint)


def test_two_copies_of_a_backbone_are_refused_until_one_is_named(tmp_path: Path) -> None:
    one = backbone("resnet")
    content = {"model": one, "model_ema": {name: tensor + 1 for name, tensor in one.items()}}
    with pytest.raises(
        WeightsError, match=r"more than once: under 'model' as layout timm and 'model_ema' as layout timm; say"
    ):
        built(tmp_path, "resnet", content)
    loaded = built(tmp_path, "resnet", content, {"keys": ["model_ema"]})
    assert torch.equal(loaded["bn1.bias"], one["bn1.bias"] + 1)
    same = {"model": one, "model_ema": dict(one)}
    assert torch.equal(built(tmp_path, "resnet", same)["bn1.bias"], one["bn1.bias"])


@pytest.mark.parametrize(("layout", "family"), [("mae", "vit"), ("moco-v2", "resnet"), ("dinov2", "dinov2"),
                                                ("data2vec", "beit"), ("decur-s2", "resnet")])  # fmt: skip
def test_detection_looks_at_every_copy_not_only_under_the_usual_key(layout: str, family: str) -> None:
    content = in_memory(WRITERS[layout][family](backbone(family)))
    key = next(iter(content))
    other_copy = {name: tensor + 1 for name, tensor in content[key].items()}
    both = content | {"net.ema": other_copy}
    with pytest.raises(WeightsError, match=rf"{key!r} as layout {layout} and 'net.ema' as layout {layout}; say which"):
        load(both, empty(family), "auto", "mine")
    assert load(both, empty(family), layout, "mine").key == key
    assert load({"net.ema": other_copy}, empty(family), "auto", "mine").key == "net.ema"
    assert load(content | {"again": dict(content[key])}, empty(family), "auto", "mine").key == key


def test_a_student_is_not_taken_by_another_layout_of_the_same_prefix() -> None:
    content = in_memory(dino(backbone("resnet")))
    assert load(content, empty("resnet"), "auto", "mine").name == "dino"
    with pytest.raises(WeightsError, match="do not fit its architecture"):
        load({"student": content["student"]}, empty("resnet"), "auto", "mine")


def test_the_counter_of_an_averaged_model_is_ignored(tmp_path: Path) -> None:
    averaged = {"n_averaged": torch.tensor(5), **put("module.", backbone("resnet"))}
    for content in (averaged, {"state_dict": put("module.", averaged)}):
        loaded = built(tmp_path, "resnet", content)
        assert all(torch.equal(loaded[name], tensor) for name, tensor in backbone("resnet").items())
    with pytest.raises(WeightsError, match=r"without a place: n_averages\)"):
        load({"": averaged | {"module.n_averages": torch.tensor(5)}}, empty("resnet"), "auto", "mine")


def test_what_was_read_is_shown(tmp_path: Path, progress: Recorder) -> None:
    built(tmp_path, "resnet", moco_v2(backbone("resnet")))
    assert progress.notes == ["weights of mine: 120 tensors, layout moco-v2 under 'state_dict', 130 others not needed"]


@pytest.mark.parametrize("write", [moco_v2, dino, nested], ids=lambda write: write.__name__)
def test_the_older_format_loads_too(tmp_path: Path, write: Callable[[State], Any]) -> None:
    weights = saved(tmp_path, write(backbone("resnet")), _use_new_zipfile_serialization=False)
    loaded = tensors_of(entry("resnet", weights))
    assert all(torch.equal(loaded[name], tensor) for name, tensor in backbone("resnet").items())


def test_safetensors_load_whatever_the_file_is_called(tmp_path: Path) -> None:
    saved(tmp_path, timm(backbone("vit")), "w.safetensors")
    (tmp_path / "w.safetensors").rename(tmp_path / "w.pth")
    sha = hashlib.sha256((tmp_path / "w.pth").read_bytes()).hexdigest()
    loaded = tensors_of(entry("vit", {"path": str(tmp_path / "w.pth"), "sha256": sha}))
    assert all(torch.equal(loaded[name], tensor) for name, tensor in backbone("vit").items())


def test_two_tensors_that_would_get_one_name_are_refused() -> None:
    content = in_memory(WRITERS["lightly"]["resnet"](backbone("resnet")))
    content["state_dict"]["backbone.conv1.weight"] = torch.zeros(64, 4, 7, 7)  # beside backbone.0.weight
    with pytest.raises(WeightsError, match=r"without a place: backbone.conv1.weight\)"):
        load(content, empty("resnet"), "lightly", "mine")


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in backbone("vit").items()}
    loaded = built(tmp_path, "vit", half)
    assert all(tensor.dtype == torch.float32 for tensor in loaded.values())
    assert all(torch.equal(loaded[name], tensor.float()) for name, tensor in half.items())


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.full((64,), float("nan")), "bn1.bias .* is not finite"),
        (torch.full((64,), float("inf")), "bn1.bias .* is not finite"),
        (torch.full((64,), 1e300, dtype=torch.float64), "bn1.bias .* is not finite in torch.float32"),
        (torch.zeros(64, dtype=torch.complex64), "bn1.bias .* is torch.complex64"),
        (torch.zeros(64, dtype=torch.long), "bn1.bias .* is torch.int64 .*not dense torch.float32"),
        (torch.zeros(64).to_sparse(), "bn1.bias .*torch.sparse_coo.*, not dense"),
    ],
    ids=["nan", "infinite", "overflow", "complex", "integer", "sparse"],
)
def test_values_that_no_network_can_have_are_refused(tensor: torch.Tensor, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        load({"": backbone("resnet") | {"bn1.bias": tensor}}, empty("resnet"), "auto", "mine")


def test_position_embeddings_are_resized_only_when_asked(tmp_path: Path, progress: Recorder) -> None:
    content = mae(backbone("vit"))
    with pytest.raises(WeightsError, match=r"of another shape: pos_embed \(1, 197, 192\) instead of \(1, 65, 192\)"):
        built(tmp_path, "vit", content, image_size=128)
    asked = entry("vit", saved(tmp_path, content), image_size=128, resize_pos_embed=True)
    loaded = tensors_of(asked)
    assert progress.notes[0].endswith("position embeddings resized from 14 × 14 to 8 × 8 patches")
    original, resized = backbone("vit")["pos_embed"], loaded["pos_embed"]
    grid = original[:, 1:].reshape(1, 14, 14, 192).permute(0, 3, 1, 2)
    wanted = nn.functional.interpolate(grid, size=(8, 8), mode="bicubic", antialias=True)
    torch.testing.assert_close(resized[:, 1:], wanted.permute(0, 2, 3, 1).reshape(1, 64, 192))
    assert torch.equal(resized[:, :1], original[:, :1]), "the class token has no place in the grid"
    others = [name for name in loaded if name != "pos_embed"]
    assert all(torch.equal(loaded[name], backbone("vit")[name]) for name in others)
    assert asked.identity() != entry("vit", saved(tmp_path, content), image_size=128).identity()


def test_relative_positions_are_never_resized(tmp_path: Path) -> None:
    content = WRITERS["data2vec"]["beit"](backbone("beit"))
    with pytest.raises(WeightsError, match=r"rel_pos_bias.relative_position_bias_table \(732, 6\) instead of"):
        built(tmp_path, "beit", content, image_size=128, resize_pos_embed=True)


@pytest.mark.parametrize(
    "positions",
    [
        torch.ones(197, 192),
        torch.ones(2, 197, 192),
        torch.ones(1, 197, 96),
        torch.ones(1, 1, 192),
        torch.ones(1, 0, 192),
        torch.ones(1, 198, 192),
        torch.ones(1, 197, 192).long(),
        torch.ones(1, 197, 192).to_sparse(),
    ],
    ids=["flat", "two", "narrow", "no-patches", "empty", "no-grid", "integer", "sparse"],
)
def test_tensors_that_are_no_position_embeddings_are_not_resized(positions: torch.Tensor) -> None:
    module = create_empty(ARCHITECTURES["vit"], 4, 128)
    state = backbone("vit") | {"pos_embed": positions}
    with pytest.raises(WeightsError, match=r"of another shape: pos_embed \(.*\) instead of \(1, 65, 192\)"):
        load({"": state}, module, "auto", "mine", resize_pos_embed=True)


def test_constants_are_only_for_what_the_file_does_not_have() -> None:
    state = backbone("resnet")
    layout = Layout(constants={"bn1.bias": 3.0})
    loaded = load({"": state}, empty("resnet"), layout, "mine")
    assert torch.equal(loaded.state["bn1.bias"], state["bn1.bias"])
    assert loaded.constants == ()
    del (fewer := dict(state))["bn1.bias"]
    filled_in = load({"": fewer}, empty("resnet"), layout, "mine")
    assert torch.equal(filled_in.state["bn1.bias"], torch.full((64,), 3.0))
    assert filled_in.constants == ("bn1.bias",)
    with pytest.raises(WeightsError, match="without a place: bn1.offset"):
        load({"": state}, empty("resnet"), Layout(constants={"bn1.offset": 0.0}), "mine")


@pytest.mark.parametrize("change", [torch.Tensor.to_sparse, torch.Tensor.half], ids=["sparse", "half"])
def test_copies_of_other_kinds_are_not_equal(change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    state = backbone("resnet")
    copy = state | {"bn1.bias": change(state["bn1.bias"])}
    with pytest.raises(WeightsError, match="are there more than once"):
        load({"model": state, "copy": copy}, empty("resnet"), "auto", "mine")


def test_reading_gives_every_dict_of_tensors_and_nothing_else(tmp_path: Path) -> None:
    torch.save(dino(backbone("resnet")), tmp_path / "w.pth")
    content = read_weights(tmp_path / "w.pth")
    assert set(content) == {"student", "teacher", "dino_loss"}


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_what_was_read_stays_when_the_file_is_overwritten(tmp_path: Path, name: str) -> None:
    file = Path(saved(tmp_path, {"weight": torch.ones(10_000)}, name)["path"])
    content = read_weights(file)
    with file.open("r+b") as opened:
        opened.write(bytes(file.stat().st_size))
    assert torch.equal(content[""]["weight"], torch.ones(10_000))


def test_each_dict_is_looked_into_once(tmp_path: Path) -> None:
    shared = {"weight": torch.ones(2)}
    content: dict[str, Any] = {"model": shared, "again": shared, "more": {"deep": shared}}
    content["self"] = content["more"]["up"] = content
    torch.save(content, tmp_path / "w.pth")
    assert set(read_weights(tmp_path / "w.pth")) == {"model"}
    wide: dict[str, Any] = dict(shared)
    wide |= {f"key{number}": wide for number in range(2000)}  # in each of them, all others again
    assert set(in_memory(wide)) == {""}


@pytest.mark.parametrize(
    "content",
    [{"a.b": {"w": torch.ones(1)}, "a": {"b": {"w": torch.zeros(1)}}}, {"w": torch.ones(1), "": {"w": torch.zeros(1)}}],
    ids=["joined", "nameless"],
)
def test_two_dicts_of_one_key_are_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="holds two dicts of tensors that are both called '(a.b)?'; save the one"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]), "is nested"),
        (lambda: torch.zeros(2, device="meta"), "has a shape, but no numbers"),
    ],
    ids=["nested", "meta"],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_tensors_without_values_are_refused(tmp_path: Path, make: Callable[[], torch.Tensor], message: str) -> None:
    torch.save({"model": {"weight": make()}}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=f"tensor weight in .*w.pth {message}; save the backbone's"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("format_", [True, False], ids=["zip", "legacy"])
def test_a_bytearray_is_refused(tmp_path: Path, format_: bool) -> None:
    torch.save(
        {"weight": torch.zeros(2), "rng": bytearray(3)}, tmp_path / "w.pth", _use_new_zipfile_serialization=format_
    )
    with pytest.raises(WeightsError, match=r"needs code \(\w+.bytearray\), which is not run"):
        read_weights(tmp_path / "w.pth")


def test_bookkeeping_is_of_known_packages_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("omegaconf", "yacs"):
        module = ModuleType(f"{package}.config")
        kind = type("Config", (), {"__module__": module.__name__})
        module.Config = kind  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        torch.save({"weight": torch.zeros(2), "config": kind()}, tmp_path / f"{package}.pth")
    assert set(read_weights(tmp_path / "omegaconf.pth")) == {""}
    with pytest.raises(WeightsError, match=r"needs code \(yacs.config.Config\), which is not run"):
        read_weights(tmp_path / "yacs.pth")
