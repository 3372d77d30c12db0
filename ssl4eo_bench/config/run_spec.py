"""A run: task × checkpoint × protocol × seed × label fraction, with the digest that tells two of them apart."""

from pathlib import PurePosixPath
from typing import Annotated

from pydantic import Field, model_validator

from ssl4eo_bench.config.canonical import Frozen, digest
from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.inputs import InputMapping
from ssl4eo_bench.config.protocols import Knn, Linear, ProtocolSettings
from ssl4eo_bench.config.task import Kind, Split, SplitName, Task, TaskName

LONGEST_NAME = 240
"""Characters of a file or folder of results: file systems take 255, and files that are being written have longer names.
All of them are in ASCII."""


class TaskRecord(Frozen):
    """What a result keeps of its task. `splits` are the ids that were used, official or not."""

    name: TaskName
    version: Annotated[int, Field(ge=1, le=9999)]
    kind: Kind
    splits: dict[SplitName, Split]

    @classmethod
    def of(cls, task: Task, splits: dict[SplitName, Split]) -> "TaskRecord":
        """The record of a task on these splits."""
        return cls(name=task.name, version=task.version, kind=task.kind, splits=splits)


class RunSpec(Frozen):
    """Everything that decides the numbers of one run.

    Attributes:
        seed: of everything random: random weights, subsets, and the order and augmentation of training.
        fraction: of the training samples that may be used; none for all of them.
        sample: run on the embedded sample.
        sample_version: the version of that sample; none in results before there were versions.
        partial: run on those official samples that were there.
        limit: run on at most this many samples of each split.
    """

    task: TaskRecord
    checkpoint: Checkpoint
    inputs: InputMapping
    protocol: ProtocolSettings
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    fraction: float | None = None
    sample: bool = False
    sample_version: int | None = None
    partial: bool = False
    limit: int | None = None

    @model_validator(mode="after")
    def _has_a_place(self) -> "RunSpec":
        longest = max(self.path.parts, key=len)
        if len(longest) > LONGEST_NAME:
            raise ValueError(f"a file or folder would be called {longest!r}, which is too long; choose a shorter name")
        return self

    @property
    def digest(self) -> str:
        """The sha256 of everything that can move a number; names, licences and places of files are left out."""
        return digest(
            {
                "task": self.task.model_dump(),
                "checkpoint": self.checkpoint.identity(),
                "inputs": self.inputs.identity(),
                "protocol": self.protocol.model_dump(exclude_none=True),
                "seed": self.seed,
                "sample": self.sample,
                "partial": self.partial,
                "limit": self.limit,
            }
            | ({} if self.fraction is None else {"fraction": self.fraction})
            | ({} if self.sample_version is None else {"sample_version": self.sample_version})
        )

    @property
    def seed_matters(self) -> bool:
        """Whether another seed can give another value: it draws the weights, the training samples, or the training."""
        return self.checkpoint.is_random or self.fraction is not None or not isinstance(self.protocol, Linear | Knn)

    @property
    def bootstrap_seed(self) -> int:
        """The seed of the resamples, one for all runs of a version of a task: so any two of them are paired."""
        return int(digest(["bootstrap", self.task_slug])[:8], 16)

    @property
    def is_official(self) -> bool:
        """Whether it ran on the official splits, all of them, with the bands that the checkpoint wants."""
        return not self.marks

    @property
    def task_slug(self) -> str:
        """Task and version, as in file names and table headers."""
        return f"{self.task.name}-v{self.task.version}"

    @property
    def protocol_slug(self) -> str:
        """Protocol and version, as in file names."""
        return f"{self.protocol.name}-v{self.protocol.version}"

    @property
    def label(self) -> str:
        """What tells it from other runs of its task and protocol, for people."""
        fraction = "" if self.fraction is None else f" · {self.fraction:g} of the training samples"
        return f"{self.checkpoint.name} · seed {self.seed}{fraction}"

    @property
    def marks(self) -> tuple[str, ...]:
        """What keeps the run out of the official tables."""
        return (
            *(("sample",) if self.sample else ()),
            *(("partial",) if self.partial else ()),
            *((f"limit{self.limit}",) if self.limit else ()),
            *(() if self.inputs.is_mostly_there else ("filled-bands",)),
        )

    @property
    def path(self) -> PurePosixPath:
        """Where its result lies below a results directory; marked runs never share a file with official ones."""
        checkpoint = self.checkpoint.name.replace(":", "-")
        fraction = () if self.fraction is None else (f"fraction{self.fraction}",)
        name = "-".join((f"seed{self.seed}", *fraction, *self.marks))
        return PurePosixPath("runs", self.task_slug, self.protocol_slug, checkpoint, f"{name}.json")
