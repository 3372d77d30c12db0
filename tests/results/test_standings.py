from collections.abc import Callable
from types import SimpleNamespace

import pytest

from ssl4eo_bench.errors import ResultError
from ssl4eo_bench.results import standings as module
from ssl4eo_bench.results.files import MetricValue, RunResult
from ssl4eo_bench.results.published import PublishedNumber
from ssl4eo_bench.results.standings import Row, Standings, standings
from ssl4eo_bench.spec import catalogue

Make = Callable[..., RunResult]

LITE0, RANDOM18, RANDOM50 = "tf_efficientnet_lite0.in1k", "resnet18.random", "resnet50.random"


def headline(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let these be all headline tasks, whichever there are."""
    tasks = {name: catalogue.task(name) for name in names}
    monkeypatch.setattr(module, "catalogue", SimpleNamespace(tasks=lambda: tasks))


def row(board: Standings, checkpoint: str, protocol: str = "linear-v1") -> Row:
    (found,) = (row for row in board.rows if (row.checkpoint, row.protocol) == (checkpoint, protocol))
    return found


def published(**changes: object) -> PublishedNumber:
    values: dict[str, object] = {
        "task": "eurosat",
        "checkpoint": LITE0,
        "model": "EfficientNet",
        "method": "",
        "protocol": "linear",
        "split": "test",
        "metric": "accuracy",
        "value": 0.6,
        "fraction": 1.0,
        "source": "A paper",
        "url": "https://example.org",
        "note": "",
    }
    return PublishedNumber.model_validate(values | changes)


def test_values_and_bounds_are_means_over_seeds(make_result: Make) -> None:
    board = standings([make_result(accuracy=0.5), make_result(accuracy=0.6, seed=1)])
    entry = row(board, RANDOM18).entries["eurosat-v1"]
    assert entry.seeds == 2
    accuracy = entry.metrics["accuracy"]
    assert (accuracy.value, accuracy.low, accuracy.high) == pytest.approx((0.55, 0.53, 0.57))


def test_a_seed_without_an_interval_leaves_none(make_result: Make) -> None:
    first, second = make_result(), make_result(seed=1)
    bare = second.metrics["test"] | {"accuracy": MetricValue(value=0.5)}
    second = second.model_copy(update={"metrics": second.metrics | {"test": bare}})
    entry = row(standings([first, second]), RANDOM18).entries["eurosat-v1"]
    assert entry.metrics["accuracy"] == MetricValue(value=0.5)
    assert entry.metrics["macro_f1"].low is not None


def test_ranks_are_within_a_protocol_and_shared_on_ties(make_result: Make) -> None:
    board = standings(
        [
            make_result(checkpoint=LITE0, accuracy=0.7),
            make_result(checkpoint=RANDOM18, accuracy=0.4),
            make_result(checkpoint=RANDOM50, accuracy=0.7),
            make_result(checkpoint=RANDOM18, accuracy=0.4, by="knn"),
        ]
    )
    assert [(r.protocol, r.checkpoint, r.rank) for r in board.rows] == [
        ("knn-v2", RANDOM18, 1),
        ("linear-v1", RANDOM50, 1),
        ("linear-v1", LITE0, 1),
        ("linear-v1", RANDOM18, 3),
    ]


def test_means_and_ranks_need_every_headline_task(make_result: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    headline(monkeypatch, "eurosat", "dfc2020")
    board = standings(
        [
            make_result("eurosat", LITE0, accuracy=0.9),
            make_result("dfc2020", LITE0, accuracy=0.2),
            make_result("eurosat", RANDOM18, accuracy=0.5),
            make_result("dfc2020", RANDOM18, accuracy=0.2),
            make_result("eurosat", RANDOM50, accuracy=0.89),  # has no label maps
            make_result("eurosat-rgb", RANDOM50, accuracy=0.89),  # and a variant is not in their place
        ]
    )
    means = {r.checkpoint: (r.mean, r.mean_rank, r.rank) for r in board.rows}
    assert means == {
        LITE0: (pytest.approx((0.9 + 0.2) / 2), 1.25, 1),
        RANDOM18: (pytest.approx(0.35), 1.75, 2),  # ranks are among those that have all tasks; ties share theirs
        RANDOM50: (None, None, None),
    }
    assert list(board.tasks) == ["dfc2020-v2", "eurosat-v1", "eurosat-rgb-v1"]


def test_the_mean_can_be_over_other_tasks(make_result: Make) -> None:
    results = [make_result("eurosat", accuracy=0.4), make_result("eurosat-rgb", accuracy=0.6)]
    assert row(standings(results), RANDOM18).mean is None
    assert row(standings(results, counted=["eurosat-v1", "eurosat-rgb-v1"]), RANDOM18).mean == pytest.approx(0.5)


def test_the_floor_is_the_best_that_learnt_nothing_there(make_result: Make) -> None:
    board = standings(
        [
            make_result(checkpoint=LITE0, accuracy=0.8),
            make_result(checkpoint="bandstats", accuracy=0.3),
            make_result(checkpoint=RANDOM18, accuracy=0.5),
            make_result("eurosat-rgb", checkpoint=LITE0, accuracy=0.8),
            make_result(checkpoint=LITE0, accuracy=0.2, by="knn"),
            make_result(checkpoint="bandstats", accuracy=0.3, by="knn"),
        ]
    )
    entries = row(board, LITE0).entries
    assert entries["eurosat-v1"].over_floor == pytest.approx(0.3)
    assert entries["eurosat-rgb-v1"].over_floor is None  # no floor was run
    assert row(board, LITE0, "knn-v2").entries["eurosat-v1"].over_floor == pytest.approx(-0.1)
    assert [r.checkpoint for r in board.rows if r.is_floor] == ["bandstats", RANDOM18, "bandstats"]
    assert row(board, "bandstats").entries["eurosat-v1"].over_floor is None


def test_another_metric_can_lead(make_result: Make) -> None:
    results = [make_result(checkpoint=LITE0), make_result("dfc2020", checkpoint=LITE0)]
    board = standings(results, metrics=["macro_f1", "accuracy"])
    assert board.metrics == {"dfc2020-v2": ("macro_f1",), "eurosat-v1": ("macro_f1", "accuracy")}
    assert list(standings(results, metrics=["miou"]).tasks) == ["dfc2020-v2"]
    with pytest.raises(ResultError, match=r"no task of these results has the metric 'f2'; there are accuracy"):
        standings(results, metrics=["macro_f1", "f2"])
    with pytest.raises(ResultError, match=r"less of 'ece' is better"):
        standings(results, metrics=["ece"])


def test_published_numbers_stand_beside_what_they_compare_with(make_result: Make) -> None:
    results = [make_result(checkpoint=LITE0, accuracy=0.7), make_result(checkpoint=LITE0, by="knn")]
    best = published(value=0.65, model="EfficientNet, better")
    board = standings(results, [published(), best, published(value=0.9, checkpoint="")])
    entry = row(board, LITE0).entries["eurosat-v1"]
    assert entry.published == best
    assert entry.over_published == pytest.approx(0.05)
    assert row(board, LITE0, "knn-v2").entries["eurosat-v1"].published is None
    assert board.apart == ()


def test_what_does_not_compare_says_why_and_has_no_column(make_result: Make) -> None:
    """Of the entries on the same data set, the nearest one is named."""
    results = [make_result(checkpoint=LITE0), make_result("so2sat", checkpoint=LITE0, by="knn")]
    other_split = published(task="eurosat-rgb", value=0.918)
    board = standings(results, [other_split, published(checkpoint=RANDOM50), published(task="dfc2020", metric="miou")])
    (apart,) = board.apart
    assert (apart.checkpoint, apart.task, apart.number) == (LITE0, "eurosat-v1", other_split)
    assert apart.differences == ("split test of eurosat-rgb",)
    assert not [column for column in board.frame().columns if "published" in column]


def test_results_on_other_samples_do_not_stand_together(make_result: Make) -> None:
    result = make_result(by="knn")
    other = result.spec.task.splits["test"].model_copy(update={"digest": "0" * 64})
    task = result.spec.task.model_copy(update={"splits": result.spec.task.splits | {"test": other}})
    moved = result.model_copy(update={"spec": result.spec.model_copy(update={"task": task})})
    with pytest.raises(ResultError, match="other samples"):
        standings([make_result(), moved])
