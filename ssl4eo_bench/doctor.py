"""What this machine has for runs, what of it is broken, and what makes runs slow here."""

import importlib.util
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from tempfile import TemporaryFile
from threading import Thread
from typing import Any, Literal

from rich.filesize import decimal

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.task import SPLITS, Task
from ssl4eo_bench.data.packs import open_source
from ssl4eo_bench.errors import BenchError, DataError, shortlist
from ssl4eo_bench.files.cached_items import items
from ssl4eo_bench.files.places import free_bytes, nearest_folder
from ssl4eo_bench.version import __version__

LITTLE_SPACE = 5e9
"""Free bytes of the cache's disk below which larger datasets do not fit; the features of BigEarthNet take 5 GB."""

LONGEST_WAIT = 5.0
"""Seconds until the network is taken for absent."""

NETWORK_FILE_SYSTEMS = re.compile("9p|afs|beegfs|ceph|cifs|fuse[.].*|glusterfs|gpfs|lustre|nfs.*|panfs|smb.*")
"""Types of file systems as Linux names them."""

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
"""Variables that keep libraries from using the network."""

State = Literal["ok", "warning", "broken"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at, with what was found in words, and as numbers and names in `facts`.

    It is `broken` if runs fail with it.
    """

    what: str
    found: str
    state: State = "ok"
    cure: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def examine(cache_dir: Callable[[], Path], data_dir: Path) -> Iterator[Finding]:
    """Yield what is found of this machine; a check that fails is a finding, too, also one of where the cache is."""
    checks: dict[str, Callable[[], Finding]] = {
        "Python": _python,
        "packages": _packages,
        "torch": _torch,
        "device": _device,
        "OpenVINO": _openvino,
        "threads": _threads,
        "cache": lambda: _cache(cache_dir()),
        "disk": lambda: _disk(cache_dir()),
        "tasks": _tasks,
        "data": lambda: _data(data_dir),
        "network": _network,
    }
    for what, check in checks.items():
        try:
            yield check()
        except BenchError as error:
            yield Finding(what, str(error), "broken")
        except Exception as error:  # whatever a broken installation raises
            yield Finding(what, f"{type(error).__name__}: {' '.join(str(error).split())}", "broken")


def _python() -> Finding:
    facts = {"version": platform.python_version(), "system": platform.platform()}
    return Finding("Python", f"{facts['version']} on {facts['system']}", facts=facts)


def _packages() -> Finding:
    """The versions of the packages that this one needs."""
    try:
        needed = [text for text in requires("ssl4eo-bench") or () if "extra ==" not in text]
    except PackageNotFoundError:  # run from a checkout that is not installed
        needed = []
    found, absent = {"ssl4eo-bench": __version__}, []
    for name in (re.split(r"[^\w.-]", text)[0] for text in needed):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            absent.append(name)
    if absent:
        cure = f"run `pip install {' '.join(absent)}`"
        return Finding("packages", f"{', '.join(absent)} not installed", "broken", cure, found)
    return Finding("packages", ", ".join(f"{name} {number}" for name, number in found.items()), facts=found)


def _torch() -> Finding:
    import torch

    built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    return Finding("torch", f"{torch.__version__}, built {built}", facts={"version": torch.__version__, "built": built})


def _device() -> Finding:
    import torch

    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    found = ", ".join(gpus) or f"cpu: {platform.processor() or platform.machine()}"
    facts = {"gpus": gpus}
    if not gpus and shutil.which("nvidia-smi"):
        cure = "install the build of PyTorch for the CUDA version that `nvidia-smi` shows; see pytorch.org"
        return Finding("device", f"{found}; PyTorch does not see the GPU of this machine", "warning", cure, facts)
    return Finding("device", found, facts=facts)


def _openvino() -> Finding:
    import torch

    if importlib.util.find_spec("openvino"):
        number = version("openvino")
        return Finding("OpenVINO", number, facts={"version": number})
    if torch.cuda.is_available():
        return Finding("OpenVINO", "not installed; GPUs do not need it")
    cure = "run `pip install 'ssl4eo-bench[cpu]'`: backbones run 2.1 to 5.5 times faster on processors"
    return Finding("OpenVINO", "not installed", "warning", cure)


def _threads() -> Finding:
    import torch

    threads, processors = torch.get_num_threads(), os.cpu_count() or 1
    found, facts = f"{threads} on {processors} processors", {"threads": threads, "processors": processors}
    if threads == 1 < processors:
        cure = f"unset OMP_NUM_THREADS, or set it to {processors}, unless other work needs the processors"
        return Finding("threads", found, "warning", cure, facts)
    return Finding("threads", found, facts=facts)


def _cache(folder: Path) -> Finding:
    size, system = sum(item.bytes for item in items(folder)), _file_system(folder)
    found = f"{folder}, {decimal(size)}{f' on {system}' if system else ''}"
    facts = {"folder": str(folder), "bytes": size, "file_system": system, "writable": _is_writable(folder)}
    if not facts["writable"]:
        cure = "name another with --cache-dir or SSL4EO_BENCH_CACHE; this one serves only what is in it"
        return Finding("cache", f"{found}, cannot be written", "broken", cure, facts)
    if NETWORK_FILE_SYSTEMS.fullmatch(system):
        cure = "features are read slowly over a network; name a folder on a local disk with SSL4EO_BENCH_CACHE"
        return Finding("cache", found, "warning", cure, facts)
    return Finding("cache", found, facts=facts)


def _is_writable(folder: Path) -> bool:
    """Whether a file can be made in a folder, or where it would be made."""
    try:
        with TemporaryFile(dir=nearest_folder(folder)):
            return True
    except OSError:
        return False


def _file_system(folder: Path) -> str:
    """The type of the file system that a folder is on, as Linux names it; empty where it is not known."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return ""
    place = nearest_folder(folder).resolve()
    above = [(len(point), kind) for point, kind in mounts if place.is_relative_to(point.replace("\\040", " "))]
    return max(above)[1] if above else ""


def _disk(folder: Path) -> Finding:
    free = free_bytes(folder)
    found, facts = f"{decimal(free)} free for the cache", {"free_bytes": free}
    if free < LITTLE_SPACE:
        cure = "run `ssl4eo-bench cache prune`, or name a folder on a larger disk with SSL4EO_BENCH_CACHE"
        return Finding("disk", found, "warning", cure, facts)
    return Finding("disk", found, facts=facts)


def _tasks() -> Finding:
    names, broken = list(catalogue.tasks()), [str(error) for error in catalogue.broken_modules().values()]
    facts: dict[str, Any] = {"tasks": names, "checkpoints": len(catalogue.load_catalogue().checkpoints)}
    if broken:
        return Finding("tasks", " ".join(broken), "broken", "correct the module, or leave its folder away", facts)
    return Finding("tasks", f"{len(names)} tasks, {facts['checkpoints']} checkpoints", facts=facts)


def _data(folder: Path) -> Finding:
    there = {name: counts for name, task in catalogue.tasks().items() if (counts := _counts(task, folder))}
    if there:
        counted = ", ".join(f"{name} {present:,} of {listed:,}" for name, (present, listed) in there.items())
        facts = {"folder": str(folder), "tasks": list(there), "samples": there}
        return Finding("data", f"{folder.absolute()}, samples: {counted}", facts=facts)
    what = "no task's data are there" if folder.is_dir() else "is not there"
    found = f"{folder.absolute()} {what}; `--sample` needs none, and `data download` fetches them into --data-dir"
    return Finding("data", found, facts={"folder": str(folder), "tasks": []})


def _counts(task: Task, folder: Path) -> tuple[int, int] | None:
    """How many samples of a task are there, and of how many; none where its dataset cannot be opened."""
    try:
        source = open_source(task, folder)
        ids = [id_ for split in SPLITS for id_ in source.ids(split)]
        return len(ids) - len(source.absent(ids)), len(ids)
    except DataError:
        return None


def _network() -> Finding:
    if offline := [
        name for name in OFFLINE if os.environ.get(name, "0").lower() not in ("", "0", "false", "off", "no")
    ]:
        found = f"not used, since {' and '.join(offline)} is set; weights that are not in the cache cannot be fetched"
        return Finding("network", found, facts={"offline": offline, "reachable": None})
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    trouble = _trouble(address)
    facts = {"offline": [], "address": address, "reachable": not trouble}
    if trouble:
        cure = "set HTTPS_PROXY if this network needs it; or put files there by hand, as docs/checkpoints.md tells"
        return Finding("network", f"{address} cannot be reached ({trouble})", "warning", cure, facts)
    return Finding("network", f"{address} answers", facts=facts)


def _trouble(address: str) -> str:
    """Why an address does not answer; empty if it does. A thread asks, since looking up a name knows no time limit."""
    import requests

    found = [f"no answer in {LONGEST_WAIT:.0f} s"]

    def ask() -> None:
        try:
            requests.head(address, timeout=LONGEST_WAIT)
            found.append("")
        except requests.RequestException as error:
            found.append(type(error).__name__)

    thread = Thread(target=ask, daemon=True)
    thread.start()
    thread.join(LONGEST_WAIT)
    return found[-1]


def verdict(findings: list[Finding]) -> str:
    """What all findings come to, in one sentence."""
    of = {state: shortlist(one.what for one in findings if one.state == state) for state in ("broken", "warning")}
    if of["broken"]:
        return f"broken: {of['broken']}"
    return f"runs will work; to be improved: {of['warning']}" if of["warning"] else "all is well"
