"""The source of plug-ins: where a class is found, and the sha256 of the code that decides what it computes."""

import ast
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, metadata, packages_distributions, version
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

from ssl4eo_bench.config.checkpoint import PLUGIN
from ssl4eo_bench.errors import SpecError, UnknownNameError

FOLDER_VARIABLE = "SSL4EO_BENCH_BACKBONES"
"""Names folders of modules with backbones, separated as in `PATH`. Worker processes inherit the environment."""

INTERACTIVE = "__main__"
INSTALLED = ("site-packages", "dist-packages")
"""Names of the folders that libraries are installed in."""


def find_class(arch: str) -> type:
    """The class that the name of an architecture means, `python:module:Class`; its module is imported.

    Raises:
        SpecError: if there is no such class, or its module cannot be imported.
    """
    name, _, attributes = arch.removeprefix(PLUGIN).partition(":")
    found: object = _imported(name, arch)
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            classes = [key for key, value in vars(found).items() if isinstance(value, type)]
            raise UnknownNameError(f"{arch.rpartition(':')[0]}: class", attribute, classes)
        found = getattr(found, attribute)
    if not isinstance(found, type):
        raise SpecError(f"{arch!r} is a {type(found).__name__}, not a class; name the class of the backbone.")
    return found


def _imported(name: str, arch: str) -> ModuleType:
    folders = [folder for folder in os.environ.get(FOLDER_VARIABLE, "").split(os.pathsep) if folder]
    sys.path += [folder for folder in folders if folder not in sys.path]  # at the end: no file hides a library
    try:
        for folder in folders:
            _require_only(name, folder)
        return importlib.import_module(name)
    except SpecError:
        raise
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(f"{missing}."):
            raise SpecError(
                f"there is no Python module {name!r} for {arch!r}; name the folder of {name}.py with --backbones-dir "
                f"DIR or {FOLDER_VARIABLE}, or install its package."
            ) from error
        raise SpecError(
            f"{arch!r} needs the Python package {missing!r}, which is not installed; {_install(missing)}."
        ) from error
    except (Exception, SystemExit) as error:  # code of others may raise anything
        raise SpecError(f"the module of {arch!r} cannot be imported ({failure(error)}); correct it.") from error


def _require_only(name: str, folder: str) -> None:
    """Refuse a module of a folder of backbones that has the name of another module."""
    own = Path(folder, f"{name}.py").resolve()
    spec = importlib.util.find_spec(name) if own.is_file() else None
    if spec and Path(spec.origin or "").resolve() != own:
        raise SpecError(f"{own} has the name of another Python module ({spec.origin}); rename the file.")


def _install(package: str) -> str:
    """How to get a package that a shipped or another plug-in needs."""
    top = package.partition(".")[0]
    extras = metadata("ssl4eo-bench").get_all("Provides-Extra") or []
    extra = top.removesuffix("_pretrain_minimal")
    return f"run `pip install 'ssl4eo-bench[{extra}]'`" if extra in extras else f"run `pip install {top}`"


def failure(error: BaseException) -> str:
    """What code of others raised, and where: `ValueError: no bands, mynet.py line 12`."""
    said = " ".join(str(error).split())[:200]
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_library(frame.filename)]
    where = f", {Path(own[-1].filename).name} line {own[-1].lineno}" if own else ""
    return f"{type(error).__name__}{': ' if said else ''}{said}{where}"


def _is_library(file: str) -> bool:
    """Whether code is Python's own or that of an installed package."""
    return file.startswith(("<", sysconfig.get_path("stdlib"))) or bool(set(INSTALLED) & set(Path(file).parts))


def source_sha256(found: type) -> str:
    """The sha256 of the code of a class: of its file, and of those that it imports from its folder or below it.

    A class that was written into a notebook or an interpreter has no file: the compiled code of its methods counts, and
    that of functions and classes from the same place that they name.
    """
    digest = hashlib.sha256()
    if found.__module__ == INTERACTIVE:
        for code in _interactive_code(found):
            digest.update(code)
    else:
        for file in _files(_file(found)):
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _file(found: type) -> Path:
    try:
        return Path(inspect.getfile(found)).resolve()
    except (TypeError, OSError) as error:
        raise SpecError(f"class {found.__qualname__} has no source file; write it into a Python file.") from error


def _files(file: Path) -> list[Path]:
    """A source file and those that it imports from its folder, sorted by path; installed libraries are left out."""
    seen, waiting = {file}, [file]
    while waiting:
        new = set(_imports(waiting.pop(), file.parent)) - seen
        seen |= new
        waiting.extend(new)
    return sorted(seen)


def _imports(file: Path, folder: Path) -> Iterator[Path]:
    """The files below a folder that a file imports, by names relative to the folder or to the file."""
    if folder.name in INSTALLED:
        return
    for level, name in _imported_names(_python(file)):
        place = (file.parents[level - 1] if level else folder).joinpath(*name.split("."))
        for candidate in (place.with_suffix(".py"), place / "__init__.py"):
            if candidate.is_file() and candidate.is_relative_to(folder):
                yield candidate.resolve()


def _python(file: Path) -> bytes:
    return file.read_bytes() if file.suffix == ".py" else b""


@cache  # a class of a large library has hundreds of files, each asked for several times in a run
def _imported_names(source: bytes) -> list[tuple[int, str]]:
    """All names that Python code imports, with the number of dots before a relative one."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.module:
                names.append((node.level, node.module))
            names += [(node.level, f"{node.module or ''}.{alias.name}".strip(".")) for alias in node.names]
    return names


def _interactive_code(found: type) -> list[bytes]:
    """The compiled code of a class without a file, and of what it names of the same place, in the order of names."""
    place = vars(sys.modules[INTERACTIVE])
    seen: dict[str, object] = {found.__qualname__: found}
    waiting: list[object] = [found]
    while waiting:
        for name in sorted(_named(waiting.pop())):
            one = place.get(name)
            if isinstance(one, type | FunctionType) and one.__module__ == INTERACTIVE and name not in seen:
                seen[name] = one
                waiting.append(one)
    return [_compiled(code) for name in sorted(seen) for code in _codes(seen[name])]


def _named(one: object) -> set[str]:
    bases = {base.__name__ for base in one.__bases__} if isinstance(one, type) else set()
    return bases.union(*(code.co_names for code in _codes(one)))


def _codes(one: object) -> list[CodeType]:
    """The code of a function, or of the functions of a class, in the order of their names; with what lies inside."""
    functions = [one] if isinstance(one, FunctionType) else [value for _, value in sorted(vars(one).items())]
    waiting = [function.__code__ for function in functions if isinstance(function, FunctionType)]
    for code in waiting:
        waiting.extend(inner for inner in code.co_consts if isinstance(inner, CodeType))
    return waiting


def _compiled(code: CodeType) -> bytes:
    constants = [
        sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant  # its order differs by process
        for constant in code.co_consts
        if not isinstance(constant, CodeType)
    ]
    return b"\n".join((code.co_code, repr(constants).encode(), repr(code.co_names).encode()))


def require_current(found: type) -> None:
    """Refuse a class whose file was edited after it was imported: its old code would be taken for the new one."""
    if found.__module__ == INTERACTIVE:
        return
    file = _file(found)
    if file.suffix != ".py":
        return
    now, waiting = set(), [compile(file.read_bytes(), str(file), "exec", dont_inherit=True)]
    for code in waiting:
        now.add((code.co_qualname, _compiled(code)))  # all comprehensions of a function have one name
        waiting.extend(inner for inner in code.co_consts if isinstance(inner, CodeType))
    for code in _codes(found):
        same_file = Path(code.co_filename).resolve() == file
        if same_file and (code.co_qualname, _compiled(code)) not in now:
            raise SpecError(
                f"{file} was edited after {found.__qualname__} was imported from it; restart Python, or reload the "
                "module and make the network again."
            )


def library_versions(found: type) -> dict[str, str]:
    """The versions of the installed packages that the source files of a class import, by name."""
    if found.__module__ == INTERACTIVE:
        return {}
    names = {name for file in _files(_file(found)) for level, name in _imported_names(_python(file)) if not level}
    known = _installed()
    distributions = {one for name in names for one in known.get(name.partition(".")[0], ())} - {"ssl4eo-bench"}
    return {name: _version(name) for name in sorted(distributions)}


@cache
def _installed() -> Mapping[str, list[str]]:
    """The installed distributions by the packages that one imports."""
    return packages_distributions()


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""
