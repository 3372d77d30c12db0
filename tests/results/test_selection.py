import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssl4eo_bench.results.files import RunResult, write_result
from ssl4eo_bench.results.selection import is_of


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, True),
        ({"tasks": ["so2sat", "eurosat"]}, True),
        ({"tasks": ["eurosat-v1"]}, True),
        ({"tasks": ["eurosat-rgb"]}, False),
        ({"protocols": ["linear"]}, True),
        ({"protocols": ["linear-v2"]}, True),
        ({"protocols": ["linear-v1"]}, False),
        ({"checkpoints": ["resnet18.random"]}, True),
        ({"checkpoints": ["resnet18"]}, False),
        ({"seeds": [0]}, False),
        ({"seeds": [0, 3]}, True),
        ({"fractions": [1.0]}, True),
        ({"fractions": [0.1]}, False),
        ({"tasks": ["eurosat"], "seeds": [0]}, False),
    ],
)
def test_a_result_fits_what_was_asked_for(
    make_result: Callable[..., RunResult], chosen: dict[str, Any], expected: bool
) -> None:
    assert is_of(make_result(seed=3), **chosen) is expected


def test_runs_are_listed_by_what_was_asked_for(
    tmp_path: Path, make_result: Callable[..., RunResult], command: Callable[..., tuple[int, str, str]]
) -> None:
    for seed in (0, 2, 10):
        write_result(tmp_path, make_result(seed=seed))
        write_result(tmp_path, make_result(seed=seed, fraction=0.1))
    write_result(tmp_path, make_result("eurosat-rgb", "bandstats", by="knn"))
    runs = ("list", "runs", "--results", tmp_path)

    def listed(*options: object) -> list[tuple[object, ...]]:
        rows = json.loads(command(*runs, *options, "--json")[1])
        return [(row["checkpoint"], row["fraction"], row["seed"]) for row in rows]

    assert listed("--task", "eurosat") == [("resnet18.random", f, s) for f in (0.1, 1.0) for s in (0, 2, 10)]
    assert listed("--fraction", "0.1", "--seed", 2, 10) == [("resnet18.random", 0.1, 2), ("resnet18.random", 0.1, 10)]
    assert listed("--protocol", "knn-v3") == listed("--checkpoint", "bandstats") == [("bandstats", 1.0, 0)]
    assert "marks" not in command(*runs)[1]  # all of them are official
    code, out, err = command(*runs, "--seed", 1, "--fraction", 0.1)
    assert (code, out) == (0, "")
    assert err == "no run fits these options; `ssl4eo-bench list runs` shows all of them\n"
