"""The command line: parse, call, exit code.

Exit codes: 0 all went well, 1 some runs failed or were left out, a download is not complete or a check found something
wrong, 2 what was asked for cannot be done (one sentence on stderr says why). What only tells exits with 0.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TypeVar

from ssl4eo_bench import __version__
from ssl4eo_bench.errors import BenchError, SpecError
from ssl4eo_bench.progress import Silent, shown_on

DATA_DIR_HELP = "datasets (default: $SSL4EO_BENCH_DATA or ./data)"
TASK_HELP = "see `list tasks`"
CHECKPOINT_HELP = "see `list checkpoints`; or timm:NAME for any timm model"

Number = TypeVar("Number", int, float)

Options = argparse._ActionsContainer
"""A parser, or one of its groups."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode sees question marks
    parsed = _parser().parse_args(arguments)
    try:
        return _call(parsed)
    except BenchError as error:
        print(f"{error.traceback}error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; what a run has finished is kept, and the same command goes on from there", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a name that is too long, a disk that is full, a folder that is a file
        print(f"error: {error.filename or 'output'}: {error.strerror}.", file=sys.stderr)
        return 2


def _call(parsed: argparse.Namespace) -> int:
    if tasks_dir := getattr(parsed, "tasks_dir", None):
        if not tasks_dir.is_dir():
            raise SpecError(f"--tasks-dir {tasks_dir} is not a directory; name the one your task modules are in.")
        os.environ["SSL4EO_BENCH_TASKS"] = str(tasks_dir.resolve())
    module, _, function = parsed.command.partition(".")  # not imported before it is needed: help is instant
    command: Callable[[argparse.Namespace], int] = getattr(import_module(f"ssl4eo_bench.commands.{module}"), function)
    from ssl4eo_bench.console import ConsoleProgress  # brings rich, which help can do without

    quiet = getattr(parsed, "quiet", False) or getattr(parsed, "json", False)
    with shown_on(Silent() if quiet else ConsoleProgress()):
        return command(parsed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ssl4eo-bench",
        description="Right, fast and comparable numbers for pretrained Earth-observation backbones.",
        allow_abbrev=False,
        epilog="Try `ssl4eo-bench run --task eurosat --protocol linear --sample`: it needs no data.",
    )
    parser.add_argument("--version", action="version", version=f"ssl4eo-bench {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(commands)
    _add_features(commands)
    _add_checkpoint(commands)
    _add_list(commands)
    _add_show(commands)
    _add_compare(commands)
    _add_generated(commands)
    _add_leaderboard(commands)
    _add_export(commands)
    _add_report(commands)
    _add_check(commands)
    _add_data(commands)
    _add_cache(commands)
    return parser


def _command(group: Any, name: str, function: str, about: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = group.add_parser(name, help=about, description=about, allow_abbrev=False)
    parser.set_defaults(command=function)  # by name, in `commands`
    return parser


def _path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("a path must not be empty")
    return Path(text)


def _number(kind: Callable[[str], Number], text: str) -> Number:
    try:
        return kind(text)
    except ValueError:
        what = "whole number" if kind is int else "number"
        raise argparse.ArgumentTypeError(f"{text!r} is no {what}") from None


def _positive(text: str) -> int:
    number = _number(int, text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def _seed(text: str) -> int:
    number = _number(int, text)
    if not 0 <= number < 2**32:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 2^32 - 1")
    return number


def _fraction(text: str) -> float:
    number = _number(float, text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(
            f"{text} is no share of the training samples: those are above 0, and 1 at most"
        )
    return number


def _add_results(options: Options) -> None:
    options.add_argument(
        "--results", type=_path, default=Path("results"), metavar="DIR", help="results directory (default: ./results)"
    )


def _add_cache_dir(options: Options) -> None:
    options.add_argument(
        "--cache-dir", type=_path, metavar="DIR", help="cache (default: $SSL4EO_BENCH_CACHE or the user's cache)"
    )


def _add_catalogue(options: Options) -> None:
    options.add_argument("--tasks-dir", type=_path, metavar="DIR", help="one more directory of task modules")
    options.add_argument(
        "--checkpoints",
        type=_path,
        action="extend",
        nargs="+",
        default=[],
        metavar="FILE",
        help="more checkpoints, in YAML",
    )


def _add_changes(options: Options) -> None:
    options.add_argument("--image-size", type=_positive, metavar="N", help="another input size than the checkpoint's")
    options.add_argument(
        "--resize-pos-embed",
        action="store_true",
        help="resize position embeddings to that size; they are not otherwise",
    )
    options.add_argument(
        "--precision",
        choices=["float32", "bfloat16"],
        help="of the backbone (default: what its entry says, which is float32 unless it says otherwise)",
    )
    options.add_argument(
        "--fill-bands",
        action="store_true",
        help="fill more than a quarter of the input channels with zeros; the result is kept out of the tables",
    )


def _add_own_weights(parser: argparse.ArgumentParser) -> None:
    own = parser.add_argument_group("a weight file of your own", "See `checkpoint inspect`, and docs/checkpoints.md.")
    own.add_argument("--weights", type=_path, metavar="FILE", help="PyTorch's format or safetensors")
    own.add_argument("--arch", help="its timm architecture")
    own.add_argument(
        "--bands", nargs="+", metavar="BAND", help="of its input channels, in their order, like B04 B03 B02"
    )
    own.add_argument("--scaling", help="of its input: divide=10000, uint8=10000, or a mapping as in an entry")
    own.add_argument("--layout", help="of the file (default: detected)")
    own.add_argument("--feature", help="pooled, cls, avg or cls4 (default: pooled)")
    own.add_argument("--name", help="for its results (default: architecture and file name)")


def _add_device(options: Options) -> None:
    options.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1, …; cuda:0,cuda:1 trains on both (default: auto)"
    )


def _add_quiet(options: Options) -> None:
    options.add_argument("--quiet", action="store_true", help="print no progress")


def _add_data_choice(options: Options) -> None:
    options.add_argument("--data-dir", type=_path, metavar="DIR", help=DATA_DIR_HELP)
    options.add_argument("--sample", action="store_true", help="the embedded sample: needs no data")
    options.add_argument("--partial", action="store_true", help="only the samples that are there")
    options.add_argument("--limit", type=_positive, metavar="N", help="at most N samples of each split")


def _add_run(commands: Any) -> None:
    parser = _command(
        commands, "run", "runs.run", "Evaluate checkpoints on tasks; leaves results, tables and a leaderboard."
    )
    what = parser.add_argument_group("what to run")
    what.add_argument("--task", action="extend", nargs="+", required=True, metavar="TASK", help=TASK_HELP)
    what.add_argument(
        "--protocol", action="extend", nargs="+", required=True, metavar="NAME", help="see `list protocols`"
    )
    what.add_argument("--checkpoint", action="extend", nargs="+", default=[], metavar="NAME", help=CHECKPOINT_HELP)
    what.add_argument(
        "--suite",
        help="see `list suites`, or `all` (default without --checkpoint: ssl4eo-s12, with --sample: offline)",
    )
    what.add_argument(
        "--seed", type=_seed, action="extend", nargs="+", metavar="N", help="one run for each (default: 0)"
    )
    what.add_argument(
        "--fraction",
        type=_fraction,
        action="extend",
        nargs="+",
        metavar="F",
        help="one run for each, of the training samples (default: 1)",
    )
    what.add_argument(
        "--drift",
        action="store_true",
        help="with linear-ssl4eo: BatchNorm statistics of the frozen network follow the batches, as published",
    )
    _add_changes(what)
    _add_catalogue(what)
    _add_own_weights(parser)
    _add_data_choice(
        parser.add_argument_group("on which data", "Only runs on whole official splits enter the official tables.")
    )
    how = parser.add_argument_group("how")
    _add_device(how)
    how.add_argument(
        "--full-path", action="store_true", help="also solve the penalties behind the stop; moves no number"
    )
    how.add_argument("--force", action="store_true", help="run again what is in the results already")
    how.add_argument("--dry-run", action="store_true", help="show what would run, and how bands become inputs")
    _add_results(how)
    _add_cache_dir(how)
    how.add_argument("--json", action="store_true", help="print results as JSON")
    _add_quiet(how)


def _add_features(commands: Any) -> None:
    parser = _command(
        commands, "features", "features.features", "Write the features of a split to a file, with ids and targets."
    )
    what = parser.add_argument_group("what to write")
    what.add_argument("--task", required=True, help=TASK_HELP)
    what.add_argument("--checkpoint", metavar="NAME", help=CHECKPOINT_HELP)
    what.add_argument("--split", choices=["train", "val", "test"], default="test", help="of the task (default: test)")
    what.add_argument("--seed", type=_seed, default=0, metavar="N", help="draws random weights (default: 0)")
    _add_changes(what)
    _add_catalogue(what)
    _add_own_weights(parser)
    _add_data_choice(parser.add_argument_group("of which data"))
    how = parser.add_argument_group("how")
    how.add_argument("--out", type=_path, required=True, metavar="FILE", help="a new file, .npz or .parquet")
    how.add_argument("--force", action="store_true", help="replace the file if it exists")
    _add_device(how)
    _add_cache_dir(how)
    _add_quiet(how)


def _add_checkpoint(commands: Any) -> None:
    parser = commands.add_parser("checkpoint", help="Weight files.", description="Weight files.")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    inspect = _command(
        actions,
        "inspect",
        "checkpoint.inspect",
        "Say what is in a weight file: layout, architecture, input channels, what would be loaded and what not; exits "
        "1 if it would be refused.",
    )
    inspect.add_argument("file", type=_path, metavar="FILE", help="PyTorch's format or safetensors")
    inspect.add_argument("--arch", help="timm architecture (default: guessed from names and shapes)")
    inspect.add_argument("--layout", help="of the file (default: detected)")
    inspect.add_argument("--json", action="store_true", help="print as JSON")
    _add_quiet(inspect)


def _add_list(commands: Any) -> None:
    parser = _command(commands, "list", "lists.list_", "List tasks, checkpoints, suites, protocols or runs.")
    parser.add_argument("what", choices=["tasks", "checkpoints", "suites", "protocols", "runs"])
    parser.add_argument("--json", action="store_true", help="print as JSON")
    runs = parser.add_argument_group("which runs")
    runs.add_argument("--task", nargs="+", default=[], metavar="TASK", help="with or without version")
    runs.add_argument("--protocol", nargs="+", default=[], metavar="NAME", help="with or without version")
    runs.add_argument("--checkpoint", nargs="+", default=[], metavar="NAME", help="whole names")
    runs.add_argument("--seed", type=_seed, nargs="+", default=[], metavar="N", help="of the run")
    runs.add_argument(
        "--fraction", type=_fraction, nargs="+", default=[], metavar="F", help="of the training samples; 1 for all"
    )
    which = parser.add_argument_group("which checkpoints", "TEXT is found anywhere in the name, in any case.")
    which.add_argument("--method", metavar="TEXT", help="of the pretraining, like dino")
    which.add_argument("--arch", metavar="TEXT", help="architecture, like vit_small")
    which.add_argument("--data", metavar="TEXT", help="what they were pretrained on, like ssl4eo")
    which.add_argument("--sensor", type=str.upper, choices=["S1", "S2"], help="whose bands they take")
    which.add_argument("--suite", help="those of a suite")
    which.add_argument("--here", action="store_true", help="those whose weights are on this machine")
    _add_catalogue(parser)
    _add_results(parser)
    _add_cache_dir(parser)


def _add_show(commands: Any) -> None:
    parser = _command(
        commands, "show", "runs.show", "Show a result: metrics, classes, what was chosen, inputs, origin."
    )
    parser.add_argument("run", help="a result file, its place below runs/, or the start of its digest")
    parser.add_argument("--json", action="store_true", help="print the file's content")
    _add_results(parser)


def _add_compare(commands: Any) -> None:
    parser = _command(
        commands, "compare", "compare.compare", "Is A really better than B? Paired tests on the test samples of both."
    )
    single = "a checkpoint; or a single result, as `show` takes it"
    parser.add_argument("a", metavar="A", help=single)
    parser.add_argument("b", metavar="B", help=single)
    what = parser.add_argument_group("what to compare", "Two checkpoints: all that both were run on, unless told.")
    what.add_argument("--task", nargs="+", default=[], metavar="TASK", help="with or without version")
    what.add_argument("--protocol", nargs="+", default=[], metavar="NAME", help="with or without version")
    what.add_argument(
        "--fraction", type=_fraction, nargs="+", default=[], metavar="F", help="of the training samples; 1 for all"
    )
    what.add_argument("--metric", metavar="NAME", help="(default: the main metric of each task)")
    how = parser.add_argument_group("how")
    how.add_argument("--figure", type=_path, metavar="FILE", help="draw the differences: .png, .svg or .pdf")
    how.add_argument("--tasks-dir", type=_path, metavar="DIR", help="one more directory of task modules")
    _add_results(how)
    _add_cache_dir(how)
    how.add_argument("--json", action="store_true", help="print as JSON")
    _add_quiet(how)


def _add_generated(commands: Any) -> None:
    _add_results(_command(commands, "tables", "runs.tables", "Write tables/ anew from the result files."))


def _add_leaderboard(commands: Any) -> None:
    parser = _command(
        commands,
        "leaderboard",
        "leaderboard.leaderboard",
        "Write leaderboard.csv and .md anew from the result files. With any option but --results, print a view of the "
        "official results instead, or write it to --out.",
    )
    parser.add_argument("--task", nargs="+", default=[], metavar="TASK", help="only these; the mean is over them")
    parser.add_argument("--protocol", nargs="+", default=[], metavar="NAME", help="only these")
    parser.add_argument(
        "--metric", nargs="+", default=[], metavar="NAME", help="show these; ranks, mean and gaps are of the first"
    )
    parser.add_argument(
        "--format",
        choices=["csv", "md", "html", "latex"],
        help="default: by the ending of --out, or else md",
    )
    parser.add_argument("--out", type=_path, metavar="FILE", help="write the view to a file")
    _add_results(parser)


def _add_export(commands: Any) -> None:
    parser = _command(
        commands,
        "export",
        "export.export",
        "Write official runs of one checkpoint as the model index (YAML) of a model card on Hugging Face.",
    )
    parser.add_argument("run", nargs="+", metavar="RUN", help="as in `show`")
    parser.add_argument("--out", type=_path, required=True, metavar="FILE", help="the YAML file")
    parser.add_argument("--url", help="where the results are published, for the source of the numbers")
    _add_results(parser)


def _add_report(commands: Any) -> None:
    parser = _command(
        commands, "report", "report.report", "Write one HTML page about the results: leaderboard, figures, provenance."
    )
    what = parser.add_argument_group("what to report", "All official results, unless told otherwise.")
    what.add_argument("--task", nargs="+", default=[], metavar="TASK", help="only these")
    what.add_argument("--protocol", nargs="+", default=[], metavar="PROTOCOL", help="only these")
    what.add_argument("--sample", action="store_true", help="the runs on the embedded sample")
    _add_results(parser)
    parser.add_argument(
        "--out", type=_path, default=Path("report.html"), metavar="FILE", help="the page (default: ./report.html)"
    )
    parser.add_argument("--figures", type=_path, metavar="DIR", help="write each figure as PNG, SVG and PDF, too")
    _add_cache_dir(parser)
    _add_quiet(parser)


def _add_check(commands: Any) -> None:
    parser = _command(
        commands, "check", "check.check", "Check results, alone and against what they were; exits 1 on findings."
    )
    _add_results(parser)
    parser.add_argument(
        "--against", metavar="BASE", help="a commit or a results directory (default: the last commit, HEAD)"
    )
    parser.add_argument("--markdown", type=_path, metavar="FILE", help="write the findings as Markdown")
    parser.add_argument("--junit", type=_path, metavar="FILE", help="write them as JUnit XML")


def _add_data(commands: Any) -> None:
    parser = commands.add_parser("data", help="Datasets on disk.", description="Datasets on disk.")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    sample = _command(actions, "sample", "data.sample", "Write the embedded sample of a task, in its official layout.")
    sample.add_argument("task", help=TASK_HELP)
    sample.add_argument("--out", type=_path, metavar="DIR", help="a new folder (default: ./<task>-sample)")
    _add_quiet(sample)
    download = _command(
        actions, "download", "data.download", "Fetch the published files of tasks; what is there is not fetched again."
    )
    download.add_argument("--yes", action="store_true", help="do not ask before fetching more than 1 GB")
    status = _command(actions, "status", "data.status", "Say what is there of each task, and what is missing.")
    status.add_argument("task", nargs="*", metavar="TASK", help="see `list tasks` (default: all)")
    status.add_argument("--json", action="store_true", help="print as JSON")
    verify = _command(
        actions, "verify", "data.verify", "Check lists, checksums and every single file; exits 1 if anything is wrong."
    )
    verify.add_argument("--report", type=_path, metavar="FILE", help="write everything that is wrong to a JSON file")
    prepare = _command(
        actions, "prepare", "data.prepare", "Pack a task into a few large arrays; reads faster than many small files."
    )
    for action in (download, verify, prepare):
        action.add_argument("task", nargs="+", metavar="TASK", help=TASK_HELP)
        _add_quiet(action)
    for action in (download, status, verify, prepare):
        action.add_argument("--data-dir", type=_path, metavar="DIR", help=DATA_DIR_HELP)


def _add_cache(commands: Any) -> None:
    parser = commands.add_parser("cache", help="Cached features.", description="Cached features.")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = _command(actions, "list", "cache.list_", "List cached features.")
    listing.add_argument("--json", action="store_true", help="print as JSON")
    verify = _command(actions, "verify", "cache.verify", "Check every shard against its checksum; exits 1 on damage.")
    prune = _command(actions, "prune", "cache.prune", "Delete cached features that are of no use any more.")
    prune.add_argument("--checkpoint", metavar="NAME", help="those of this checkpoint instead")
    prune.add_argument("--all", action="store_true", help="all of them instead")
    for action in (listing, verify, prune):
        _add_cache_dir(action)
