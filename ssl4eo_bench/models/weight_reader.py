"""Reading weight files without running code in them."""

import hashlib
import pickle
import pickletools
import re
import zipfile
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ssl4eo_bench.errors import WeightsError, shortlist
from ssl4eo_bench.models.containers import examine, pickles

State = dict[str, torch.Tensor]

BOOKKEEPING = frozenset(
    {
        *("argparse", "collections", "datetime", "numpy", "omegaconf", "pathlib", "typing"),
        *("lightning", "lightning_fabric", "lightning_utilities", "pytorch_lightning"),
    }
)
"""Packages whose objects stand beside the tensors of training states (arguments, dates, scores). None of them is
imported or called for that: inert objects take their places."""

REFUSED = {(module, "bytearray") for module in ("builtins", "__builtin__")}
"""What PyTorch's restricted unpickler calls, though no tensor needs it: with a number, it fills the memory."""

DEPTH = 3
"""Dicts inside dicts that are looked into for tensors."""


def read_weights(file: Path) -> dict[str, State]:
    """Every dict of tensors in a weight file: by its keys from the outermost in, joined by dots; `""` is the file.

    Training states are read with everything that is beside the tensors ignored. All of the file is in memory then, so
    that overwriting it changes nothing.

    Raises:
        WeightsError: if the file is damaged, needs code to be read, or holds no tensors by name.
    """
    content = _read(file, examine(file))
    found = dicts_of_tensors(content, file)
    if not found:
        inside = shortlist(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
        raise WeightsError(
            f"{file} holds no tensors by name, found {inside or 'an empty dict'}; save the backbone's `state_dict()`, "
            "which may lie inside under a key such as `state_dict` or `model`."
        )
    return found


def dicts_of_tensors(content: Any, file: Path) -> dict[str, State]:
    """Every dict of tensors in what a file holds, the outermost first; one that is there by several keys, once.

    Raises:
        WeightsError: if two of them are called the same, or a tensor in them has no numbers of its own.
    """
    found: dict[str, State] = {}
    seen: set[int] = set()
    waiting: deque[tuple[tuple[str, ...], Any]] = deque([((), content)])
    while waiting:
        keys, value = waiting.popleft()
        if not isinstance(value, Mapping) or len(keys) > DEPTH or id(value) in seen:
            continue
        seen.add(id(value))
        named = {name: item for name, item in value.items() if isinstance(name, str)}
        waiting.extend(((*keys, name), item) for name, item in named.items())
        if tensors := {name: item for name, item in named.items() if torch.is_tensor(item)}:
            _add(found, ".".join(keys), tensors, file)
    return found


def _add(found: dict[str, State], key: str, tensors: State, file: Path) -> None:
    if key in found:
        raise WeightsError(
            f"{file} holds two dicts of tensors that are both called {key!r}; save the one that is meant by itself."
        )
    for name, tensor in tensors.items():
        if tensor.is_nested or tensor.is_meta:
            what = "is nested" if tensor.is_nested else "has a shape, but no numbers"
            raise WeightsError(
                f"tensor {name} in {file} {what}; save the backbone's `state_dict()` once it is filled, on the CPU."
            )
    found[key] = tensors


def state_sha256(module: torch.nn.Module) -> str:
    """The sha256 of all parameters and buffers of a module: names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name}:{values.dtype}:{tuple(values.shape)}\n".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read(file: Path, kind: str) -> Any:
    try:
        if kind == "safetensors":
            from safetensors.torch import load as load_bytes

            return dict(load_bytes(file.read_bytes()))
        names = _pickled_names(file, kind)
        if refused := names & REFUSED:
            raise pickle.UnpicklingError(f"GLOBAL {'.'.join(*refused)}")
        with _inert(name for name in names if name[0].partition(".")[0] in BOOKKEEPING):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=False)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise WeightsError(
            f"{file} cannot be read as tensors: it needs code ({named[1] if named else 'unnamed'}), "
            "which is not run; have its author save the `state_dict()`, and nothing beside it."
        ) from error
    except Exception as error:  # a damaged file makes the readers raise whatever it makes them stumble over
        raise WeightsError(
            f"{file} cannot be read as tensors ({type(error).__name__}): it is damaged; fetch it again."
        ) from error


def _pickled_names(file: Path, kind: str) -> set[tuple[str, str]]:
    """Module and name of everything a pickle asks Python for; found without unpickling."""
    names: set[tuple[str, str]] = set()
    with _pickles(file, kind) as (stream, count):
        for _ in range(count):
            for operation, argument, _ in pickletools.genops(stream):
                if operation.name == "GLOBAL":
                    module, _, name = str(argument).partition(" ")
                    names.add((module, name))
    return names


@contextmanager
def _pickles(file: Path, kind: str) -> Iterator[tuple[Any, int]]:
    """The stream of a file's pickles, and how many there are: one in a zip, four at the head of the older format."""
    if kind == "legacy":
        with file.open("rb") as stream:
            yield stream, 4
    else:
        with zipfile.ZipFile(file) as archive:
            (name,) = pickles(archive.namelist())
            with archive.open(name) as stream:
                yield stream, 1


class _Inert:
    """Takes the place of an object whose class is not imported, and forgets what it is given."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


@contextmanager
def _inert(names: Iterator[tuple[str, str]]) -> Iterator[None]:
    """Let PyTorch's restricted unpickler put inert objects where these names stand."""
    known = ("OrderedDict", "Counter", "defaultdict")  # which the unpickler has itself
    stand_ins = [type(name, (_Inert,), {"__module__": module}) for module, name in names if name not in known]
    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals([*stand_ins, list, dict, set, tuple, int, float, str])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)
