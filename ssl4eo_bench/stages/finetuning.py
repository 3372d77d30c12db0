"""Fine-tuning of a job: it gives a network that scores samples itself; what follows is as for frozen ones."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from ssl4eo_bench.backbones.cache import require_finite
from ssl4eo_bench.backbones.dense import DenseFeatures, dense_module
from ssl4eo_bench.backbones.features import BackboneFeatures, feature_module
from ssl4eo_bench.backbones.runtime import Runner, TorchRunner, make_runner
from ssl4eo_bench.backbones.weights import state_sha256
from ssl4eo_bench.data.batches import batches
from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.metrics.evaluation import Evaluation, tune_thresholds
from ssl4eo_bench.metrics.segmentation import confusion_matrix, mean_iou
from ssl4eo_bench.plan import Job
from ssl4eo_bench.progress import Progress, Silent
from ssl4eo_bench.protocols.dense import label_probabilities
from ssl4eo_bench.protocols.finetune import Finetuning, State
from ssl4eo_bench.protocols.linear import LinearProbe, main_metric, to_probabilities
from ssl4eo_bench.protocols.probe import Probe
from ssl4eo_bench.protocols.segmenter import Segmenter
from ssl4eo_bench.protocols.tunable import Classifier, Logits, Tunable
from ssl4eo_bench.protocols.tuned import Tuned
from ssl4eo_bench.spec.protocols import Finetune
from ssl4eo_bench.spec.tasks import IGNORED, Groups, SplitName
from ssl4eo_bench.stages.extraction import batch_size, build_module
from ssl4eo_bench.stages.images import Images, Rows
from ssl4eo_bench.stages.tiles import TILES, Score, Tiles, scored

WORTH_COMPILING = 2000
"""Samples from which a compiled runner has won back the seconds that compiling takes."""

Network = TypeVar("Network", bound=torch.nn.Module)


def state_file(job: Job, cache_dir: Path) -> Path:
    """Where a run keeps what it needs to go on."""
    return cache_dir / "finetuning" / f"{job.spec.digest}.pt"


@dataclass(frozen=True)
class ComputedFeatures:
    """Features that no cache holds, and where they came from."""

    values: np.ndarray
    computed: int
    runners: tuple[str, ...]
    weights_sha256: tuple[str, ...]


@dataclass(frozen=True)
class Tuning:
    """The fine-tuning of a job.

    Attributes:
        job: with the protocol `finetune`.
        device: where to train.
        cache_dir: where the state is kept, and fetched weights are.
        progress: shows it.
    """

    job: Job
    device: str
    cache_dir: Path
    progress: Progress

    def images(self, start: LinearProbe, train: Rows, val: Rows) -> tuple["TunedImages", Tuned, Rows]:
        """Train on labels of whole images.

        Args:
            start: the linear probe on the frozen features of these rows.
            train: samples to train on.
            val: samples to choose by.

        Returns:
            The stages with the tuned network, how it was tuned, and its logits of `val`.

        Raises:
            SpecError: if the checkpoint has no network.
            TrainingError: if the loss is no number.
        """
        kind, metric = self.job.task.kind, main_metric(self.job.task.kind, val.targets)
        network = self._network(feature_module, BackboneFeatures)
        state, module = self._train(
            Classifier(network, start),
            train.ids,
            lambda rows: train.targets[rows],
            lambda run: metric(_logits(self.job, "val", run, self._batch, Silent())),
        )
        stages = TunedImages(self, module)
        rows = stages.rows("val")
        thresholds = (
            tune_thresholds(to_probabilities(rows.features, kind), rows.targets) if kind == "multilabel" else None
        )
        return stages, Tuned(kind, start, tuple(state.history), thresholds), rows

    def tiles(self, start: LinearProbe, train: Rows, val: Rows) -> tuple["TunedTiles", Tuned, Rows]:
        """Train on label maps; arguments and errors as of `images`, and the rows of `val` come back as they are."""
        targets = self.job.samples["train"].source.targets
        network = self._network(dense_module, DenseFeatures)
        state, module = self._train(
            Segmenter(network, start),
            train.ids,
            lambda rows: targets([train.ids[row] for row in rows]),
            self._mean_iou,
        )
        return TunedTiles(self, module), Tuned(self.job.task.kind, start, tuple(state.history)), val

    def runner(self, module: Logits, note: Callable[[str], None]) -> Runner:
        """The fastest runner for what has been trained."""
        frozen = module.cpu().eval().requires_grad_(requires_grad=False)
        full = tuple(np.repeat(group, self._batch, axis=0) for group in self._example())
        return make_runner(frozen, full, self.device, note)

    def _passing_runner(self, module: Logits) -> Runner:
        """The same for one pass over `val`."""
        if self.device == "cpu" and len(self.job.samples["val"].ids) < WORTH_COMPILING:
            return TorchRunner(module.eval(), torch.device("cpu"))
        return self.runner(module, lambda _: None)

    def _train(
        self,
        model: Tunable,
        ids: Sequence[str],
        targets: Callable[[np.ndarray], np.ndarray],
        validate: Callable[[Runner], float],
    ) -> tuple[State, Logits]:
        """Train on these samples, whose targets are those of rows; the last state, and the network of the best one."""
        source, protocol, sources = (
            self.job.samples["train"].source,
            self.job.spec.protocol,
            self.job.spec.inputs.sources,
        )
        assert isinstance(protocol, Finetune)

        def read(rows: np.ndarray) -> Iterator[tuple[Groups, np.ndarray]]:
            pixels = batches(source, [ids[row] for row in rows], sources, size=protocol.batch)
            for first, groups in zip(range(0, len(rows), protocol.batch), pixels, strict=True):
                yield groups, targets(rows[first : first + protocol.batch])

        state = Finetuning(
            protocol=protocol,
            start=model,
            count=len(ids),
            read=read,
            validate=lambda trained: validate(self._passing_runner(Logits(deepcopy(trained)))),
            file=state_file(self.job, self.cache_dir),
            seed=self.job.spec.seed,
            device=torch.device(self.device),
            progress=self.progress,
        ).run()
        model.load_state_dict(state.best)
        return state, Logits(model)

    def _mean_iou(self, run: Runner) -> float:
        """The main metric of label maps, over all tiles of `val`."""
        classes = len(self.job.task.classes)
        confusion = np.zeros((classes, classes), dtype=np.int64)
        for _, labels, probabilities in scored(self.job, "val", _scored_by(run)):
            labelled = labels != IGNORED
            confusion += confusion_matrix(labels[labelled], probabilities.argmax(axis=1)[labelled], classes)
        return float(mean_iou(confusion))

    def _network(self, make: Callable[..., torch.nn.Module], wanted: type[Network]) -> Network:
        module = build_module(self.job, self._example(), make, self.cache_dir, self.progress)
        if not isinstance(module, wanted):
            raise SpecError(
                f"checkpoint {self.job.spec.checkpoint.name!r} has no network to fine-tune; use --protocol linear for "
                "it."
            )
        return module

    def _example(self) -> Groups:
        """The first training sample."""
        samples = self.job.samples["train"]
        return samples.source.read(samples.ids[:1], self.job.spec.inputs.sources)

    @property
    def _batch(self) -> int:
        """Samples that a runner takes at once."""
        return TILES if self.job.task.kind == "segmentation" else batch_size(self.device)


class TunedImages(Images):
    """The stages behind a fine-tuning on labels of images: features are the logits of the tuned network."""

    def __init__(self, tuning: Tuning, module: Logits) -> None:
        super().__init__(tuning.job, tuning.device, tuning.cache_dir, tuning.progress)
        self._sha256 = state_sha256(module)
        self._run = tuning.runner(module, tuning.progress.note)

    def features(self, split: SplitName) -> ComputedFeatures:
        """The logits of a split; leaves its labels closed."""
        found = _logits(self._job, split, self._run, batch_size(self._device), self._progress)
        require_finite(found, self._job.spec.checkpoint.name, self._job.spec.task_slug)
        return ComputedFeatures(found, len(found), (self._run.name,), (self._sha256,))


class TunedTiles(Tiles):
    """The stages behind a fine-tuning on label maps."""

    def __init__(self, tuning: Tuning, module: Logits) -> None:
        super().__init__(tuning.job, tuning.device, tuning.cache_dir, tuning.progress)
        self._sha256 = state_sha256(module)
        self._run = tuning.runner(module, tuning.progress.note)

    def evaluate_val(self, probe: Probe, rows: Rows) -> Evaluation:  # noqa: ARG002
        """The metrics on all tiles of the validation split."""
        return self._tallied("val", _scored_by(self._run)).evaluate(self._job.task.classes)

    def _scorer(self, probe: Probe) -> Score:  # noqa: ARG002
        return _scored_by(self._run)

    def _ran(self) -> tuple[str, str]:
        return self._run.name, self._sha256


def _scored_by(run: Runner) -> Score:
    return lambda groups, side: label_probabilities(torch.from_numpy(run(groups)), side)


def _logits(job: Job, split: SplitName, run: Runner, size: int, progress: Progress) -> np.ndarray:
    """Logits `[N, C]` of a split of images."""
    samples, found = job.samples[split], []
    what = f"logits {job.spec.checkpoint.name}, tuned · {split}"
    with progress.stage(what, total=len(samples.ids), unit="images") as advance:
        for groups in batches(samples.source, samples.ids, job.spec.inputs.sources, size=size):
            found.append(run(groups))
            advance(len(found[-1]))
    return np.concatenate(found)
