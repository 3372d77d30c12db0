"""Runs on label maps: features of a few pixels of each tile for the fit, whole tiles streamed through for the test.

The test split has far more pixels than memory has room for: each batch of tiles goes from stored pixels to counts at
once. Its feature grids are not cached; they would take hundreds of gigabytes for what a pass over the tiles computes
again in minutes.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch

from ssl4eo_bench import progress
from ssl4eo_bench.config.protocols import linear_settings
from ssl4eo_bench.config.recipe import Recipe
from ssl4eo_bench.config.task import IGNORED, Groups, SplitName
from ssl4eo_bench.data.batches import batches
from ssl4eo_bench.data.pixels import choose_pixels, labels_at
from ssl4eo_bench.data.subsets import nested_subset
from ssl4eo_bench.errors import DataError
from ssl4eo_bench.features.extract import LazyBackbone, bootstrap_of, feature_key, input_reader, threads
from ssl4eo_bench.features.store import FeatureCache, require_finite
from ssl4eo_bench.labels.dense_head import DenseHead, one_against_rest
from ssl4eo_bench.labels.example_tiles import Examples
from ssl4eo_bench.labels.images import Rows
from ssl4eo_bench.methods.linear import LinearProbe
from ssl4eo_bench.methods.probe import Probe
from ssl4eo_bench.metrics.evaluation import Evaluation
from ssl4eo_bench.metrics.segmentation import SegmentationTally
from ssl4eo_bench.models.dense import dense_module, interpolate
from ssl4eo_bench.plan import Job
from ssl4eo_bench.progress import Advance

TILES = 8
"""At once: the grids of a batch take 90 MB for ResNet-50."""


Score = Callable[[Groups, int], np.ndarray]
"""Gives logits of each class against all others, `[N, C, S, S]`, of stored groups, for labels of side S."""


@dataclass(frozen=True)
class JustComputed:
    """Where features came from that no cache holds."""

    computed: int
    runners: tuple[str, ...]
    weights_sha256: tuple[str, ...]


@dataclass(frozen=True)
class TileScores:
    """What was counted of the predictions on the test split."""

    job: Job
    tally: SegmentationTally
    shown: Examples
    origin: JustComputed

    def evaluate(self, advance: Advance) -> Evaluation:
        """The metrics, with intervals over tiles.

        Raises:
            DataError: if no pixel has a label.
        """
        if not self.tally.confusions.any():
            raise DataError(
                f"no pixel of the test tiles of task {self.job.task.name!r} has a label; fetch the label maps again."
            )
        return self.tally.evaluate(self.job.task.classes, bootstrap=bootstrap_of(self.job), advance=advance)

    def arrays(self) -> dict[str, np.ndarray]:
        """What paired comparisons need of each tile, its confusion matrix `[N, C, C]`, and the examples."""
        return {"confusions": self.tally.confusions} | self.shown.arrays()


class Tiles:
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
        self._cache = FeatureCache(cache_dir, renewed)
        self._backbone = LazyBackbone(job, devices[0], make=dense_module, batch=TILES, cache_dir=cache_dir)

    def rows(self, split: SplitName) -> Rows:
        """Features and labels of the chosen pixels of a split.

        Raises:
            DataError: if no pixel of it has a label.
        """
        protocol = self._job.spec.protocol
        assert not isinstance(protocol, Recipe)  # there is none for segmentation
        count = linear_settings(protocol, "segmentation").pixels
        assert count is not None  # the settings are for segmentation
        samples = self._job.samples[split]
        places, labels, side = self._chosen(split, count)
        backbone = _SampledBackbone(self._backbone, side)

        def read(start: int, stop: int) -> Iterator[tuple[Groups, np.ndarray]]:
            chunk = range(start, stop, TILES)
            read_ahead = batches(input_reader(self._job, split), samples.ids[start:stop], size=TILES)
            for first, groups in zip(chunk, read_ahead, strict=True):
                yield groups, places[first : min(first + TILES, stop)]

        key = feature_key(self._job, split, self._cache_dir).model_copy(
            update={"pixels": count, "places": hashlib.sha256(places.tobytes()).hexdigest()}
        )
        found = self._cache.get(
            key,
            backbone,
            read,
            threads=threads(self._devices[0]),
            ids=samples.ids,
            not_finite=samples.source.not_finite,
        )
        labelled = labels.ravel() != IGNORED  # but for tiles without any
        if not labelled.any():
            raise DataError(
                f"no pixel of the {len(samples.ids):,} {split} tiles of task {self._job.task.name!r} has a label; "
                "raise --limit, or fetch the label maps again."
            )
        values = cast(np.ndarray, found.values)
        if split == "train" and self._job.spec.fraction is not None:
            tiles = self._subset(labels)
            labelled &= np.isin(np.arange(len(labels)), tiles).repeat(count)
            ids: Sequence[str] = [samples.ids[tile] for tile in tiles]
        else:
            ids = samples.ids
        kept = values if labelled.all() else values[labelled]
        return Rows(kept, labels.ravel()[labelled].astype(np.int64), ids, found)

    def _subset(self, labels: np.ndarray) -> np.ndarray:
        """The training tiles that may be used, stratified by the classes of their chosen pixels."""
        spec, classes = self._job.spec, self._job.task.classes
        assert spec.fraction is not None
        occurring = np.stack([(labels == number).any(1) for number in range(len(classes))], axis=1)
        return nested_subset(occurring, spec.fraction, spec.seed, classes)

    def _chosen(self, split: SplitName, count: int) -> tuple[np.ndarray, np.ndarray, int]:
        """The chosen pixels of every tile of a split and their labels, both `[N, K]`, and the side of a tile."""
        samples = self._job.samples[split]
        places, labels = [], []
        with progress.stage("labels", total=len(samples.ids), unit="samples") as advance:
            for first in range(0, len(samples.ids), TILES):
                ids = samples.ids[first : first + TILES]
                maps = samples.source.targets(ids)
                places.append(choose_pixels(ids, maps, count))
                labels.append(labels_at(maps, places[-1]))
                advance(len(ids))
        return np.concatenate(places), np.concatenate(labels), maps.shape[-1]

    def score(self, probe: Probe) -> TileScores:
        """The tally of the test split, predicted tile by tile."""
        samples, shown = self._job.samples["test"], Examples.of(self._job)
        what = f"label maps {self._job.spec.checkpoint.name} · test"
        with progress.stage(what, total=len(samples.ids), unit="images") as advance:
            tally = self._tallied("test", self._scorer(probe), advance, shown)
        runner, sha256 = self._ran()
        return TileScores(self._job, tally, shown, JustComputed(len(samples.ids), (runner,), (sha256,)))

    def evaluate_val(self, probe: Probe, rows: Rows) -> Evaluation:
        """The metrics on the chosen pixels of the validation split."""
        assert isinstance(probe, LinearProbe)
        tally = SegmentationTally(len(self._job.task.classes))
        logits = torch.from_numpy(probe.head.logits(probe.standardisation, rows.features))
        tally.add(one_against_rest(logits).numpy().T[None], rows.targets[None])
        return tally.evaluate(self._job.task.classes)

    def tune(self, probe: Probe, train: Rows, val: Rows) -> "tuple[Tiles, Probe, Rows]":
        """Fine-tune from a linear probe; the stages behind it, and what to evaluate `val` by."""
        from ssl4eo_bench.methods.finetune import Tuning

        assert isinstance(probe, LinearProbe)
        return Tuning(self._job, self._devices, self._cache_dir).tiles(probe, train, val)

    def _tallied(
        self, split: SplitName, score: Score, advance: Advance = lambda _: None, shown: "Examples | None" = None
    ) -> SegmentationTally:
        tally = SegmentationTally(len(self._job.task.classes))
        for ids, labels, scores in scored(self._job, split, score):
            tally.add(scores, labels)
            if shown:
                shown.add(ids, labels, scores)
            advance(len(labels))
        return tally

    def _scorer(self, probe: Probe) -> Score:
        """Label maps by the head of a linear probe."""
        assert isinstance(probe, LinearProbe)
        head = DenseHead.of(probe)
        return lambda groups, side: head.scores(self._backbone(groups), side)

    def _ran(self) -> tuple[str, str]:
        """What ran the network, and the sha256 of its weights."""
        return self._backbone.runner, self._backbone.weights_sha256


def scored(job: Job, split: SplitName, score: Score) -> Iterator[tuple[Sequence[str], np.ndarray, np.ndarray]]:
    """The tiles of a split, batch by batch: ids, labels `[N, S, S]` and scores `[N, C, S, S]`."""
    samples, spec = job.samples[split], job.spec
    read_ahead = batches(input_reader(job, split), samples.ids, size=TILES)
    for first, groups in zip(range(0, len(samples.ids), TILES), read_ahead, strict=True):
        ids = samples.ids[first : first + TILES]
        labels = samples.source.targets(ids)
        scores = score(groups, labels.shape[-1])
        require_finite(scores, spec.checkpoint.name, spec.task_slug)
        yield ids, labels, scores


class _SampledBackbone:
    """Features of the chosen pixels of a batch."""

    def __init__(self, dense: LazyBackbone, side: int) -> None:
        self._dense = dense
        self._side = side

    @property
    def runner(self) -> str:
        """What runs the backbone."""
        return self._dense.runner

    @property
    def weights_sha256(self) -> str:
        """Of its parameters and buffers."""
        return self._dense.weights_sha256

    def __call__(self, batch: tuple[Groups, np.ndarray]) -> np.ndarray:
        """Features `[N, K, D]` of stored groups and chosen pixels `[N, K]`."""
        groups, places = batch
        return interpolate(self._dense(groups), places, self._side)
