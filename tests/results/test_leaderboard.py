from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.records import MetricValue
from ssl4eo_bench.errors import ResultError
from ssl4eo_bench.results import ranking
from ssl4eo_bench.results.files import RunResult
from ssl4eo_bench.results.frame import frame_of
from ssl4eo_bench.results.leaderboard import Leaderboard, Row
from ssl4eo_bench.results.published import PublishedNumber
from ssl4eo_bench.results.ranking import make_leaderboard
from tests.results.conftest import published_number

Make = Callable[..., RunResult]

LITE0, RANDOM18, RANDOM50 = "tf_efficientnet_lite0.in1k", "resnet18.random", "resnet50.random"


def headline(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let these be all headline tasks, whichever there are."""
    tasks = {name: catalogue.task(name) for name in names}
    monkeypatch.setattr(ranking, "catalogue", SimpleNamespace(tasks=lambda: tasks))


def board_of(results: list[RunResult], *numbers: list[PublishedNumber], **options: Any) -> Leaderboard:
    return make_leaderboard(frame_of(results), *numbers, **options)


def row(board: Leaderboard, checkpoint: str, protocol: str = "linear-v2") -> Row:
    (found,) = (row for row in board.rows if (row.name, row.protocol) == (checkpoint, protocol))
    return found


def test_values_and_bounds_are_means_over_seeds(make_result: Make) -> None:
    board = board_of([make_result(accuracy=0.5), make_result(accuracy=0.6, seed=1)])
    entry = row(board, RANDOM18).entries["eurosat-v1"]
    assert entry.seeds == 2
    accuracy = entry.metrics["accuracy"]
    assert (accuracy.value, accuracy.low, accuracy.high) == pytest.approx((0.55, 0.53, 0.57))


def test_a_seed_without_an_interval_leaves_none(make_result: Make) -> None:
    first, second = make_result(), make_result(seed=1)
    bare = second.metrics["test"] | {"accuracy": MetricValue(value=0.5)}
    second = second.model_copy(update={"metrics": second.metrics | {"test": bare}})
    entry = row(board_of([first, second]), RANDOM18).entries["eurosat-v1"]
    assert entry.metrics["accuracy"] == MetricValue(value=0.5)
    assert entry.metrics["macro_f1"].low is not None


def test_ranks_are_within_a_protocol_and_shared_on_ties(make_result: Make) -> None:
    board = board_of(
        [
            make_result(checkpoint=LITE0, accuracy=0.7),
            make_result(checkpoint=RANDOM18, accuracy=0.4),
            make_result(checkpoint=RANDOM50, accuracy=0.7),
            make_result(checkpoint=RANDOM18, accuracy=0.4, by="knn"),
        ]
    )
    assert [(r.protocol, r.name, r.ranks) for r in board.rows] == [
        ("knn-v3", RANDOM18, (1, 1)),
        ("linear-v2", RANDOM50, (1, 2)),
        ("linear-v2", LITE0, (1, 2)),
        ("linear-v2", RANDOM18, (3, 3)),
    ]


def test_means_and_ranks_need_every_headline_task(make_result: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    headline(monkeypatch, "eurosat", "dfc2020")
    board = board_of(
        [
            make_result("eurosat", LITE0, accuracy=0.9),
            make_result("dfc2020", LITE0, accuracy=0.2),
            make_result("eurosat", RANDOM18, accuracy=0.5),
            make_result("dfc2020", RANDOM18, accuracy=0.2),
            make_result("eurosat", RANDOM50, accuracy=0.89),  # has no label maps
            make_result("eurosat-rgb", RANDOM50, accuracy=0.89),  # and a variant is not in their place
        ]
    )
    means = {r.name: (r.mean, r.ranks) for r in board.rows}
    assert means == {
        LITE0: (pytest.approx((0.9 + 0.2) / 2), (1, 1)),
        RANDOM18: (pytest.approx(0.35), (2, 2)),  # ranks are among those that have all tasks
        RANDOM50: (None, None),
    }
    of_maps = {r.name: r.entries["dfc2020-v2"].ranks for r in board.rows if "dfc2020-v2" in r.entries}
    assert of_maps == {LITE0: (1, 2), RANDOM18: (1, 2)}  # nothing tells them apart
    assert list(board.tasks) == ["dfc2020-v2", "eurosat-v1", "eurosat-rgb-v1"]


def test_the_mean_can_be_over_other_tasks(make_result: Make) -> None:
    results = [make_result("eurosat", accuracy=0.4), make_result("eurosat-rgb", accuracy=0.6)]
    assert row(board_of(results), RANDOM18).mean is None
    assert row(board_of(results, counted=["eurosat-v1", "eurosat-rgb-v1"]), RANDOM18).mean == pytest.approx(0.5)


def test_the_floor_is_the_best_that_learnt_nothing_there(make_result: Make) -> None:
    board = board_of(
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
    floor = entries["eurosat-v1"].floor
    assert floor is not None
    assert (floor.checkpoint, floor.lead.value, floor.seeds, floor.deviation) == (RANDOM18, 0.5, 1, None)
    assert entries["eurosat-rgb-v1"].over_floor is None  # no floor was run
    assert row(board, LITE0, "knn-v3").entries["eurosat-v1"].over_floor == pytest.approx(-0.1)
    assert [r.name for r in board.rows if r.checkpoint.is_floor] == ["bandstats", RANDOM18, "bandstats"]
    assert row(board, "bandstats").entries["eurosat-v1"].over_floor is None


def test_the_floor_says_how_far_it_moves_with_its_seed(make_result: Make) -> None:
    floors = [make_result(checkpoint=RANDOM18, accuracy=0.5 + 0.01 * seed, seed=seed) for seed in range(3)]
    board = board_of([make_result(checkpoint=LITE0, accuracy=0.8), *floors])
    floor = row(board, LITE0).entries["eurosat-v1"].floor
    assert floor is not None
    assert (floor.checkpoint, floor.seeds) == (RANDOM18, 3)
    assert floor.deviation == pytest.approx(0.01)
    assert floor.lead.value == pytest.approx(0.51)


def test_seeds_that_cannot_differ_are_one_run(make_result: Make) -> None:
    fixed = [make_result(checkpoint=LITE0, accuracy=0.8, seed=seed) for seed in range(3)]
    drawn = [make_result(checkpoint=RANDOM18, accuracy=0.5, seed=seed) for seed in range(3)]
    board = board_of([*fixed, *drawn])
    assert row(board, LITE0).entries["eurosat-v1"].seeds == 1
    assert row(board, RANDOM18).entries["eurosat-v1"].seeds == 3


def test_the_spread_over_seeds_counts_in_the_ranks(make_result: Make) -> None:
    """Two random networks whose seeds differ by more than they do are not told apart."""
    steady = [make_result(checkpoint=RANDOM18, accuracy=0.50, seed=seed) for seed in range(3)]
    drifting = [make_result(checkpoint=RANDOM50, accuracy=0.57 + 0.1 * (seed - 1), seed=seed) for seed in range(3)]
    assert {r.ranks for r in board_of([steady[1], drifting[1]]).rows} == {(1, 1), (2, 2)}
    assert {r.ranks for r in board_of([*steady, *drifting]).rows} == {(1, 2)}


def test_what_was_trained_once_each_with_different_seeds_is_not_told_apart(make_result: Make) -> None:
    """As `compare` says of them; what no seed changes is told from both."""
    runs = [
        make_result(checkpoint=name, accuracy=value, seed=seed)
        for name, value, seed in (
            (LITE0, 0.9, 0),
            (RANDOM18, 0.7, 0),
            (RANDOM50, 0.5, 1),
        )
    ]
    assert [r.ranks for r in board_of(runs).rows] == [(1, 1), (2, 3), (2, 3)]


def test_a_protocol_that_is_not_for_label_maps_has_a_mean_without_them(
    make_result: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    headline(monkeypatch, "eurosat", "dfc2020")
    board = board_of([make_result("eurosat", LITE0, accuracy=0.9, by=by) for by in ("knn", "linear")])
    assert board.counted == {"knn-v3": ("eurosat-v1",), "linear-v2": ("eurosat-v1", "dfc2020-v2")}
    assert row(board, LITE0, "knn-v3").mean == 0.9
    assert row(board, LITE0, "linear-v2").mean is None


def test_what_keeps_no_replicates_is_above_and_below_none(make_result: Make) -> None:
    old = make_result(checkpoint=LITE0, accuracy=0.9).model_copy(update={"resampled": None})
    others = [make_result(checkpoint=RANDOM18, accuracy=0.5), make_result(checkpoint=RANDOM50, accuracy=0.3)]
    board = board_of([old, *others])
    assert board.untested == 1
    assert [(r.name, r.ranks) for r in board.rows] == [(LITE0, (1, 3)), (RANDOM18, (1, 2)), (RANDOM50, (2, 3))]


def test_results_that_draw_other_units_are_not_paired(make_result: Make) -> None:
    """Nor does what is untested, with no units of its own, decide on the degrees of freedom of the others."""
    old = make_result(checkpoint=LITE0, accuracy=0.9).model_copy(update={"resampled": None})
    best, other = make_result(checkpoint=RANDOM18, accuracy=0.7), make_result(checkpoint=RANDOM50, accuracy=0.3)
    assert best.resampled is not None
    strange = best.model_copy(update={"resampled": best.resampled.model_copy(update={"units": 3})})
    assert {r.ranks for r in board_of([strange, other]).rows} == {(1, 2)}
    noisy = make_result(checkpoint="bandstats", accuracy=0.66)
    ranks = {r.name: r.ranks for r in board_of([old, best, noisy, other]).rows}
    assert ranks == {LITE0: (1, 4), RANDOM18: (1, 2), "bandstats": (2, 3), RANDOM50: (3, 4)}


def test_filled_channels_are_marked(make_result: Make) -> None:
    board = board_of([make_result("so2sat", checkpoint="resnet50.ssl4eo_s12-moco_v2-s2l1c", by="knn")])
    (entry,) = board.rows[0].entries.values()
    assert entry.filled == ("B01", "B09", "B10")
    assert board.frame()["so2sat-v1.filled"].tolist() == [3]


def test_another_metric_can_lead(make_result: Make) -> None:
    results = [make_result(checkpoint=LITE0), make_result("dfc2020", checkpoint=LITE0)]
    board = board_of(results, metrics=["macro_f1", "accuracy"])
    assert board.metrics == {"dfc2020-v2": ("macro_f1",), "eurosat-v1": ("macro_f1", "accuracy")}
    assert [r.entries["eurosat-v1"].ranks for r in board.rows] == [None]  # replicates are of the main metric alone
    assert list(board_of(results, metrics=["miou"]).tasks) == ["dfc2020-v2"]
    with pytest.raises(ResultError, match=r"no task of these results has the metric 'f2'; there are accuracy"):
        board_of(results, metrics=["macro_f1", "f2"])
    with pytest.raises(ResultError, match=r"less of 'ece' is better"):
        board_of(results, metrics=["ece"])


def test_published_numbers_stand_beside_what_they_compare_with(make_result: Make) -> None:
    results = [make_result(checkpoint=LITE0, accuracy=0.7), make_result(checkpoint=LITE0, by="knn")]
    best = published_number(value=0.65, model="EfficientNet, better")
    board = board_of(results, [published_number(), best, published_number(value=0.9, checkpoint="")])
    entry = row(board, LITE0).entries["eurosat-v1"]
    assert entry.published == best
    assert entry.over_published == pytest.approx(0.05)
    assert row(board, LITE0, "knn-v3").entries["eurosat-v1"].published is None
    assert board.unmatched == ()


def test_what_does_not_compare_says_why_and_has_no_column(make_result: Make) -> None:
    """Of the entries on the same data set, the nearest one is named."""
    results = [make_result(checkpoint=LITE0), make_result("so2sat", checkpoint=LITE0, by="knn")]
    other_split = published_number(task="eurosat-rgb", value=0.918)
    board = board_of(
        results, [other_split, published_number(checkpoint=RANDOM50), published_number(task="dfc2020", metric="miou")]
    )
    (unmatched,) = board.unmatched
    assert (unmatched.about, unmatched.number) == (f"{LITE0} on eurosat-v1", other_split)
    assert unmatched.differences == ("split test of eurosat-rgb",)
    assert not [column for column in board.frame().columns if "published" in column]


def test_results_on_other_samples_do_not_stand_together(make_result: Make) -> None:
    result = make_result(by="knn")
    other = result.spec.task.splits["test"].model_copy(update={"digest": "0" * 64})
    task = result.spec.task.model_copy(update={"splits": result.spec.task.splits | {"test": other}})
    moved = result.model_copy(update={"spec": result.spec.model_copy(update={"task": task})})
    with pytest.raises(ResultError, match="other samples"):
        board_of([make_result(), moved])
