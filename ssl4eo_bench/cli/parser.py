"""Parsers that refuse in one sentence, and show examples."""

import inspect
import textwrap
from argparse import ArgumentParser, HelpFormatter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from ssl4eo_bench.cli.options import GeneralOptions, add_options, options_of
from ssl4eo_bench.errors import SpecError, UnknownNameError, guess


class Parser(ArgumentParser):
    """A parser without abbreviations; what it refuses is a SpecError, one sentence without the usage of the command."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Formatter, **settings)

    def error(self, message: str) -> NoReturn:
        """Refuse the words of the user."""
        sentence = message.removeprefix("argument ")
        raise SpecError(sentence if sentence.endswith("?") else f"{sentence}; see `{self.prog} --help`.")


def add_function(parser: ArgumentParser, function: Callable[..., int], words: Sequence[str]) -> None:
    """Give a parser the options, description and examples of the function of a command, which are in its docstring.

    Of the words that will be parsed, an option that the function does not have is refused.
    """
    about, _, examples = inspect.cleandoc(function.__doc__ or "").partition("\nExamples:\n")
    parser.description = " ".join(about.split())
    parser.epilog = f"examples:\n{examples.rstrip()}" if examples else None
    parser.set_defaults(command=function, parser=parser)
    add_options(parser, function)
    add_options(parser, GeneralOptions)
    _refuse_unknown(words, [option.flag for option in options_of(function).values()], parser.prog)


def chosen(words: Sequence[str], names: Iterable[str], kind: str) -> str | None:
    """The command, or the action of one, that words name; none if they name none. Unknown ones are refused."""
    first = next((word for word in words if not word.startswith("-")), None)
    if first is not None and first not in names:
        raise UnknownNameError(kind, first, names)
    return first


class _Formatter(HelpFormatter):
    """Keeps names such as `ssl4eo-s12` whole, and examples on their lines."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = text.splitlines() if "\n" in text else self._split_lines(text, width)
        return "\n".join(indent + line for line in lines)


def _refuse_unknown(words: Sequence[str], flags: Sequence[str], prog: str) -> None:
    """Refuse an option that a command does not have; argparse would first ask for those that are required."""
    known = {*flags, "--help", "-h"}
    for flag in (word.partition("=")[0] for word in words if word.startswith("--")):
        if flag not in known:
            cure = guess(flag, known) or f"; `{prog} --help` lists those there are."
            raise SpecError(f"`{prog}` has no option {flag}{cure}")
