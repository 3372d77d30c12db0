"""The gate over results."""

import argparse

from ssl4eo_bench.console import line, table

Arguments = argparse.Namespace


def check(arguments: Arguments) -> int:
    """Check a results directory."""
    from ssl4eo_bench.files.atomic import write_text
    from ssl4eo_bench.results.check.base import base_of
    from ssl4eo_bench.results.check.findings import as_junit, as_markdown
    from ssl4eo_bench.results.check.gate import check

    base = base_of(arguments.results, arguments.against)
    report = check(arguments.results, base)
    if report.findings:
        rows = [(one.file, one.what, one.cure) for one in report.findings]
        columns = ["file", "what is wrong", "cure"]
        table("", columns, rows, prose=columns)
    for note in report.notes:
        line(f"note: {note}")
    line(report.summary)
    if arguments.markdown:
        write_text(arguments.markdown, as_markdown(report))
    if arguments.junit:
        write_text(arguments.junit, as_junit(report))
    return 1 if report.findings else 0
