"""A sweep in a file: `run sweep.yaml` is `run` with the options that the file names.

    task: [bigearthnet, eurosat]
    protocol: linear
    checkpoint: [ssl4eo-s12.moco.resnet50.s2-13, resnet50.random]
    seed: [0, 1, 2]
    sample: true

Keys are the names of options; a list gives several values, `true` sets a switch. An option on the command line takes
the place of the one in the file.
"""

from argparse import ArgumentTypeError
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ssl4eo_bench.cli.options import Option, options_of
from ssl4eo_bench.errors import SpecError, UnknownNameError
from ssl4eo_bench.files.reading import read_bytes, reason


class Sweep(NamedTuple):
    """The words of a command line, and where those of them stand that a file has, such as `sweep.yaml: task`."""

    words: list[str]
    places: Mapping[str, str] = MappingProxyType({})


def read_sweep(words: Sequence[str]) -> Sweep:
    """The words of a command line; where a sweep file follows `run`, its options stand in its place.

    Raises:
        SpecError: if the file cannot be read or does not say options and values.
    """
    if len(words) < 2 or words[0] != "run" or words[1].startswith("-"):
        return Sweep(list(words))
    file, given = Path(words[1]), {word.partition("=")[0] for word in words[2:] if word.startswith("--")}
    read: list[str] = ["run"]
    places: dict[str, str] = {}
    for key, option, values in _options(file):
        if option.flag not in given and values and values != [False]:
            texts = [str(one) for one in values if one is not True]
            read += [option.flag, *texts]
            places |= dict.fromkeys(texts, f"{file}: {key}")
    return Sweep([*read, *words[2:]], places)


def _options(file: Path) -> Iterator[tuple[str, Option, list[object]]]:
    """Yield each key of a file, the option it means, and its values."""
    from ssl4eo_bench.cli.run_commands import run  # not for other commands

    known = options_of(run)
    for key, value in _content(file).items():
        name = str(key).replace("-", "_")
        if name not in known:
            raise UnknownNameError(f"{file}: option", str(key), known)
        values = [one for one in (value if isinstance(value, list) else [value]) if one is not None]
        if fault := _fault(known[name], values):
            raise SpecError(f"{file}: {key} {fault}")
        yield str(key), known[name], values


def _fault(option: Option, values: Sequence[object]) -> str:
    """What is wrong with the values of an option, as the rest of a sentence; empty if nothing is."""
    if any(isinstance(one, dict | list) or isinstance(one, bool) != (option.kind is bool) for one in values):
        form = "true or false" if option.kind is bool else "a value or a list of values, such as [0, 1]"
        return f"has to be {form}."
    if len(values) > 1 and not option.several:
        return f"takes one value, and has {len(values)}."
    if options := [one for one in values if isinstance(one, str) and one.startswith("-")]:
        return f"has the value {options[0]!r}, which begins like an option; correct it."
    try:
        for one in values:
            option.value.parse(str(one))
    except (ArgumentTypeError, ValueError) as error:
        return f"is wrong: {error}; correct it."
    return ""


def _content(file: Path) -> dict[str, object]:
    from ssl4eo_bench.config.yaml_text import parse_yaml  # takes a while: not for other commands

    try:
        found = parse_yaml(read_bytes(file).decode("utf-8"))
    except (OSError, ValueError) as error:
        raise SpecError(f"sweep file {file} cannot be read ({reason(error)}); correct it.") from error
    if not isinstance(found, dict):
        raise SpecError(f"sweep file {file} is no mapping of options to values, such as `task: [eurosat, so2sat]`.")
    return found
