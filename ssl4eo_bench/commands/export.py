"""Results for other places."""

import argparse

from ssl4eo_bench.files.atomic import write_text
from ssl4eo_bench.results.files import find_result
from ssl4eo_bench.results.model_index import model_index


def export(arguments: argparse.Namespace) -> int:
    """Write runs of one checkpoint as a model index."""
    found = {result.digest: result for result in (find_result(arguments.results, run) for run in arguments.run)}
    write_text(arguments.out, model_index(list(found.values()), arguments.url))
    print(arguments.out)
    return 0
