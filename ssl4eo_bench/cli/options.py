"""From a typed function to the options of a command: the signature is the only place that lists them.

A parameter before `*` is a positional argument. One after it is an option of that name: `data_dir` is `--data-dir`, and
`all_` is `--all`. The annotation says the rest:

- `bool` is a switch, a `Literal` a choice; `tuple[X, ...]` takes several values, and more where it is given twice,
  which is refused for other options: neither of two values may get lost;
- in `Annotated[X, ...]`, a text is the help, a `Value` says how one value is read, a `Group` is a heading in the help,
  `completion.Names` are what a shell offers;
- a dataclass holds options that several commands share.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from inspect import Parameter, signature
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin

from ssl4eo_bench.cli import completion
from ssl4eo_bench.errors import guess

T = TypeVar("T")


class Value(NamedTuple):
    """How one value is read, and what stands for it in the help."""

    parse: Callable[[str], object] = str
    metavar: str | None = None


class Group(NamedTuple):
    """A heading in the help, and a sentence below it."""

    title: str
    about: str | None = None


class Option(NamedTuple):
    """A parameter of a command. `kind` is the type of one value, `notes` has what `Annotated` adds to it, by class.

    One that is `nested` is a dataclass, which holds options itself.
    """

    parameter: Parameter
    name: str
    kind: Any
    several: bool
    nested: bool
    notes: dict[type, Any]

    @property
    def flag(self) -> str:
        """How it is written, such as `--data-dir`; of a positional argument its name."""
        is_option = self.parameter.kind is Parameter.KEYWORD_ONLY
        return f"--{self.name.replace('_', '-')}" if is_option else self.name

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of a `Literal`."""
        return get_args(self.kind)

    @property
    def value(self) -> Value:
        """How one value is read, and what stands for it in the help."""
        parse, metavar = self.notes.get(Value, Value(str if self.choices else self.kind))
        if self.choices:
            return Value(_one_of(self.choices, parse), metavar)
        return Value(parse, metavar or self.name.upper())


class _Once(argparse.Action):
    """Stores a value, and refuses another one."""

    def __call__(self, parser: object, namespace: argparse.Namespace, values: object, flag: str | None = None) -> None:
        del parser, flag
        before = getattr(namespace, self.dest, values)
        if values != before:
            raise argparse.ArgumentError(self, f"takes one value, but has {before} and {values}")
        setattr(namespace, self.dest, values)


def add_options(parser: argparse.ArgumentParser, function: Callable[..., object]) -> None:
    """Give a parser the arguments and options of a function. Their defaults stay in the signature."""
    groups: dict[Group | None, Any] = {None: parser}
    for option in _flattened(function):
        group: Group | None = option.notes.get(Group)
        if group and group not in groups:
            groups[group] = parser.add_argument_group(group.title, group.about)
        action = groups[group].add_argument(option.flag, **_settings(option))
        action.completer = option.notes.get(completion.Names)


def _settings(option: Option) -> dict[str, Any]:
    """What `add_argument` needs to know of an option."""
    optional, positional = option.parameter.default is not Parameter.empty, option.flag == option.name
    settings: dict[str, Any] = {"help": option.notes.get(str), "default": argparse.SUPPRESS}
    if not positional:
        settings |= {"dest": option.name, "required": not optional}
    if option.kind is bool:
        return settings | {"action": "store_true"}
    settings |= {"type": option.value.parse, "choices": option.choices or None, "metavar": option.value.metavar}
    if option.several:
        return settings | {"action": "extend", "nargs": "*" if optional and positional else "+"}
    return settings | {"action": _Once}


def options_of(function: Callable[..., object]) -> dict[str, Option]:
    """The options of a function by name; also those that all commands have."""
    return {option.name: option for each in (function, GeneralOptions) for option in _flattened(each)}


def called(function: Callable[..., T], given: Mapping[str, Any]) -> T:
    """Call a function with the options that were given, by name; those that were not have their defaults."""
    values: dict[str, Any] = {}
    for option in _options(function):
        if option.nested:
            values[option.parameter.name] = called(option.kind, given)
        elif option.name in given:
            value = given[option.name]
            values[option.parameter.name] = tuple(value) if option.several else value
    return function(**values)


def _flattened(function: Callable[..., object]) -> Iterator[Option]:
    """The options of a function; in place of a dataclass its fields, with what is noted beside it."""
    for option in _options(function):
        if option.nested:
            yield from (each._replace(notes=option.notes | each.notes) for each in _flattened(option.kind))
        else:
            yield option


def _options(function: Callable[..., object]) -> Iterator[Option]:
    """The parameters of a function, read from its annotations."""
    for parameter in signature(function).parameters.values():
        kind, several = parameter.annotation, False
        notes: list[object] = []
        while (origin := get_origin(kind)) in (Annotated, Union, UnionType, tuple):  # `X | None` is read like `X`
            notes = [*(kind.__metadata__ if origin is Annotated else ()), *notes]  # the outermost counts
            several |= origin is tuple
            kind = get_args(kind)[0]
        by_class = {type(note): note for note in notes}
        yield Option(parameter, parameter.name.rstrip("_"), kind, several, is_dataclass(kind), by_class)


def _one_of(choices: Sequence[str], parse: Callable[[str], object]) -> Callable[[str], object]:
    """A function that reads a value, if it is one of the choices."""

    def parsed(text: str) -> object:
        if (value := parse(text)) not in choices:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(choices)}{guess(text, choices)}")
        return value

    return parsed


def _path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("a path must not be empty")
    return Path(text)


def _number(kind: type[int] | type[float], allowed: Callable[[float], bool], refusal: str) -> Callable[[str], float]:
    """A function that reads a number, if it is allowed."""

    def parse(text: str) -> float:
        try:
            number = kind(text)
        except ValueError:
            what = "whole number" if kind is int else "number"
            raise argparse.ArgumentTypeError(f"{text!r} is no {what}") from None
        if not allowed(number):
            raise argparse.ArgumentTypeError(f"{text} is {refusal}")
        return number

    return parse


_positive = _number(int, lambda number: number >= 1, "not above 0")
_seed = _number(int, lambda number: 0 <= number < 2**32, "not between 0 and 2^32 - 1")
_fraction = _number(
    float, lambda number: 0 < number <= 1, "no share of the training samples: those are above 0, and 1 at most"
)


def _shard(text: str) -> tuple[int, int]:
    """Read `0/2`, the first of two parts."""
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is no part; the parts of two are 0/2 and 1/2")
    return int(number), int(count)


def _scaled(units: Mapping[str, float], example: str) -> Callable[[str], float]:
    """A function that reads a number with a unit."""

    def parse(text: str) -> float:
        try:
            return float(text[:-1]) * units[text[-1:]]
        except (ValueError, KeyError):
            raise argparse.ArgumentTypeError(f"{text!r} is none like {example}, in {', '.join(units)}") from None

    return parse


File = Annotated[Path, Value(_path, "FILE")]
Folder = Annotated[Path, Value(_path, "DIR")]
Count = Annotated[int, Value(_positive, "N")]
Seed = Annotated[int, Value(_seed, "N")]
Fraction = Annotated[float, Value(_fraction, "F")]
Shard = Annotated[Any, Value(_shard, "I/N")]
Size = Annotated[float, Value(_scaled({"M": 1e6, "G": 1e9, "T": 1e12}, "20G"), "SIZE")]
Age = Annotated[float, Value(_scaled({"h": 3600, "d": 86_400, "w": 604_800}, "30d"), "AGE")]
Name = Annotated[str, Value(metavar="NAME")]
Run = Annotated[str, Value(metavar="RUN"), completion.RUNS]
Names = tuple[Name, ...]
Text = Annotated[str, Value(metavar="TEXT")]
Seeds = tuple[Seed, ...]
Fractions = tuple[Fraction, ...]

TASK = "see `list tasks`; or folder:DIR or csv:FILE for your own images"
Task = Annotated[str, Value(metavar="TASK"), completion.TASKS, TASK]
Tasks = Annotated[tuple[Task, ...], TASK]
Checkpoint = Annotated[Name, completion.CHECKPOINTS]
Checkpoints = tuple[Checkpoint, ...]
Suites = tuple[Annotated[Name, completion.SUITES], ...]
Protocols = tuple[Annotated[Name, completion.PROTOCOL_NAMES], ...]
CHECKPOINT = "see `list checkpoints`; or timm:NAME for any timm model"
CheckpointFiles = Annotated[tuple[File, ...], "more checkpoints, in YAML"]
DATA_DIR = "datasets (default: $SSL4EO_BENCH_DATA or ./data)"
DataDir = Annotated[Folder | None, DATA_DIR]
CacheDir = Annotated[Folder | None, "cache (default: $SSL4EO_BENCH_CACHE or the user's cache)"]
Results = Annotated[Folder, "results directory (default: ./results)"]
RESULTS = Path("results")
Device = Annotated[str, "cpu, cuda, cuda:1, …; cuda:0,cuda:1 trains on both (default: auto)"]
Json = Annotated[bool, "print as JSON"]
TaskFilter = Annotated[Tasks, "with or without version"]
ProtocolFilter = Annotated[Protocols, "with or without version"]
FractionFilter = Annotated[Fractions, "of the training samples; 1 for all"]


@dataclass(frozen=True, kw_only=True)
class GeneralOptions:
    """Options of every command; `cli.main` acts on them."""

    tasks_dir: Annotated[tuple[Folder, ...], "one more directory of task modules"] = ()
    backbones_dir: Annotated[tuple[Folder, ...], "a directory of modules with backbones of your own"] = ()
    quiet: Annotated[bool, "print no progress"] = False
