"""Runs on labels of whole images: one feature and one score vector for each sample."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch

from ssl4eo_bench.config.task import Groups, SplitName
from ssl4eo_bench.data.batches import batches
from ssl4eo_bench.data.subsets import nested_subset
from ssl4eo_bench.features.extract import Computed, LazyBackbone, bootstrap_of, feature_key, input_reader, threads
from ssl4eo_bench.features.store import CachedFeatures, FeatureCache
from ssl4eo_bench.methods.linear import LinearProbe
from ssl4eo_bench.methods.probe import Probe
from ssl4eo_bench.metrics.evaluation import Bootstrap, Evaluation, evaluate_multiclass, evaluate_multilabel
from ssl4eo_bench.plan import Job
from ssl4eo_bench.progress import Advance

SKETCH = 12
"""Directions that the two principal ones are looked for in."""
PLANE_ROWS = 10_000
"""That the principal components are fitted on at most, and computed for at once."""


class Features(Computed, Protocol):
    """Features `[N, D]` of a split, and where they came from."""

    @property
    def values(self) -> np.ndarray:
        """The features."""
        ...


@dataclass(frozen=True)
class Rows:
    """What a head is fitted on or chosen by.

    Attributes:
        features: `[R, D]`.
        targets: `[R]`, or `[R, C]` for multilabel.
        ids: of the samples they are of.
        origin: of the features.
    """

    features: np.ndarray
    targets: np.ndarray
    ids: Sequence[str]
    origin: Computed


@dataclass(frozen=True)
class ImageScores:
    """The scores of the test split.

    Attributes:
        job: whose.
        probe: that gave them.
        features: `[N, D]` that were scored.
        values: `[N, C]`.
        origin: of the features.
    """

    job: Job
    probe: Probe
    features: np.ndarray
    values: np.ndarray
    origin: Computed

    @cached_property
    def _targets(self) -> np.ndarray:
        """The labels, opened now that everything has been chosen."""
        return self.job.samples["test"].targets()

    def evaluate(self, advance: Advance) -> Evaluation:
        """The metrics, with intervals."""
        return _evaluate(self.job, self.probe, self.values, self._targets, bootstrap_of(self.job), advance)

    def arrays(self) -> dict[str, np.ndarray]:
        """What paired comparisons need of each sample, and where it lies on a map of the features."""
        return {"scores": self.values, "targets": self._targets, "embedding": plane(self.features)}


class Images:
    """The stages of one run; `renewed` as of `FeatureCache`."""

    def __init__(
        self,
        job: Job,
        devices: tuple[str, ...],
        cache_dir: Path,
        renewed: set[str] | None = None,
    ) -> None:
        self._job = job
        self._devices = devices
        self._cache_dir = cache_dir
        self._renewed = renewed
        self._backbone = LazyBackbone(job, devices[0], cache_dir=cache_dir)

    def rows(self, split: SplitName) -> Rows:
        """Features and labels of a split; of the training split only the fraction that may be used."""
        found, samples = self.features(split), self._job.samples[split]
        rows, targets = labelled(self._job, split)
        if len(rows) == len(samples.ids):
            return Rows(found.values, targets, samples.ids, found)
        return Rows(found.values[rows], targets, [samples.ids[row] for row in rows], found)

    def score(self, probe: Probe) -> ImageScores:
        """The scores of the test split; leaves its labels closed."""
        found = self.features("test")
        return ImageScores(self._job, probe, found.values, probe.probabilities(found.values), found)

    def evaluate_val(self, probe: Probe, rows: Rows) -> Evaluation:
        """The metrics on the validation split."""
        return _evaluate(self._job, probe, probe.probabilities(rows.features), rows.targets)

    def tune(self, probe: Probe, train: Rows, val: Rows) -> "tuple[Images, Probe, Rows]":
        """Fine-tune from a linear probe; the stages behind it, and what to evaluate `val` by."""
        from ssl4eo_bench.methods.finetune import Tuning  # brings what builds networks

        assert isinstance(probe, LinearProbe)
        return Tuning(self._job, self._devices, self._cache_dir).images(probe, train, val)

    def features(self, split: SplitName) -> Features:
        """The features of a split; leaves its labels closed."""
        return cast(Features, extract_features(self._job, split, self._backbone, self._cache_dir, self._renewed))


def labelled(job: Job, split: SplitName) -> tuple[np.ndarray, np.ndarray]:
    """The samples of a split that may be used, ascending, and their targets: of train those of a run's fraction."""
    targets, spec = job.samples[split].targets(), job.spec
    if split != "train" or spec.fraction is None:
        return np.arange(len(targets)), targets
    rows = nested_subset(targets, spec.fraction, spec.seed, job.task.classes)
    return rows, targets[rows]


def extract_features(
    job: Job,
    split: SplitName,
    backbone: LazyBackbone,
    cache_dir: Path,
    renewed: set[str] | None = None,
) -> CachedFeatures:
    """The features of a split, from the cache as far as they are there; `renewed` as of `FeatureCache`."""
    samples = job.samples[split]

    def read(start: int, stop: int) -> Iterator[Groups]:
        return batches(input_reader(job, split), samples.ids[start:stop], size=backbone.batch)

    key = feature_key(job, split, cache_dir)
    return FeatureCache(cache_dir, renewed).get(
        key,
        backbone,
        read,
        threads=threads(backbone.device),
        ids=samples.ids,
        not_finite=samples.source.not_finite,
    )


def plane(features: np.ndarray) -> np.ndarray:
    """The first two principal components `[N, 2]` float32 of features `[N, D]`; zero where there are fewer.

    The axes are those of evenly spaced rows, `PLANE_ROWS` at most: a plane needs no more of them. Each points to where
    its largest entry is positive.
    """
    found = np.zeros((len(features), 2), dtype=np.float32)
    some = torch.from_numpy(features[:: -(-len(features) // PLANE_ROWS)]).float()
    count = min(2, *some.shape, len(some) - 1)
    if count:
        mean = some.mean(dim=0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            _, _, axes = torch.pca_lowrank(some - mean, q=min(SKETCH, *some.shape), center=False)
        axes = axes[:, :count]
        axes = axes * axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)).sign()
        for start in range(0, len(features), PLANE_ROWS):
            rows = torch.from_numpy(features[start : start + PLANE_ROWS]).float()
            found[start : start + PLANE_ROWS, :count] = ((rows - mean) @ axes).numpy()
    return found


def _evaluate(
    job: Job,
    probe: Probe,
    scores: np.ndarray,
    targets: np.ndarray,
    bootstrap: Bootstrap | None = None,
    advance: Advance = lambda _: None,
) -> Evaluation:
    names = job.task.classes
    if probe.thresholds is None:
        return evaluate_multiclass(scores, targets, names, bootstrap=bootstrap, advance=advance)
    return evaluate_multilabel(scores, targets, names, probe.thresholds, bootstrap=bootstrap, advance=advance)
