"""Costs of backbones from a run to where results are shown."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ssl4eo_bench.results.files import read_result
from ssl4eo_bench.results.frame import load_results

Command = Callable[..., tuple[int, str, str]]
RESNET = "timm:test_resnet.random"


@pytest.fixture
def ran(command: Command) -> Command:
    """Results of a small network and of statistics by both frozen protocols."""
    names = (RESNET, "bandstats")
    code, _, err = command(
        "run", "--task", "eurosat-rgb", "--sample", "--protocol", "linear", "knn", "--checkpoint", *names, "--quiet"
    )
    assert code == 0, err
    return command


def test_costs_are_in_results_and_wherever_these_are_shown(ran: Command) -> None:
    folder = Path("results/runs/eurosat-rgb-v1")
    linear, knn = (
        read_result(folder / protocol / "timm-test_resnet.random" / "seed0-sample.json")
        for protocol in ("linear-v2", "knn-v3")
    )
    cost = linear.provenance.cost
    assert cost is not None
    assert (cost.parameters, cost.width) == (372_688, 96)
    assert knn.provenance.cost == cost  # which the cache tells with the features
    assert linear.images_per_second == 600 / linear.provenance.seconds["features"]
    assert knn.images_per_second is None  # it computed none
    assert {"start", "features", "fit", "prediction", "metrics"} == set(linear.provenance.seconds)
    statistics = read_result(folder / "linear-v2/bandstats/seed0-sample.json")
    assert (statistics.provenance.cost, statistics.images_per_second) == (None, None)

    with Path("results/leaderboard.sample.csv").open(encoding="utf-8") as opened:
        rows = {(row["protocol"], row["checkpoint"]): row for row in csv.DictReader(opened)}
    shown = rows["linear-v2", RESNET]
    assert (shown["parameters"], shown["flops"], shown["width"]) == ("372688", str(cost.flops), "96")
    assert float(shown["images_per_second"]) == linear.images_per_second
    assert rows["knn-v3", RESNET]["images_per_second"] == rows["linear-v2", "bandstats"]["flops"] == ""
    frame = load_results("results").set_index(["protocol", "checkpoint"])
    assert frame.loc[("linear-v2", RESNET), "flops"] == cost.flops

    (line,) = (
        line
        for line in Path("results/leaderboard.sample.md").read_text().splitlines()
        if f"| {RESNET} |" in line and f"| {linear.images_per_second:,.0f} | 1 |" in line
    )
    assert "| 0.373 M | 0.205 | 96 |" in line
    text = f"0.373 M parameters · 0.205 GFLOPs · 96 features · {linear.images_per_second:,.0f} images/s"
    assert text in ran("show", "eurosat-rgb-v1/linear-v2/timm-test_resnet.random/seed0-sample")[1]
    assert ran("report", "--sample")[0] == 0
    page = Path("report.html").read_text(encoding="utf-8")
    cells = [cell.strip() for cell in re.findall(r"<td[^>]*>([^<]*)</td>", page)]
    assert {"0.373 M", "0.205", f"{linear.images_per_second:,.0f}"} <= set(cells)


def test_the_list_has_costs_when_they_are_asked_for(command: Command) -> None:
    code, out, err = command("list", "checkpoints", "--suite", "offline", "--cost")
    assert code == 0, err
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert "GFLOPs" in lines["checkpoint"]
    assert "11.2 M       4.41     512" in lines["resnet18.random"]
    code, out, err = command("list", "checkpoints", "--arch", "resnet18", "--cost", "--json")
    assert code == 0, err
    costs = {row["checkpoint"]: row["cost"] for row in json.loads(out)}
    assert costs["resnet18.random"] == {"parameters": 11_207_872, "flops": 4_413_882_368, "width": 512}
    assert "GFLOPs" not in command("list", "checkpoints", "--suite", "offline")[1]
