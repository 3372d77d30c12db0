from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.records import MetricValue
from ssl4eo_bench.errors import ResultError
from ssl4eo_bench.results import ranked_rows
from ssl4eo_bench.results.files import RunResult
from ssl4eo_bench.results.frame import frame_of
from ssl4eo_bench.results.leaderboard import Entry, Leaderboard, Row
from ssl4eo_bench.results.paired_ranks import Ranks
from ssl4eo_bench.results.published import PublishedNumber
from ssl4eo_bench.results.ranked_rows import make_leaderboard
from tests.results.conftest import published_number

Make = Callable[..., RunResult]

LITE0, RANDOM18, RANDOM50 = "tf_efficientnet_lite0.in1k", "resnet18.random", "resnet50.random"


def headline(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let these be all headline tasks, whichever there are."""
    tasks = {name: catalogue.task(name) for name in names}
    monkeypatch.setattr(ranked_rows, "catalogue", SimpleNamespace(tasks=lambda: tasks))


Run = tuple[str, float] | tuple[str, float, dict[str, Any]]
Board = Callable[..., Leaderboard]


@pytest.fixture
def runs(make_result: Make) -> Callable[..., list[RunResult]]:
    """Makes results of checkpoints with an accuracy, and further arguments of `make_result`."""

    def make(*described: Run) -> list[RunResult]:
        return [
            make_result(checkpoint=name, accuracy=accuracy, **(more[0] if more else {}))
            for name, accuracy, *more in described
        ]

    return make


@pytest.fixture
def board_of(runs: Callable[..., list[RunResult]]) -> Board:
    """Makes the leaderboard of such results, or of results that are made already."""

    def make(*described: Run | RunResult, published: Sequence[PublishedNumber] = (), **options: Any) -> Leaderboard:
        results = [one if isinstance(one, RunResult) else runs(one)[0] for one in described]
        return make_leaderboard(frame_of(results), published, **options)

    return make


def row(board: Leaderboard, checkpoint: str, protocol: str = "linear-v2") -> Row:
    (found,) = (row for row in board.rows if (row.name, row.protocol) == (checkpoint, protocol))
    return found


def entry(board: Leaderboard, checkpoint: str, task: str = "eurosat-v1", protocol: str = "linear-v2") -> Entry:
    return row(board, checkpoint, protocol).entries[task]


def ranks(board: Leaderboard) -> list[tuple[str, Ranks | None]]:
    return [(row.name, row.ranks) for row in board.rows]


KNN, SEED1, RGB, MAPS = {"by": "knn"}, {"seed": 1}, {"task": "eurosat-rgb"}, {"task": "dfc2020"}


def test_values_and_bounds_are_means_over_seeds(board_of: Board) -> None:
    found = entry(board_of((RANDOM18, 0.5), (RANDOM18, 0.6, SEED1)), RANDOM18)
    assert found.seeds == 2
    assert (found.lead.value, found.lead.low, found.lead.high) == pytest.approx((0.55, 0.53, 0.57))


def test_a_seed_without_an_interval_leaves_none(board_of: Board, make_result: Make) -> None:
    second = make_result(seed=1)
    bare = second.metrics["test"] | {"accuracy": MetricValue(value=0.5)}
    second = second.model_copy(update={"metrics": second.metrics | {"test": bare}})
    found = entry(board_of(make_result(), second), RANDOM18)
    assert found.lead == MetricValue(value=0.5)
    assert found.metrics["macro_f1"].low is not None


def test_ranks_are_within_a_protocol_and_shared_on_ties(board_of: Board) -> None:
    board = board_of((LITE0, 0.7), (RANDOM18, 0.4), (RANDOM50, 0.7), (RANDOM18, 0.4, KNN))
    assert [row.protocol for row in board.rows] == ["knn-v3", "linear-v2", "linear-v2", "linear-v2"]
    assert ranks(board) == [(RANDOM18, (1, 1)), (RANDOM50, (1, 2)), (LITE0, (1, 2)), (RANDOM18, (3, 3))]


def test_means_and_ranks_need_every_headline_task(board_of: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    headline(monkeypatch, "eurosat", "dfc2020")
    board = board_of(
        *((LITE0, 0.9), (LITE0, 0.2, MAPS), (RANDOM18, 0.5), (RANDOM18, 0.2, MAPS)),
        *((RANDOM50, 0.89), (RANDOM50, 0.89, RGB)),  # has no label maps, and a variant is not in their place
    )
    # ranks are among those that have all tasks
    assert ranks(board) == [(LITE0, (1, 1)), (RANDOM18, (2, 2)), (RANDOM50, None)]
    assert [row.mean for row in board.rows] == [pytest.approx(0.55), pytest.approx(0.35), None]
    of_maps = [entry(board, name, "dfc2020-v2").ranks for name in (LITE0, RANDOM18)]
    assert of_maps == [(1, 2), (1, 2)]  # nothing tells them apart
    assert board.tasks == ["dfc2020-v2", "eurosat-v1", "eurosat-rgb-v1"]


def test_the_mean_can_be_over_other_tasks(board_of: Board) -> None:
    results = (RANDOM18, 0.4), (RANDOM18, 0.6, RGB)
    assert row(board_of(*results), RANDOM18).mean is None
    assert row(board_of(*results, counted=["eurosat-v1", "eurosat-rgb-v1"]), RANDOM18).mean == pytest.approx(0.5)


def test_the_floor_is_the_best_that_learnt_nothing_there(board_of: Board) -> None:
    floors = [(RANDOM18, 0.5 + 0.01 * seed, {"seed": seed}) for seed in range(3)]
    knn = (LITE0, 0.2, KNN), ("bandstats", 0.3, KNN)
    board = board_of((LITE0, 0.8), ("bandstats", 0.3), *floors, (LITE0, 0.8, RGB), *knn)
    best = entry(board, LITE0).floor
    assert best is not None
    assert (best.spec.checkpoint.name, best.seeds) == (RANDOM18, 3)
    assert best.lead.value == pytest.approx(0.51)
    assert best.deviation == pytest.approx(0.01)  # how far the floor moves with its seed
    assert entry(board, LITE0).over_floor == pytest.approx(0.29)
    assert entry(board, LITE0, "eurosat-rgb-v1").over_floor is None  # no floor was run
    assert entry(board, LITE0, protocol="knn-v3").over_floor == pytest.approx(-0.1)
    assert [row.name for row in board.rows if row.checkpoint.is_floor] == ["bandstats", RANDOM18, "bandstats"]
    assert entry(board, "bandstats").over_floor is None


def test_seeds_that_cannot_differ_are_one_run(board_of: Board) -> None:
    board = board_of(*((name, 0.5, {"seed": seed}) for name in (LITE0, RANDOM18) for seed in range(3)))
    assert (entry(board, LITE0).seeds, entry(board, RANDOM18).seeds) == (1, 3)


def test_the_spread_over_seeds_counts_in_the_ranks(board_of: Board) -> None:
    """Two random networks whose seeds differ by more than they do are not told apart."""
    steady = [(RANDOM18, 0.50, {"seed": seed}) for seed in range(3)]
    moving = [(RANDOM50, 0.57 + 0.1 * (seed - 1), {"seed": seed}) for seed in range(3)]
    assert ranks(board_of(steady[1], moving[1])) == [(RANDOM50, (1, 1)), (RANDOM18, (2, 2))]
    assert ranks(board_of(*steady, *moving)) == [(RANDOM50, (1, 2)), (RANDOM18, (1, 2))]


def test_what_was_trained_once_each_with_different_seeds_is_not_told_apart(board_of: Board) -> None:
    """As `compare` says of them; what no seed changes is told from both."""
    board = board_of((LITE0, 0.9), (RANDOM18, 0.7), (RANDOM50, 0.5, SEED1))
    assert ranks(board) == [(LITE0, (1, 1)), (RANDOM18, (2, 3)), (RANDOM50, (2, 3))]


def test_a_protocol_that_is_not_for_label_maps_has_a_mean_without_them(
    board_of: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    headline(monkeypatch, "eurosat", "dfc2020")
    board = board_of((LITE0, 0.9, KNN), (LITE0, 0.9))
    assert board.counted == {"knn-v3": ("eurosat-v1",), "linear-v2": ("eurosat-v1", "dfc2020-v2")}
    assert [row.mean for row in board.rows] == [0.9, None]


def test_what_keeps_no_replicates_or_draws_other_units_is_above_and_below_none(
    board_of: Board, runs: Callable[..., list[RunResult]]
) -> None:
    """Nor does what is untested, with no units of its own, decide on the degrees of freedom of the others."""
    old, best, noisy, other = runs((LITE0, 0.9), (RANDOM18, 0.7), ("bandstats", 0.66), (RANDOM50, 0.3))
    old = old.model_copy(update={"resampled": None})
    board = board_of(old, best, noisy, other)
    assert board.untested == 1
    assert ranks(board) == [(LITE0, (1, 4)), (RANDOM18, (1, 2)), ("bandstats", (2, 3)), (RANDOM50, (3, 4))]
    assert best.resampled is not None
    strange = best.model_copy(update={"resampled": best.resampled.model_copy(update={"units": 3})})
    assert ranks(board_of(strange, other)) == [(RANDOM18, (1, 2)), (RANDOM50, (1, 2))]


def test_filled_channels_are_marked(board_of: Board) -> None:
    board = board_of(("resnet50.ssl4eo_s12-moco_v2-s2l1c", 0.5, {"task": "so2sat", "by": "knn"}))
    assert board.entries[0].spec.inputs.filled == ("B01", "B09", "B10")
    assert board.frame()["so2sat-v1.filled"].tolist() == [3]


def test_another_metric_can_lead(board_of: Board) -> None:
    results = (LITE0, 0.5), (LITE0, 0.5, MAPS)
    board = board_of(*results, metrics=["macro_f1", "accuracy"])
    assert board.metrics == {"dfc2020-v2": ("macro_f1",), "eurosat-v1": ("macro_f1", "accuracy")}
    assert entry(board, LITE0).ranks is None  # replicates are of the main metric alone
    assert board_of(*results, metrics=["miou"]).tasks == ["dfc2020-v2"]
    with pytest.raises(ResultError, match=r"no task of these results has the metric 'f2'; there are accuracy"):
        board_of(*results, metrics=["macro_f1", "f2"])
    with pytest.raises(ResultError, match=r"less of 'ece' is better"):
        board_of(*results, metrics=["ece"])


def test_published_numbers_stand_beside_what_they_compare_with(board_of: Board) -> None:
    best = published_number(value=0.65, model="EfficientNet, better")
    numbers = [published_number(), best, published_number(value=0.9, checkpoint="")]
    board = board_of((LITE0, 0.7), (LITE0, 0.5, KNN), published=numbers)
    assert entry(board, LITE0).published == best
    assert entry(board, LITE0).over_published == pytest.approx(0.05)
    assert entry(board, LITE0, protocol="knn-v3").published is None
    assert board.unmatched == ()


def test_what_does_not_compare_says_why_and_has_no_column(board_of: Board) -> None:
    """Of the entries on the same data set, the nearest one is named."""
    other_split = published_number(task="eurosat-rgb", value=0.918)
    numbers = [other_split, published_number(checkpoint=RANDOM50), published_number(task="dfc2020", metric="miou")]
    board = board_of((LITE0, 0.5), (LITE0, 0.5, {"task": "so2sat", "by": "knn"}), published=numbers)
    (unmatched,) = board.unmatched
    assert (unmatched.about, unmatched.number) == (f"{LITE0} on eurosat-v1", other_split)
    assert unmatched.differences == ("split test of eurosat-rgb",)
    assert not [column for column in board.frame().columns if "published" in column]


def test_results_on_other_samples_do_not_stand_together(board_of: Board, make_result: Make) -> None:
    result = make_result(by="knn")
    other = result.spec.task.splits["test"].model_copy(update={"digest": "0" * 64})
    task = result.spec.task.model_copy(update={"splits": result.spec.task.splits | {"test": other}})
    moved = result.model_copy(update={"spec": result.spec.model_copy(update={"task": task})})
    with pytest.raises(ResultError, match="other samples"):
        board_of(make_result(), moved)
