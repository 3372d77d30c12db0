"""The leaderboard: its files, and views of it."""

import argparse
from typing import Final

from ssl4eo_bench.console import line
from ssl4eo_bench.files.storage import write_text

ENDINGS: Final = {".csv": "csv", ".html": "html", ".tex": "latex"}
"""The format of a view by the ending of its file; all others are Markdown."""


def leaderboard(arguments: argparse.Namespace) -> int:
    """Write the leaderboard anew, or make a view of it."""
    view = (arguments.task, arguments.protocol, arguments.metric, arguments.format, arguments.out)
    return _view(arguments) if any(view) else _write(arguments)


def _write(arguments: argparse.Namespace) -> int:
    from ssl4eo_bench.results.views import write_leaderboard  # brings pandas: not for what is refused

    for file in write_leaderboard(arguments.results):
        print(file)
        if file.suffix == ".md":
            line(file.read_text(encoding="utf-8"))
    return 0


def _view(arguments: argparse.Namespace) -> int:
    from ssl4eo_bench.results.files import RunFilter
    from ssl4eo_bench.results.views import FORMATS, official_leaderboard, refuse_generated

    if arguments.out:
        refuse_generated(arguments.out, arguments.results)
    wanted = RunFilter(tasks=arguments.task, protocols=arguments.protocol)
    board = official_leaderboard(arguments.results, wanted, metrics=arguments.metric)
    ending = arguments.out.suffix if arguments.out else ""
    text = FORMATS[arguments.format or ENDINGS.get(ending, "md")](board)
    if arguments.out:
        write_text(arguments.out, text)
        print(arguments.out)
    else:
        print(text, end="")
    return 0
