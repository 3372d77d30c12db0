"""Options that `run` and `features` share: samples to read, changes of checkpoints, a weight file of the user."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ssl4eo_bench.cli.options import Count, DataDir, File, Value
from ssl4eo_bench.data.own_images import ImageFormat
from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.files.hashing import file_hash
from ssl4eo_bench.files.places import data_root

if TYPE_CHECKING:
    from ssl4eo_bench.config.checkpoint import Checkpoint

Bands = Annotated[
    tuple[Annotated[str, Value(metavar="BAND")], ...], "of its input channels, in order, like B04 B03 B02"
]


@dataclass(frozen=True, kw_only=True)
class OwnImages:
    """What the files of `folder:DIR` and `csv:FILE` hold."""

    data_bands: Annotated[
        tuple[Annotated[str, Value(metavar="BAND")], ...],
        "of files of folder:DIR and csv:FILE, in order, like B04 B03 B02; red=665nm of other sensors",
    ] = ()
    data_unit: Annotated[
        Literal["dn", "reflectance", "db", "byte"] | None, "of their pixels (default: by the type of the files)"
    ] = None
    data_stretch: Annotated[
        tuple[Annotated[float, Value(float, "DN")], ...], "LOW HIGH: the digital numbers that bytes 0 and 255 stand for"
    ] = ()

    def format(self) -> ImageFormat:
        """What they say together."""
        return ImageFormat.of(self.data_bands, self.data_unit, self.data_stretch or None)


@dataclass(frozen=True, kw_only=True)
class DataChoice:
    """The samples to read: where they are, and how many of them."""

    own: OwnImages
    data_dir: DataDir = None
    sample: Annotated[bool, "the embedded sample: needs no data"] = False
    partial: Annotated[bool, "only the samples that are there"] = False
    limit: Annotated[Count | None, "at most N samples of each split"] = None

    def fields(self) -> dict[str, Any]:
        """The options by name, with the data directory that is meant where none is given."""
        others = {name: value for name, value in vars(self).items() if name != "own"}
        return others | {"data_dir": data_root(self.data_dir), "images": self.own.format()}


@dataclass(frozen=True, kw_only=True)
class CheckpointChanges:
    """What a run changes of its checkpoints."""

    image_size: Annotated[Count | None, "another input size than the checkpoint's"] = None
    resize_pos_embed: Annotated[bool, "resize position embeddings to that size; they are not otherwise"] = False
    precision: Annotated[
        Literal["float32", "bfloat16"] | None,
        "of the backbone (default: what its entry says, which is float32 unless it says otherwise)",
    ] = None
    fill_bands: Annotated[
        bool, "fill more than a quarter of the input channels with zeros; the result is kept out of the tables"
    ] = False


@dataclass(frozen=True, kw_only=True)
class AdhocCheckpoint:
    """A weight file, and what an entry in a catalogue would say about it; or files with embeddings."""

    embeddings: Annotated[
        tuple[File, ...],
        "instead of a weight file: ids and vectors of all samples, in .npz or .parquet (docs/features.md)",
    ] = ()
    weights: Annotated[File | None, "PyTorch's format or safetensors; or `random`"] = None
    arch: Annotated[str, "its timm architecture, or python:module:Class for a class of your own"] = ""
    arch_options: Annotated[str, "arguments of that class, like '{depth: 12}'"] = ""
    bands: Bands = ()
    scaling: Annotated[str, "of its input: divide=10000, uint8=10000, or a mapping as in an entry"] = ""
    layout: Annotated[str, "of the file: a name, or a mapping as in an entry (default: detected)"] = ""
    feature: Annotated[str, "pooled, cls, avg, cls4, stage:N, block:N or block:N:cls (default: pooled)"] = ""
    name: Annotated[str, "for its results (default: architecture, or `embeddings`, and file name)"] = ""

    def checkpoints(self, changes: CheckpointChanges) -> "tuple[Checkpoint, ...]":
        """The checkpoint that these options describe; none if no file is named.

        Raises:
            SpecError: if something is missing, or they do not make a checkpoint.
        """
        from ssl4eo_bench.config.checkpoint import DEFAULT_SIZE, checkpoint_from

        if self.embeddings:
            return (self._embeddings(),)
        needed = {"arch": self.arch, "bands": self.bands, "scaling": self.scaling}
        given = [option.replace("_", "-") for option, value in vars(self).items() if value]
        if not given:
            return ()
        if Path(self.arch).is_file():
            raise SpecError(
                f"--arch {self.arch} is a file, and an architecture is a name; give the file with --weights "
                f"(`ssl4eo-bench checkpoint inspect {self.arch}` says what it is)."
            )
        is_plugin = self.arch.startswith("python:")
        if not is_plugin and (":" in self.arch or self.arch.endswith(".py")):
            raise SpecError(f"--arch {self.arch!r} is not written python:module:Class, as a class of yours is named.")
        if not (self.weights or is_plugin):
            raise SpecError(f"--{given[0]} says something about a weight file; name it with --weights FILE.")
        what = f"--weights {self.weights}" if self.weights else f"--arch {self.arch}"
        if missing := [f"--{option}" for option, value in needed.items() if not value]:
            hint = "" if is_plugin else f" (`ssl4eo-bench checkpoint inspect {self.weights}` helps)"
            are = "is" if len(missing) == 1 else "are"
            raise SpecError(f"{what} does not say all: {', '.join(missing)} {are} needed as well{hint}.")
        bands = re.split(r"[,\s]+", " ".join(self.bands).strip(", "))
        parts = (self.arch.rpartition(":")[2], self.weights.stem if self.weights else "")
        entry = {
            "name": self.name or _named(*parts),
            "arch": self.arch,
            "options": self._options(),
            "weights": self._weights(),
            "bands": "task" if bands == ["task"] else bands,
            "image_size": changes.image_size or DEFAULT_SIZE,
            "scaling": _scaling(self.scaling),
            "feature": self.feature or "pooled",
            "resize_pos_embed": changes.resize_pos_embed or None,
        }
        return (checkpoint_from(entry, what),)

    def _options(self) -> object:
        return _mapping("arch-options", self.arch_options, "'{name: value, …}'") if self.arch_options else None

    def _layout(self) -> object:
        is_written_out = self.layout.lstrip().startswith("{")
        how = "a name, or a mapping of keys, prefix, leftovers, renames"
        return _mapping("layout", self.layout, how) if is_written_out else self.layout or "auto"

    def _weights(self) -> dict[str, object]:
        """Where the weights come from, as an entry says it."""
        file = self.weights
        if file is None:
            return {"own": True}
        if str(file) == "random":
            return {"random": True}
        if not file.is_file():
            raise SpecError(f"--weights {file} is not a file.")
        return {"path": file.resolve().as_posix(), "sha256": file_hash(file), "layout": self._layout()}

    def _embeddings(self) -> "Checkpoint":
        """The checkpoint of files with embeddings."""
        from ssl4eo_bench.config.checkpoint import EMBEDDINGS, checkpoint_from
        from ssl4eo_bench.data.embedding_files import embeddings_sha256, require_format

        files = self.embeddings
        if others := [option for option, value in vars(self).items() if value and option not in ("embeddings", "name")]:
            raise SpecError(f"--embeddings are vectors already, and take no --{others[0]}; leave it away.")
        if absent := [file for file in files if not file.is_file()]:
            raise SpecError(f"--embeddings {absent[0]} is not a file.")
        for file in files:
            require_format(file)
        common = _common_start([file.stem for file in files])
        if not (self.name or common):
            raise SpecError("--embeddings of several files need a name; add --name NAME.")
        entry = {
            "name": self.name or _named(EMBEDDINGS, common),
            "arch": EMBEDDINGS,
            "weights": {
                "embeddings": [{"path": file.resolve().as_posix(), "sha256": embeddings_sha256(file)} for file in files]
            },
        }
        return checkpoint_from(entry, "--embeddings")


def _common_start(stems: Sequence[str]) -> str:
    """The words that all names begin with, such as `clay` of `clay-train` and `clay-test`."""
    words = zip(*(re.split("([._-])", stem) for stem in stems), strict=False)
    return "".join(first for first, *others in takewhile(lambda same: len(set(same)) == 1, words)).strip("._-")


def _named(*parts: str) -> str:
    """The name of a checkpoint, made of those parts that are not empty."""
    return re.sub("[^A-Za-z0-9_.+-]", "-", ".".join(filter(None, parts)))


def _scaling(text: str) -> object:
    """`divide=10000` and `uint8=10000`, or a mapping as in an entry."""
    name, equals, number = text.partition("=")
    how = "divide=10000, uint8=10000, or a mapping as in docs/inputs.md"
    if not equals or name.lstrip().startswith("{"):
        return _mapping("scaling", text, how)
    try:
        return {name.strip(): float(number)}
    except ValueError:
        raise SpecError(f"--scaling {text!r} is not known; write {how}.") from None


def _mapping(option: str, text: str, how: str) -> object:
    from ssl4eo_bench.config.yaml_text import parse_yaml

    try:
        return parse_yaml(text)
    except ValueError as error:
        raise SpecError(f"--{option} {text!r} is not known ({error}); write {how}.") from None
