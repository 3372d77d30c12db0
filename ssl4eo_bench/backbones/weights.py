"""Weight files: reading them without running code in them."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import torch

from ssl4eo_bench.backbones.sources import checked_file
from ssl4eo_bench.errors import WeightsError, shortlist
from ssl4eo_bench.spec.weights import StoredWeights
from ssl4eo_bench.storage import cache_root

State = dict[str, torch.Tensor]


def load_state(weights: StoredWeights, checkpoint: str, cache_dir: Path | None = None) -> State:
    """The tensors of a weight file, by the names in the file and in its order.

    Args:
        weights: whose file is to be there.
        checkpoint: the name of the entry.
        cache_dir: where fetched files are, if not where `cache_root` says.

    Raises:
        WeightsError: if the file is absent, has another sha256 than the catalogue says, or holds anything but tensors.
    """
    return _read(checked_file(weights, checkpoint, cache_root(cache_dir)))


def state_sha256(module: torch.nn.Module) -> str:
    """The sha256 of all parameters and buffers of a module: names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name}:{values.dtype}:{tuple(values.shape)}\n".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read(file: Path) -> State:
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(file))
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the readers raise whatever it makes them stumble over
        reason = "it holds more than tensors" if isinstance(error, pickle.UnpicklingError) else type(error).__name__
        raise WeightsError(
            f"{file} cannot be read as tensors ({reason}); save the backbone's `state_dict()`, and nothing beside it."
        ) from error
    if not isinstance(state, dict) or not all(_is_plain(name, value) for name, value in state.items()):
        inside = shortlist(map(str, state)) if isinstance(state, dict) else type(state).__name__
        raise WeightsError(
            f"{file} must hold a flat dict of dense tensors, found {inside}; save the backbone's `state_dict()`, which "
            "may lie inside under a key such as `state_dict` or `model`."
        )
    return state


def _is_plain(name: Any, value: Any) -> bool:
    return (
        isinstance(name, str)
        and isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and not value.is_complex()
    )
