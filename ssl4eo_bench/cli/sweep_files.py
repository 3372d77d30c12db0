"""A sweep in a file: `run sweep.yaml` is `run` with the options that the file names.

    task: [bigearthnet, eurosat]
    protocol: linear
    checkpoint: [ssl4eo-s12.moco.resnet50.s2-13, resnet50.random]
    seed: [0, 1, 2]
    sample: true

Keys are the names of options; a list gives several values, `true` sets a switch. An option on the command line takes
the place of the one in the file.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ssl4eo_bench.cli.options import options_of
from ssl4eo_bench.errors import SpecError, UnknownNameError
from ssl4eo_bench.files.reading import read_bytes, reason


def with_sweep_file(words: Sequence[str]) -> list[str]:
    """Return the words of a command line; where a sweep file follows `run`, its options stand in its place.

    Raises:
        SpecError: if the file cannot be read or does not say options and values.
    """
    if len(words) < 2 or words[0] != "run" or words[1].startswith("-"):
        return list(words)
    given = {word.partition("=")[0] for word in words[2:] if word.startswith("--")}
    return ["run", *_words(Path(words[1]), given), *words[2:]]


def _words(file: Path, given: set[str]) -> Iterator[str]:
    """Yield the options and values of a file, but of the options that are not given on the command line."""
    from ssl4eo_bench.cli.run_commands import run  # not for other commands

    known = options_of(run)
    for key, value in _content(file).items():
        name = str(key).replace("-", "_")
        if name not in known:
            raise UnknownNameError(f"{file}: option", str(key), known)
        values = [one for one in (value if isinstance(value, list) else [value]) if one is not None]
        switch = [isinstance(one, bool) for one in values]
        if any(isinstance(one, dict | list) for one in values) or any(one != (known[name] is bool) for one in switch):
            form = "true or false" if known[name] is bool else "a value or a list of values, such as [0, 1]"
            raise SpecError(f"{file}: {key} has to be {form}.")
        if options := [one for one in values if isinstance(one, str) and one.startswith("-")]:
            raise SpecError(f"{file}: {key} has the value {options[0]!r}, which begins like an option; correct it.")
        option = f"--{name.replace('_', '-')}"
        if option not in given and values and values != [False]:
            yield option
            yield from (str(one) for one in values if one is not True)


def _content(file: Path) -> dict[str, object]:
    from ssl4eo_bench.config.yaml_text import parse_yaml  # takes a while: not for other commands

    try:
        found = parse_yaml(read_bytes(file).decode("utf-8"))
    except (OSError, ValueError) as error:
        raise SpecError(f"sweep file {file} cannot be read ({reason(error)}); correct it.") from error
    if not isinstance(found, dict):
        raise SpecError(f"sweep file {file} is no mapping of options to values, such as `task: [eurosat, so2sat]`.")
    return found
