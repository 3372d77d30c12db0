"""Fine-tuning of a job: it gives a network that scores samples itself; what follows is as for frozen ones."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch

from ssl4eo_bench import progress
from ssl4eo_bench.config.canonical import digest
from ssl4eo_bench.config.protocols import Finetune
from ssl4eo_bench.config.task import IGNORED, Groups, SplitName
from ssl4eo_bench.data.batches import batches
from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.features.extract import batch_size, build_module, feature_key, input_reader
from ssl4eo_bench.features.store import require_finite
from ssl4eo_bench.labels.dense_head import label_scores
from ssl4eo_bench.labels.images import Images, Rows
from ssl4eo_bench.labels.pixel_maps import TILES, Score, Tiles, scored
from ssl4eo_bench.methods.finetune_plan import finetune_plan
from ssl4eo_bench.methods.linear import LinearProbe, main_metric, to_probabilities
from ssl4eo_bench.methods.probe import Probe
from ssl4eo_bench.methods.tuned import Tuned
from ssl4eo_bench.metrics.evaluation import Evaluation, tune_thresholds
from ssl4eo_bench.metrics.segmentation import confusion_matrix, mean_iou
from ssl4eo_bench.models.backbone import state_sha256
from ssl4eo_bench.models.dense import DenseFeatures, dense_module
from ssl4eo_bench.models.pooled import BackboneFeatures, feature_module
from ssl4eo_bench.models.runtime import Runner, TorchRunner, keep_float32, make_runner
from ssl4eo_bench.plan import Job
from ssl4eo_bench.progress import Silent, shown_on
from ssl4eo_bench.training.decoders import Segmenter
from ssl4eo_bench.training.distributed import Team, together
from ssl4eo_bench.training.loop import Plan, State, Training
from ssl4eo_bench.training.tunable import Classifier, Logits, Tunable

WORTH_COMPILING = 2000
"""Samples from which a compiled runner has won back the seconds that compiling takes."""

Network = TypeVar("Network", bound=torch.nn.Module)


def state_file(job: Job, cache_dir: Path) -> Path:
    """Where a run keeps what it needs to go on, named by all that decides it: other pixels or weights are another run.

    Raises:
        WeightsError: as of `feature_key`.
    """
    keys = [feature_key(job, split, cache_dir).digest for split in job.samples]
    return cache_dir / "finetuning" / f"{digest([job.spec.digest, *keys])}.pt"


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
        job: with the protocol `finetune`, or a recipe.
        devices: where to train: together on several, and all else on the first.
        cache_dir: where the state is kept, and fetched weights are.
    """

    job: Job
    devices: tuple[str, ...]
    cache_dir: Path

    @cached_property
    def state(self) -> Path:
        """Where the state is kept."""
        return state_file(self.job, self.cache_dir)

    @property
    def device(self) -> str:
        """The first one."""
        return self.devices[0]

    @property
    def bfloat16(self) -> bool:
        """Whether the network is trained and run in it."""
        return self.job.spec.checkpoint.precision == "bfloat16"

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
        kind = self.job.task.kind
        model = Classifier(self.network(feature_module, BackboneFeatures), start)
        state = self.train(ImageCourse(self, train.ids, train.targets, val.targets), model)
        stages = TunedImages(self, Logits(model))
        rows = stages.rows("val")
        thresholds = (
            tune_thresholds(to_probabilities(rows.features, kind), rows.targets) if kind == "multilabel" else None
        )
        return stages, Tuned(kind, start, tuple(state.history), thresholds), rows

    def tiles(self, start: LinearProbe, train: Rows, val: Rows) -> tuple["TunedTiles", Tuned, Rows]:
        """Train on label maps; arguments and errors as of `images`, and the rows of `val` come back as they are."""
        model = Segmenter(self.network(dense_module, DenseFeatures), start)
        state = self.train(TileCourse(self, train.ids), model)
        return TunedTiles(self, Logits(model)), Tuned(self.job.task.kind, start, tuple(state.history)), val

    def train(self, course: "Course", model: Tunable) -> State:
        """Train a model, which then is as it was after the best epoch.

        Raises:
            TrainingError: if the loss is no number.
        """
        if len(self.devices) > 1:  # the state that they leave is a finished one
            with progress.stage(f"training on {len(self.devices)} devices", total=0, unit="batches") as advance:
                together(self.devices, partial(_train_along, course, model), advance)
        state = _training(course, model, Team.alone(self.device)).run()
        model.load_state_dict(state.best)
        return state

    def runner(self, module: Logits, note: Callable[[str], None]) -> Runner:
        """The fastest runner for what has been trained."""
        frozen = module.cpu().eval().requires_grad_(requires_grad=False)
        full = tuple(np.repeat(group, self._batch, axis=0) for group in self.example())
        return make_runner(frozen, full, self.device, note, precision=self.job.spec.checkpoint.precision)

    def passing_runner(self, module: Logits) -> Runner:
        """The same for one pass over `val`."""
        if self.device == "cpu" and len(self.job.samples["val"].ids) < WORTH_COMPILING:
            return TorchRunner(module.eval(), torch.device("cpu"), bfloat16=self.bfloat16)
        return self.runner(module, lambda _: None)

    def logits(self, split: SplitName, run: Runner) -> np.ndarray:
        """Logits `[N, C]` of a split of images; leaves its labels closed."""
        samples, found = self.job.samples[split], []
        what = f"logits {self.job.spec.checkpoint.name}, tuned · {split}"
        with progress.stage(what, total=len(samples.ids), unit="images") as advance:
            for groups in batches(input_reader(self.job, split), samples.ids, size=self._batch):
                found.append(run(groups))
                advance(len(found[-1]))
        return np.concatenate(found)

    def network(self, make: Callable[..., torch.nn.Module], wanted: type[Network]) -> Network:
        """The network that `make` builds for the checkpoint.

        Raises:
            SpecError: if it has none.
        """
        module = build_module(self.job, self.example(), make, self.cache_dir)
        if not isinstance(module, wanted):
            raise SpecError(
                f"checkpoint {self.job.spec.checkpoint.name!r} has no network to fine-tune; use --protocol linear for "
                "it."
            )
        return module

    def example(self) -> Groups:
        """The first training sample."""
        return input_reader(self.job, "train")(self.job.samples["train"].ids[:1])

    @property
    def _batch(self) -> int:
        """Samples that a runner takes at once."""
        return TILES if self.job.task.kind == "segmentation" else batch_size(self.device)


class Course(Protocol):
    """What is trained on, how, and what it is chosen by; it can be sent to other processes."""

    @property
    def tuning(self) -> Tuning:
        """Whose."""
        ...

    @property
    def ids(self) -> Sequence[str]:
        """Of the training samples."""
        ...

    @property
    def plan(self) -> Plan:
        """How to train."""
        ...

    def targets(self, rows: np.ndarray) -> np.ndarray:
        """The targets of these training samples."""
        ...

    def validate(self, run: Runner, epoch: int) -> float:
        """The main metric on `val` of what runs the network after so many epochs."""
        ...


@dataclass(frozen=True)
class ImageCourse:
    """Labels of whole images: those of train, by id, and of val."""

    tuning: Tuning
    ids: Sequence[str]
    train: np.ndarray
    val: np.ndarray

    @property
    def plan(self) -> Plan:
        """How to train."""
        return _plan(self.tuning.job)

    def targets(self, rows: np.ndarray) -> np.ndarray:
        """The targets of these training samples."""
        chosen: np.ndarray = self.train[rows]
        return chosen

    def validate(self, run: Runner, epoch: int) -> float:  # noqa: ARG002
        """The main metric on `val`."""
        return main_metric(self.tuning.job.task.kind, self.val)(self.tuning.logits("val", run))


@dataclass(frozen=True)
class TileCourse:
    """Label maps, which are read as they are needed."""

    tuning: Tuning
    ids: Sequence[str]

    @property
    def plan(self) -> Plan:
        """How to train."""
        return _plan(self.tuning.job)

    def targets(self, rows: np.ndarray) -> np.ndarray:
        """The label maps of these training samples."""
        labels: np.ndarray = self.tuning.job.samples["train"].source.targets([self.ids[row] for row in rows])
        return labels

    def validate(self, run: Runner, epoch: int) -> float:  # noqa: ARG002
        """The mean intersection over union of all tiles of `val`."""
        classes = len(self.tuning.job.task.classes)
        confusion = np.zeros((classes, classes), dtype=np.int64)
        for _, labels, scores in scored(self.tuning.job, "val", _scored_by(run)):
            labelled = labels != IGNORED
            confusion += confusion_matrix(labels[labelled], scores.argmax(axis=1)[labelled], classes)
        return float(mean_iou(confusion))


def _plan(job: Job) -> Plan:
    assert isinstance(job.spec.protocol, Finetune)
    return finetune_plan(job.spec.protocol)


def _training(course: Course, model: Tunable, team: Team) -> Training:
    """The training of a model on a course."""
    tuning, ids = course.tuning, course.ids
    keep_float32()

    def read(rows: np.ndarray, size: int) -> Iterator[tuple[Groups, np.ndarray]]:
        pixels = batches(input_reader(tuning.job, "train"), [ids[row] for row in rows], size=size)
        for first, groups in zip(range(0, len(rows), size), pixels, strict=True):
            yield groups, course.targets(rows[first : first + size])

    def validate(trained: Tunable, epoch: int) -> float:
        with shown_on(Silent()):  # the training shows itself
            return course.validate(tuning.passing_runner(Logits(deepcopy(trained))), epoch)

    return Training(
        plan=course.plan,
        start=model,
        count=len(ids),
        read=read,
        validate=validate,
        file=tuning.state,
        seed=tuning.job.spec.seed,
        team=team,
        bfloat16=tuning.bfloat16,
    )


def _train_along(course: Course, model: Tunable, team: Team, advance: Callable[[int], None]) -> None:
    """What each of several processes does."""
    with shown_on(_Told(advance)):
        _training(course, model, team).run()


class _Told(Silent):
    """Passes progress on to another process."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance

    @contextmanager
    def stage(self, what: str, *, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """A stage that another process shows."""
        del what, total, unit
        yield self._advance


class TunedImages(Images):
    """The stages behind a fine-tuning on labels of images: features are the logits of the tuned network."""

    def __init__(self, tuning: Tuning, module: Logits) -> None:
        super().__init__(tuning.job, tuning.devices, tuning.cache_dir)
        self._tuning = tuning
        self._sha256 = state_sha256(module)
        self._run = tuning.runner(module, progress.note)

    def features(self, split: SplitName) -> ComputedFeatures:
        """The logits of a split; leaves its labels closed."""
        found = self._tuning.logits(split, self._run)
        require_finite(found, self._job.spec.checkpoint.name, self._job.spec.task_slug)
        return ComputedFeatures(found, len(found), (self._run.name,), (self._sha256,))


class TunedTiles(Tiles):
    """The stages behind a fine-tuning on label maps."""

    def __init__(self, tuning: Tuning, module: Logits) -> None:
        super().__init__(tuning.job, tuning.devices, tuning.cache_dir)
        self._sha256 = state_sha256(module)
        self._run = tuning.runner(module, progress.note)

    def evaluate_val(self, probe: Probe, rows: Rows) -> Evaluation:  # noqa: ARG002
        """The metrics on all tiles of the validation split."""
        return self._tallied("val", _scored_by(self._run)).evaluate(self._job.task.classes)

    def _scorer(self, probe: Probe) -> Score:  # noqa: ARG002
        return _scored_by(self._run)

    def _ran(self) -> tuple[str, str]:
        return self._run.name, self._sha256


def _scored_by(run: Runner) -> Score:
    return lambda groups, side: label_scores(torch.from_numpy(run(groups)), side)
