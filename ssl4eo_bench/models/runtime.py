"""Runners of frozen modules: OpenVINO on processors where it is installed, PyTorch elsewhere."""

import importlib.util
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ssl4eo_bench.config.checkpoint import Precision
from ssl4eo_bench.config.task import Groups
from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.models.preprocess import split_preprocess

Module = TypeVar("Module", bound=nn.Module)

LARGEST_DIFFERENCE = 1e-3
"""The largest accepted difference of a runner's features from PyTorch's, relative to the largest feature.

Measured are 1e-7 to 1e-5.
"""
LARGEST_BFLOAT16_DIFFERENCE = 3e-2
"""The same in bfloat16, which has 8 significant bits."""


def keep_float32() -> None:
    """Make convolutions and matrix products on GPUs take float32 as it is, not rounded to ten bits (TF32)."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def channels_last(module: Module) -> Module:
    """A module with its tensors of four dimensions in channels_last order, which those of five cannot have."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
    return module


class Runner(Protocol):
    """Runs a frozen module on batches of stored groups."""

    name: str

    def __call__(self, groups: Groups) -> np.ndarray:
        """Features `[N, D]` float32 of a batch, which may be smaller than the one the runner was made for."""
        ...


class TorchRunner:
    """PyTorch with images in channels_last order, which is over four times faster than the default on processors.

    In bfloat16, convolutions and matrix products round their inputs to it, and the rest stays in float32. A batch that
    does not fit into the memory of the device is halved until it does, and so are all later ones. On a GPU each thread
    has a separate stream, so that one batch is copied while another is computed.
    """

    def __init__(self, module: nn.Module, device: torch.device, *, bfloat16: bool = False) -> None:
        self.name = f"torch-{device.type}{'-bf16' if bfloat16 else ''}"
        self._device = device
        self._bfloat16 = bfloat16
        keep_float32()
        self._module = channels_last(module.to(device))
        self._at_once = sys.maxsize
        self._thread = threading.local()

    def __call__(self, groups: Groups) -> np.ndarray:
        """Features of a batch.

        Raises:
            SpecError: if not even one sample fits into the memory.
        """
        count = len(groups[0])
        while True:
            try:
                parts = range(0, count, self._at_once)
                with (
                    self._stream(),
                    torch.inference_mode(),
                    torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16),
                ):
                    found = [self._run([group[start : start + self._at_once] for group in groups]) for start in parts]
                    features: np.ndarray = torch.cat(found).cpu().numpy()
            except torch.OutOfMemoryError as error:
                if min(count, self._at_once) == 1:
                    raise SpecError(
                        "the memory of the device does not hold the backbone and one image; free some, or try "
                        "--device cpu."
                    ) from error
                self._at_once = min(count, self._at_once) // 2
            else:
                return features

    def _stream(self) -> AbstractContextManager[object]:
        """The CUDA stream of this thread, or a context without effect on other devices."""
        if self._device.type != "cuda":
            return nullcontext()
        if not hasattr(self._thread, "stream"):
            self._thread.stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        return torch.cuda.stream(self._thread.stream)

    def _run(self, groups: Sequence[np.ndarray]) -> Tensor:
        features: Tensor = self._module(*map(self._on_device, groups)).float()
        return features

    def _on_device(self, group: np.ndarray) -> Tensor:
        """Stored pixels on the device; through pinned memory, as a copy from other memory blocks the other threads."""
        pixels = torch.from_numpy(group)
        if self._device.type == "cuda":
            pixels = pixels.pin_memory()
        return pixels.to(self._device, non_blocking=True)


class OpenVinoRunner:
    """OpenVINO on a processor. Graphs are compiled for one batch size; a smaller last batch is padded.

    With bfloat16 the scaling of the pixels is a separate graph in float32: in bfloat16 they would be rounded before
    their mean is subtracted.
    """

    def __init__(self, module: nn.Module, example: Groups, *, bfloat16: bool = False) -> None:
        self.name = f"openvino-cpu{'-bf16' if bfloat16 else ''}"
        self._size = len(example[0])
        stored = tuple(torch.from_numpy(_padded(group, self._size)) for group in example)
        if bfloat16:
            preprocess, rest = split_preprocess(module)
            with torch.no_grad():
                images = preprocess(*stored)
            self._requests = [_compiled(preprocess, stored, "f32"), _compiled(rest, (images,), "bf16")]
        else:
            self._requests = [_compiled(module, stored, "f32")]

    def __call__(self, groups: Groups) -> np.ndarray:
        """Return the features of a batch; a smaller batch is padded."""
        given = [_padded(group, self._size) for group in groups]
        for request in self._requests:
            request.infer(dict(enumerate(given)), share_inputs=True)
            given = [request.get_output_tensor(0).data]
        features: np.ndarray = given[0][: len(groups[0])].copy()
        return features


def _compiled(module: nn.Module, example: tuple[Tensor, ...], precision: str) -> Any:
    """An inference request of OpenVINO for a module."""
    openvino = _openvino()
    with warnings.catch_warnings():  # the user cannot cure deprecations inside the exporter
        warnings.simplefilter("ignore")
        model = openvino.convert_model(torch.export.export(module, example))
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    return openvino.Core().compile_model(model, "CPU", options).create_infer_request()


def make_runner(
    module: nn.Module,
    example: Groups,
    device: str,
    note: Callable[[str], None],
    *,
    precision: Precision = "float32",
) -> Runner:
    """The fastest runner on a device that gives the same features as plain PyTorch.

    Args:
        module: frozen, from stored groups to features.
        example: a full batch of stored groups.
        device: as `resolve_device` gives it.
        note: is called with the reason where a slower runner is taken.
        precision: of convolutions and matrix products.

    Raises:
        SpecError: if the module cannot take such input, or bfloat16 is asked for and changes its features too much.
    """
    one = tuple(group[:1] for group in example)
    expected = _trial(module, one)
    bfloat16 = precision == "bfloat16"
    largest = LARGEST_BFLOAT16_DIFFERENCE if bfloat16 else LARGEST_DIFFERENCE
    reason = ""
    for name, make in _faster(module, example, device, note, bfloat16=bfloat16):
        try:
            runner = make()
            difference = np.abs(runner(one) - expected).max() / max(float(np.abs(expected).max()), 1e-12)
        except Exception as error:  # exporter and converter raise many kinds for operators that they do not support
            reason = f"{name} cannot run this backbone ({type(error).__name__})"
        else:
            if difference <= largest:
                return runner
            reason = f"{name} is off by {difference:.1e} of the largest feature of this backbone"
        note(f"{reason}; PyTorch runs it")
    if bfloat16:
        raise SpecError(f"{reason}; choose --precision float32 for it.")
    return TorchRunner(module, torch.device(device))


def _faster(
    module: nn.Module, example: Groups, device: str, note: Callable[[str], None], *, bfloat16: bool
) -> Iterator[tuple[str, Callable[[], Runner]]]:
    """The runners that may be faster than plain PyTorch in float32, the fastest first: a name and a constructor."""
    if device == "cpu" and importlib.util.find_spec("openvino"):
        if bfloat16 and not _computes_bfloat16():
            note("this processor has no instructions for bfloat16, and is slower in it than in float32")
        else:
            yield "OpenVINO", partial(OpenVinoRunner, module, example, bfloat16=bfloat16)
    if bfloat16:
        yield "bfloat16", partial(TorchRunner, module, torch.device(device), bfloat16=True)


def _computes_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16; on others OpenVINO may compute in float32 instead."""
    return "BF16" in _openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _trial(module: nn.Module, one: Groups) -> np.ndarray:
    """Features of one sample in plain PyTorch."""
    try:
        with torch.inference_mode():
            features: np.ndarray = module(*(torch.from_numpy(group) for group in one)).numpy()
    except (RuntimeError, AssertionError, ValueError, TypeError, IndexError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise SpecError(f"the backbone cannot take this input ({reason}); try another --image-size.") from error
    return features


def resolve_device(wanted: str) -> str:
    """The device to run on; `auto` is the first GPU if there is one.

    Raises:
        SpecError: if there is no such device.
    """
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    gpus = ["cuda", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    if wanted != "cpu" and not (torch.cuda.is_available() and wanted in gpus):
        raise SpecError(f"device {wanted!r} cannot be used here; try --device auto or --device cpu.")
    return wanted


def resolve_devices(wanted: str) -> tuple[str, ...]:
    """The devices to run on, of a list with commas: several GPUs, or `cpu` several times.

    Raises:
        SpecError: if there is no such device, or they cannot work together.
    """
    devices = tuple(resolve_device(name) for name in wanted.split(","))
    kinds = {name.partition(":")[0] for name in devices}
    if len(kinds) > 1 or (kinds == {"cuda"} and len(set(devices)) < len(devices)):
        raise SpecError(f"devices {wanted!r} cannot work together; name different GPUs, like cuda:0,cuda:1.")
    return devices


def _openvino() -> Any:
    # On import OpenVINO sends usage statistics through this package unless it is absent, so it is hidden.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _padded(group: np.ndarray, size: int) -> np.ndarray:
    """A batch of this size, in a type that OpenVINO's PyTorch frontend knows, which uint16 is not."""
    known = group.astype(np.float32) if group.dtype == np.uint16 else group
    missing = size - len(known)
    padded = np.concatenate([known, np.repeat(known[-1:], missing, axis=0)]) if missing else known
    return np.ascontiguousarray(padded)
