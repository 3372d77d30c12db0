"""The package where the system has no `fcntl` and no `resource`, such as Windows, and the names it gives to files."""

import ast
import builtins
import importlib
import os
import pkgutil
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PureWindowsPath
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import ssl4eo_bench
from ssl4eo_bench.config.catalogue import load_catalogue
from ssl4eo_bench.config.checkpoint import checkpoint_from
from ssl4eo_bench.config.remote_files import RemoteFile
from ssl4eo_bench.data.trees import find_tree
from ssl4eo_bench.errors import DamagedFileError, SpecError
from ssl4eo_bench.files.archives import unpack
from ssl4eo_bench.files.atomic import write_text
from ssl4eo_bench.files.downloads import fetch
from ssl4eo_bench.files.npz_files import write_arrays
from tests.conftest import ROOT
from tests.remote import Remote

SOURCES = sorted((ROOT / "ssl4eo_bench").rglob("*.py")) + sorted((ROOT / "tasks").glob("*.py"))

MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
"""Modules of Python that Windows lacks."""

ATTRIBUTES = re.compile(
    "O_(DIRECTORY|NOFOLLOW|NONBLOCK)|WNOHANG|l?chown|chroot|fch(dir|mod|own)|fork|forkpty|getlogin_r|getloadavg|getxattr"
    "|(get|set)(e|re|res)?(uid|gid|sid|pgid|pgrp|groups|priority)|killpg|mkfifo|mknod|nice|openpty|posix_.*|p(read|write)v?"
    "|sched_.*|sendfile|statvfs|sync|sysconf|uname|wait[34]?|writev|SIG(ALRM|CHLD|HUP|KILL|PIPE|QUIT|STOP|USR[12])|alarm"
)
"""What `os` and `signal` lack there."""


@pytest.fixture
def on_windows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package is imported anew, without what Windows lacks; other packages keep it."""
    imported = builtins.__import__
    lacking = {name: ModuleType(name) for name in ("os", "signal")}
    for name, module in lacking.items():
        there = {key: value for key, value in vars(sys.modules[name]).items() if not ATTRIBUTES.fullmatch(key)}
        vars(module).update(there)

    def imported_there(name: str, globals: Any = None, *others: Any, **named: Any) -> ModuleType:  # noqa: A002
        if not str((globals or {}).get("__name__")).startswith("ssl4eo_bench"):
            return imported(name, globals, *others, **named)
        if name in MODULES:
            raise ModuleNotFoundError(name)
        return lacking.get(name) or imported(name, globals, *others, **named)

    kept = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "ssl4eo_bench"}
    for name in kept:
        del sys.modules[name]
    monkeypatch.setattr(builtins, "__import__", imported_there)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "ssl4eo_bench"]:
        del sys.modules[name]
    sys.modules.update(kept)


def test_commands_run_without_what_windows_lacks(
    on_windows: None, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(results.parent)
    before = {file: file.read_bytes() for file in results.rglob("*") if file.is_file()}
    features = Path("cache/features", "0" * 64)
    features.mkdir(parents=True)
    use = importlib.import_module("ssl4eo_bench.files.cached_items").Use(features)
    main = importlib.import_module("ssl4eo_bench.cli").main
    listed, pruned = ("cache", "list"), ("cache", "prune", "--all")
    for words in (("list", "tasks"), ("tables",), ("leaderboard",), ("check",), listed, pruned):
        assert main([*words, *(("--cache-dir", "cache") if words[0] == "cache" else ())]) == 0, words
    assert not features.exists()
    del use
    assert importlib.import_module("ssl4eo_bench.provenance").peak_memory_bytes() == 0
    assert {file: file.read_bytes() for file in before} == before


def test_every_module_is_imported_without_what_windows_lacks(on_windows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timm.models.register_model", lambda network: network)  # timm has them by now, or later
    for module in pkgutil.walk_packages(ssl4eo_bench.__path__, "ssl4eo_bench."):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:  # of an extra that is not installed; what is absent here has no name
            if not error.name:
                raise


def test_nothing_uses_without_a_fallback_what_windows_lacks() -> None:
    assert [f"{file.relative_to(ROOT)} {use}" for file in SOURCES for use in unguarded(file)] == []


def unguarded(file: Path) -> Iterator[str]:
    """What a file uses of it that is neither tried nor asked for by `hasattr`."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    guarded = {
        node
        for guard in ast.walk(tree)
        if isinstance(guard, ast.Try | ast.If)
        and re.search(r"^if hasattr|^except ImportError", ast.unparse(guard), re.M)
        for node in ast.walk(guard)
    }
    for node in set(ast.walk(tree)) - guarded:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            yield from (f"line {node.lineno} imports {name}" for name in names & MODULES)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("os", "signal"):
            yield from (f"line {node.lineno} uses {name}" for name in (node.attr,) if ATTRIBUTES.fullmatch(name))


def test_no_file_is_open_when_it_is_renamed_or_deleted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, remote: Remote
) -> None:
    handles = Path("/proc/self/fd")
    if not handles.is_dir():
        pytest.skip("this system does not tell which files are open")

    def closed(name: str) -> Callable[..., Any]:
        act = getattr(Path, name)

        def acting(path: Path, *others: Any, **named: Any) -> Any:
            opened = {os.path.realpath(handle) for handle in handles.iterdir()}
            assert str(path.resolve()) not in opened, f"{name} of {path}, which is open"
            return act(path, *others, **named)

        return acting

    for name in ("replace", "rename", "unlink"):
        monkeypatch.setattr(Path, name, closed(name))
    write_text(tmp_path / "text", "words")
    write_arrays(tmp_path / "arrays.npz", {"a": np.zeros(3)})
    remote.files["data.bin"] = b"bytes"
    fetch(RemoteFile(name="data.bin", url=f"{remote.url}data.bin", size=5), tmp_path)
    wrong = RemoteFile(name="other.bin", url=f"{remote.url}data.bin", md5="0" * 32)
    with pytest.raises(DamagedFileError, match="came with md5"):
        fetch(wrong, tmp_path)
    assert {"text", "arrays.npz", "data.bin"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("name", ["aux", "Con.v1", "com1.mine", "net."])
def test_a_name_that_windows_refuses_is_no_name_of_a_checkpoint(name: str) -> None:
    entry: dict[str, Any] = {"name": name, "arch": "resnet18", "weights": {"random": True}, "bands": "task"}
    entry |= {"image_size": 64, "scaling": {"divide": 10000}, "feature": "pooled"}
    with pytest.raises(SpecError, match="cannot be the name of a folder on Windows"):
        checkpoint_from(entry, "mine")
    assert checkpoint_from(entry | {"name": f"net-{name}x"}, "mine").name == f"net-{name}x"


def test_files_of_the_repository_have_names_that_windows_takes() -> None:
    names = {part for file in (ROOT / "results").rglob("*") for part in file.relative_to(ROOT).parts}
    names |= set(load_catalogue().checkpoints)
    assert not [name for name in names if set(name) & set('<>:"\\|?*') or name.endswith((".", " "))]
    assert not [name for name in names if PureWindowsPath(name).stem.lower() in ("aux", "con", "nul", "prn")]


def test_archives_with_backslashes_have_the_same_files(tmp_path: Path) -> None:
    member = zipfile.ZipInfo("set/Forest/1.jpg")
    member.filename = "set\\Forest\\1.jpg"  # as some programs for Windows write it
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr(member, b"pixels")
    assert zipfile.ZipFile(tmp_path / "set.zip").namelist() == ["set\\Forest\\1.jpg"]
    tree = find_tree(tmp_path, folders=["Forest"], suffix=".jpg")
    assert tree
    assert tree["Forest/1.jpg"].read() == b"pixels"
    (tmp_path / "data").mkdir()
    unpack(tmp_path / "set.zip", tmp_path / "data", limit=None)
    assert (tmp_path / "data/set/Forest/1.jpg").read_bytes() == b"pixels"
