"""Processes that train one model together, each on a device with its share of every batch.

They need three collectives of torch.distributed: gradients and losses are all-reduced, and the first process broadcasts
what it found on val.
"""

import os
import pickle
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import distributed, multiprocessing, nn
from torch.multiprocessing.spawn import ProcessException, spawn

from ssl4eo_bench import progress
from ssl4eo_bench.errors import BenchError, TrainingError
from ssl4eo_bench.progress import Advance, Silent, shown_on

GRACE = 2.0
"""Seconds in which an interrupted process may clean up."""

Batch = TypeVar("Batch", np.ndarray, torch.Tensor)


LONGEST_WAIT = timedelta(days=1)
"""Until a collective gives up: the first process may score a large `val` while the others wait."""


@dataclass(frozen=True)
class ProcessGroup:
    """The group of processes that train together, as the one with the number `rank` sees it."""

    rank: int
    size: int
    device: torch.device

    @classmethod
    def single(cls, device: str) -> "ProcessGroup":
        """Return a group of this process alone."""
        return cls(0, 1, torch.device(device))

    def shard(self, batch: Batch) -> Batch:
        """Return this process's share of a batch."""
        return batch[self.rank :: self.size]

    def all_reduce(self, value: float) -> float:
        """Return the sum of the values of all processes."""
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return float(total)

    def all_reduce_gradients(self, model: nn.Module) -> None:
        """Replace the gradients of a model by the sum over all processes."""
        if self.size > 1:
            for parameter in model.parameters():
                if parameter.grad is not None:
                    distributed.all_reduce(parameter.grad)

    def broadcast(self, find: Callable[[], float]) -> float:
        """Return the value that the first process finds; the others do not compute it."""
        return self.all_reduce(find() if self.rank == 0 else 0.0)


Work = Callable[[ProcessGroup], None]
"""What each process does; it can be pickled."""


def launch(devices: Sequence[str], work: Work) -> None:
    """Do work in one process for each device (all GPUs, or all `cpu`); the progress of the first process is shown.

    Raises:
        TrainingError: with the sentence of the process that failed.
    """
    messages: SimpleQueue[int | str] = multiprocessing.get_context("spawn").SimpleQueue()
    packed = pickle.dumps(work)  # torch would send tensors one by one through open files, of which there may be too few
    failed: Exception | None = None
    with (
        tempfile.TemporaryDirectory() as folder,
        progress.stage(f"training on {len(devices)} devices", total=0, unit="batches") as advance,
    ):
        arguments = (tuple(devices), str(Path(folder) / "rendezvous"), packed, messages)
        context = spawn(_process, arguments, nprocs=len(devices), join=False, daemon=True)  # type: ignore[no-untyped-call]
        try:
            while not context.join(timeout=0.2):
                _forward(messages, advance)
        except ProcessException as error:
            failed = error
        finally:
            _end(context.processes)
        sentence = _forward(messages, advance)
    if sentence or failed:
        raise TrainingError(sentence or f"a process of the training has failed: {failed}") from failed


def _end(processes: Sequence[BaseProcess]) -> None:
    """End those processes that still run: they may remove what they have half written."""
    for process in processes:
        if process.is_alive() and process.pid:
            os.kill(process.pid, signal.SIGINT)
    for process in processes:
        process.join(GRACE)
        process.kill()
        process.join()


def _forward(messages: "SimpleQueue[int | str]", advance: Advance) -> str:
    """Show the progress that processes sent; return the sentence of the one that failed."""
    while not messages.empty():
        found = messages.get()
        if isinstance(found, str):
            return found
        advance(found)
    return ""


class _Sending(Silent):
    """Sends progress to the process that shows it."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance

    @contextmanager
    def stage(self, what: str, *, total: int, unit: str) -> Iterator[Advance]:
        """Send the units of a stage."""
        del what, total, unit
        yield self._advance


def _process(
    rank: int, devices: tuple[str, ...], rendezvous: str, packed: bytes, messages: "SimpleQueue[int | str]"
) -> None:
    device = torch.device(devices[rank])
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // len(devices)))
    backend = "nccl" if device.type == "cuda" else "gloo"
    where: dict[str, Any] = {"init_method": f"file://{rendezvous}", "rank": rank, "world_size": len(devices)}
    distributed.init_process_group(backend, timeout=LONGEST_WAIT, **where)
    try:
        work: Work = pickle.loads(packed)
        with shown_on(_Sending(messages.put) if rank == 0 else Silent()):
            work(ProcessGroup(rank, len(devices), device))
    except BenchError as error:
        messages.put(str(error))
        raise
    finally:
        distributed.destroy_process_group()
