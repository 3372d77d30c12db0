"""Is A really better than B? Tests on the scores that both left for the same test samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ssl4eo_bench.errors import ResultError
from ssl4eo_bench.metrics.paired import holm, mcnemar, paired_bootstrap
from ssl4eo_bench.progress import Progress
from ssl4eo_bench.results.pairs import Pairs
from ssl4eo_bench.results.scores import StoredScores, read_scores, require_scores
from ssl4eo_bench.spec import catalogue

LEVEL = 0.05
"""Corrected p values up to this are evidence."""

FEW_CLUSTERS = 20
"""With fewer, intervals are too narrow; docs/results.md says by how much."""

SAME = 1e-6
"""How far the metric of stored scores may lie from that in the result file."""

INDEPENDENT = "resampled one by one, so that intervals may be too narrow and p too small"

Verdict = Literal["A is better", "B is better", "no evidence of a difference"]


@dataclass(frozen=True)
class Discordance:
    """Samples on which only one of two runs is right, and McNemar's exact p value."""

    only_a: int
    only_b: int
    p: float


@dataclass(frozen=True)
class Comparison:
    """A against B on one task and setting.

    Attributes:
        task: name and version.
        setting: protocol, and what else tells it from others on the task.
        seeds: of the runs of A and B, pair by pair.
        metric: that is compared.
        samples: of the test split.
        clusters: that were drawn as wholes; none where single samples were drawn.
        clusters_are: what they are.
        a: the metric of A, mean over seeds.
        b: the metric of B.
        difference: A minus B.
        low: lower end of its 95 % interval.
        high: upper end.
        p: of the paired bootstrap.
        p_holm: the same, corrected for all comparisons that were made together.
        mcnemar: for each pair of runs, where accuracy is compared.
        notes: what a reader should know.
    """

    task: str
    setting: str
    seeds: tuple[tuple[int, int], ...]
    metric: str
    samples: int
    clusters: int | None
    clusters_are: str | None
    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    mcnemar: tuple[Discordance, ...]
    notes: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        """What the corrected p value says."""
        if self.p_holm > LEVEL:
            return "no evidence of a difference"
        return "A is better" if self.difference > 0 else "B is better"


def compare(
    pairs: Sequence[Pairs], results: Path, cache_dir: Path, progress: Progress, *, resamples: int, seed: int
) -> list[Comparison]:
    """Compare, and correct the p values for the number of comparisons.

    The metrics of several seeds are averaged in each resample: the seeds are taken as they are, the samples as drawn.

    Args:
        pairs: of runs, as `find_pairs` gives them.
        results: directory that they are from.
        cache_dir: that holds their scores.
        progress: shows the resampling.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ResultError: if scores are absent, cannot be read or do not belong together.
    """
    require_scores([run for members in pairs for pair in members.runs for run in pair], results, cache_dir)
    compared = []
    for members in pairs:
        scores = [(read_scores(a, results, cache_dir), read_scores(b, results, cache_dir)) for a, b in members.runs]
        with progress.stage(f"{members.task} · {members.setting}", total=resamples, unit="resamples") as advance:
            compared.append(_compare(members, scores, resamples, seed, advance))
    corrected = holm([one.p for one in compared])
    return [replace(one, p_holm=p) for one, p in zip(compared, corrected, strict=True)]


def resamples_needed(comparisons: int) -> int:
    """Fewer resamples than this find no evidence in so many comparisons, whatever the difference."""
    return int(np.ceil(2 * comparisons / LEVEL)) - 1


def _compare(
    pairs: Pairs,
    scores: Sequence[tuple[StoredScores, StoredScores]],
    resamples: int,
    seed: int,
    advance: Callable[[int], None],
) -> Comparison:
    ids, metric = _common_ids(pairs, scores), pairs.metric
    clusters, clusters_are, resampled = _clusters(pairs, ids)
    found = paired_bootstrap(
        [a.metrics[metric] for a, _ in scores],
        [b.metrics[metric] for _, b in scores],
        np.arange(len(ids)) if clusters is None else clusters,
        count=resamples,
        seed=seed,
        advance=advance,
    )
    return Comparison(
        task=pairs.task,
        setting=pairs.setting,
        seeds=tuple((a.spec.seed, b.spec.seed) for a, b in pairs.runs),
        metric=metric,
        samples=len(ids),
        clusters=None if clusters is None else int(clusters.max()) + 1,
        clusters_are=clusters_are,
        a=found.a,
        b=found.b,
        difference=found.value,
        low=found.low,
        high=found.high,
        p=found.p,
        p_holm=found.p,
        mcnemar=tuple(_discordances(scores)) if metric == "accuracy" else (),
        notes=(resampled, *pairs.notes, *_moved(pairs, found.a, found.b)),
    )


def _common_ids(pairs: Pairs, scores: Sequence[tuple[StoredScores, StoredScores]]) -> list[str]:
    first = scores[0][0]
    for (a, b), members in zip(pairs.runs, scores, strict=True):
        for run, found in zip((a, b), members, strict=True):
            if not (np.array_equal(found.ids, first.ids) and np.array_equal(found.targets, first.targets)):
                raise ResultError(
                    f"{run.spec.path} was scored on other labels than {pairs.runs[0][0].spec.path}; run both again on "
                    "the same data with --force."
                )
    ids: list[str] = first.ids.tolist()
    return ids


def _clusters(pairs: Pairs, ids: Sequence[str]) -> tuple[np.ndarray | None, str | None, str]:
    """The number of each sample's cluster `[N]` and what the clusters are, or none; and what to say about that."""
    known = catalogue.task(pairs.runs[0][0].spec.task.name).clusters
    if known is None:
        return None, None, f"ids do not tell which samples are neighbours: {INDEPENDENT}"
    numbers: np.ndarray = np.unique([known.of(id_) for id_ in ids], return_inverse=True)[1]
    count = int(numbers.max()) + 1
    if count == 1:
        return None, None, f"the samples are of one cluster ({known.what}): {INDEPENDENT}"
    too_few = "; that is few: intervals are too narrow and p is too small" if count < FEW_CLUSTERS else ""
    return numbers, known.what, f"resampled in {count:,} clusters ({known.what}){too_few}"


def _discordances(scores: Sequence[tuple[StoredScores, StoredScores]]) -> list[Discordance]:
    """Of each pair of runs; none for label maps, whose pixels are not independent."""
    found = []
    for a, b in scores:
        if a.correct is not None and b.correct is not None:
            only_a, only_b = int((a.correct & ~b.correct).sum()), int((b.correct & ~a.correct).sum())
            found.append(Discordance(only_a, only_b, mcnemar(only_a, only_b)))
    return found


def _moved(pairs: Pairs, a: float, b: float) -> tuple[str, ...]:
    """Says where the scores in the cache are not those that a result file was made from."""
    return tuple(
        f"the scores of {name} give {pairs.metric} {100 * value:.2f}, its results {100 * mean:.2f}: the cache holds "
        "those of another machine or run"
        for name, value, runs in (("A", a, [a for a, _ in pairs.runs]), ("B", b, [b for _, b in pairs.runs]))
        for mean in (float(np.mean([run.metrics["test"][pairs.metric].value for run in runs])),)
        if abs(value - mean) > SAME
    )
