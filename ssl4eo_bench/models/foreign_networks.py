"""Files that hold a network otherwise than as weights by name: what each is, and what makes it a backbone."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from textwrap import indent
from typing import NamedTuple

HDF5 = b"\x89HDF\r\n\x1a\n"

_CURE = (
    "write a class around it, such as the one below, into a new file backbones/wrapped.py, and name it with "
    "--backbones-dir backbones --arch python:wrapped:Wrapped."
)

_CLASS = """
import torch
from torch import nn

class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
{load}

    def forward(self, images):  # [N, C, S, S], scaled as the entry says
{forward}"""

_JIT = "self.network = torch.jit.load({file!r})", "return self.network(images)  # [N, D], or a map [N, D, h, w]"
_ONNX = (
    "import onnxruntime\nself.session = onnxruntime.InferenceSession({file!r})",
    "name = self.session.get_inputs()[0].name\n"
    "return torch.from_numpy(self.session.run(None, {{name: images.numpy()}})[0])",
)
_PICKLED = (
    "self.network = torch.load({file!r}, weights_only=False)  # runs code of the file",
    "return self.network(images)  # [N, D], or a map [N, D, h, w]",
)
_TRANSFORMERS = (
    "from transformers import AutoModel\n"
    "self.network = AutoModel.from_pretrained({folder!r})  # the folder with its config.json",
    "return self.network(pixel_values=images).last_hidden_state.mean(dim=1)",
)

TRANSFORMERS = (
    "*embeddings.patch_embeddings.projection.weight",
    "*encoder.layer.0.attention.*",
    "*embeddings.cls_token",
)
"""Patterns of names that networks of Hugging Face's transformers have, and those of timm do not."""

SHIPPED = {
    "*patch_embed_spectral.*": "copernicus_fm:CopernicusFm",
    "*patch_embed.weight_generator.*": "dofa:Dofa",
    "*patch_embed.chnfus.*": "panopticon:Panopticon",
    "s2_encoder.*": "croma:Croma",
}
"""Classes of `ssl4eo_bench.backbones`, by patterns of names in files of their networks."""


class Advice(NamedTuple):
    """What a file is and what to do with it, as the rest of a sentence, and lines of Python that do it."""

    sentence: str
    lines: str = ""


def torchscript(file: Path) -> Advice:
    """What a TorchScript file is, as the rest of a sentence that begins with the file."""
    return Advice(f"is a TorchScript program, a whole network and not weights by name; {_CURE}", _lines(file, _JIT))


def exported(file: Path) -> Advice:
    """The same of a file of `torch.export.save`."""
    sentence = (
        "is a program of torch.export, which is made for batches of one size; save its weights by name, and name the "
        "class of the network with --arch."
    )
    save = f"import torch\ntorch.save(torch.export.load({str(file)!r}).state_dict, 'weights.pt')"
    return Advice(sentence, indent(save, "    "))


def onnx(file: Path) -> Advice:
    """The same of an ONNX file."""
    return Advice(f"is an ONNX graph, a whole network and not weights by name; {_CURE}", _lines(file, _ONNX))


def pickled(file: Path, name: str) -> Advice:
    """The same of a pickle that needs a class or function of this name."""
    sentence = (
        f"cannot be read as tensors: it needs code ({name}), which is not run; have its author save the "
        f"`state_dict()`, and nothing beside it, or, if it is a whole network that you trust, {_CURE}"
    )
    return Advice(sentence, _lines(file, _PICKLED))


def hdf5() -> Advice:
    """The same of an HDF5 file, as Keras writes it."""
    return Advice(
        "is an HDF5 file, as Keras writes weights, not one of PyTorch's; write the network as a class with "
        "`load_weights(self, file)`, which reads it with h5py, and name it with --arch python:FILE:Class --layout own "
        "(docs/backbones.md has an example)."
    )


def hint(names: Iterable[str], file: Path) -> Advice | None:
    """What to do with weights of a network that is none of timm's, if their names tell."""
    listed = list(names)
    for pattern, found in SHIPPED.items():
        if any(fnmatchcase(name, pattern) for name in listed):
            arch = f"python:ssl4eo_bench.backbones.{found}"
            return Advice(f"its names are those of a network that is shipped: use --arch {arch}.")
    if any(fnmatchcase(name, pattern) for pattern in TRANSFORMERS for name in listed):
        return Advice(f"its names are those of Hugging Face's transformers: {_CURE}", _lines(file, _TRANSFORMERS))
    return None


def _lines(file: Path, parts: tuple[str, str]) -> str:
    """A class made of the lines that load a network, and of those that run it."""
    load, forward = (indent(text.format(file=str(file), folder=str(file.parent)), " " * 8) for text in parts)
    return indent(_CLASS.format(load=load, forward=forward).strip("\n"), "    ")
