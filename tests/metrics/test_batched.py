"""The mean over batches, which published numbers are, beside the metric of the whole split."""

import gzip
from hashlib import md5

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from ssl4eo_bench.metrics.batched import batch_averaged, shuffled
from ssl4eo_bench.metrics.ranking import Ranking
from tests.conftest import real_data_dir


@pytest.fixture
def split() -> tuple[np.ndarray, np.ndarray]:
    """Scores of 19 rare labels, some of which say something."""
    rng = np.random.default_rng(0)
    labels = (rng.random((900, 19)) < rng.uniform(0.01, 0.4, 19)).astype(np.uint8)
    return rng.random(labels.shape) + 0.5 * labels, labels


def micro(scores: np.ndarray, labels: np.ndarray) -> float:
    return float(Ranking(scores, labels).average_precision(np.ones((1, len(scores))))[0])


def test_it_moves_with_size_and_order_of_batches_and_the_metric_of_the_split_does_not(
    split: tuple[np.ndarray, np.ndarray],
) -> None:
    scores, labels = split
    whole = micro(scores, labels)
    by_size = [batch_averaged(micro, scores, labels, size) for size in (8, 64, 256, 900)]
    assert by_size[-1] == pytest.approx(whole, abs=1e-12)
    assert len({round(value, 4) for value in by_size}) == 4
    orders = [np.random.default_rng(seed).permutation(len(scores)) for seed in range(4)]
    by_order = [batch_averaged(micro, scores[order], labels[order], 64) for order in orders]
    assert max(by_order) - min(by_order) > 1e-4
    assert all(micro(scores[order], labels[order]) == pytest.approx(whole, abs=1e-12) for order in orders)


def test_it_is_the_mean_of_what_scikit_learn_gives_each_batch(split: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = split[0][:200], split[1][:200]
    parts = [slice(0, 64), slice(64, 128), slice(128, 192), slice(192, 200)]  # the last, small one counts as much
    expected = np.mean([average_precision_score(labels[part].ravel(), scores[part].ravel()) for part in parts])
    assert batch_averaged(micro, scores, labels, 64) == pytest.approx(expected, abs=1e-9)


def test_a_last_small_batch_is_left_out_or_weighs_less_if_asked(split: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = split[0][:200], split[1][:200]
    full = batch_averaged(micro, scores[:192], labels[:192], 64)
    last = micro(scores[192:], labels[192:])
    assert batch_averaged(micro, scores, labels, 64, drop_last=True) == pytest.approx(full, abs=1e-12)
    weighted = (192 * full + 8 * last) / 200
    assert batch_averaged(micro, scores, labels, 64, weighted=True) == pytest.approx(weighted, abs=1e-12)
    assert batch_averaged(micro, scores, labels, 256, drop_last=True) == pytest.approx(micro(scores, labels), abs=1e-12)


def test_shuffled_rows_are_all_rows_in_the_same_order_every_time() -> None:
    rows = shuffled(100).tolist()
    assert rows != sorted(rows) == list(range(100))
    assert shuffled(100).tolist() == rows


def test_batches_of_single_scenes_do_not_score_as_the_whole_split_does() -> None:
    """40 scenes of 50 images with labels of their own."""
    rng = np.random.default_rng(0)
    shares = np.repeat(rng.beta(0.3, 2, (40, 19)), 50, axis=0)
    labels = (rng.random(shares.shape) < shares).astype(np.uint8)
    scores = rng.random(labels.shape) + 0.5 * labels
    rows, whole = shuffled(len(labels)), micro(scores, labels)
    mixed = batch_averaged(micro, scores[rows], labels[rows], 50)
    assert mixed == pytest.approx(whole, abs=0.01)
    assert abs(batch_averaged(micro, scores, labels, 50) - whole) > 5 * abs(mixed - whole)


def test_on_bigearthnet_only_batches_without_scenes_score_as_the_whole_split_does() -> None:
    """The official list goes scene by scene, as ids do; the lists of the scripts go by a hash of the ids."""
    folder = real_data_dir() / "bigearthnet"
    if not (folder / "val.csv.gz").is_file() or not (folder / "metadata.parquet").is_file():
        pytest.skip(f"no list and metadata of BigEarthNet in {folder}; set SSL4EO_BENCH_TEST_DATA to where they are")
    with gzip.open(folder / "val.csv.gz", "rt") as opened:
        listed = [line.strip().partition(",")[0] for line in opened]
    table = pd.read_parquet(folder / "metadata.parquet", columns=["s2v1_name", "labels"])
    known = dict(zip(table["s2v1_name"], table["labels"], strict=True))
    ids = sorted(id_ for id_ in listed if id_ in known)
    assert len(ids) == 114764
    names = sorted({name for found in known.values() for name in found})
    labels = np.array([np.isin(names, known[id_]) for id_ in ids], dtype=np.uint8)
    prior = labels.mean(axis=0)
    noise = np.random.default_rng(0).normal(0, 1.2, labels.shape)
    scores = np.log(prior / (1 - prior)) + 2.9 * (labels - prior) + noise
    row = {id_: number for number, id_ in enumerate(ids)}
    orders = {
        "ids": np.arange(len(ids)),
        "official list": np.array([row[id_] for id_ in listed if id_ in row]),
        "hash": np.array(sorted(row.values(), key=lambda number: md5(f"train{ids[number]}".encode()).digest())),
        "shuffled": shuffled(len(ids)),
    }
    found = {
        name: [batch_averaged(micro, scores[rows], labels[rows], size) for size in (64, 256)]
        for name, rows in orders.items()
    }
    assert micro(scores, labels) == pytest.approx(0.8846, abs=5e-5)
    assert found["ids"] == pytest.approx([0.8735, 0.8752], abs=1e-4)
    assert found["official list"] == pytest.approx([0.8723, 0.8737], abs=1e-4)
    assert found["hash"] == pytest.approx([0.8848, 0.8846], abs=2e-4)
    assert found["shuffled"] == pytest.approx([0.8848, 0.8846], abs=2e-4)
