from pathlib import Path

from ssl4eo_bench.progress import Silent
from ssl4eo_bench.results.check.base import base_of
from ssl4eo_bench.results.check.findings import Finding, Report
from ssl4eo_bench.results.check.gate import check


def report_on(results: Path, against: str | None = None) -> Report:
    return check(results, base_of(results, against), Silent())


def only(report: Report) -> Finding:
    """The one finding of a report."""
    (finding,) = report.findings
    return finding
