import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.records import MetricValue, Resampled
from ssl4eo_bench.config.task import Split
from ssl4eo_bench.errors import BenchError, UnknownNameError
from ssl4eo_bench.metrics.bootstrap import Bootstrap
from ssl4eo_bench.results.compare import CONFOUNDED, NO_SCORES, OF_ONE_SEED, Comparison, compare
from ssl4eo_bench.results.files import RunFilter, RunResult, write_result
from ssl4eo_bench.results.forest import draw_forest
from ssl4eo_bench.results.pairs import find_pairs
from ssl4eo_bench.results.scores import _of_arrays
from tests.results.forging import forge

Make = Callable[..., RunResult]
A, B = "resnet18.random", "bandstats"

SCENES = [f"S2A_MSIL2A_201706{day:02}T101031_{patch}_{patch}" for day in range(1, 26) for patch in range(4)]
"""Ids of patches from 25 images."""


def as_schema_1(raw: dict[str, Any]) -> None:
    del raw["resampled"]
    raw["schema_version"] = 1


class Desk:
    """A results directory and a cache that runs leave results and scores in."""

    def __init__(self, folder: Path, make: Make) -> None:
        self.results, self.cache = folder / "results", folder / "cache"
        self.results.mkdir()
        (self.cache / "scores").mkdir(parents=True)
        self._make = make
        self.keeps = True
        """Whether results keep replicates, as those of schema 1 do not."""

    def leave(self, task: str, checkpoint: str, ids: list[str], arrays: dict[str, np.ndarray], **spec: Any) -> Path:
        """Store a result on these test samples; gives the file of its scores."""
        made = self._make(task, checkpoint, **spec)
        splits = made.spec.task.splits | {"test": Split.of(ids)}
        record = made.spec.model_copy(update={"task": made.spec.task.model_copy(update={"splits": splits})})
        selection = made.selection.model_copy(update={"thresholds": (0.5,) * len(made.classes), "threshold": 0.5})
        changes = {"spec": record, "digest": record.digest, "selection": selection}
        result = made.model_copy(update=changes | {"counts": made.counts | {"test": len(ids)}})
        main = result.selection.metric
        metric = _of_arrays({"ids": np.array(ids), **arrays}, result).metrics[main]
        test = result.metrics["test"] | {main: MetricValue(value=float(metric(np.ones((1, len(ids))))[0]))}
        units, units_are = catalogue.task(task).units(ids)
        drawn = [metric(weights) for weights in Bootstrap(record.bootstrap_seed, units).weights()]
        resampled = Resampled.of(np.concatenate(drawn), int(units.max()) + 1, units_are)
        result = result.model_copy(update={"metrics": result.metrics | {"test": test}, "resampled": resampled})
        written = write_result(self.results, result)
        if not self.keeps:
            forge(written, as_schema_1)
        file = self.cache / "scores" / f"{result.digest}.npz"
        np.savez(file, ids=np.array(ids), **arrays)  # type: ignore[arg-type]
        return file

    def images(self, checkpoint: str, right: int, **spec: Any) -> Path:
        """Store a run on 200 images of two classes that is right on the first `right` of them."""
        labels = np.arange(200) % 2
        predicted = np.where(np.arange(200) < right, labels, 1 - labels)
        arrays = {"scores": np.eye(10)[predicted] * 0.5 + 0.05, "targets": labels}
        return self.leave("eurosat", checkpoint, [f"id{n}" for n in range(200)], arrays, **spec)

    def clear(self, **spec: Any) -> tuple[Path, Path]:
        """Store runs of A and B on images with a clear difference."""
        return self.images(A, 180, **spec), self.images(B, 150, **spec)

    def patches(self, checkpoint: str, gap: float, ids: list[str], **spec: Any) -> Path:
        """Store a run on patches of 19 labels, whose scores lie `gap` higher where a label is."""
        labels = (np.random.default_rng(0).random((len(ids), 19)) < 0.2).astype(np.uint8)
        scores = np.random.default_rng(len(checkpoint)).random(labels.shape) / 2 + gap * labels
        return self.leave("bigearthnet", checkpoint, ids, {"scores": scores, "targets": labels}, **spec)

    def tiles(self, checkpoint: str, share: int, **spec: Any) -> Path:
        """Store a run on 100 tiles of 100 pixels, `share` of them in the right one of two classes, give or take."""
        rng = np.random.default_rng(share)
        right = np.clip(share + rng.integers(-9, 10, 100), 0, 50)
        confusions = np.zeros((100, 8, 8), dtype=int)
        confusions[:, 0, 0] = confusions[:, 1, 1] = right
        confusions[:, 0, 1] = confusions[:, 1, 0] = 50 - right
        ids = [f"ROIs0000_validation_p{number}" for number in range(100)]
        return self.leave("dfc2020", checkpoint, ids, {"confusions": confusions}, **spec)

    def compare(self, a: str = A, b: str = B, metric: str | None = None, **wanted: Any) -> list[Comparison]:
        pairs = find_pairs(self.results, a, b, RunFilter(**wanted), metric)
        return compare(pairs, self.results, self.cache)

    def refusal(self, a: str = A, b: str = B, **choice: Any) -> str:
        with pytest.raises(BenchError) as refused:
            self.compare(a, b, **choice)
        assert "\n" not in str(refused.value)
        return str(refused.value)


@pytest.fixture
def desk(tmp_path: Path, make_result: Make) -> Desk:
    return Desk(tmp_path, make_result)


def test_a_clear_difference_is_evidence(desk: Desk) -> None:
    desk.clear()
    (found,) = desk.compare()
    assert (found.task, found.setting, found.metric) == ("eurosat-v1", "linear-v2", "accuracy")
    assert (found.a, found.b, found.samples, found.units, found.units_are) == (0.9, 0.75, 200, 200, "samples")
    assert found.difference == pytest.approx(0.15)
    assert 0 < found.low < 0.15 < found.high
    assert found.p == found.p_holm < 1e-6
    assert [(one.only_a, one.only_b, one.p) for one in found.mcnemar] == [(30, 0, 2 / 2**30)]
    assert found.verdict == "A is better"
    assert found.notes == (
        "samples are drawn one by one, since their ids name no groups of neighbours: intervals may be too narrow",
        OF_ONE_SEED,
    )
    (swapped,) = desk.compare(B, A)
    assert swapped.verdict == "B is better"
    assert swapped.difference == -found.difference


def test_a_small_difference_is_none(desk: Desk) -> None:
    desk.images(A, 151)
    desk.images(B, 150)
    (found,) = desk.compare()
    assert found.low <= 0 <= found.high
    assert found.verdict == "no evidence of a difference"


def test_p_values_are_corrected_over_tasks(desk: Desk) -> None:
    for checkpoint, right, gap in ((A, 180, 0.1), (B, 150, 0.1)):
        desk.images(checkpoint, right)
        desk.patches(checkpoint, gap, SCENES)
    patches, images = desk.compare()
    assert (images.task, patches.task) == ("eurosat-v1", "bigearthnet-v1")
    assert images.p_holm == pytest.approx(2 * images.p)
    assert patches.p_holm == patches.p > images.p_holm
    assert [one.verdict for one in desk.compare(tasks=("eurosat",))] == ["A is better"]


def test_samples_of_one_image_are_resampled_together(desk: Desk) -> None:
    desk.patches(A, 0.3, SCENES)
    desk.patches(B, 0.1, SCENES)
    (found,) = desk.compare()
    assert (found.metric, found.units, found.units_are) == ("micro_map", 25, "Sentinel-2 images")
    assert found.mcnemar == ()
    assert found.verdict == "A is better"
    assert found.notes[0] == "drawn are 25 Sentinel-2 images"


def test_few_clusters_are_a_warning_and_one_is_none(desk: Desk) -> None:
    desk.patches(A, 0.3, SCENES[:40])
    desk.patches(B, 0.1, SCENES[:40])
    (few,) = desk.compare()
    assert few.units == 10
    assert few.notes[0] == "drawn are 10 Sentinel-2 images; that is few, and little can be told"
    desk.patches(A, 0.3, SCENES[:4])
    desk.patches(B, 0.1, SCENES[:4])
    (one,) = desk.compare()
    assert (one.units, one.units_are) == (4, "samples")  # of one image


def test_label_maps_are_compared_by_their_confusions(desk: Desk) -> None:
    desk.tiles(A, 40)
    desk.tiles(B, 20)
    (found,) = desk.compare()
    assert (found.metric, found.samples, found.units, found.units_are) == ("miou", 100, 100, "tiles")
    assert found.a > found.b
    assert "metric 'micro_map' not found" in desk.refusal(metric="micro_map")


def test_another_metric_is_compared_where_it_is(desk: Desk) -> None:
    for checkpoint, right in ((A, 180), (B, 150)):
        desk.images(checkpoint, right)
        desk.tiles(checkpoint, right // 4)
    assert [one.task for one in desk.compare(metric="micro_map")] == ["eurosat-v1"]
    assert [one.task for one in desk.compare(metric="macro_f1")] == ["dfc2020-v2", "eurosat-v1"]
    with pytest.raises(UnknownNameError, match=r"metric 'macro_f2' not found; did you mean 'macro_f1'"):
        desk.compare(metric="macro_f2")


def test_seeds_are_compared_pair_by_pair(desk: Desk) -> None:
    other = "resnet50.random"
    for seed in (0, 1):
        desk.images(A, 170 + seed, seed=seed)
        desk.images(other, 150, seed=seed)
    desk.images(A, 10, seed=2)
    (found,) = desk.compare(A, other)
    assert found.seeds == ((0, 0), (1, 1))
    assert found.a == pytest.approx((170 + 171) / 400)
    assert len(found.mcnemar) == 2
    assert "only A has seed 2, which is left out" in found.notes


def test_a_run_that_no_seed_can_change_pairs_with_every_seed_of_the_other(desk: Desk) -> None:
    for seed in (0, 1, 2):
        desk.images(A, 170 + seed, seed=seed)
    for seed in (0, 1):  # the second says nothing that the first does not
        desk.images(B, 150, seed=seed)
    (found,) = desk.compare()
    assert found.seeds == ((0, 0), (1, 0), (2, 0))
    desk.images("tf_efficientnet_lite0.in1k", 180)
    (fixed,) = desk.compare("tf_efficientnet_lite0.in1k", B)
    assert fixed.seeds == ((0, 0),)


def test_fractions_are_compared_on_their_own_and_marked_runs_only_where_there_are_no_others(desk: Desk) -> None:
    desk.clear(limit=200)
    assert [one.setting for one in desk.compare()] == ["linear-v2, limit200"]
    desk.clear()
    desk.clear(fraction=0.1)
    assert {one.setting for one in desk.compare()} == {"linear-v2", "linear-v2, 0.1 of train"}
    assert [one.setting for one in desk.compare(fractions=(0.1,))] == ["linear-v2, 0.1 of train"]
    assert [one.setting for one in desk.compare(fractions=(1.0,))] == ["linear-v2"]


def test_single_results_may_differ_in_seed_and_fraction(desk: Desk) -> None:
    desk.images(B, 180)
    less = desk.images(B, 150, fraction=0.1, seed=1)
    place = "eurosat-v1/linear-v2/bandstats/seed0"
    (found,) = desk.compare(place, less.stem[:10])
    assert (found.setting, found.seeds) == ("linear-v2 / linear-v2, 0.1 of train", ((0, 1),))
    assert found.verdict == "A is better"
    assert "A and B are both runs/eurosat-v1" in desk.refusal(place, f"{place}.json")
    assert "bandstats is a checkpoint and the other is a result" in desk.refusal(place, B)
    assert f"no checkpoint in {desk.results} is called 'bandstat'; did you mean 'bandstats'?" in desk.refusal(
        B, "bandstat"
    )


def test_scores_of_another_run_are_told(desk: Desk) -> None:
    desk.keeps = False
    _, file = desk.clear()
    file.write_bytes(desk.images("resnet50.random", 152).read_bytes())
    (found,) = desk.compare()
    assert found.b == 0.76
    assert any("the scores of B give accuracy 76.00, its results 75.00: the cache" in note for note in found.notes)
    file.write_bytes(desk.images("vit_small_patch16_224.random", 180).read_bytes())
    assert "give accuracy 90.00, and the result 75.00; make them again with `ssl4eo-bench run" in desk.refusal()


def test_what_cannot_be_compared_is_refused_in_one_sentence(desk: Desk) -> None:
    desk.images(A, 180)
    desk.images("resnet50.random", 150, seed=1)
    assert desk.refusal(A, A) == "A and B are both resnet18.random; name two checkpoints, or two single results."
    assert "did you mean 'resnet18.random'?" in desk.refusal("resnet18.randm")
    assert "no result is called 'x'" in desk.refusal("x")
    assert "A has eurosat-v1 linear-v2 (seed 0), B has eurosat-v1 linear-v2 (seed 1); run both" in desk.refusal(
        A, "resnet50.random"
    )
    desk.images(B, 150)
    assert "A has no run of what was asked for" in desk.refusal(tasks=("so2sat",))
    desk.patches(A, 0.1, SCENES)
    places = "eurosat-v1/linear-v2/bandstats/seed0", "bigearthnet-v1/linear-v2/resnet18.random/seed0"
    assert "A is on eurosat-v1 and B on bigearthnet-v1; only numbers on one version" in desk.refusal(*places)


def test_other_samples_are_refused(desk: Desk) -> None:
    desk.patches(A, 0.1, SCENES)
    desk.patches(B, 0.1, SCENES[:-1])
    assert "were run on different samples" in desk.refusal()


def test_versions_of_a_task_do_not_compare(desk: Desk, make_result: Make) -> None:
    desk.images(A, 180)
    made = make_result("eurosat", B)
    spec = made.spec.model_copy(update={"task": made.spec.task.model_copy(update={"version": 2})})
    write_result(desk.results, made.model_copy(update={"spec": spec, "digest": spec.digest}))
    assert "A has eurosat-v1 linear-v2 (seed 0), B has eurosat-v2 linear-v2 (seed 0); run both" in desk.refusal()


def changed(spoil: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        arrays = dict(np.load(file))
        np.savez(file, **arrays | {"scores": spoil(arrays["scores"])})

    return change


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: file.unlink(), "are not in the cache"),
        (lambda file: file.write_bytes(b"PK no archive"), "cannot be read"),
        (lambda file: file.write_bytes(file.read_bytes()[:300]), "cannot be read"),
        (lambda file: np.savez(file, ids=np.array(["id0"])), "cannot be read"),
        (lambda file: file.write_bytes(b"\x93NUMPY\x01\x00"), "cannot be read"),
        (
            lambda file: np.savez(file, ids=np.array(["id0"]), scores=np.eye(1), targets=np.ones(1)),
            "are not of the test",
        ),
        (changed(lambda scores: np.eye(200)), "are not of the test"),
        (changed(lambda scores: scores[:, :3]), "are not of the test"),
        (changed(lambda scores: scores.astype(str)), "are not of the test"),
        (changed(lambda scores: scores * np.nan), "are not of the test"),
        (changed(lambda scores: scores[:, ::-1]), "give accuracy 0.00, and the result 75.00"),
    ],
)
def test_scores_that_are_no_use_are_refused_with_the_command(
    desk: Desk, spoil: Callable[[Path], None], message: str
) -> None:
    desk.keeps = False
    _, file = desk.clear(fraction=0.1)
    spoil(file)
    refusal = desk.refusal()
    assert message in refusal
    command = shlex.split(refusal.split("`")[1])
    assert " ".join(command).startswith("ssl4eo-bench run --task eurosat --protocol linear --checkpoint bandstats ")
    assert {"--fraction", "0.1", "--force", str(desk.results), str(desk.cache)} <= set(command)
    assert refusal.endswith("` (and --data-dir as before).")


def test_other_labels_are_refused(desk: Desk) -> None:
    desk.keeps = False
    _, file = desk.clear()
    arrays = dict(np.load(file))
    arrays["targets"][-1] = 7  # of a wrong prediction: no metric moves by it
    np.savez(file, **arrays)
    assert "was scored on other labels than" in desk.refusal()


def test_result_files_are_enough_for_the_main_metric(desk: Desk) -> None:
    """Scores are gone, say after a clone: the difference is the same to the last digit."""
    files = desk.clear()
    (with_scores,) = desk.compare()
    for file in files:
        file.unlink()
    (found,) = desk.compare()
    same = ("a", "b", "difference", "low", "high", "p", "verdict", "units")
    assert [getattr(found, name) for name in same] == [getattr(with_scores, name) for name in same]
    assert found.mcnemar == ()
    assert found.notes[-1] == NO_SCORES
    assert "are not in the cache" in desk.refusal(metric="macro_f1")


def test_scores_give_what_result_files_give(desk: Desk) -> None:
    """Results of schema 1 keep no replicates; their scores are resampled as those of today are."""
    desk.clear()
    (of_files,) = desk.compare()
    desk.keeps = False
    desk.clear()
    (of_scores,) = desk.compare()
    assert (of_scores.low, of_scores.high) == pytest.approx((of_files.low, of_files.high), abs=1e-6)
    assert of_scores.verdict == of_files.verdict


def test_two_subsets_of_one_checkpoint_are_no_evidence(desk: Desk) -> None:
    """On 1 % of the labels, one checkpoint was better than itself in 8 of 28 pairs of seeds."""
    for seed in (0, 1):
        desk.images("tf_efficientnet_lite0.in1k", 150 + 20 * seed, fraction=0.01, seed=seed)
    places = [f"eurosat-v1/linear-v2/tf_efficientnet_lite0.in1k/seed{seed}-fraction0.01" for seed in (0, 1)]
    (found,) = desk.compare(*places)
    assert found.p < 0.01  # by the test samples alone
    assert (found.confounded, found.verdict) == (True, "no evidence of a difference")
    assert CONFOUNDED in found.notes


def test_the_spread_of_training_subsets_is_counted_or_said_not_to_be(desk: Desk) -> None:
    for seed, a, b in ((0, 170, 150), (1, 150, 160), (2, 175, 152)):
        desk.images("tf_efficientnet_lite0.in1k", a, fraction=0.01, seed=seed)
        desk.images(B, b, fraction=0.01, seed=seed)
        (found,) = desk.compare("tf_efficientnet_lite0.in1k", B)
        if seed == 0:
            assert found.verdict == "A is better"
            assert "how far another moves the difference is not counted" in found.notes[1]
    assert found.verdict == "no evidence of a difference"  # two of three subsets say so, one does not
    assert "the spread of the difference over 3 seeds is counted" in found.notes


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_the_figure_is_the_same_every_time(desk: Desk, tmp_path: Path, ending: str) -> None:
    desk.clear()
    files = [tmp_path / f"{number}.{ending}" for number in range(2)]
    for file in files:
        draw_forest(desk.compare(), A, B, file)
    assert files[0].read_bytes() == files[1].read_bytes()
    if ending == "svg":
        text = files[0].read_text(encoding="utf-8")
        assert all(words in text for words in ("resnet18.random", "eurosat-v1", "+15.00", "evidence of a difference"))
