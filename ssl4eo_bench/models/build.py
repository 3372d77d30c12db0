"""Building the module of a checkpoint, with the proof that every tensor of it is the one that was asked for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import timm
import torch
from torch import nn

import ssl4eo_bench.models.architectures  # noqa: F401 - makes timm know them
from ssl4eo_bench.config.checkpoint import Checkpoint, Pretraining
from ssl4eo_bench.config.scaling import Stretch
from ssl4eo_bench.config.weights import HubWeights, RandomWeights, StoredWeights
from ssl4eo_bench.errors import SpecError, UnknownNameError, WeightsError, shortlist
from ssl4eo_bench.files.places import cache_root
from ssl4eo_bench.models.state_dict import load
from ssl4eo_bench.models.weight_files import checked_file, weights_place
from ssl4eo_bench.models.weight_reader import read_weights

RGB = ("B04", "B03", "B02")
DISPLAY_STRETCH = (0.0, 2750.0)
"""Digital numbers shown as black and white when weights trained on photographs see Sentinel-2 (EuroSAT's choice)."""


def build(
    checkpoint: Checkpoint,
    *,
    seed: int,
    cache_dir: Path | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> nn.Module:
    """The backbone of a checkpoint: frozen, in `eval()` (BatchNorm statistics fixed), without its classifier.

    Args:
        checkpoint: any but `bandstats`, which has no module.
        seed: draws the weights of a random checkpoint, and nothing else.
        cache_dir: where fetched weight files are; by default the user's cache.
        note: is told how the weights were read.

    Raises:
        UnknownNameError: if timm has no such architecture.
        WeightsError: if the weights are absent, altered, or do not fit to the last tensor.
    """
    require_arch(checkpoint.arch)
    weights = checkpoint.weights
    if isinstance(weights, RandomWeights):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = _create(checkpoint.arch, len(checkpoint.bands), cast(int, checkpoint.image_size))
    elif isinstance(weights, HubWeights):
        module = _download(checkpoint, weights, cache_root(cache_dir))
    else:
        assert weights is not None  # the entry was validated
        module = _from_file(checkpoint, weights, cache_root(cache_dir), note)
    cast(Any, module).reset_classifier(0)
    return module.eval().requires_grad_(requires_grad=False)


def _from_file(
    checkpoint: Checkpoint, weights: StoredWeights, cache_dir: Path, note: Callable[[str], None]
) -> nn.Module:
    """A module with every tensor from a file, the classifier excepted."""
    file = checked_file(weights, checkpoint.name, cache_dir)
    content = read_weights(file)
    module = create_empty(checkpoint.arch, len(checkpoint.bands), cast(int, checkpoint.image_size))
    loaded = load(content, module, weights.layout, checkpoint.name, resize_pos_embed=bool(checkpoint.resize_pos_embed))
    note(f"weights of {checkpoint.name}: {loaded}")
    module.load_state_dict(loaded.state, strict=False, assign=True)
    cast(Any, module).reset_classifier(0)
    if empty := [name for name, tensor in (*module.named_parameters(), *module.named_buffers()) if tensor.is_meta]:
        raise AssertionError(f"{shortlist(empty)} of {checkpoint.arch} got no values")
    return module


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
    require_arch(arch)
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


def require_arch(arch: str) -> None:
    """Refuse an architecture that does not exist.

    Raises:
        UnknownNameError: with the closest one that does.
    """
    if not timm.is_model(arch):
        known = timm.list_models()
        family = [name for name in known if name[:4] == arch[:4]] or known[:20]
        raise UnknownNameError("timm architecture", arch, family)


def create_empty(arch: str, channels: int, image_size: int) -> nn.Module:
    """An untrained module with its classifier, for weights to be put in.

    As far as the architecture allows, its parameters have shapes only: making and filling them would take seconds.

    Raises:
        SpecError: if the architecture cannot have such input.
    """
    try:
        with torch.device("meta"):
            module = _create(arch, channels, image_size)
    except (SpecError, NotImplementedError):  # some architectures compute with values while they are built
        return _create(arch, channels, image_size)
    computed = set(dict(module.named_buffers())) - set(module.state_dict())  # no file has these
    return _create(arch, channels, image_size) if computed else module


def _create(arch: str, channels: int, image_size: int) -> nn.Module:
    try:
        module: nn.Module = timm.create_model(
            arch, pretrained=False, in_chans=channels, **_size_option(arch, image_size)
        )
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise SpecError(
            f"timm cannot build {arch} for {channels} bands of {image_size} × {image_size} pixels ({reason}); try "
            "another image size."
        ) from error
    return module


def _size_option(model: str, image_size: int) -> dict[str, Any]:
    """What tells timm the input size, if the model is made for one input size, and that is another."""
    config = timm.get_pretrained_cfg(model)
    fixed = config and config.fixed_input_size and config.input_size[-1] != image_size
    return {"img_size": image_size} if fixed else {}


def _download(checkpoint: Checkpoint, weights: HubWeights, cache_dir: Path) -> nn.Module:
    if len(checkpoint.bands) != 3:
        raise SpecError(
            f"checkpoint {checkpoint.name!r} gives {len(checkpoint.bands)} bands to weights trained on RGB; timm would "
            "repeat its RGB filters over them in silence, so name three bands."
        )
    sized = _size_option(weights.timm, cast(int, checkpoint.image_size))
    if sized and not checkpoint.resize_pos_embed:
        raise SpecError(
            f"checkpoint {checkpoint.name!r} was trained at one input size, and its position embeddings are not "
            f"resized to {checkpoint.image_size} unasked; leave --image-size away, or add --resize-pos-embed (in an "
            "entry: `resize_pos_embed: true`)."
        )
    place = weights_place(weights, cache_dir)
    brought: dict[str, Any] = {"pretrained_cfg_overlay": {"file": str(place)}} if place.is_file() else {}
    try:
        module: nn.Module = timm.create_model(weights.timm, pretrained=True, **sized, **brought)
    except Exception as error:  # the hub client raises what its HTTP stack raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"the weights {weights.timm!r} of checkpoint {checkpoint.name!r} cannot be downloaded ({reason}); check "
            f"the network, or get https://huggingface.co/timm/{weights.timm}/resolve/main/model.safetensors and put it "
            f"at {place}."
        ) from error
    return module
