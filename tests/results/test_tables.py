import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from ssl4eo_bench.errors import ResultError
from ssl4eo_bench.results.files import RunResult, read_results, write_result
from ssl4eo_bench.results.published import published_numbers
from ssl4eo_bench.results.tables import table_files
from ssl4eo_bench.results.views import leaderboard_files, write_generated_files

Make = Callable[..., RunResult]


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def generate(results: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for files in write_generated_files(results).values() for file in files}


@pytest.fixture
def results(tmp_path: Path, make_result: Make) -> Path:
    write_result(tmp_path, make_result(checkpoint="bandstats", accuracy=1 / 3))
    write_result(tmp_path, make_result(checkpoint="resnet18.random", accuracy=0.5))
    write_result(tmp_path, make_result(checkpoint="resnet18.random", accuracy=0.6, seed=1))
    write_result(tmp_path, make_result("eurosat-rgb", checkpoint="resnet50.random", accuracy=0.9))
    return tmp_path


def test_tables_hold_every_run_in_full_precision(results: Path) -> None:
    generate(results)
    table = rows(results / "tables" / "eurosat-v1.linear-v2.csv")
    assert [(row["checkpoint"], row["seed"]) for row in table] == [
        ("bandstats", "0"),
        ("resnet18.random", "0"),
        ("resnet18.random", "1"),
    ]
    assert float(table[0]["accuracy"]) == 1 / 3
    assert float(table[0]["accuracy_low"]) == 1 / 3 - 0.02
    assert {"micro_map", "macro_f1", "macro_f1_high", "C", "digest", "test_samples"} <= set(table[0])
    head = ["checkpoint", "seed", "fraction", "train_samples", "accuracy"]  # the main metric comes first
    assert list(table[0])[:5] == head


def test_the_summary_holds_mean_and_deviation_over_seeds(results: Path, make_result: Make) -> None:
    write_result(results, make_result(checkpoint="resnet18.random", accuracy=0.2, fraction=0.1))
    generate(results)
    summary = rows(results / "tables" / "eurosat-v1.linear-v2.summary.csv")
    assert [(row["checkpoint"], row["fraction"], row["seeds"]) for row in summary] == [
        ("bandstats", "1.0", "1"),
        ("resnet18.random", "0.1", "1"),
        ("resnet18.random", "1.0", "2"),
    ]
    assert float(summary[2]["accuracy"]) == pytest.approx(0.55)
    assert float(summary[2]["accuracy_std"]) == pytest.approx(0.1 / 2**0.5)
    assert summary[0]["accuracy_std"] == ""


def test_fractions_are_rows_of_the_table_and_not_on_the_leaderboard(results: Path, make_result: Make) -> None:
    before = generate(results)
    write_result(results, make_result(checkpoint="resnet18.random", accuracy=0.2, fraction=0.1))
    after = generate(results)
    assert after["leaderboard.csv"] == before["leaderboard.csv"]
    table = rows(results / "tables" / "eurosat-v1.linear-v2.csv")
    fractions = [(row["seed"], row["fraction"], row["train_samples"]) for row in table[1:]]
    assert fractions == [("0", "0.1", "10"), ("0", "1.0", "16200"), ("1", "1.0", "16200")]


def test_what_would_be_written_is_what_is_written_each_time(results: Path) -> None:
    found = read_results(results)
    texts = table_files(found) | leaderboard_files(found, published_numbers(results))
    for _ in range(2):
        assert generate(results) == {Path(path).name: text.encode() for path, text in texts.items()}


def test_a_label_map_has_miou_first(results: Path, make_result: Make) -> None:
    write_result(results, make_result("dfc2020", checkpoint="bandstats", accuracy=0.25))
    generate(results)
    (table,) = rows(results / "tables" / "dfc2020-v2.linear-v2.csv")
    assert list(table)[4] == "miou"


def test_marked_runs_never_enter_official_tables(results: Path, make_result: Make) -> None:
    before = generate(results)
    write_result(results, make_result(accuracy=0.89, sample=True))
    write_result(results, make_result(accuracy=0.89, partial=True))
    write_result(results, make_result(accuracy=0.89, limit=10))
    write_result(results, make_result(accuracy=0.89, sample=True, limit=10))
    write_result(results, make_result(checkpoint="tf_efficientnet_lite0.in1k", accuracy=0.89, dirty=True))
    after = generate(results)
    assert {name: content for name, content in after.items() if ".sample." not in name} == before
    assert set(after) - set(before) == {
        "eurosat-v1.linear-v2.sample.csv",
        "eurosat-v1.linear-v2.summary.sample.csv",
        "leaderboard.sample.csv",
        "leaderboard.sample.md",
    }
    assert [row["checkpoint"] for row in rows(results / "leaderboard.sample.csv")] == ["resnet18.random"]


def test_tables_of_removed_runs_go_with_them(results: Path) -> None:
    generate(results)
    for file in (results / "runs" / "eurosat-rgb-v1").rglob("*.json"):
        file.unlink()
    generate(results)
    assert sorted(file.name for file in (results / "tables").iterdir()) == [
        "eurosat-v1.linear-v2.csv",
        "eurosat-v1.linear-v2.summary.csv",
    ]
    for file in results.rglob("runs/**/*.json"):
        file.unlink()
    assert generate(results) == {}
    assert not (results / "leaderboard.csv").exists()


def test_files_that_were_not_generated_stay(tmp_path: Path) -> None:
    mine = [tmp_path / "tables" / "paper-v1.mine-v2.csv", tmp_path / "leaderboard.csv", tmp_path / "leaderboard.md"]
    (tmp_path / "tables").mkdir()
    for file in mine:
        file.write_text("mine", encoding="utf-8")
    generate(tmp_path)
    assert [file.read_text(encoding="utf-8") for file in mine] == ["mine"] * 3


def test_numbers_on_other_samples_never_share_a_table(results: Path, make_result: Make) -> None:
    result = make_result(checkpoint="resnet50.random")
    other = result.spec.task.splits["val"].model_copy(update={"digest": "0" * 64})
    task = result.spec.task.model_copy(update={"splits": result.spec.task.splits | {"val": other}})
    spec = result.spec.model_copy(update={"task": task})
    write_result(results, result.model_copy(update={"spec": spec, "digest": spec.digest}))
    with pytest.raises(ResultError, match="other samples"):
        write_generated_files(results)
