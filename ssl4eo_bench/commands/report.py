"""The report of a results directory."""

import argparse

from ssl4eo_bench.console import line
from ssl4eo_bench.files.storage import cache_root


def report(arguments: argparse.Namespace) -> int:
    """Write the report."""
    from ssl4eo_bench.results.files import RunFilter
    from ssl4eo_bench.results.report.render import write_report

    page, *figures = write_report(
        arguments.results,
        arguments.out,
        cache_dir=cache_root(arguments.cache_dir),
        figures_dir=arguments.figures,
        wanted=RunFilter(tasks=arguments.task, protocols=arguments.protocol),
        sample=arguments.sample,
    )
    line(str(page))
    if figures:
        line(f"{len(figures)} figure files in {arguments.figures}")
    return 0
