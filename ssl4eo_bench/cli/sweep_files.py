"""A sweep in a file: `run sweep.yaml` is `run` with the options that the file names.

    task: [bigearthnet, eurosat]
    protocol: linear
    checkpoint: [ssl4eo-s12.moco.resnet50.s2-13, resnet50.random]
    seed: [0, 1, 2]
    sample: true

Keys are the names of options; a list gives several values, `true` a switch. An option on the command line takes the
place of the one in the file.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ssl4eo_bench.errors import SpecError

SUFFIXES = (".yaml", ".yml")


def with_sweep_file(words: Sequence[str]) -> list[str]:
    """Return the words of a command line; where a sweep file follows `run`, its options stand in its place.

    Raises:
        SpecError: if the file cannot be read or does not say options and values.
    """
    if len(words) < 2 or words[0] != "run" or not words[1].endswith(SUFFIXES):
        return list(words)
    given = {word.partition("=")[0] for word in words[2:] if word.startswith("--")}
    return ["run", *_options(Path(words[1]), given), *words[2:]]


def _options(file: Path, given: set[str]) -> Iterator[str]:
    """Yield the options of a file that are not given on the command line."""
    for key, value in _content(file).items():
        option = f"--{str(key).replace('_', '-')}"
        values = value if isinstance(value, list) else [value]
        if any(isinstance(one, dict | list) or one is None for one in values):
            raise SpecError(f"{file}: {key} is neither a value nor a list of values; write it like `seed: [0, 1]`.")
        if options := [one for one in values if str(one).startswith("-")]:
            raise SpecError(f"{file}: {key} has the value {options[0]!r}, which begins like an option; correct it.")
        if option in given or value is False:
            continue
        yield option
        yield from (str(one) for one in values if one is not True)


def _content(file: Path) -> dict[str, object]:
    from ssl4eo_bench.config.yaml_text import parse_yaml  # takes a while: not for other commands

    try:
        found = parse_yaml(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SpecError(f"sweep file {file} cannot be read: {error}.") from error
    if not isinstance(found, dict):
        raise SpecError(f"sweep file {file} is no mapping of options to values, such as `task: [eurosat, so2sat]`.")
    return found
