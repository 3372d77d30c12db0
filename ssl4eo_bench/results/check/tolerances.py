"""Tolerances: how far a metric may move without a new version, since another machine or library moves it."""

from typing import Annotated

from pydantic import Field, ValidationError

from ssl4eo_bench.config.canonical import Frozen, first_fault
from ssl4eo_bench.config.records import MetricValue
from ssl4eo_bench.config.yaml_text import parse_yaml

TOLERANCES = "tolerances.yaml"
"""The name of the file in a results directory."""

Tolerance = Annotated[float, Field(ge=0, lt=0.1)]
"""Absolute, as a fraction."""


class Tolerances(Frozen):
    """The tolerance of each metric; one that is not given must not move at all."""

    accuracy: Tolerance = 0.0
    balanced_accuracy: Tolerance = 0.0
    micro_map: Tolerance = 0.0
    macro_map: Tolerance = 0.0
    micro_f1: Tolerance = 0.0
    macro_f1: Tolerance = 0.0
    micro_f1_tuned: Tolerance = 0.0
    macro_f1_tuned: Tolerance = 0.0
    miou: Tolerance = 0.0
    ece: Tolerance = 0.0

    def of(self, name: str, value: MetricValue) -> float:
        """How far a metric of this value may move: its tolerance, or half the width of its interval if that is less."""
        tolerance: float = self.model_dump().get(name, 0.0)
        return tolerance if value.low is None or value.high is None else min(tolerance, (value.high - value.low) / 2)


def parse_tolerances(text: bytes) -> Tolerances:
    """The tolerances that a YAML file gives.

    Raises:
        ValueError: if it is not YAML, or gives something else than a fraction for each of the metrics; on one line.
    """
    raw = parse_yaml(text.decode())
    try:
        return Tolerances.model_validate({} if raw is None else raw)
    except ValidationError as error:
        raise ValueError(first_fault(error)) from None
