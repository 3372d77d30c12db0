"""How far metrics may move."""

from collections.abc import Callable

import pytest

from ssl4eo_bench.config.records import MetricValue
from ssl4eo_bench.results.check.tolerances import TOLERANCES, Tolerances, parse_tolerances
from ssl4eo_bench.results.files import RunResult, read_result
from tests.conftest import ROOT
from tests.results.test_schema import OLD

COMMITTED = ROOT / "results" / TOLERANCES

Make = Callable[..., RunResult]


def test_a_tolerance_is_no_wider_than_the_interval() -> None:
    tolerances = Tolerances(accuracy=0.01)
    assert tolerances.of("accuracy", MetricValue(value=0.5)) == 0.01
    assert tolerances.of("accuracy", MetricValue(value=0.5, low=0.4, high=0.6)) == 0.01
    assert tolerances.of("accuracy", MetricValue(value=0.5, low=0.499, high=0.503)) == pytest.approx(0.002)
    assert tolerances.of("accuracy", MetricValue(value=1.0, low=1.0, high=1.0)) == 0.0


def test_a_metric_without_a_tolerance_must_not_move() -> None:
    value = MetricValue(value=0.5)
    assert {Tolerances().of(name, value) for name in ("accuracy", "ece", "mood", "of", "model_fields")} == {0.0}


@pytest.mark.skipif(not COMMITTED.is_file(), reason="the repository's results are not here")
def test_every_metric_of_a_run_has_a_tolerance_here() -> None:
    tolerances = parse_tolerances(COMMITTED.read_bytes())
    metrics = {name for file in OLD for name in read_result(file).metrics["test"]}
    assert metrics == set(tolerances.model_dump())
    assert all(0 < tolerance <= 0.001 for tolerance in tolerances.model_dump().values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("acuracy: 0.1", "key 'acuracy' is not a known key"),
        ("accuracy: '0.01'", "accuracy: Input should be a valid number"),
        ("accuracy: -0.01", "accuracy: Input should be greater than or equal to 0"),
        ("accuracy: 0.5", "accuracy: Input should be less than 0.1"),
        ("accuracy: .nan", "accuracy: Input should be a finite number"),
        ("accuracy: 0.01\naccuracy: 0.02", "key 'accuracy' is given twice"),
        ("- accuracy", "Input should be a valid dictionary"),
        ("false", "Input should be a valid dictionary"),
        ("{", "expected the node content"),
        ("\udcff", "can't decode byte"),
    ],
)
def test_what_is_no_tolerance_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        parse_tolerances(text.encode(errors="surrogateescape"))
    assert "\n" not in str(refused.value)


def test_an_empty_file_gives_none() -> None:
    assert parse_tolerances(b"# nothing yet\n") == Tolerances()
