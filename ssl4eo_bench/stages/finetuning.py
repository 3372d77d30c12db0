"""Fine-tuning on labels of whole images: it gives another backbone and head; what follows is as for frozen ones."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ssl4eo_bench.backbones.cache import require_finite
from ssl4eo_bench.backbones.features import BackboneFeatures, feature_module
from ssl4eo_bench.backbones.runtime import Runner, TorchRunner, make_runner
from ssl4eo_bench.backbones.weights import state_sha256
from ssl4eo_bench.data.batches import batches
from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.metrics.evaluation import tune_thresholds
from ssl4eo_bench.plan import Job
from ssl4eo_bench.progress import Progress, Silent
from ssl4eo_bench.protocols.finetune import Classifier, Finetuning, TunedHead
from ssl4eo_bench.protocols.linear import LinearProbe, main_metric
from ssl4eo_bench.spec.protocols import Finetune
from ssl4eo_bench.spec.tasks import Groups, SplitName
from ssl4eo_bench.stages.extraction import batch_size, build_module
from ssl4eo_bench.stages.images import Images, Rows


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


class TunedImages(Images):
    """The stages behind a fine-tuning: features are those of the tuned backbone."""

    def __init__(self, job: Job, device: str, cache_dir: Path, progress: Progress, module: torch.nn.Module) -> None:
        super().__init__(job, device, cache_dir, progress)
        self._sha256 = state_sha256(module)
        samples = job.samples["val"]
        size = batch_size(device)
        example = samples.source.read(samples.ids[:1], job.spec.inputs.sources)
        full = tuple(np.repeat(group, size, axis=0) for group in example)
        self._run = make_runner(module, full, device, progress.note)

    def features(self, split: SplitName) -> ComputedFeatures:
        """The features of a split; leaves its labels closed."""
        ids = self._job.samples[split].ids
        found = features_of(self._job, split, self._run, batch_size(self._device), self._progress)
        require_finite(found, self._job.spec.checkpoint.name, self._job.spec.task_slug)
        return ComputedFeatures(found, len(ids), (self._run.name,), (self._sha256,))


def features_of(job: Job, split: SplitName, run: Runner, size: int, progress: Progress) -> np.ndarray:
    """Features `[N, D]` of a split."""
    samples, found = job.samples[split], []
    what = f"features {job.spec.checkpoint.name}, tuned · {split}"
    with progress.stage(what, total=len(samples.ids), unit="images") as advance:
        for groups in batches(samples.source, samples.ids, job.spec.inputs.sources, size=size):
            found.append(run(groups))
            advance(len(found[-1]))
    return np.concatenate(found)


def tune(
    job: Job, start: LinearProbe, train: Rows, val: Rows, *, device: str, cache_dir: Path, progress: Progress
) -> tuple[TunedImages, TunedHead, Rows]:
    """Train the backbone on.

    Args:
        job: with the protocol `finetune`.
        start: the linear probe on the frozen features of these rows.
        train: samples to train on.
        val: samples to choose by.
        device: where to train.
        cache_dir: where the state is kept, and fetched weights are.
        progress: shows it.

    Returns:
        The stages with the tuned backbone, the tuned head, and the tuned features of `val`.

    Raises:
        SpecError: if the checkpoint has no network.
        TrainingError: if the loss is no number.
    """
    protocol, kind, sources = job.spec.protocol, job.task.kind, job.spec.inputs.sources
    assert isinstance(protocol, Finetune)
    model, metric = Classifier(_network(job, cache_dir, progress), start), main_metric(kind, val.targets)

    def read(rows: np.ndarray) -> Iterator[Groups]:
        ids = [train.ids[row] for row in rows]
        return batches(job.samples["train"].source, ids, sources, size=protocol.batch)

    def validate(trained: Classifier) -> float:
        run = TorchRunner(trained.network, torch.device(device))
        features = features_of(job, "val", run, batch_size(device), Silent())
        return metric(TunedHead.of(trained, kind).logits(features))

    state = Finetuning(
        protocol=protocol,
        start=model,
        read=read,
        targets=train.targets,
        validate=validate,
        file=state_file(job, cache_dir),
        seed=job.spec.seed,
        device=torch.device(device),
        progress=progress,
    ).run()
    model.load_state_dict(state.best)
    stages = TunedImages(job, device, cache_dir, progress, model.network.eval().requires_grad_(requires_grad=False))
    rows = stages.rows("val")
    head = TunedHead.of(model, kind, start=start, history=tuple(state.history))
    if kind == "multilabel":
        head = replace(head, thresholds=tune_thresholds(head.probabilities(rows.features), rows.targets))
    return stages, head, rows


def _network(job: Job, cache_dir: Path, progress: Progress) -> BackboneFeatures:
    samples = job.samples["train"]
    example = samples.source.read(samples.ids[:1], job.spec.inputs.sources)
    module = build_module(job, example, feature_module, cache_dir, progress)
    if not isinstance(module, BackboneFeatures):
        raise SpecError(
            f"checkpoint {job.spec.checkpoint.name!r} has no network to fine-tune; use --protocol linear for it."
        )
    return module
