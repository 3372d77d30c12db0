"""Which tasks and checkpoints there are: the modules in `tasks/` and the entries of `checkpoints.yaml`."""

import importlib
import pkgutil
from functools import cache
from pathlib import Path
from typing import Any

import ssl4eo_bench.tasks
from ssl4eo_bench.config.canonical import Frozen
from ssl4eo_bench.config.checkpoint import Checkpoint, checkpoint_from
from ssl4eo_bench.config.task import Task
from ssl4eo_bench.errors import SpecError, UnknownNameError


class Catalogue(Frozen):
    """Checkpoints by name, and suites of them."""

    checkpoints: dict[str, Checkpoint]
    suites: dict[str, tuple[str, ...]]

    def checkpoint(self, name: str) -> Checkpoint:
        """The entry of that name.

        Raises:
            UnknownNameError: if there is none.
        """
        if name not in self.checkpoints:
            hint = "; any timm model works as timm:NAME"
            raise UnknownNameError("checkpoint", name, self.checkpoints, hint=hint)
        return self.checkpoints[name]

    def suite(self, name: str) -> tuple[str, ...]:
        """The names of the checkpoints in a suite; `all` is every one.

        Raises:
            UnknownNameError: if there is no such suite.
        """
        suites = self.suites | {"all": tuple(self.checkpoints)}
        if name not in suites:
            raise UnknownNameError("suite", name, suites)
        return suites[name]


def task_modules() -> tuple[str, ...]:
    """The names of the task modules, none of them imported."""
    return tuple(sorted(set(_found_modules())))


def _found_modules() -> list[str]:
    """The names of all modules in all directories of tasks; a name is there twice if two modules have it."""
    # Path by path: over all of them at once, `iter_modules` would drop the second of two modules in silence.
    places = [place for place in map(Path, ssl4eo_bench.tasks.__path__) if place.is_dir()]
    return [name for place in places for name in _modules_in(place, place.stat().st_mtime_ns)]


@cache
def _modules_in(place: Path, changed: int) -> list[str]:
    """The names of the modules in a directory, which is not searched again until it changes."""
    del changed
    return [module.name for module in pkgutil.iter_modules([str(place)]) if not module.name.startswith("_")]


def tasks_of(module: str) -> tuple[Task, ...]:
    """The tasks that a module defines in its `TASKS`.

    Raises:
        SpecError: if another module has its name, it cannot be imported, or does not define tasks named after it.
    """
    if _found_modules().count(module) > 1:
        raise SpecError(f"two task modules are called {module!r}; rename the one outside the package.")
    try:
        tasks = tuple(importlib.import_module(f"ssl4eo_bench.tasks.{module}").TASKS)
    except (Exception, SystemExit) as error:
        raise SpecError(f"task module {module!r} cannot be used: {type(error).__name__}: {error}.") from error
    for task in tasks:
        if not isinstance(task, Task):
            raise SpecError(f"task module {module!r} has {task!r} in its TASKS, which is no Task.")
        if task.name.split("-")[0] != module:
            raise SpecError(f"task {task.name!r} must live in a module called {task.name.split('-')[0]!r}.")
    return tasks


def tasks() -> dict[str, Task]:
    """Every task of the modules that can be used, by name."""
    return {task.name: task for found in _modules().values() if isinstance(found, tuple) for task in found}


def broken_modules() -> dict[str, SpecError]:
    """What is wrong with each task module that cannot be used, by its name."""
    return {name: found for name, found in _modules().items() if isinstance(found, SpecError)}


def _modules() -> dict[str, tuple[Task, ...] | SpecError]:
    """The tasks of each module, or what is wrong with it: one broken module must not hide the others."""
    found: dict[str, tuple[Task, ...] | SpecError] = {}
    for name in task_modules():
        try:
            found[name] = tasks_of(name)
        except SpecError as error:
            found[name] = error
    return found


_added: dict[str, Task] = {}
_OWN_TASKS = "; --tasks-dir names a directory of your own modules, and folder:DIR or csv:FILE images of your own"


def add(task: Task) -> Task:
    """Make a task that is in no module known to this process, by its name, and return it."""
    _added[task.name] = task
    return task


def task(name: str) -> Task:
    """The task of that name; only the module it lives in is imported.

    Raises:
        UnknownNameError: if there is no such task.
        SpecError: if its module cannot be used.
    """
    if name in _added:
        return _added[name]
    module = name.split("-")[0]
    found = {task.name: task for task in tasks_of(module)} if module in task_modules() else {}
    if name not in found:
        raise UnknownNameError("task", name, tasks(), hint=_OWN_TASKS)
    return found[name]


def load_catalogue(*extra: Path) -> Catalogue:
    """The shipped catalogue, with the entries of the user's own files added.

    Raises:
        SpecError: if a file cannot be read, an entry is malformed, or a name is used twice.
    """
    checkpoints: dict[str, Checkpoint] = {}
    suites: dict[str, tuple[str, ...]] = {}
    for file in (_shipped(), *extra):
        raw = _read_yaml(file)
        for name, entry in _mapping(raw, "checkpoints", file).items():
            _refuse_twice(name, checkpoints, "checkpoint", file)
            checkpoints[name] = _entry(name, entry, file)
        for name, members in _mapping(raw, "suites", file).items():
            _refuse_twice(name, suites | {"all": ()}, "suite", file)
            suites[name] = _members(name, members, checkpoints, file)
    return Catalogue(checkpoints=checkpoints, suites=suites)


def _members(name: str, members: Any, checkpoints: dict[str, Checkpoint], file: Path) -> tuple[str, ...]:
    if not isinstance(members, list) or not members:
        raise SpecError(f"{file}: suite {name!r} must be a list of checkpoints.")
    for member in members:
        if not isinstance(member, str) or member not in checkpoints:
            raise SpecError(f"{file}: suite {name!r} names {member!r}, which is not a checkpoint of the file.")
    return tuple(members)


def _shipped() -> Path:
    package = Path(__file__).parents[1]
    beside = package.parent / "checkpoints.yaml"  # in a checkout
    return beside if beside.is_file() else package / "checkpoints.yaml"


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        return _parsed(file, file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"{file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{file} is not valid YAML: {error}.") from error


@cache
def _parsed(file: Path, text: str) -> dict[str, Any]:
    """Of a catalogue's text; a file that was changed is read anew."""
    from ssl4eo_bench.config.yaml_text import parse_yaml  # imports yaml: not for lists of tasks

    try:
        raw = parse_yaml(text)
    except ValueError as error:
        raise SpecError(f"{file} is not valid YAML: {error}.") from error
    if not isinstance(raw, dict) or (unknown := set(raw) - {"checkpoints", "suites", "shared"}):
        found = ", ".join(sorted(map(str, unknown))) if isinstance(raw, dict) else type(raw).__name__
        raise SpecError(f"{file} may hold the keys `checkpoints`, `suites` and `shared`; found {found}.")
    return raw


def _mapping(raw: dict[str, Any], key: str, file: Path) -> dict[str, Any]:
    value = raw.get(key) or {}
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise SpecError(f"{file}: `{key}` must map names to entries.")
    return value


def _refuse_twice(name: str, known: dict[str, Any], kind: str, file: Path) -> None:
    if name in known:
        raise SpecError(f"{file}: {kind} {name!r} is already in the catalogue; choose another name.")


def _entry(name: str, entry: Any, file: Path) -> Checkpoint:
    if not isinstance(entry, dict):
        raise SpecError(f"{file}: checkpoint {name!r} must be a mapping of keys.")
    if "name" in entry:
        raise SpecError(f"{file}: checkpoint {name!r} is named by its key alone; remove `name` from the entry.")
    weights = entry.get("weights")
    if isinstance(weights, dict):
        weights = _absolute(weights, file)
        if isinstance(files := weights.get("embeddings"), list):
            weights = weights | {"embeddings": [_absolute(one, file) for one in files]}
        entry = entry | {"weights": weights}
    return checkpoint_from({"name": name} | entry, f"{file}: checkpoint {name!r}")


def _absolute(described: Any, file: Path) -> Any:
    """What has a `path`, with this relative to the file that names it."""
    if isinstance(described, dict) and isinstance(described.get("path"), str):
        return described | {"path": (file.resolve().parent / described["path"]).as_posix()}
    return described
