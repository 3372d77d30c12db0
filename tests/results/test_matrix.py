from collections.abc import Callable

from ssl4eo_bench.results.files import RunResult
from ssl4eo_bench.results.frame import frame_of
from ssl4eo_bench.results.ranked_rows import make_leaderboard
from ssl4eo_bench.results.report.matrix import MOST, Matrix, matrix_of, p_text

Make = Callable[..., RunResult]


def matrix(results: list[RunResult]) -> Matrix | None:
    board = make_leaderboard(frame_of(results))
    return matrix_of([entry for row in board.rows for entry in row.entries.values()])


def test_a_cell_says_which_is_above_which(make_result: Make) -> None:
    found = matrix([make_result(checkpoint="bandstats", accuracy=0.3), make_result(accuracy=0.4)])
    assert found is not None
    assert found.names == ("resnet18.random", "bandstats")
    (own, better), (worse, _) = found.cells
    assert own is None
    assert better is not None
    assert worse is not None
    assert (better.difference, better.verdict) == ("+10.0", "above")
    assert (worse.difference, worse.verdict) == ("−10.0", "below")
    assert worse.words == "bandstats is below resnet18.random: -10.00 points, corrected p < 0.001"


def test_what_no_test_tells_apart_is_neither_above_nor_below(make_result: Make) -> None:
    found = matrix([make_result(checkpoint="bandstats", accuracy=0.3), make_result(accuracy=0.301)])
    assert found is not None
    cell = found.cells[0][1]
    assert cell is not None
    assert cell.verdict == ""
    assert cell.words.startswith("resnet18.random is not told apart from bandstats: +0.10 points, corrected p = 0.")


def test_there_is_no_matrix_without_two_tested_results(make_result: Make) -> None:
    assert matrix([make_result()]) is None
    untested = make_result(checkpoint="bandstats").model_copy(update={"resampled": None})
    assert matrix([make_result(), untested]) is None


def test_a_matrix_is_of_the_best(make_result: Make) -> None:
    results = []
    for number in range(MOST + 2):
        result = make_result(accuracy=0.3 + number / 100)
        checkpoint = result.spec.checkpoint.model_copy(update={"name": f"model{number}"})
        results.append(result.model_copy(update={"spec": result.spec.model_copy(update={"checkpoint": checkpoint})}))
    found = matrix(results)
    assert found is not None
    assert (found.of, len(found.names), found.names[0]) == (MOST + 2, MOST, f"model{MOST + 1}")


def test_p_values_are_short() -> None:
    assert [p_text(p) for p in (0.0001, 0.031, 1.0)] == ["< 0.001", "= 0.031", "= 1.000"]
