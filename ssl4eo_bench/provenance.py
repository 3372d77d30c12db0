"""What produced a number: versions, commit, device and memory."""

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ssl4eo_bench.files.git import run_git
from ssl4eo_bench.version import __version__

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

LIBRARIES = ("numpy", "openvino", "pillow", "rasterio", "timm", "torch")
CODE = ("ssl4eo_bench", "tasks", "checkpoints.yaml")


def versions() -> dict[str, str]:
    """Return the versions of this package, Python and the libraries that touch pixels or numbers."""
    found = {"ssl4eo-bench": __version__, "python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def commit() -> tuple[str | None, bool]:
    """Return the commit of the checkout that this code runs from, and whether code, tasks or checkpoints changed since.

    An installed package gives None and False: its version says enough.
    """
    checkout = Path(__file__).resolve().parents[1]
    if not (checkout / "checkpoints.yaml").is_file() or not (checkout / ".git").exists():
        return None, False
    head = _git(checkout, "rev-parse", "HEAD")
    return head, bool(_git(checkout, "status", "--porcelain", "--", *CODE)) if head else True


def device_name(device: str) -> str:
    """Return the name of a device, for people."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(torch.device(device))
    return _processor() or device


def peak_memory_bytes() -> int:
    """Return the most memory that this process has had so far, in bytes; 0 on Windows, which does not tell."""
    if resource is None:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _git(checkout: Path, *arguments: str) -> str | None:
    try:
        done = run_git(checkout, *arguments, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return None if done.returncode else done.stdout.decode(errors="replace").strip()
