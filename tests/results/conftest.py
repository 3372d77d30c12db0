import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.inputs import map_inputs
from ssl4eo_bench.config.protocols import PROTOCOLS
from ssl4eo_bench.config.records import ClassResult, MetricValue, PathPoint, Resampled, Selection
from ssl4eo_bench.config.run_spec import RunSpec, TaskRecord
from ssl4eo_bench.config.task import Split
from ssl4eo_bench.results.files import Provenance, RunResult
from ssl4eo_bench.results.published import PublishedNumber


@pytest.fixture
def make_result() -> Callable[..., RunResult]:
    """Makes a plausible result; keywords of the spec mark it, `accuracy` is its main test metric.

    Its replicates move by 0.01 with the samples, as those of all results do, and by 0.005 on its own.
    """

    def make(
        task: str = "eurosat",
        checkpoint: str = "resnet18.random",
        *,
        seed: int = 0,
        accuracy: float = 0.5,
        by: str = "linear",
        dirty: bool = False,
        **marks: Any,
    ) -> RunResult:
        chosen = catalogue.task(task)
        entry = catalogue.load_catalogue().checkpoint(checkpoint)
        source = chosen.embedded().splits if marks.get("sample") else chosen.splits
        splits = {name: split for name, split in source.items() if isinstance(split, Split)}
        spec = RunSpec(
            task=TaskRecord.of(chosen, splits),
            checkpoint=entry,
            inputs=map_inputs(chosen.bands, entry, chosen.display),
            protocol=PROTOCOLS[by],
            seed=seed,
            **marks,
        )
        main = chosen.main_metric
        values = {main: accuracy, "micro_map": accuracy + 0.1, "macro_f1": accuracy - 0.01}
        metrics = {
            name: MetricValue(value=v, low=max(v - 0.02, 0.0), high=min(v + 0.02, 1.0)) for name, v in values.items()
        }
        shared, own = np.random.default_rng(0), np.random.default_rng(zlib.crc32(spec.digest.encode()))
        replicates = accuracy + 0.01 * shared.normal(size=1000) + 0.005 * own.normal(size=1000)
        return RunResult(
            schema_version=2,
            digest=spec.digest,
            spec=spec,
            counts={split: found.count for split, found in splits.items()},
            subset=None if spec.fraction is None else Split.of([f"id{n}" for n in range(round(100 * spec.fraction))]),
            metrics={"val": {main: MetricValue(value=0.1 + 0.2)}, "test": metrics},
            resampled=Resampled.of(np.clip(replicates, 0, 1), splits["test"].count, "samples"),
            classes=tuple(ClassResult(name=name, support=1, precision=1 / 3, f1=0.1) for name in chosen.classes),
            selection=Selection(metric=main, C=0.01, path=(PathPoint(C=0.01, val=0.3, gradient=1e-6, iterations=5),)),
            provenance=Provenance(
                versions={"python": "3.11"},
                dirty=dirty,
                device="cpu",
                runners=("torch-cpu",),
                weights_sha256=("0" * 64,),
                threads=2,
                started="2026-01-01T00:00:00+00:00",
                seconds={"fit": 1.5},
                features_computed=0,
                peak_memory_bytes=1,
            ),
        )

    return make


def published_number(**changes: object) -> PublishedNumber:
    """A number of the literature, which compares with Lite0 on EuroSAT by `linear`."""
    values: dict[str, object] = {
        "task": "eurosat",
        "checkpoint": "tf_efficientnet_lite0.in1k",
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
