"""What runs a frozen module: OpenVINO on processors when it is installed, PyTorch otherwise."""

import importlib.util
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ssl4eo_bench.config.checkpoint import Precision
from ssl4eo_bench.config.task import Groups
from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.models.preprocess import apart

LARGEST_DIFFERENCE = 1e-3
"""Of a runner's features from PyTorch's, relative to the largest; seen are 1e-7 to 1e-5."""
LARGEST_BFLOAT16_DIFFERENCE = 3e-2
"""The same of bfloat16, which has 8 significant bits."""


def keep_float32() -> None:
    """Let convolutions and matrix products on GPUs take float32 as it is, and not rounded to ten bits (TF32)."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


class Runner(Protocol):
    """Runs stored groups through a frozen module."""

    name: str

    def __call__(self, groups: Groups) -> np.ndarray:
        """Features `[N, D]` float32 of a batch of any size up to the one the runner was made for."""
        ...


class TorchRunner:
    """PyTorch with images in channels_last order, over four times faster than the default on processors.

    In bfloat16, convolutions and matrix products round their inputs to it and the rest stays in float32. Where a batch
    does not fit into the device's memory, it and all later ones are halved until they do. On a GPU every thread that
    calls it has a stream of its own, so that one batch travels while another is computed.
    """

    def __init__(self, module: nn.Module, device: torch.device, *, bfloat16: bool = False) -> None:
        self.name = f"torch-{device.type}{'-bf16' if bfloat16 else ''}"
        self._device = device
        self._bfloat16 = bfloat16
        keep_float32()
        self._module = module.to(device).to(memory_format=torch.channels_last)
        self._at_once = sys.maxsize
        self._own = threading.local()

    def __call__(self, groups: Groups) -> np.ndarray:
        """Features of a batch.

        Raises:
            SpecError: if not even one sample fits.
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
        """The stream of this thread."""
        if self._device.type != "cuda":
            return nullcontext()
        if not hasattr(self._own, "stream"):
            self._own.stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        return torch.cuda.stream(self._own.stream)

    def _run(self, groups: Sequence[np.ndarray]) -> Tensor:
        features: Tensor = self._module(*map(self._sent, groups)).float()
        return features

    def _sent(self, group: np.ndarray) -> Tensor:
        """Stored pixels on the device; from pinned memory, for a copy from other memory holds up the other threads."""
        pixels = torch.from_numpy(group)
        if self._device.type == "cuda":
            pixels = pixels.pin_memory()
        return pixels.to(self._device, non_blocking=True)


class OpenVinoRunner:
    """OpenVINO. Graphs are compiled for one batch size; a smaller last batch is padded.

    In bfloat16 it would scale the pixels in that, too, before their mean is taken off; so that has a graph of its own.
    """

    def __init__(self, module: nn.Module, example: Groups, *, bfloat16: bool = False) -> None:
        self.name = f"openvino-cpu{'-bf16' if bfloat16 else ''}"
        self._size = len(example[0])
        stored = tuple(torch.from_numpy(_known_type(group)) for group in example)
        if bfloat16:
            scale, behind = apart(module)
            with torch.no_grad():
                images = scale(*stored)
            self._requests = [_compiled(scale, stored, "f32"), _compiled(behind, (images,), "bf16")]
        else:
            self._requests = [_compiled(module, stored, "f32")]

    def __call__(self, groups: Groups) -> np.ndarray:
        """Features of a batch."""
        given = [_pad(_known_type(group), self._size) for group in groups]
        for request in self._requests:
            request.infer(dict(enumerate(given)), share_inputs=True)
            given = [request.get_output_tensor(0).data]
        features: np.ndarray = given[0][: len(groups[0])].copy()
        return features


def _compiled(module: nn.Module, example: tuple[Tensor, ...], precision: str) -> Any:
    """What OpenVINO infers with."""
    openvino = _openvino()
    with warnings.catch_warnings():  # deprecations inside the exporter are not the user's
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
    """The fastest runner for a module on a device that gives the features of plain PyTorch.

    Args:
        module: frozen, from stored groups to features.
        example: a full batch of stored groups.
        device: as `resolve_device` gives it.
        note: is told why a slower runner was taken.
        precision: of convolutions and matrix products.

    Raises:
        SpecError: if the module cannot take such input at all, or not in bfloat16.
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
        except Exception as error:  # the exporter and the converter raise whatever an operator they miss makes them
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
    """What may be faster than plain PyTorch in float32: its name, and how to make it, the fastest first."""
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
        SpecError: if the device is not there.
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
        SpecError: if one is not there, or they do not go together.
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


def _known_type(group: np.ndarray) -> np.ndarray:
    """OpenVINO's PyTorch frontend does not know uint16."""
    return group.astype(np.float32) if group.dtype == np.uint16 else group


def _pad(group: np.ndarray, size: int) -> np.ndarray:
    missing = size - len(group)
    padded = np.concatenate([group, np.repeat(group[-1:], missing, axis=0)]) if missing else group
    return np.ascontiguousarray(padded)
