from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from huggingface_hub.repocard_data import model_index_to_eval_results

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.errors import ResultError
from ssl4eo_bench.results.files import RunResult, write_result
from ssl4eo_bench.results.model_index import model_index

Make = Callable[..., RunResult]
Command = Callable[..., tuple[int, str, str]]


def test_hugging_face_reads_every_metric(make_result: Make) -> None:
    results = [make_result(accuracy=0.5), make_result(accuracy=0.6, seed=1), make_result("dfc2020", accuracy=0.25)]
    index = yaml.safe_load(model_index(results, "https://example.org/results"))
    name, read = model_index_to_eval_results(index["model-index"])
    assert name == "resnet18.random"
    assert [(one.dataset_type, one.metric_name, one.metric_type, one.metric_args) for one in read] == [
        ("eurosat", "Accuracy, linear-v2, mean of 2 seeds", "accuracy", None),
        ("eurosat", "Macro-F1, linear-v2, mean of 2 seeds", "f1", {"average": "macro"}),
        ("eurosat", "Micro-mAP, linear-v2, mean of 2 seeds", "average_precision", {"average": "micro"}),
        ("dfc2020", "mIoU, linear-v2", "mean_iou", None),
        ("dfc2020", "Macro-F1, linear-v2", "f1", {"average": "macro"}),
        ("dfc2020", "Micro-mAP, linear-v2", "average_precision", {"average": "micro"}),
    ]
    first, *_, last = read
    assert first.metric_value == pytest.approx(0.55)
    assert (first.task_type, last.task_type) == ("image-classification", "image-segmentation")
    assert first.dataset_name == catalogue.task("eurosat").title
    assert (first.dataset_config, first.dataset_split) == ("eurosat-v1", "test")
    assert first.dataset_revision == results[0].spec.task.splits["test"].digest
    assert (first.source_name, first.source_url) == ("ssl4eo-bench", "https://example.org/results")
    assert {(one.verified, one.verify_token) for one in read} == {(None, None)}


def test_runs_that_differ_in_more_than_the_seed_are_told_apart(make_result: Make) -> None:
    runs = [make_result(), make_result(fraction=0.1), make_result(by="knn")]
    text = model_index(runs)
    index = yaml.safe_load(text)
    names = [entry["metrics"][0]["name"] for entry in index["model-index"][0]["results"]]
    assert names == ["Accuracy, linear-v2", "Accuracy, linear-v2, 10 % of the training samples", "Accuracy, knn-v3"]
    assert "source" not in index["model-index"][0]["results"][0]
    assert "&" not in text  # no references of YAML


@pytest.mark.parametrize(
    ("marks", "why"),
    [
        ({"sample": True}, r"\(sample\)"),
        ({"partial": True}, r"\(partial\)"),
        ({"limit": 10}, r"\(limit10\)"),
        ({"dirty": True}, r"changes that are not committed\)"),
    ],
)
def test_what_is_not_official_is_refused(make_result: Make, marks: dict[str, object], why: str) -> None:
    with pytest.raises(ResultError, match=rf"seed0\S*.json is not official .*{why}; export runs on whole official"):
        model_index([make_result(), make_result("eurosat-rgb", **marks)])


def test_several_checkpoints_are_refused(make_result: Make) -> None:
    with pytest.raises(ResultError, match=r"is of one checkpoint; these runs are of bandstats, resnet18.random"):
        model_index([make_result(), make_result(checkpoint="bandstats")])


def test_the_command_writes_a_file(tmp_path: Path, make_result: Make, command: Command) -> None:
    official, sample = make_result(), make_result(sample=True)
    for result in (official, sample):
        write_result(tmp_path, result)
    place = "eurosat-v1/linear-v2/resnet18.random/seed0"
    export = ("export", "--results", tmp_path, "--out", "index.yaml")
    assert command(*export, place, official.digest[:12]) == (0, "index.yaml\n", "")  # the same run, and once
    assert Path("index.yaml").read_text(encoding="utf-8") == model_index([official])
    code, out, err = command(*export, place, f"{place}-sample")
    assert (code, out) == (2, "")
    assert "seed0-sample.json is not official (sample)" in err
