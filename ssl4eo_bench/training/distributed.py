"""Processes that train one model together, each with a device and a part of every batch of its own.

Three collectives of torch.distributed are all that it takes: gradients are added up, losses are added up, and the first
process tells the others what it found on val.
"""

import pickle
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import distributed, multiprocessing, nn
from torch.multiprocessing.spawn import ProcessException, spawn

from ssl4eo_bench.errors import BenchError, TrainingError

Batch = TypeVar("Batch", np.ndarray, torch.Tensor)


@dataclass(frozen=True)
class Team:
    """One of so many processes.

    Attributes:
        rank: its number.
        size: how many there are.
        device: its own.
    """

    rank: int
    size: int
    device: torch.device

    @classmethod
    def alone(cls, device: str) -> "Team":
        """The only process."""
        return cls(0, 1, torch.device(device))

    def share(self, batch: Batch) -> Batch:
        """Its part of a batch."""
        return batch[self.rank :: self.size]

    def summed(self, value: float) -> float:
        """The sum of what all processes give."""
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return float(total)

    def add_gradients(self, model: nn.Module) -> None:
        """Give every process the sum of all gradients."""
        if self.size > 1:
            for parameter in model.parameters():
                if parameter.grad is not None:
                    distributed.all_reduce(parameter.grad)

    def told(self, find: Callable[[], float]) -> float:
        """What the first process finds; the others do not look."""
        return self.summed(find() if self.rank == 0 else 0.0)


Work = Callable[[Team, Callable[[int], None]], None]
"""What each process does. It is told whom it belongs to, and what to tell of its progress."""


def together(devices: Sequence[str], work: Work, advance: Callable[[int], None]) -> None:
    """Do work in one process for each device.

    Args:
        devices: as torch names them; all GPUs, or all `cpu`.
        work: can be sent to other processes.
        advance: is told of the progress of the first.

    Raises:
        TrainingError: with the sentence of the process that failed.
    """
    said: SimpleQueue[int | str] = multiprocessing.get_context("spawn").SimpleQueue()
    packed = pickle.dumps(work)  # not tensor by tensor through open files, of which there may be too few
    with tempfile.TemporaryDirectory() as folder:
        arguments = (tuple(devices), str(Path(folder) / "meeting"), packed, said)
        context = spawn(_member, arguments, nprocs=len(devices), join=False)  # type: ignore[no-untyped-call]
        failed: Exception | None = None
        try:
            while not context.join(timeout=0.2):
                _listen(said, advance)
        except ProcessException as error:
            failed = error
        if sentence := _listen(said, advance):
            raise TrainingError(sentence) from failed
        if failed:
            raise TrainingError(f"a process that trained along has failed: {failed}") from failed


def _listen(said: "SimpleQueue[int | str]", advance: Callable[[int], None]) -> str:
    """Pass progress on; what a process failed with."""
    while not said.empty():
        found = said.get()
        if isinstance(found, str):
            return found
        advance(found)
    return ""


def _member(rank: int, devices: tuple[str, ...], meeting: str, packed: bytes, said: "SimpleQueue[int | str]") -> None:
    device = torch.device(devices[rank])
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // len(devices)))
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, init_method=f"file://{meeting}", rank=rank, world_size=len(devices))
    try:
        work: Work = pickle.loads(packed)
        work(Team(rank, len(devices), device), said.put if rank == 0 else _unheard)
    except BenchError as error:
        said.put(str(error))
        raise
    finally:
        distributed.destroy_process_group()


def _unheard(_: int) -> None:
    """What the others tell."""
