"""Building the module of a checkpoint, with the proof that every tensor of it is the one that was asked for."""

from pathlib import Path
from typing import Any, cast

import timm
import torch
from torch import nn

from ssl4eo_bench.backbones.weights import State, load_state
from ssl4eo_bench.errors import SpecError, UnknownNameError, WeightsError, shortlist
from ssl4eo_bench.spec.checkpoints import Checkpoint, Pretraining
from ssl4eo_bench.spec.scaling import Stretch
from ssl4eo_bench.spec.weights import HubWeights, RandomWeights

RGB = ("B04", "B03", "B02")
DISPLAY_STRETCH = (0.0, 2750.0)
"""Digital numbers shown as black and white when weights trained on photographs see Sentinel-2 (EuroSAT's choice)."""


def build(checkpoint: Checkpoint, *, seed: int, cache_dir: Path | None = None) -> nn.Module:
    """The backbone of a checkpoint: frozen, in `eval()` (BatchNorm statistics fixed), without its classifier.

    Args:
        checkpoint: any but `bandstats`, which has no module.
        seed: draws the weights of a random checkpoint, and nothing else.
        cache_dir: where fetched weights are, if not where `cache_root` says.

    Raises:
        UnknownNameError: if timm has no such architecture.
        WeightsError: if the weights are absent, altered, or do not fit to the last tensor.
    """
    _require_arch(checkpoint.arch)
    weights, channels = checkpoint.weights, len(checkpoint.bands)
    if isinstance(weights, RandomWeights):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = _create(checkpoint, channels=channels)
    elif isinstance(weights, HubWeights):
        module = _download(checkpoint, weights)
    else:
        assert weights is not None  # the entry was validated
        module = _create(checkpoint, channels=channels)
        state = load_state(weights, checkpoint.name, cache_dir)
        named = _by_order(state, module, checkpoint.name) if weights.layout == "timm-by-order" else state
        _load_strictly(module, named, checkpoint.name)
    cast(Any, module).reset_classifier(0)
    return module.eval().requires_grad_(requires_grad=False)


def timm_entry(name: str) -> Checkpoint:
    """A catalogue entry for `timm:NAME`, made from what timm knows of the model.

    `NAME` is `architecture`, `architecture.tag` for one of its pretrained weights, or `architecture.random`. The model
    sees B04, B03, B02, stretched from 0–2750 to 0–1 and normalised with its own mean and standard deviation; its first
    convolution is never widened to more bands.

    Raises:
        UnknownNameError: if timm has no such model.
        WeightsError: if it has no pretrained weights.
    """
    model = name.removeprefix("timm:")
    arch, _, tag = model.partition(".")
    _require_arch(arch)
    random = tag == "random"
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{arch}.*")]
    if not (random or (tags and not tag) or tag in tags):
        raise WeightsError(f"timm has no weights {model!r}; known tags of {arch}: {', '.join([*tags, 'random'])}.")
    config = timm.get_pretrained_cfg(arch if random else model)
    if config is None or model.endswith("."):
        raise WeightsError(f"timm does not say how {arch} wants its input; write an entry for it (--checkpoints FILE).")
    by_band = [dict(zip(RGB, map(float, statistic), strict=True)) for statistic in (config.mean, config.std)]
    return Checkpoint(
        name=name,
        arch=arch,
        weights=RandomWeights(random=True) if random else HubWeights(timm=f"{arch}.{config.tag}"),
        bands=RGB,
        image_size=int(config.input_size[-1]),
        scaling=Stretch(stretch=DISPLAY_STRETCH, mean=by_band[0], std=by_band[1]),
        pretraining=Pretraining(method="none", data="none") if random else None,
        licence=config.license or "",
    )


def _require_arch(arch: str) -> None:
    if not timm.is_model(arch):
        known = timm.list_models()
        family = [name for name in known if name[:4] == arch[:4]] or known[:20]
        raise UnknownNameError("timm architecture", arch, family)


def _create(checkpoint: Checkpoint, *, channels: int) -> nn.Module:
    sized: dict[str, Any] = {"img_size": checkpoint.image_size} if _needs_other_size(checkpoint) else {}
    try:
        module: nn.Module = timm.create_model(checkpoint.arch, pretrained=False, in_chans=channels, **sized)
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise SpecError(
            f"timm cannot build {checkpoint.arch} for {channels} bands of {checkpoint.image_size} × "
            f"{checkpoint.image_size} pixels ({reason}); try another image size."
        ) from error
    return module


def _needs_other_size(checkpoint: Checkpoint) -> bool:
    """Whether the architecture is built for one input size, and that is another than the checkpoint's."""
    config = timm.get_pretrained_cfg(checkpoint.arch)
    return bool(config and config.fixed_input_size and config.input_size[-1] != checkpoint.image_size)


def _download(checkpoint: Checkpoint, weights: HubWeights) -> nn.Module:
    if len(checkpoint.bands) != 3:
        raise SpecError(
            f"checkpoint {checkpoint.name!r} gives {len(checkpoint.bands)} bands to weights trained on RGB; timm would "
            "repeat its RGB filters over them in silence, so name three bands."
        )
    if _needs_other_size(checkpoint):
        raise SpecError(
            f"checkpoint {checkpoint.name!r} was trained at one input size, and its position embeddings are not "
            f"resized to {checkpoint.image_size}; leave --image-size away."
        )
    try:
        module: nn.Module = timm.create_model(weights.timm, pretrained=True)
    except Exception as error:  # the hub client raises what its HTTP stack raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"the weights {weights.timm!r} of checkpoint {checkpoint.name!r} cannot be downloaded ({reason}); check "
            "the network, or bring the Hugging Face cache of a machine that has them."
        ) from error
    return module


def _by_order(state: State, module: nn.Module, checkpoint: str) -> State:
    """The file's tensors under the module's names, paired by position.

    Position alone would confuse tensors of one shape, so the last part of each name (weight, bias, running_mean, …)
    and the shape must agree, too.
    """
    expected = module.state_dict()
    for (given, tensor), (name, wanted) in zip(state.items(), expected.items(), strict=False):
        if given.rpartition(".")[2] != name.rpartition(".")[2] or tensor.shape != wanted.shape:
            raise WeightsError(
                f"the weights of checkpoint {checkpoint!r} do not follow timm's order: {given} {tuple(tensor.shape)} "
                f"stands where {name} {tuple(wanted.shape)} is expected; choose another layout."
            )
    if len(state) != len(expected):
        raise WeightsError(
            f"the weights of checkpoint {checkpoint!r} hold {len(state)} tensors, but the architecture has "
            f"{len(expected)}; choose another architecture or layout."
        )
    return dict(zip(expected, state.values(), strict=True))


def _load_strictly(module: nn.Module, state: State, checkpoint: str) -> None:
    """Load so that every backbone tensor comes from the file and every tensor of the file has a place.

    The classifier is the one part that may be absent, or present and unused: it is removed after loading.
    """
    expected = module.state_dict()
    classifier = module.pretrained_cfg["classifier"]  # type: ignore[index]
    heads = tuple(f"{head}." for head in ([classifier] if isinstance(classifier, str) else classifier))
    kinds = {
        "missing": [name for name in expected if name not in state and not name.startswith(heads)],
        "without a place": [name for name in state if name not in expected and not name.startswith(heads)],
        "of another shape": [
            f"{name} {tuple(tensor.shape)} instead of {tuple(expected[name].shape)}"
            for name, tensor in state.items()
            if name in expected and tensor.shape != expected[name].shape and not name.startswith(heads)
        ],
    }
    faults = [f"{what}: {shortlist(names, at_most=3)}" for what, names in kinds.items() if names]
    if faults:
        raise WeightsError(
            f"the weights of checkpoint {checkpoint!r} do not fit its architecture ({'; '.join(faults)}): correct the "
            "architecture, the bands, or the layout of the entry (`timm-by-order` takes any names)."
        )
    fitting = {
        name: state[name] if name in state and state[name].shape == tensor.shape else tensor
        for name, tensor in expected.items()
    }
    module.load_state_dict(fitting, strict=True)
