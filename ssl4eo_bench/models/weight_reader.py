"""Reading weight files without running code in them."""

import pickle
import pickletools
import re
import zipfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from ssl4eo_bench.errors import WeightsError, shortlist
from ssl4eo_bench.models.containers import Container, examine, pickles
from ssl4eo_bench.models.foreign_networks import pickled

State = dict[str, torch.Tensor]

BOOKKEEPING = frozenset(
    {
        *("argparse", "collections", "datetime", "numpy", "omegaconf", "pathlib", "typing"),
        *("lightning", "lightning_fabric", "lightning_utilities", "pytorch_lightning"),
    }
)
"""Packages that training states hold objects of beside the tensors (arguments, dates, scores). Nothing of them is
imported or called to read a file: inert objects take their places."""

BUILT_IN = ("list", "dict", "tuple", "int", "float", "str")
"""Types that training states name, as arguments have them. They are not called either: `str` of a list that holds one
list many times, and that another, fills the memory."""

REFUSED = {(module, "bytearray") for module in ("builtins", "__builtin__")}
"""What PyTorch's restricted unpickler calls, though no tensor needs it: with a number, it fills the memory."""

DEPTH = 3
"""How many dicts deep tensors are looked for."""


def read_weights(file: Path) -> dict[str, State]:
    """Every dict of tensors in a weight file, by its keys from the outermost in, joined by dots; `""` is the file.

    What training states hold beside tensors is ignored. The whole file is in memory then, so that overwriting it
    changes nothing.

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
    """Every dict of tensors in the content of a file, the outermost first; one that has several keys, once.

    Raises:
        WeightsError: if two of them have the same key, or a tensor in them has no values.
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


def names_in(content: Mapping[str, State]) -> list[str]:
    """The names of all tensors in a weight file, with the keys of the dicts that hold them."""
    return [f"{key}.{name}".removeprefix(".") for key, state in content.items() for name in state]


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


def _read(file: Path, container: Container) -> Any:
    try:
        if container == "safetensors":
            from safetensors.torch import load as load_bytes

            return dict(load_bytes(file.read_bytes()))
        names = _pickled_names(file, container)
        if refused := names & REFUSED:
            raise pickle.UnpicklingError(f"GLOBAL {'.'.join(*refused)}")
        with _inert(name for name in names if name[0].partition(".")[0] in BOOKKEEPING):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=False)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        sentence, lines = pickled(file, named[1] if named else "unnamed")
        raise WeightsError(f"{file} {sentence}", lines) from error
    except Exception as error:  # in a damaged file the readers may meet anything
        raise WeightsError(
            f"{file} cannot be read as tensors ({type(error).__name__}): it is damaged; fetch it again."
        ) from error


def _pickled_names(file: Path, container: Container) -> set[tuple[str, str]]:
    """Module and name of everything that the pickles of a file ask Python for; found without unpickling."""
    names: set[tuple[str, str]] = set()
    with ExitStack() as opened:
        stream: IO[bytes] = opened.enter_context(file.open("rb"))
        count = 4  # pickles at the head of the older format
        if container == "zip":
            archive = opened.enter_context(zipfile.ZipFile(stream))
            (member,) = pickles(archive.namelist())
            stream, count = opened.enter_context(archive.open(member)), 1
        for _ in range(count):
            for operation, argument, _ in pickletools.genops(stream):
                if operation.name == "GLOBAL":
                    module, _, name = str(argument).partition(" ")
                    names.add((module, name))
    return names


class _Inert:
    """Replaces an object of a class that is not imported, and ignores its content."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


@contextmanager
def _inert(names: Iterable[tuple[str, str]]) -> Iterator[None]:
    """Let PyTorch's restricted unpickler put inert objects where these names stand."""
    known = ("OrderedDict", "Counter", "defaultdict")  # the unpickler has these itself
    named = [name for name in names if name[1] not in known] + [("builtins", name) for name in BUILT_IN]
    stand_ins: list[Any] = [type(name, (_Inert,), {"__module__": module}) for module, name in named]
    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals(stand_ins)
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)
