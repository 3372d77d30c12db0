"""Tests that every frozen backbone has to pass before its features mean anything."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, cast

import torch
from torch import Tensor

from ssl4eo_bench import progress
from ssl4eo_bench.config.bands import SENTINEL_2
from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.errors import SpecError, shortlist
from ssl4eo_bench.models.backbone import Backbone, state_sha256
from ssl4eo_bench.models.build import build, require_feature
from ssl4eo_bench.models.plugin import is_alive, resolved, with_own_weights
from ssl4eo_bench.models.weight_files import prepare_weights

TOLERANCE = 1e-4
"""The largest accepted difference between features that should be the same, relative to the largest of them.

Another batch size is another order of sums, which moves features by about 1e-6.
"""
LEAST = 1e-6
"""The least difference between features that should differ, relative to the largest of them."""


Finding: TypeAlias = str | None
"""What is wrong, as the rest of a sentence that begins with the network; empty if nothing is, none where it does not
apply to such a network."""


@dataclass(frozen=True)
class Trial:
    """A backbone, frozen, with two images to try it on; its checkpoint has the bands of its channels.

    Attributes:
        images: scaled images `[2, C, S, S]` of a standard normal.
        features: the features `[2, D]` that it gave for them at first.
        rebuild: builds it for other bands.
    """

    checkpoint: Checkpoint
    backbone: Backbone
    images: Tensor
    features: Tensor
    rebuild: Callable[[Checkpoint], Backbone]

    def again(self, images: Tensor) -> Tensor:
        """The features of images, which stay as they are."""
        with torch.inference_mode():
            return self.backbone.pooled(images.clone())

    def difference(self, features: Tensor, expected: Tensor) -> float:
        """The largest difference between features, relative to the largest of those at first."""
        largest = float(self.features.abs().max()) or 1.0
        return float((features - expected).abs().max()) / largest


def _finite(trial: Trial) -> str:
    return "" if trial.features.isfinite().all() else "gives features that are NaN or infinite"


def _distinct(trial: Trial) -> str:
    same = trial.difference(trial.features[:1], trial.features[1:]) < LEAST
    return "gives the same features for two different images" if same else ""


def _deterministic(trial: Trial) -> str:
    off = trial.difference(trial.again(trial.images), trial.features)
    return f"gives other features for the same images the second time (off by {off:.1e})" if off > TOLERANCE else ""


def _independent(trial: Trial) -> str:
    off = trial.difference(trial.again(trial.images[:1]), trial.features[:1])
    return f"gives other features for an image alone than in a batch (off by {off:.1e})" if off > TOLERANCE else ""


def _stays_in_eval(trial: Trial) -> str:
    before = state_sha256(trial.backbone)
    trial.again(trial.images)
    if training := [name or "itself" for name, module in trial.backbone.named_modules() if module.training]:
        return f"puts {shortlist(training, at_most=3)} into training mode"
    return "" if state_sha256(trial.backbone) == before else "changes its parameters or buffers when it is only asked"


def _leaves_images(trial: Trial) -> str:
    given = trial.images.clone()
    with torch.inference_mode():
        trial.backbone.pooled(given)
    return "" if torch.equal(given, trial.images) else "changes its input images in place"


def _reads_every_channel(trial: Trial) -> str:
    blind = []
    for channel, band in enumerate(trial.checkpoint.bands):
        changed = trial.images[:1].clone()
        changed[:, channel] = trial.images[1:, channel]
        if trial.difference(trial.again(changed), trial.features[:1]) < LEAST:
            blind.append(band)
    return f"does not see {', '.join(blind)}: another channel gives the same features" if blind else ""


def _orders_by_wavelength(trial: Trial) -> Finding:
    reads_it = "wavelength" in (trial.checkpoint.reads or ())
    if not reads_it or len(trial.checkpoint.bands) == 1 or is_alive(trial.checkpoint):
        return None
    reversed_bands = trial.checkpoint.model_copy(update={"bands": trial.checkpoint.bands[::-1]})
    with torch.inference_mode():
        found = trial.rebuild(reversed_bands).pooled(trial.images.flip(1))
    off = trial.difference(found, trial.features)
    return f"reads wavelengths, but depends on the order of channels (off by {off:.1e})" if off > TOLERANCE else ""


def _matches_reference(trial: Trial) -> Finding:
    reference = trial.checkpoint.reference
    if reference is None:
        return None
    drawn = torch.randn(trial.images[:1].shape, generator=torch.Generator().manual_seed(reference.seed))
    expected = torch.tensor(reference.features)
    found = trial.again(drawn)[0, : len(expected)]
    if len(found) < len(expected):
        return f"has {len(found)} features, and its reference lists {len(expected)}"
    off = float((found - expected).abs().max() / expected.abs().max())
    if off <= reference.tolerance:
        return ""
    return f"is off by {off:.1e} from the features of its original implementation"


CHECKS: dict[str, Callable[[Trial], Finding]] = {
    "features are finite": _finite,
    "features differ between images": _distinct,
    "features are the same the second time": _deterministic,
    "features do not depend on the rest of the batch": _independent,
    "the network stays as it is": _stays_in_eval,
    "the images stay as they are": _leaves_images,
    "every channel counts": _reads_every_channel,
    "channels count by their wavelengths alone": _orders_by_wavelength,
    "features are those of the original": _matches_reference,
}

_passed: set[str] = set()
"""What was tested in this process: identities of checkpoints."""


def run_checks(
    checkpoint: Checkpoint, *, seed: int = 0, cache_dir: Path | None = None
) -> Iterator[tuple[str, Finding]]:
    """Yield each check that a backbone is put to, with what it returns; see `CHECKS`.

    A checkpoint that takes the bands of a task gets all of Sentinel-2. The seed draws random weights.

    Raises:
        BenchError: if it cannot be built, or gives no features at all.
    """
    known = checkpoint.seeing(SENTINEL_2)
    side = cast(int, known.image_size)
    images = torch.randn(2, len(known.bands), side, side, generator=torch.Generator().manual_seed(0))

    def rebuild(other: Checkpoint) -> Backbone:
        return build(other, seed=seed, cache_dir=cache_dir)

    backbone = rebuild(known)
    require_feature(known, backbone)
    with torch.inference_mode():
        features = backbone.pooled(images.clone())
    trial = Trial(known, backbone, images, features, rebuild)
    with progress.stage(f"self-test {known.name}", total=len(CHECKS), unit="checks") as advance:
        for name, check in CHECKS.items():
            yield name, check(trial)
            advance(1)


def tested(checkpoint: Checkpoint, *, seed: int, cache_dir: Path) -> list[tuple[str, Finding]]:
    """Return the checks of a checkpoint of the catalogue as from `run_checks`; absent weights are fetched."""
    if not checkpoint.has_network:
        raise SpecError(f"checkpoint {checkpoint.name!r} has no network to test.")
    prepare_weights(checkpoint, cache_dir)
    if checkpoint.is_plugin:
        checkpoint = with_own_weights(resolved(checkpoint), SENTINEL_2)
    return list(run_checks(checkpoint, seed=seed, cache_dir=cache_dir))


def require_sound(checkpoint: Checkpoint, *, seed: int, cache_dir: Path) -> None:
    """Refuse a plug-in that fails a check, with the first thing that is wrong; each is tested once in a process."""
    key = f"{checkpoint.identity()} {checkpoint.reference} {seed}"
    if not checkpoint.is_plugin or key in _passed:
        return
    for _, fault in run_checks(checkpoint, seed=seed, cache_dir=cache_dir):
        if fault:
            named = not is_alive(checkpoint)  # a network of this process has no name on the command line
            more = f" (`ssl4eo-bench checkpoint test {checkpoint.name}` shows all checks)" if named else ""
            raise SpecError(
                f"the network {checkpoint.arch!r} of checkpoint {checkpoint.name!r} {fault}; correct its class{more}."
            )
    _passed.add(key)
