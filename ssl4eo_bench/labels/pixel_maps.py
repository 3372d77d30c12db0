"""Label maps: a head is fitted on features of a few pixels of each tile, and whole tiles are streamed for the test.

The test split has far more pixels than memory has room for: each batch of tiles goes from stored pixels to counts at
once. Its feature grids are not cached; they would take hundreds of gigabytes for what a pass over the tiles computes
again in minutes.

A linear head is applied to the feature grid, and its logits are resized to the size of the labels. That is the head on
resized features: both steps are linear, and the weights of bilinear resizing sum to one. But it needs neither the
memory nor the time of features at every pixel.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ssl4eo_bench import progress
from ssl4eo_bench.config.protocols import linear_settings
from ssl4eo_bench.config.recipe import Recipe
from ssl4eo_bench.config.task import IGNORED, Groups, SplitName
from ssl4eo_bench.data.subsets import choose_pixels, labels_at, nested_subset
from ssl4eo_bench.errors import DataError
from ssl4eo_bench.extraction.extract import cache_of, extraction
from ssl4eo_bench.extraction.problem import LazyBackbone, Problem
from ssl4eo_bench.extraction.store import Extraction, Origin, require_finite
from ssl4eo_bench.labels.base import Labels, Predictions, Rows, Scorer
from ssl4eo_bench.labels.example_tiles import ExampleTiles
from ssl4eo_bench.metrics.bootstrap import Bootstrap
from ssl4eo_bench.metrics.classification import Evaluation
from ssl4eo_bench.metrics.counts import Counts, confusion_matrix
from ssl4eo_bench.metrics.segmentation import SegmentationTally
from ssl4eo_bench.models.dense import DenseFeatures, dense_module
from ssl4eo_bench.models.resizing import interpolate
from ssl4eo_bench.models.runtime import Runner
from ssl4eo_bench.solver.losses import Softmax
from ssl4eo_bench.solver.path import Head
from ssl4eo_bench.training.augmentation import augmented_labels
from ssl4eo_bench.training.decoders import Segmenter
from ssl4eo_bench.training.trainable import Trainable

TILES = 8
"""At once: the grids of a batch take 90 MB for ResNet-50."""

DRAWS = 100
"""Resamples of a confusion matrix that the standard error of mIoU is estimated from."""

ScoreTiles = Callable[[Groups, int], np.ndarray]
"""Returns logits of each class against all others, `[N, C, S, S]`, of stored groups, for labels of side S."""


class PixelMaps(Labels):
    """A class for each pixel; targets of rows are class numbers of chosen pixels, those of tiles are label maps."""

    loss = Softmax()

    def main_metric(self, logits: np.ndarray, targets: np.ndarray) -> float:
        """Return the mean intersection over union."""
        return float(Counts.of_confusion(confusion_matrix(targets, logits.argmax(axis=1), logits.shape[1])).miou())

    def standard_error(self, logits: np.ndarray, targets: np.ndarray) -> float:
        """Return the standard error of mIoU over pixels, from multinomial draws of the confusion matrix."""
        classes = logits.shape[1]
        counts = confusion_matrix(targets, logits.argmax(axis=1), classes)
        drawn = np.random.default_rng(0).multinomial(counts.sum(), counts.ravel() / counts.sum(), size=DRAWS)
        return float(np.std(Counts.of_confusion(drawn.reshape(DRAWS, classes, classes)).miou(), ddof=1))

    def training_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the sum of cross-entropies over labelled pixels; logits are resized to the label maps."""
        resized = functional.interpolate(logits, size=targets.shape[-2:], mode="bilinear", align_corners=False)
        return functional.cross_entropy(resized, targets.long(), ignore_index=IGNORED, reduction="sum")

    def augmented(self, targets: Tensor, views: Tensor) -> Tensor:
        """Return the label maps as the views show them."""
        return augmented_labels(targets, views)

    def rows(self, problem: Problem, split: SplitName) -> Rows:
        """Return the features and labels of the chosen pixels of a split.

        Raises:
            DataError: if no pixel of it has a label.
        """
        job = problem.job
        with problem.stopwatch.stage("features"):
            places, labels, side = _chosen_pixels(problem, split)
            found = cache_of(problem).get(_pixel_extraction(problem, split, places, side))
        labelled = labels.ravel() != IGNORED  # false for all pixels of a tile without labels
        if not labelled.any():
            raise DataError(
                f"no pixel of the {len(labels):,} {split} tiles of task {job.task.name!r} has a label; raise --limit, "
                "or fetch the label maps again."
            )
        ids: Sequence[str] = job.samples[split].ids
        if split == "train" and job.spec.fraction is not None:
            occurring = np.stack([(labels == number).any(1) for number in range(len(job.task.classes))], axis=1)
            tiles = nested_subset(occurring, job.spec.fraction, job.spec.seed, job.task.classes)
            labelled &= np.isin(np.arange(len(labels)), tiles).repeat(places.shape[1])
            ids = [ids[tile] for tile in tiles]
        kept = found.values if labelled.all() else found.values[labelled]
        return Rows(kept, labels.ravel()[labelled].astype(np.int64), ids, found.origin)

    def extraction(self, problem: Problem, split: SplitName) -> Extraction[tuple[Groups, np.ndarray]]:
        """Return what the features of the chosen pixels of a split are computed from; their labels are read for it."""
        places, _, side = _chosen_pixels(problem, split)
        return _pixel_extraction(problem, split, places, side)

    def head_scorer(self, problem: Problem, head: Head, val: Rows) -> Scorer:
        """Return the scorer of a linear head on the feature grid, evaluated on the chosen pixels of `val`."""
        tally = SegmentationTally(len(problem.job.task.classes))
        logits = torch.from_numpy(head.logits(val.features))
        tally.add(one_against_rest(logits).numpy().T[None], val.targets[None])
        backbone = problem.backbones(dense_module, batch=TILES)[0]

        def score(groups: Groups, side: int) -> np.ndarray:
            return label_scores(dense_logits(head, backbone(groups)), side)

        return Scorer(
            None, tally.evaluate(problem.job.task.classes), lambda: _predicted(problem, score, backbone.origin)
        )

    def trainable(self, problem: Problem, start: Head) -> Trainable:
        """Return the network with the linear head and a decoder that the seed draws; its last layer starts at zero."""
        network = problem.network(dense_module, DenseFeatures)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(problem.job.spec.seed)
            return Segmenter(network, *start.unstandardised())

    def target_reader(self, problem: Problem, train: Rows) -> Callable[[np.ndarray], np.ndarray]:
        """Return a reader of label maps: all of them would not fit into memory."""
        return partial(_label_maps, problem, train.ids)

    def batch(self, problem: Problem) -> int:
        """Return the number of tiles at once."""
        del problem
        return TILES

    def validate(self, problem: Problem, val: np.ndarray, run: Runner) -> float:
        """Return the mean intersection over union of all tiles of `val`."""
        del val
        classes = len(problem.job.task.classes)
        confusion = np.zeros((classes, classes), dtype=np.int64)
        for _, labels, scores in _scored(problem, "val", _by_network(run)):
            labelled = labels != IGNORED
            confusion += confusion_matrix(labels[labelled], scores.argmax(axis=1)[labelled], classes)
        return float(Counts.of_confusion(confusion).miou())

    def network_scorer(self, problem: Problem, val: np.ndarray, run: Runner, weights_sha256: str) -> Scorer:
        """Return the scorer of a trained network, evaluated on all tiles of `val`."""
        del val
        tally = SegmentationTally(len(problem.job.task.classes))
        for _, labels, scores in _scored(problem, "val", _by_network(run)):
            tally.add(scores, labels)
        origin = partial(Origin, runners=(run.name,), weights_sha256=(weights_sha256,))
        return Scorer(
            None,
            tally.evaluate(problem.job.task.classes),
            lambda: _predicted(problem, _by_network(run), origin),
        )


@torch.inference_mode()
def dense_logits(head: Head, grid: np.ndarray) -> Tensor:
    """Return logits `[N, C, g, g]` of a linear head for features `[N, D, g, g]`, which are not standardised."""
    mean, weights = head.standardisation.mean, head.weights[:, :-1] / head.standardisation.scale
    # The mean goes first: a feature far from zero would leave float32 few digits for what varies.
    centred = torch.from_numpy(grid).to(mean.device) - mean[:, None, None]
    return torch.einsum("cd,ndhw->nchw", weights, centred) + head.weights[:, -1, None, None]


def label_scores(logits: Tensor, side: int) -> np.ndarray:
    """Return logits of each class against all others, `[N, C, side, side]`, of softmax logits `[N, C, g, g]`."""
    resized = functional.interpolate(logits, size=(side, side), mode="bilinear", align_corners=False)
    return one_against_rest(resized).cpu().numpy()


def one_against_rest(logits: Tensor) -> Tensor:
    """Return `log p / (1 - p)` of the probability p of each class, from softmax logits `[N, C, …]`.

    It is not computed from p, which may be rounded to one.
    """
    everything = logits.logsumexp(dim=1, keepdim=True)
    top = logits.argmax(dim=1, keepdim=True)
    rest = everything + torch.log1p(-torch.softmax(logits, dim=1).clamp_max(0.5))  # p of all but the top is below that
    behind = logits.scatter(1, top, float("-inf")).logsumexp(dim=1, keepdim=True)
    return logits - rest.scatter(1, top, behind)


def _by_network(run: Runner) -> ScoreTiles:
    return lambda groups, side: label_scores(torch.from_numpy(run(groups)), side)


def _predicted(problem: Problem, score: ScoreTiles, origin: Callable[[int], Origin]) -> Predictions:
    """Return the predictions for the test split, counted tile by tile; intervals are over tiles."""
    samples, task = problem.job.samples["test"], problem.job.task
    examples, tally = ExampleTiles(problem.job), SegmentationTally(len(task.classes))
    what = f"label maps {problem.job.spec.checkpoint.name} · test"
    with (
        problem.stopwatch.stage("features"),
        progress.stage(what, total=len(samples.ids), unit="images") as advance,
    ):
        for ids, labels, scores in _scored(problem, "test", score):
            tally.add(scores, labels)
            examples.add(ids, labels, scores)
            advance(len(labels))

    def evaluate(bootstrap: Bootstrap) -> Evaluation:
        if not tally.confusions.any():
            raise DataError(
                f"no pixel of the test tiles of task {task.name!r} has a label; fetch the label maps again."
            )
        return tally.evaluate(task.classes, bootstrap=bootstrap)

    return Predictions(origin(len(samples.ids)), evaluate, lambda: {"confusions": tally.confusions} | examples.arrays())


def _scored(
    problem: Problem, split: SplitName, score: ScoreTiles
) -> Iterator[tuple[Sequence[str], np.ndarray, np.ndarray]]:
    """Yield the tiles of a split by batches: ids, labels `[N, S, S]` and scores `[N, C, S, S]`."""
    samples, spec = problem.job.samples[split], problem.job.spec
    pixels = problem.batches(split, samples.ids, size=TILES)
    for first, groups in zip(range(0, len(samples.ids), TILES), pixels, strict=True):
        ids = samples.ids[first : first + TILES]
        labels = samples.reader.targets(ids)
        scores = score(groups, labels.shape[-1])
        require_finite(scores, spec.checkpoint.name, spec.task_slug)
        yield ids, labels, scores


def _chosen_pixels(problem: Problem, split: SplitName) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the chosen pixels of every tile of a split and their labels, both `[N, K]`, and the side of a tile."""
    samples, protocol = problem.job.samples[split], problem.job.spec.protocol
    assert not isinstance(protocol, Recipe)  # there is none for segmentation
    count = linear_settings(protocol, "segmentation").pixels
    assert count is not None  # the settings are for segmentation
    places, labels = [], []
    with progress.stage("labels", total=len(samples.ids), unit="samples") as advance:
        for first in range(0, len(samples.ids), TILES):
            ids = samples.ids[first : first + TILES]
            maps = samples.reader.targets(ids)
            places.append(choose_pixels(ids, maps, count))
            labels.append(labels_at(maps, places[-1]))
            advance(len(ids))
    return np.concatenate(places), np.concatenate(labels), maps.shape[-1]


def _pixel_extraction(
    problem: Problem, split: SplitName, places: np.ndarray, side: int
) -> Extraction[tuple[Groups, np.ndarray]]:
    """Return what the features of chosen pixels `[N, K]` of tiles of a side are computed from."""
    ids, count = problem.job.samples[split].ids, places.shape[1]

    def read(start: int, stop: int) -> Iterator[tuple[Groups, np.ndarray]]:
        pixels = problem.batches(split, ids[start:stop], size=TILES)
        for first, groups in zip(range(start, stop, TILES), pixels, strict=True):
            yield groups, places[first : min(first + TILES, stop)]

    changes = {"pixels": count, "places": hashlib.sha256(places.tobytes()).hexdigest()}
    backbones = [_PixelBackbone(one, side) for one in problem.backbones(dense_module, batch=TILES)]
    return extraction(problem, split, backbones, read, changes)


def _label_maps(problem: Problem, ids: Sequence[str], rows: np.ndarray) -> np.ndarray:
    """Return the label maps `[N, S, S]` of some training tiles."""
    return problem.job.samples["train"].reader.targets([ids[row] for row in rows])


class _PixelBackbone:
    """Features `[N, K, D]` of the chosen pixels of a batch."""

    def __init__(self, dense: LazyBackbone, side: int) -> None:
        self._dense = dense
        self._side = side
        self.origin = dense.origin

    def __call__(self, batch: tuple[Groups, np.ndarray]) -> np.ndarray:
        """Return the features of stored groups at chosen pixels `[N, K]`."""
        groups, places = batch
        return interpolate(self._dense(groups), places, self._side)
