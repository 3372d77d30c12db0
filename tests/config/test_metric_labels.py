import pytest

from ssl4eo_bench.config.task import metric_label


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("accuracy", "accuracy"),
        ("balanced_accuracy", "balanced accuracy"),
        ("micro_map", "micro mAP"),
        ("macro_f1_tuned", "macro F1 (tuned)"),
        ("miou", "mIoU"),
        ("ece", "ECE"),
    ],
)
def test_metrics_are_written_as_the_field_writes_them(name: str, label: str) -> None:
    assert metric_label(name) == label
