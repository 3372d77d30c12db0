"""How fast is the linear protocol, and are its solutions right?

Peer: scikit-learn's `LogisticRegression` (lbfgs, its default tolerance) fitted for 7 of the 45 penalties, one after the
other from zero, on the same standardised features. Ours: the whole protocol on 45 penalties, with standardisation,
rotation, scoring every head on val and choosing one; and its objective at those 7.
"""

import sys
import warnings

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from benchmarks.setting import alternate, arguments, describe_machine, median_ratio, report
from ssl4eo_bench.plan import Request, plan
from ssl4eo_bench.progress import Silent
from ssl4eo_bench.protocols.linear import fit_linear
from ssl4eo_bench.protocols.solver import Basis, solve_path
from ssl4eo_bench.spec.protocols import Linear
from ssl4eo_bench.stages.extraction import LazyBackbone
from ssl4eo_bench.stages.images import extract_features
from ssl4eo_bench.storage import cache_root

STEPS = (8, 11, 13, 16, 19, 21, 24)  # of the grid: C from 1e-4 to 1


def objective(logits: np.ndarray, targets: np.ndarray, weights: np.ndarray, penalty: float) -> float:
    """`C · Σ loss + ½ ‖W‖²` in float64."""
    loss = np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(logits)), targets]
    return float(penalty * loss.sum() + 0.5 * np.square(weights).sum())


def main() -> int:
    """Print the table; 1 if a target was missed."""
    options = arguments(__doc__ or "")
    describe_machine()
    request = Request(
        tasks=("eurosat-rgb",),
        protocol="linear",
        checkpoints=("tf_efficientnet_lite0.in1k",),
        suite=None,
        seeds=(0,),
        data_dir=options.data_dir,
        cache_dir=cache_root(options.cache_dir),
    )
    (job,) = plan(request, Silent())
    backbone = LazyBackbone(job, "cpu", Silent(), cache_dir=request.cache_dir)
    splits = {
        split: (
            extract_features(job, split, backbone, request.cache_dir, Silent()).values,
            job.samples[split].targets(Silent()),
        )
        for split in ("train", "val")
    }
    (features, targets), val = splits["train"], splits["val"]
    print(f"features {features.shape[0]:,} × {features.shape[1]:,}, {len(job.task.classes)} classes")
    standardised = (features - features.mean(0)) / np.maximum(features.std(0), 1e-12)
    penalties = [Linear().grid()[step] for step in STEPS]
    fits: list[LogisticRegression] = []

    def protocol() -> None:
        fit_linear(Linear(), "multiclass", 10, (features, targets), val, device="cpu", progress=Silent())

    def peer() -> None:
        fits[:] = [LogisticRegression(C=C, max_iter=2000).fit(standardised, targets) for C in penalties]

    ours, theirs = alternate(protocol, peer, rounds=3)
    print(
        f"whole protocol, 45 penalties: {np.median(ours):.1f} s; scikit-learn, 7 penalties: {np.median(theirs):.1f} s"
    )
    met = [report("scikit-learn for 7 ÷ protocol for 45", median_ratio(theirs, ours), 3.0)]

    basis = Basis.of(features, torch.device("cpu"))
    transformed = basis.transform(features)
    heads = solve_path(basis, transformed, targets, "softmax", penalties, classes=10, tolerance=Linear().tolerance)
    for head, fit in zip(heads, fits, strict=True):
        weights = head.weights.double().numpy()
        logits = transformed.double().numpy() @ weights[:, :-1].T + weights[:, -1]
        ours_at = objective(logits, targets, weights[:, :-1], head.C)
        logits = standardised.astype(np.float64) @ fit.coef_.T + fit.intercept_
        theirs_at = objective(logits, targets, fit.coef_.astype(np.float64), head.C)
        claim = f"C = {head.C:.1e}: objective ÷ scikit-learn's"
        met.append(report(claim, ours_at / theirs_at, 1.0, more_is_better=False, digits=7))
    return 0 if all(met) else 1


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main())
