"""Everything that is timm's: its networks as backbones, its names of architectures, its pretrained weights."""

from collections.abc import Collection
from inspect import signature
from math import isqrt
from pathlib import Path
from typing import Any, cast

import timm
import torch
from timm import optim
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models import group_parameters
from torch import Tensor, nn

import ssl4eo_bench.models.architectures  # noqa: F401 - registers them in timm
from ssl4eo_bench.config.checkpoint import Checkpoint, Feature, Pretraining
from ssl4eo_bench.config.scaling import Stretch
from ssl4eo_bench.config.weights import HubWeights, RandomWeights
from ssl4eo_bench.errors import SpecError, UnknownNameError, WeightsError
from ssl4eo_bench.models.backbone import Backbone

RGB = ("B04", "B03", "B02")
DISPLAY_STRETCH = (0.0, 2750.0)
"""Digital numbers shown as black and white when weights trained on photographs see Sentinel-2 (EuroSAT's choice)."""


class TimmBackbone(Backbone):
    """A timm model without its classifier."""

    def __init__(self, network: nn.Module, feature: Feature = "pooled") -> None:
        """Remove the classifier of a model, and let `pooled` give this feature."""
        super().__init__()
        self.network = cast(Any, network)
        self.network.reset_classifier(0)
        self._feature = feature
        stages = getattr(network, "feature_info", ()) if hasattr(network, "forward_intermediates") else ()
        self.strides = tuple(int(stage["reduction"]) for stage in stages)
        self.channels = tuple(int(stage["num_chs"]) for stage in stages)
        token = "" if getattr(network, "num_prefix_tokens", 0) else "class token"
        if not token and isinstance(getattr(network, "norm", None), nn.Identity):
            token = "norm before it pools its tokens"
        self.lacking_tokens = token or _lack_of_block_tokens(self.network)
        self.lacking = {"pooled": "", "cls4": self.lacking_tokens}.get(feature, token)

    def output(self, images: Tensor, meta: Tensor | None = None) -> Tensor:  # noqa: ARG002 - no network of timm reads it
        """The feature `[N, D]` of each image that the checkpoint names, if it names no layer."""
        if self._feature == "pooled":
            pooled: Tensor = self.network(images)
            return pooled
        if self._feature == "cls4":
            return torch.cat(self._class_tokens(images, 4), dim=1)
        tokens: Tensor = self.network.forward_features(images)
        return tokens[:, 0] if self._feature == "cls" else tokens[:, self.network.num_prefix_tokens :].mean(dim=1)

    def maps(self, images: Tensor, indices: Collection[int], meta: Tensor | None = None) -> dict[int, Tensor]:  # noqa: ARG002
        """The maps `[N, D_i, h_i, w_i]` with these indices, ascending; of ViTs the patch tokens after the last norm."""
        wanted = sorted(indices)
        is_vit = self.kind_of_layers == "block"
        found = self.network.forward_intermediates(
            images, indices=wanted, norm=is_vit, output_fmt="NCHW", intermediates_only=True, stop_early=True
        )
        return dict(zip(wanted, found, strict=True))

    def class_tokens(self, images: Tensor, index: int) -> Tensor:
        """The class token `[N, D]` of each image behind the block with this index, after the last norm."""
        return self._class_tokens(images, [index])[0]

    def _class_tokens(self, images: Tensor, indices: int | list[int]) -> list[Tensor]:
        """The class tokens behind some blocks, or behind so many of the last ones, each after the last norm."""
        found = self.network.forward_intermediates(
            images,
            indices=indices,
            return_prefix_tokens=True,
            norm=True,
            output_fmt="NLC",
            intermediates_only=True,
            stop_early=True,
        )
        return [prefix[:, 0] for _, prefix in found]

    def parameter_groups(self, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
        """The parameters in timm's groups of layers.

        Biases and norms do not decay, nor does what the network names: position embeddings, class tokens, tables of
        relative positions.
        """
        excluded: set[str] = getattr(self.network, "no_weight_decay", set)()
        groups: list[dict[str, Any]] = optim.param_groups_layer_decay(  # type: ignore[attr-defined]
            self.network, weight_decay=weight_decay, no_weight_decay_list=excluded, layer_decay=layer_decay
        )
        top = [parameter for group in groups if group["lr_scale"] == 1.0 for parameter in group["params"]]
        if any(parameter.ndim > 1 for parameter in top):
            # timm reserves the place above the last block for a head, which was removed: some networks have a last norm
            # there, and in the others the last block moved up.
            for group in groups:
                group["lr_scale"] *= layer_decay
        return groups

    def position_embeddings(self) -> list[nn.Parameter]:
        """The parameters that hold absolute positions."""
        return [each for name, each in self.network.named_parameters() if name.rpartition(".")[2] == "pos_embed"]


def _lack_of_block_tokens(network: Any) -> str:
    """What a network with class tokens would need to give those of each block; empty if it does."""
    options = signature(network.forward_intermediates).parameters if hasattr(network, "forward_intermediates") else ()
    return "" if "return_prefix_tokens" in options else "class token in its blocks"


def is_architecture(name: str) -> bool:
    """Whether timm has an architecture of this name."""
    return bool(timm.is_model(name))


def require_architecture(name: str) -> None:
    """Refuse an architecture that does not exist, with the closest one that does."""
    if not is_architecture(name):
        known = timm.list_models()
        family = [other for other in known if other[:4] == name[:4]] or known[:20]
        other = "; a class of your own is named python:module:Class, see docs/backbones.md"
        raise UnknownNameError("timm architecture", name, family, hint=other)


def timm_entry(name: str) -> Checkpoint:
    """A catalogue entry for `timm:NAME`, made from what timm knows of the model.

    `NAME` is `architecture`, `architecture.tag` for one of its pretrained weights, or `architecture.random`. The model
    gets B04, B03, B02, stretched from 0–2750 to 0–1 and normalised with its own mean and standard deviation; its first
    convolution is never widened to more bands.

    Raises:
        UnknownNameError: if timm has no such model.
        WeightsError: if it has no pretrained weights.
    """
    model = name.removeprefix("timm:")
    arch, _, tag = model.partition(".")
    require_architecture(arch)
    random = tag == "random"
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{arch}.*")]
    if not (random or (tags and not tag) or tag in tags):
        raise WeightsError(f"timm has no weights {model!r}; known tags of {arch}: {', '.join([*tags, 'random'])}.")
    config = timm.get_pretrained_cfg(arch if random else model)
    if config is None or model.endswith("."):
        raise WeightsError(f"timm does not say how {arch} wants its input; write an entry for it (--checkpoints FILE).")
    mean, std = (dict(zip(RGB, map(float, values), strict=True)) for values in (config.mean, config.std))
    return Checkpoint(
        name=name,
        arch=arch,
        weights=RandomWeights(random=True) if random else HubWeights(timm=f"{arch}.{config.tag}"),
        bands=RGB,
        image_size=int(config.input_size[-1]),
        scaling=Stretch(stretch=DISPLAY_STRETCH, mean=mean, std=std),
        pretraining=Pretraining(method="none", data="none") if random else None,
        licence=config.license or "",
    )


def create(arch: str, channels: int, image_size: int) -> nn.Module:
    """A randomly initialised model with its classifier.

    Raises:
        SpecError: if the architecture cannot have such input.
    """
    try:
        network: nn.Module = timm.create_model(
            arch, pretrained=False, in_chans=channels, **_size_option(arch, image_size)
        )
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise SpecError(
            f"timm cannot build {arch} for {channels} bands of {image_size} × {image_size} pixels ({reason}); try "
            "another image size."
        ) from error
    return network


def create_empty(arch: str, channels: int, image_size: int) -> nn.Module:
    """A model with its classifier, to put weights into; it raises what `create` raises.

    Where the architecture allows it, its parameters have shapes and no values: to make and fill them takes seconds.
    """
    try:
        with torch.device("meta"):
            network = create(arch, channels, image_size)
    except (SpecError, NotImplementedError):  # some architectures compute with values while they are built
        return create(arch, channels, image_size)
    computed = set(dict(network.named_buffers())) - set(network.state_dict())  # no file has these
    return create(arch, channels, image_size) if computed else network


def download(checkpoint: Checkpoint, weights: HubWeights, local: Path) -> nn.Module:
    """A model with the weights that timm downloads, or with those in the file `local` if it is there.

    Raises:
        SpecError: if the checkpoint has other bands than three, or another size than its position embeddings.
        WeightsError: if the download fails.
    """
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
    file: dict[str, Any] = {"pretrained_cfg_overlay": {"file": str(local)}} if local.is_file() else {}
    try:
        network: nn.Module = timm.create_model(weights.timm, pretrained=True, **sized, **file)
    except Exception as error:  # the hub client raises what its HTTP stack raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"the weights {weights.timm!r} of checkpoint {checkpoint.name!r} cannot be downloaded ({reason}); check "
            f"the network, or get https://huggingface.co/timm/{weights.timm}/resolve/main/model.safetensors and put it "
            f"at {local}."
        ) from error
    return network


def _size_option(model: str, image_size: int) -> dict[str, Any]:
    """The option that sets the input size of a model that is made for a single one, where that is another size."""
    config = timm.get_pretrained_cfg(model)
    fixed = config and config.fixed_input_size and config.input_size[-1] != image_size
    return {"img_size": image_size} if fixed else {}


def classifier_prefixes(network: nn.Module) -> tuple[str, ...]:
    """The beginnings of the names of a model's classifier, which is never loaded, whether a file has it or not."""
    names = getattr(network, "pretrained_cfg", {}).get("classifier")
    return tuple(f"{name}." for name in ([names] if isinstance(names, str) else names or ()))


def layers_of(network: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of a model in timm's groups of layers, from input to output."""
    groups: dict[int, list[str]] = group_parameters(network, cast(Any, network).group_matcher())
    return [[network.get_parameter(name) for name in groups[layer]] for layer in sorted(groups)]


def attention_heads(network: nn.Module) -> int | None:
    """The number of attention heads of a model, or none if it has no attention."""
    return next((part.num_heads for part in network.modules() if hasattr(part, "num_heads")), None)  # type: ignore[return-value]


def resize_positions(network: nn.Module, positions: Tensor, tokens: int) -> tuple[Tensor, str] | None:
    """Absolute position embeddings `[1, T, D]` for another number of tokens, and a phrase that says what was done.

    None where one of them is not a square grid of patches behind the model's prefix tokens.
    """
    prefix = 0 if getattr(network, "no_embed_class", False) else getattr(network, "num_prefix_tokens", 0)
    patches = [positions.shape[1] - prefix, tokens - prefix]
    old, new = (isqrt(max(count, 0)) for count in patches)
    if min(patches) < 1 or [old * old, new * new] != patches:
        return None
    resized: Tensor = resample_abs_pos_embed(positions.float(), [new, new], [old, old], num_prefix_tokens=prefix)
    return resized, f"{old} × {old} to {new} × {new} patches"
