"""Where the weights of a checkpoint come from, and what proves that they are the right ones."""

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ssl4eo_bench.config.canonical import LISTED, Frozen, OneOf, Written, digest
from ssl4eo_bench.config.layouts import LAYOUTS, Layout
from ssl4eo_bench.config.remote_files import Sha256Start

AUTO = "auto"
BY_ORDER = "timm-by-order"
OWN = "own"

Sha256 = Annotated[str, Written(r"[0-9a-f]{64}", "a sha256 of 64 digits in lower case")]


def _layout(value: object) -> object:
    if isinstance(value, dict):
        return Layout.model_validate(value)
    known = (AUTO, BY_ORDER, OWN, *LAYOUTS)
    if isinstance(value, Layout) or value in known:
        return value
    raise ValueError(f"layout must be one of {', '.join(known)}, or a mapping of keys, prefix, leftovers, renames")


LayoutChoice = Annotated[str | Layout, BeforeValidator(_layout)]
"""`auto` detects and reports one of `LAYOUTS`; `timm-by-order` takes any names, if the tensors follow timm's order;
`own` leaves the file to the class of a plug-in, and it may be of any kind then. A layout without a name is written out.
"""


class PackagedWeights(Frozen):
    """A weight file that an installable Python package ships, and the command that installs the package.

    The package is the outermost one: looking for an inner one would run code of the outer.
    """

    package: Annotated[str, Written(r"[^\W\d]\w*", "the import name of a package, without dots")]
    file: str
    sha256: Sha256
    layout: LayoutChoice = AUTO
    install: str


class FileWeights(Frozen):
    """A weight file of the user's, in PyTorch's format or safetensors.

    The sha256 is asked for because it is what tells two results of the same name apart.
    """

    path: str
    sha256: Sha256
    layout: LayoutChoice = AUTO


ADDRESS = "an address like https://host/file"


def _address(url: str) -> str:
    try:
        parts = urlsplit(url)
        known = bool(parts.hostname) and parts.port != 0
    except ValueError as error:  # brackets that do not belong there, or a port that is none
        raise ValueError(f"{url!r} is not {ADDRESS} ({error})") from None
    if not known:
        raise ValueError(f"{url!r} is not {ADDRESS}")
    return url


class UrlWeights(Frozen):
    """A file on the web, with its sha256, or the published beginning of that, or its md5 where that is all."""

    url: Annotated[str, Written(r"https?://[^/\s]+/\S+", ADDRESS), AfterValidator(_address)]
    sha256: Sha256Start | None = None
    md5: Annotated[str | None, Written(r"[0-9a-f]{32}", "an md5 of 32 digits in lower case")] = None
    layout: LayoutChoice = AUTO

    @model_validator(mode="after")
    def _is_pinned(self) -> "UrlWeights":
        if not (self.sha256 or self.md5):
            raise ValueError("a file on the web needs its `sha256`, its first 8 digits or more, or its `md5`")
        return self

    @property
    def source(self) -> str:
        """The address of the file, for messages and digests."""
        return self.url

    @property
    def place(self) -> PurePosixPath:
        """Where it is kept below the weights of a cache."""
        parts = urlsplit(self.url)
        name = re.sub(r"[^A-Za-z0-9._-]", "-", PurePosixPath(parts.path).name).lstrip("._-") or "weights"
        return PurePosixPath("url", digest(self.url)[:12], name)


_HUB_FILE = r"\w[\w.-]*/\w[\w.-]*@\w[\w.-]*/[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*"


class HubFileWeights(Frozen):
    """A file of a model repository on Hugging Face: `hf: owner/repository@revision/path/of/file`.

    The hub itself says which sha256 the file has at a revision; `sha256` is one more witness, where published.
    """

    hf: Annotated[str, Written(_HUB_FILE, "written owner/repository@revision/file")]
    sha256: Sha256Start | None = None
    layout: LayoutChoice = AUTO

    @property
    def repository(self) -> str:
        """The repository on the hub, as `owner/name`."""
        return self.hf.partition("@")[0]

    @property
    def revision(self) -> str:
        """The commit, tag or branch of the file."""
        return self.hf.partition("@")[2].partition("/")[0]

    @property
    def file(self) -> str:
        """Path of the file in the repository."""
        return self.hf.partition("@")[2].partition("/")[2]

    @property
    def source(self) -> str:
        """The address of the file, for messages and digests."""
        return f"hf:{self.hf}"

    @property
    def place(self) -> PurePosixPath:
        """Where it is kept below the weights of a cache."""
        return PurePosixPath("hf", self.repository, self.revision, self.file)


class DriveWeights(Frozen):
    """A file on Google Drive, by its id, and the name it is kept under. Nobody publishes checksums of these."""

    drive: Annotated[str, Written(r"[A-Za-z0-9_-]{20,}", "the id of a file on Google Drive")]
    file: Annotated[str, Written(r"[A-Za-z0-9][A-Za-z0-9._-]*", "a file name of letters, digits and . _ -")]
    sha256: Sha256Start | None = None
    layout: LayoutChoice = AUTO

    @property
    def source(self) -> str:
        """The address of the file, for messages and digests."""
        return f"drive:{self.drive}"

    @property
    def place(self) -> PurePosixPath:
        """Where it is kept below the weights of a cache."""
        return PurePosixPath("drive", f"id{self.drive}", self.file)  # an id may begin with a sign, a folder must not


class HubWeights(Frozen):
    """Pretrained weights that timm downloads, named `architecture.tag`."""

    timm: str

    @property
    def place(self) -> PurePosixPath:
        """Where a copy brought by hand is looked for below the weights of a cache."""
        return PurePosixPath("timm", self.timm, "model.safetensors")


class RandomWeights(Frozen):
    """Random initialisation, drawn with the run's seed: the floor every pretraining has to beat."""

    random: Literal[True]


class OwnWeights(Frozen):
    """Weights that the class of a plug-in brings itself, with their `network_sha256` once the network was built."""

    own: Literal[True]
    sha256: Sha256 | None = None


class EmbeddingFile(Frozen):
    """A file with ids and vectors of samples; the sha256 is what tells two results of the same name apart."""

    path: str
    sha256: Sha256


class EmbeddingWeights(Frozen):
    """In place of weights, the vectors that they gave: files of which one or several together have every sample."""

    embeddings: Annotated[tuple[EmbeddingFile, ...], LISTED, Field(min_length=1)]


LocalWeights = PackagedWeights | FileWeights
RemoteWeights = UrlWeights | HubFileWeights | DriveWeights
StoredWeights = LocalWeights | RemoteWeights
"""Weights that are one file, which is loaded by a layout."""

Weights = Annotated[
    StoredWeights | HubWeights | RandomWeights | OwnWeights | EmbeddingWeights,
    OneOf(
        package=PackagedWeights,
        path=FileWeights,
        url=UrlWeights,
        hf=HubFileWeights,
        drive=DriveWeights,
        timm=HubWeights,
        random=RandomWeights,
        own=OwnWeights,
        embeddings=EmbeddingWeights,
    ),
]


def weights_identity(weights: Weights | None) -> object:
    """Return what of the weights can move a number: content, layout, and the source where no whole sha256 is known."""
    if isinstance(weights, HubWeights | RandomWeights | OwnWeights):
        return weights.model_dump()
    if isinstance(weights, EmbeddingWeights):
        return {"embeddings": sorted({file.sha256 for file in weights.embeddings})}  # in whatever order they are given
    if weights is None:
        return None
    layout = weights.layout if isinstance(weights.layout, str) else weights.layout.identity()
    if weights.sha256 and len(weights.sha256) == 64:
        return {"sha256": weights.sha256, "layout": layout}
    assert not isinstance(weights, LocalWeights)  # their sha256 is whole
    identity = {"source": weights.source, "sha256": weights.sha256, "layout": layout}
    md5 = weights.md5 if isinstance(weights, UrlWeights) else None
    return identity | ({"md5": md5} if md5 else {})
