"""Processes that write results and tables at once: nothing is lost, and the tables are right in the end."""

import shutil
import threading
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest

from ssl4eo_bench.results import views
from ssl4eo_bench.results.files import (
    LOCKS,
    RunResult,
    check_writable,
    read_and_keep,
    read_result,
    read_results,
    write_result,
)
from ssl4eo_bench.results.index import FOLDER
from ssl4eo_bench.results.tables import table_files
from ssl4eo_bench.results.views import leaderboard_files, write_generated_files
from tests.results.forging import regenerate

Make = Callable[..., RunResult]

PROCESSES = 10
RUNS = 2
"""Of each process, with tables after each of them."""


def work(results: Path, prepared: Path, number: int) -> None:
    """What a process that runs one checkpoint does, without the computing."""
    for seed in range(RUNS):
        check_writable(results)
        write_result(results, read_result(prepared / place(number, seed)))
        write_generated_files(results)


def place(number: int, seed: int) -> str:
    return f"runs/eurosat-v1/linear-v2/mine{number}/seed{seed}.json"


def test_ten_processes_lose_nothing(tmp_path: Path, make_result: Make) -> None:
    prepared, results, alone = (tmp_path / name for name in ("prepared", "results", "alone"))
    for number in range(PROCESSES):
        for seed in range(RUNS):
            result = make_result(seed=seed, accuracy=0.5 + number / 100 + seed / 1000)
            checkpoint = result.spec.checkpoint.model_copy(update={"name": f"mine{number}"})
            spec = result.spec.model_copy(update={"checkpoint": checkpoint})
            write_result(prepared, result.model_copy(update={"spec": spec, "digest": spec.digest}))
    context = get_context("forkserver")  # not a copy of a process that has threads
    context.set_forkserver_preload(["ssl4eo_bench.results.views"])
    processes = [context.Process(target=work, args=(results, prepared, number)) for number in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    assert read_results(results) == read_results(prepared)
    shutil.copytree(prepared / "runs", alone / "runs")
    regenerate(alone)
    for file in (path for path in alone.rglob("*") if path.is_file() and path.parent.name != LOCKS):
        assert file.read_bytes() == (results / file.relative_to(alone)).read_bytes(), file.name
    left = {path.name for path in results.rglob(".*")}
    assert left == {LOCKS, FOLDER, ".gitignore"}  # no temporary files


def test_who_read_the_results_before_does_not_write_after(
    tmp_path: Path, make_result: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_result(tmp_path, make_result(accuracy=0.5))
    overtaking: list[threading.Thread] = []

    def overtaken(results: Path) -> tuple[list[RunResult], list[str]]:
        found = read_and_keep(results)
        if not overtaking:  # between reading and writing, another one has a new result, and generates
            write_result(results, make_result(accuracy=0.9, seed=1))
            overtaking.append(threading.Thread(target=write_generated_files, args=(results,)))
            overtaking[0].start()
            overtaking[0].join(timeout=0.5)  # it is there by then, or waits
        return found

    monkeypatch.setattr(views, "read_and_keep", overtaken)
    write_generated_files(tmp_path)
    overtaking[0].join()
    left = {file.name: file.read_bytes() for file in tmp_path.rglob("*.csv")}
    texts = table_files(read_results(tmp_path)) | leaderboard_files(read_results(tmp_path), [])
    assert left == {Path(name).name: text.encode() for name, text in texts.items() if name.endswith(".csv")}
