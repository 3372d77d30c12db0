import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.stages import Begun, preloaded

LONG = os.environ.get("SSL4EO_BENCH_FAULTS") == "long"


@pytest.fixture(scope="session")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Begun]:
    """Folders in which stages begin, and processes that have imported everything."""
    with preloaded():
        yield Begun(tmp_path_factory.mktemp("begun"))


@contextmanager
def counted(fault: str) -> Iterator[Counter[str]]:
    """Counts what was tried, survived and so on of a fault; they go to the file that SSL4EO_BENCH_FAULTS_LOG names."""
    started = time.monotonic()
    count: Counter[str] = Counter(dict.fromkeys(("tried", "survived", "lost", "silent", "tracebacks"), 0))
    try:
        yield count
    finally:
        if log := os.environ.get("SSL4EO_BENCH_FAULTS_LOG"):
            with Path(log).open("a", encoding="utf-8") as opened:
                row = {"fault": fault, **count, "seconds": round(time.monotonic() - started, 1)}
                opened.write(json.dumps(row) + "\n")


Tally = Callable[[str], Counter[str]]
