"""Names that a shell completes a word with, for argcomplete. They are looked up when they are asked for."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

VARIABLE = "_ARGCOMPLETE"
"""Is set by the shell that asks."""


class Names(NamedTuple):
    """The names that an option takes, of what was read of the command line so far."""

    of: Callable[[Namespace], Iterable[str]]

    def __call__(self, *, parsed_args: Namespace, **_: object) -> list[str]:
        """The names, as argcomplete asks for them."""
        return list(self.of(parsed_args))


def complete(parser_of: Callable[[Sequence[str]], ArgumentParser]) -> None:
    """Answer the shell, and leave; `parser_of` makes the parser for words that are complete."""
    from argcomplete import autocomplete  # for completion alone

    line = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
    words = line.split()[1:]
    autocomplete(parser_of(words if line.endswith(" ") else words[:-1]))


def _tasks(_: Namespace) -> Iterable[str]:
    from ssl4eo_bench.config.catalogue import tasks

    return tasks()


def _checkpoints(given: Namespace) -> Iterable[str]:
    from ssl4eo_bench.config.catalogue import load_catalogue

    return load_catalogue(*getattr(given, "checkpoints", ())).checkpoints


def _suites(given: Namespace) -> Iterable[str]:
    from ssl4eo_bench.config.catalogue import load_catalogue

    return ("all", *load_catalogue(*getattr(given, "checkpoints", ())).suites)


def _protocols(_: Namespace) -> Iterable[str]:
    from ssl4eo_bench.config.protocols import PROTOCOLS, RECIPES

    return (*PROTOCOLS, *RECIPES)


def _runs(given: Namespace) -> Iterable[str]:
    runs = getattr(given, "results", Path("results")) / "runs"
    return (file.relative_to(runs).with_suffix("").as_posix() for file in sorted(runs.rglob("*.json")))


TASKS, CHECKPOINTS, SUITES = Names(_tasks), Names(_checkpoints), Names(_suites)
PROTOCOL_NAMES, RUNS = Names(_protocols), Names(_runs)
