"""What tests of faults count, and the file that keeps it."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

LONG = os.environ.get("SSL4EO_BENCH_FAULTS") == "long"
"""Whether thousands of faults are to be tried, instead of a few of each kind."""


@dataclass
class Tally:
    """What came of the faults of one kind.

    Attributes:
        fault: what was done, such as `fuzzed input: GeoTIFF`.
        tried: how often.
        survived: how often the outcome was right: a valid value, or one sentence.
        lost: finished files that were made again; none where that was not counted.
        silent: how often a wrong value was taken for a right one.
        tracebacks: how often there was another exception, a hang, a killed process or too much memory.
        seconds: that all of it took.
    """

    fault: str
    tried: int = 0
    survived: int = 0
    lost: int | None = None
    silent: int = 0
    tracebacks: int = 0
    seconds: float = 0.0


def keep(tally: Tally) -> None:
    """Append a tally as a line of JSON to the file that `SSL4EO_BENCH_FAULTS_LOG` names, if it names one."""
    if log := os.environ.get("SSL4EO_BENCH_FAULTS_LOG"):
        row = asdict(tally) | {"seconds": round(tally.seconds, 3)}
        with Path(log).open("a", encoding="utf-8") as opened:
            opened.write(json.dumps(row) + "\n")
