"""How good is this pretrained Earth-observation backbone, really?"""

from importlib import import_module
from typing import TYPE_CHECKING

from ssl4eo_bench.version import __version__ as __version__

if TYPE_CHECKING:
    from ssl4eo_bench.api import (
        evaluate,
        features,
        list_checkpoints,
        list_tasks,
        load_checkpoint,
        load_task,
        run,
    )
    from ssl4eo_bench.errors import BenchError
    from ssl4eo_bench.models.plugin import Features, Inputs, Meta
    from ssl4eo_bench.results.frame import load_results

__all__ = [
    "BenchError",
    "Features",
    "Inputs",
    "Meta",
    "evaluate",
    "features",
    "list_checkpoints",
    "list_tasks",
    "load_checkpoint",
    "load_results",
    "load_task",
    "run",
]

_MODULES = {
    "BenchError": "errors",
    "Features": "models.plugin",
    "Inputs": "models.plugin",
    "Meta": "models.plugin",
    "load_results": "results.frame",
}
"""Where names are that are not in `api`. Everything is imported when it is first used."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"ssl4eo_bench.{_MODULES.get(name, 'api')}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
