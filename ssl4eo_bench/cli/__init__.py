"""The command line: parse, call, exit code.

Exit codes: 0 all went well, 1 some runs failed or were left out, a download is not complete or a check found something
wrong, 2 what was asked for cannot be done (one sentence on stderr says why), 130 interrupted, 143 terminated. What only
reports exits with 0.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from inspect import isfunction
from io import TextIOWrapper
from types import ModuleType
from typing import Any

import ssl4eo_bench.tasks
from ssl4eo_bench.cli.completion import VARIABLE, complete
from ssl4eo_bench.cli.options import GeneralOptions, called
from ssl4eo_bench.cli.parser import Parser, add_function, chosen
from ssl4eo_bench.cli.sweep_files import Sweep, read_sweep
from ssl4eo_bench.errors import BenchError, SpecError
from ssl4eo_bench.progress import Silent, shown_on
from ssl4eo_bench.version import __version__

COMMANDS = {
    "run": ("run_commands", "Evaluate checkpoints on tasks; writes results, tables and a leaderboard."),
    "features": ("run_commands", "Write the features of a split to a file, with ids and targets."),
    "checkpoint": ("catalogue_commands", "Weight files."),
    "list": ("catalogue_commands", "List tasks, checkpoints, suites, protocols or runs."),
    "show": ("result_commands", "Show a result: metrics, classes, what was chosen, inputs, origin."),
    "compare": ("result_commands", "Is A really better than B? Paired tests on the test samples of both."),
    "tables": ("result_commands", "Write tables and leaderboard anew from the result files."),
    "leaderboard": ("result_commands", "Print the leaderboard, written anew from the result files, or a view of it."),
    "export": ("result_commands", "Write runs of a checkpoint as the model index of a Hugging Face model card."),
    "report": ("result_commands", "Write one HTML page about the results: leaderboard, figures, provenance."),
    "check": ("result_commands", "Check results, alone and against what they were; exits with 1 on findings."),
    "data": ("data_commands", "Datasets on disk."),
    "task": ("task_commands", "Tasks of your own."),
    "new": ("task_commands", "Write a module with a task or a backbone to begin with, and its test."),
    "cache": ("data_commands", "Cached features."),
    "completion": ("completion_commands", "Print the lines with which a shell completes commands, options and names."),
    "doctor": ("doctor_commands", "Examine this machine: what is there for runs, what is broken, what is slow."),
}
"""The module of each command, and what the command does.

The module has a function with the name of the command, such as `run`, or one for each action, such as `data_status`. It
is imported only when its command is called.
"""


class Terminated(KeyboardInterrupt):
    """SIGTERM has come. `raised` says so, too: libraries may turn it into a plain KeyboardInterrupt."""

    raised = False

    def __init__(self) -> None:
        Terminated.raised = True


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A terminal without Unicode shows question marks; a log has the lines of both streams in their order.
            stream.reconfigure(errors="replace", line_buffering=True)
    words = list(sys.argv[1:] if arguments is None else arguments)
    sweep = Sweep(words)
    if VARIABLE in os.environ:
        with suppress(BenchError):  # words that are no command have no completion
            complete(_parser)
        return 0
    try:
        sweep = read_sweep(words)
        parsed, unknown = _parser(sweep.words).parse_known_args(sweep.words)
        if unknown:
            parsed.parser.error(f"unrecognized arguments: {' '.join(unknown)}")  # points to the help of the command
        return _run(vars(parsed))
    except BenchError as error:
        print(error.told(sweep.places.get(getattr(error, "name", ""), "")), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        how, code = ("terminated", 143) if Terminated.raised else ("interrupted", 130)
        print(f"{how}; what a run has finished is kept, and the same command goes on from there", file=sys.stderr)
        return code
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a name that is too long, a disk that is full, a folder that is a file
        print(f"error: {error.filename or 'output'}: {error.strerror}.", file=sys.stderr)
        return 2


def _run(given: Mapping[str, Any]) -> int:
    """Act on the options that all commands have, and call the command."""
    general = called(GeneralOptions, given)
    _use_folders(general)
    from ssl4eo_bench.progress_bars import ConsoleProgress  # imports rich, which help can do without

    with shown_on(Silent() if general.quiet or given.get("json") else ConsoleProgress()):
        command: Callable[..., int] = given["command"]
        return called(command, given)


def _use_folders(general: GeneralOptions) -> None:
    """Look for tasks and backbones in the folders that were named, here and in worker processes."""
    for option, variable in (("tasks", "SSL4EO_BENCH_TASKS"), ("backbones", "SSL4EO_BENCH_BACKBONES")):
        folders = getattr(general, f"{option}_dir")
        for folder in folders:
            if not folder.is_dir():
                raise SpecError(f"--{option}-dir {folder} is not a directory; name the one your modules are in.")
        if folders:
            os.environ[variable] = os.pathsep.join(str(folder.resolve()) for folder in folders)
    ssl4eo_bench.tasks.look_outside()


def _parser(words: Sequence[str]) -> Parser:
    """A parser of all commands; only the command that the first word names has its options, too.

    Raises:
        SpecError: if the words name a command, an action or an option that there is not.
    """
    parser = Parser(
        prog="ssl4eo-bench",
        description="Right, fast and comparable numbers for pretrained Earth-observation backbones.",
        epilog="Try `ssl4eo-bench run --task eurosat --protocol linear --sample`: it needs no data.",
    )
    parser.add_argument("--version", action="version", version=f"ssl4eo-bench {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    first = chosen(words, COMMANDS, "command")
    for name, (module, about) in COMMANDS.items():
        command = commands.add_parser(name, help=about, description=about)
        if name == first:
            _add_functions(command, name, import_module(f"ssl4eo_bench.cli.{module}"), words[words.index(name) + 1 :])
    return parser


def _add_functions(parser: Parser, name: str, module: ModuleType, words: Sequence[str]) -> None:
    """Give the parser of a command the options of its function, or an action for each of its functions."""
    if function := getattr(module, name, None):
        add_function(parser, function, words)
        return
    subparsers = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    own = [each for each in vars(module).values() if isfunction(each) and each.__module__ == module.__name__]
    actions = {each.__name__.removeprefix(f"{name}_"): each for each in own if each.__name__.startswith(f"{name}_")}
    first = chosen(words, actions, f"{name} action")
    for action, function in actions.items():
        about = str(function.__doc__).splitlines()[0]
        add_function(subparsers.add_parser(action, help=about), function, words if action == first else ())
