"""How fast is the path of penalties, and are its solutions right?

Peer one: for each of the 45 penalties one L-BFGS fit from zero (`torch.optim.LBFGS`, strong Wolfe line search, at most
2,000 iterations, until no entry of the gradient exceeds 1e-5 of the largest at zero weights), as probes with a grid of
C do it. Peer two: one fit of scikit-learn's `LogisticRegression` (lbfgs, its default tolerance) at the chosen C. Ours:
`fit_probe` with standardising and scoring on val, as run by `linear` and with `--full-path`.

Peer one fits a few of the penalties; 45 times their mean stands for all. Without `--full` the problems are smaller, and
the ill-conditioned one, which takes peer one minutes a penalty, is left out.
"""

import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from benchmarks.setting import Options, arguments, describe_machine, eurosat_features, report, seconds
from ssl4eo_bench.config.protocols import Linear
from ssl4eo_bench.config.task import Kind
from ssl4eo_bench.labels import labels_of
from ssl4eo_bench.methods.linear import LinearProbe, fit_probe
from ssl4eo_bench.solver.path import Data, Head, solve_path

LITE0 = "tf_efficientnet_lite0.in1k"
GRID, TOLERANCE = Linear().grid(), Linear().tolerance
Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Case:
    """Features and targets, the least factors to reach, and the penalties that peer one gets."""

    name: str
    kind: Kind
    train: Pair
    val: Pair
    classes: int
    least: float
    least_full: float
    few: tuple[int, ...]


def cases(options: Options) -> list[Case]:
    """The three of the table, or smaller ones."""
    limit, samples = (None, 20_000) if options.full else (4_000, 4_000)
    well = [eurosat_features(LITE0, split, options, limit=limit) for split in ("train", "val")]
    labels = [synthetic(count, seed=seed) for seed, count in enumerate((samples, samples // 4))]
    found = [
        Case("EfficientNet-Lite0", "multiclass", well[0], well[1], 10, 12, 6, (8, 20, 32)),
        Case("19 labels", "multilabel", labels[0], labels[1], 19, 20, 10, (8, 20, 32)),
    ]
    if options.full:
        ill = [eurosat_features("resnet50.random", split, options, image_size=64) for split in ("train", "val")]
        found.append(Case("random ResNet-50", "multiclass", ill[0], ill[1], 10, 60, 40, (4, 13, 22, 31, 40)))
    return found


def synthetic(
    samples: int, *, width: int = 2048, classes: int = 19, seed: int = 0, dtype: type[np.floating[Any]] = np.float32
) -> Pair:
    """Features whose spectrum falls like those of backbones, and labels of uneven frequency that depend on them."""
    fixed, drawn = np.random.default_rng(99), np.random.default_rng(seed)
    scales = np.arange(1, width + 1, dtype=np.float32) ** -0.5
    mixing = fixed.normal(size=(width, width)).astype(np.float32) / np.float32(width**0.5)
    weights = (fixed.normal(size=(width, classes)) * scales[:, None] * 3).astype(np.float32)
    rarity = fixed.uniform(0.5, 4, classes)
    features, labels = np.empty((samples, width), dtype), np.empty((samples, classes), np.uint8)
    for start in range(0, samples, 4096):
        rows = slice(start, min(start + 4096, samples))
        latent = drawn.standard_normal((rows.stop - start, width), dtype=np.float32) * scales
        features[rows] = latent @ mixing
        chances = 1 / (1 + np.exp(rarity - latent @ weights))
        labels[rows] = drawn.random(chances.shape) < chances
    return features, labels


def one_fit_from_zero(features: torch.Tensor, case: Case, C: float) -> torch.Tensor:
    """Weights `[C, D + 1]` by peer one."""
    weights = torch.zeros(case.classes, features.shape[1], requires_grad=True)
    intercepts = torch.zeros(case.classes, requires_grad=True)
    multilabel = case.kind == "multilabel"
    targets = torch.from_numpy(case.train[1])
    targets = targets.float() if multilabel else targets
    loss_of = torch.nn.BCEWithLogitsLoss(reduction="sum") if multilabel else torch.nn.CrossEntropyLoss(reduction="sum")

    def evaluate() -> torch.Tensor:
        for parameter in (weights, intercepts):
            parameter.grad = None
        logits = torch.nn.functional.linear(features, weights, intercepts)
        loss: torch.Tensor = (loss_of(logits, targets) + weights.square().sum() / (2 * C)) / len(features)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    evaluate()
    assert weights.grad is not None
    small = 1e-5 * float(weights.grad.abs().max())
    optimiser = torch.optim.LBFGS(
        [weights, intercepts],
        max_iter=2000,
        max_eval=4000,
        tolerance_grad=small,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )
    optimiser.step(evaluate)  # type: ignore[no-untyped-call]
    return torch.cat([weights, intercepts[:, None]], dim=1).detach()


def objective(standardised: np.ndarray, case: Case, weights: torch.Tensor, C: float) -> float:
    """`C · Σ loss + ½ ‖W‖²` in float64."""
    exact, targets = weights.double().numpy(), case.train[1]
    logits = standardised @ exact[:, :-1].T + exact[:, -1]
    if case.kind == "multilabel":
        loss = (np.logaddexp(0, logits) - logits * targets).sum()
    else:
        loss = (np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(logits)), targets]).sum()
    return float(C * loss + 0.5 * np.square(exact[:, :-1]).sum())


def measure(case: Case) -> bool:
    """Compare for one case."""
    print(f"\n{case.name}: features {case.train[0].shape[0]:,} × {case.train[0].shape[1]:,}, {case.classes} classes")
    probes: list[LinearProbe] = []
    heads: list[Head] = []

    labels, data = labels_of(case.kind), Data(*case.train, case.classes)

    def as_run() -> None:
        probes.append(fit_probe(Linear(), labels, data, case.val, device="cpu"))

    def whole_path() -> None:
        heads.extend(solve_path(labels.loss, data, GRID, tolerance=TOLERANCE, device="cpu"))

    stopped, whole = seconds(as_run), seconds(whole_path)
    chosen = probes[0].head.C
    print(
        f"as run by linear ({len(probes[0].path)} heads): {stopped:.1f} s; --full-path: {whole:.1f} s; C = {chosen:.2g}"
    )
    standardised = torch.cat(list(probes[0].head.standardisation.stream(case.train[0])))
    fits: dict[int, torch.Tensor] = {}

    def peer() -> None:
        fits.update({number: one_fit_from_zero(standardised, case, GRID[number]) for number in case.few})

    theirs = seconds(peer) * len(GRID) / len(case.few)
    print(f"one fit from zero a penalty: {theirs:.0f} s, from {len(case.few)} of the 45")
    met = [
        report(f"{case.name}: fits from zero ÷ as run by linear", theirs / stopped, case.least),
        report(f"{case.name}: fits from zero ÷ --full-path", theirs / whole, case.least_full),
        report(f"{case.name}: heads that converged", sum(head.converged for head in heads), len(GRID), unit=""),
        _objectives(case, standardised.double().numpy(), heads, fits),
    ]
    if case.kind == "multiclass":
        fit = LogisticRegression(C=chosen, max_iter=2000)
        theirs = seconds(lambda: fit.fit(standardised.numpy(), case.train[1]))
        print(f"scikit-learn, one fit at C = {chosen:.2g}: {theirs:.1f} s")
        met.append(report(f"{case.name}: one fit of scikit-learn ÷ the path", theirs / stopped, 1.0))
    return all(met)


def _objectives(case: Case, standardised: np.ndarray, heads: list[Head], fits: dict[int, torch.Tensor]) -> bool:
    """Our objectives at the peer's penalties."""
    ratios = []
    for number, fit in fits.items():
        mine, other = (objective(standardised, case, weights, GRID[number]) for weights in (heads[number].weights, fit))
        print(f"  C = {GRID[number]:.1e}: objective {mine:.6g}, of the fit from zero {other:.6g}")
        ratios.append(mine / other)
    # Both stop at a gradient of 1e-5; what is below their accuracy is no difference.
    return report(
        f"{case.name}: objective ÷ the fit's from zero, largest", max(ratios), 1 + 1e-5, more_is_better=False, digits=7
    )


def main(arguments_: Sequence[str] | None = None) -> int:
    """Print the table; 1 if a target was missed."""
    options = arguments(__doc__ or "", arguments_)
    describe_machine()
    met = [measure(case) for case in cases(options)]
    return 0 if all(met) else 1


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main())
