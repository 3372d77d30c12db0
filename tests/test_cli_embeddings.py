"""Embeddings as a checkpoint: vectors from files give what the network gave that made them, and faults are named."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ssl4eo_bench import cli
from ssl4eo_bench.files.hashing import file_hash
from ssl4eo_bench.results.files import RunResult, read_result
from tests.test_cli import refused

Command = Callable[..., tuple[int, str, str]]
Vectors = tuple[np.ndarray, np.ndarray]
SPLITS = ("train", "val", "test")
NETWORK = ("--checkpoint", "resnet18.random", "--image-size", 32)
STATISTICS = ("--checkpoint", "bandstats")
RUN = ("run", "--task", "eurosat-rgb", "--sample", "--protocol", "linear", "knn")


def ran(command: Command, *arguments: object) -> dict[str, RunResult]:
    """The results by protocol."""
    code, out, err = command(*arguments, "--json")
    assert code == 0, err
    found = [read_result(Path(outcome["file"])) for outcome in json.loads(out)]
    return {result.spec.protocol.name: result for result in found}


@pytest.fixture(scope="module")
def statistics(shared_samples: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The features of `bandstats`, a file for each split."""
    place = tmp_path_factory.mktemp("statistics")
    (place / "samples").symlink_to(shared_samples)
    files = [place / f"mine-{split}.npz" for split in SPLITS]
    for split, file in zip(SPLITS, files, strict=True):
        words = ("features", "--task", "eurosat-rgb", "--sample", *STATISTICS, "--split", split)
        assert cli.main([*words, "--out", str(file), "--cache-dir", str(place), "--quiet"]) == 0
    return files


def copied(files: Sequence[Path]) -> list[Path]:
    """Copies of files in the working directory."""
    return [Path(shutil.copy(file, file.name)) for file in files]


def exported(command: Command, ending: str, task: str, checkpoint: Sequence[object]) -> list[Path]:
    """The features of a checkpoint, a file for each split."""
    files = [Path(f"mine-{split}{ending}") for split in SPLITS]
    for split, file in zip(SPLITS, files, strict=True):
        code, _, err = command("features", "--task", task, "--sample", *checkpoint, "--split", split, "--out", file)
        assert code == 0, err
    return files


def vectors(files: Sequence[Path]) -> Vectors:
    """Ids and features of all files, shuffled."""
    parts = [np.load(file) for file in files]
    ids, features = (np.concatenate([part[name] for part in parts]) for name in ("ids", "features"))
    order = np.random.default_rng(0).permutation(len(ids))
    return ids[order], features[order]


def written(file: str, ids: np.ndarray, features: np.ndarray, **others: Any) -> Path:
    """A file with nothing but ids and features, unless there are others."""
    if file.endswith(".npz"):
        np.savez(file, ids=ids, features=features, **others)
    else:
        pd.DataFrame({"id": ids, "features": list(features)}).to_parquet(file)
    return Path(file)


@pytest.mark.parametrize("task", ["eurosat-rgb", "bigearthnet"])
def test_features_read_back_give_the_numbers_of_the_network(command: Command, task: str) -> None:
    options = ("run", "--task", task, "--sample", "--protocol", "linear", "knn")
    expected = ran(command, *options, *NETWORK)
    npz, parquet = (exported(command, ending, task, NETWORK) for ending in (".npz", ".parquet"))
    in_one = [[written(f"all{ending}", *vectors(npz))] for ending in (".npz", ".parquet")]
    for number, files in enumerate((npz, parquet, *in_one)):
        found = ran(command, *options, "--embeddings", *files, "--name", f"mine{number}")
        assert found.keys() == expected.keys()
        for name, result in found.items():
            for part in ("metrics", "selection", "classes", "confusion", "resampled"):
                assert getattr(result, part) == getattr(expected[name], part), (files, part)
            assert not result.spec.checkpoint.is_floor
            assert result.provenance.features_computed == 0
            assert any("how they were made is not known" in warning for warning in result.warnings)


def test_the_order_of_files_and_their_place_do_not_matter_and_their_content_does(
    command: Command, statistics: list[Path]
) -> None:
    files = copied(statistics)
    digests = []
    for order in (files, files[::-1]):
        _, out, _ = command(*RUN, "--embeddings", *order, "--dry-run", "--json")
        digests.append([job["digest"] for job in json.loads(out)])
    Path("elsewhere").mkdir()
    moved = [file.rename(Path("elsewhere", f"theirs-{file.name}")) for file in files]
    _, out, _ = command(*RUN, "--embeddings", *moved, "--dry-run", "--json")
    assert digests == [[job["digest"] for job in json.loads(out)]] * 2
    assert {job["checkpoint"]["name"] for job in json.loads(out)} == {"embeddings.theirs-mine"}
    ids, features = vectors(moved)
    other = written("mine.npz", ids, features + 1)
    _, out, _ = command(*RUN, "--embeddings", other, "--dry-run", "--json")
    jobs = json.loads(out)
    assert not {job["digest"] for job in jobs} & set(digests[0])
    assert {job["checkpoint"]["name"] for job in jobs} == {"embeddings.mine"}
    assert all(job["inputs"]["channels"] == [] for job in jobs)
    _, out, _ = command(*RUN, "--embeddings", other, "--dry-run")
    assert f"vectors from {other.resolve()}" in out


def test_an_entry_names_files_beside_itself_and_other_tools_read_its_results(
    command: Command, statistics: list[Path]
) -> None:
    ids, features = vectors(statistics)
    Path("own").mkdir()
    written("own/mine.npz", ids, features)
    sha256 = file_hash(Path("own/mine.npz"))
    Path("own/mine.yaml").write_text(
        "checkpoints:\n  clay.mine:\n    arch: embeddings\n    licence: MIT\n"
        f"    weights: {{embeddings: [{{path: mine.npz, sha256: {sha256}}}]}}\n"
    )
    entry = ("--checkpoints", "own/mine.yaml", "--checkpoint", "clay.mine")
    ran(command, *RUN, *entry, "bandstats")
    code, out, err = command("list", "checkpoints", "--checkpoints", "own/mine.yaml", "--arch", "embeddings")
    assert (code, "clay.mine" in out) == (0, True), err
    for arguments in (
        ("check", "--against", "results"),
        ("tables",),
        ("leaderboard",),
        ("compare", "clay.mine", "bandstats"),
        ("report", "--sample"),
        ("show", "eurosat-rgb-v1/linear-v2/clay.mine/seed0-sample"),
    ):
        code, out, err = command(*arguments)
        assert code == 0, (arguments, out, err)
    assert "made elsewhere: clay.mine." in Path("results/leaderboard.sample.md").read_text()
    page = Path("report.html").read_text()
    assert '<span class="badge">embeddings</span>' in page
    assert sha256 in page


@pytest.fixture
def mine(command: Command, statistics: list[Path]) -> Vectors:
    """Ids and vectors of all samples, and the file `mine.npz` with them."""
    del command  # which enters the working directory
    found = vectors(copied(statistics))
    written("mine.npz", *found)
    return found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("nothing.npz",), "--embeddings nothing.npz is not a file"),
        (("mine.csv",), "mine.csv ends in none of .npz, .parquet"),
        (("mine.npz", "--arch", "resnet18"), "--embeddings are vectors already, and take no --arch; leave it away"),
        (("mine.npz", "--weights", "w.pth"), "--embeddings are vectors already, and take no --weights"),
        (("mine.npz", "--image-size", "32"), "checkpoint 'embeddings.mine' has no input size to change"),
        (("mine.npz", "mine-val.npz", "other.npz"), "--embeddings of several files need a name; add --name NAME"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
@pytest.mark.usefixtures("mine")
def test_options_that_do_not_fit_are_refused_in_one_sentence(
    command: Command, options: tuple[str, ...], message: str
) -> None:
    for file in ("mine.csv", "other.npz"):
        Path(file).write_text("")
    assert message in refused(command, *RUN, "--embeddings", *options)


@pytest.mark.parametrize(
    ("task", "protocol", "message"),
    [
        ("eurosat-rgb", "finetune", "checkpoint 'embeddings.mine' has no network to fine-tune; use --protocol linear"),
        ("eurosat", "linear-ssl4eo", "checkpoint 'embeddings.mine' has no network to fine-tune; use --protocol linear"),
        (
            "dfc2020-cobench",
            "linear",
            "gives one vector for each image, and task 'dfc2020-cobench' has labels of pixels",
        ),
        ("bigearthnet", "linear", "190 of the 190 train samples have no vector in mine.npz, such as "),
    ],
)
@pytest.mark.usefixtures("mine")
def test_what_embeddings_cannot_do_is_refused(command: Command, task: str, protocol: str, message: str) -> None:
    arguments = ("run", "--task", task, "--protocol", protocol, "--sample", "--embeddings", "mine.npz")
    refusal = refused(command, *arguments)
    assert message in refusal
    assert ("; their ids are like " in refusal) == ("190 of the 190" in message)


def test_an_absent_id_is_refused_even_with_partial_and_before_anything_is_computed(
    command: Command, mine: Vectors
) -> None:
    ids, features = mine
    written("some.npz", ids[2:], features[2:])
    for option in ((), ("--partial",), ("--dry-run",)):
        message = refused(command, *RUN, "--embeddings", "some.npz", *option)
        assert "have no vector in some.npz, such as " in message
        assert any(id_ in message for id_ in ids[:2])


@pytest.mark.parametrize(
    ("key", "said", "message"),
    [
        ("task", "eurosat-v1", "says that its task is 'eurosat-v1', not 'eurosat-rgb-v1'"),
        ("kind", "multilabel", "says that its kind is 'multilabel', not 'multiclass'"),
        ("sample", False, "says that its sample is False, not True"),
    ],
)
def test_a_file_of_something_else_is_refused(
    command: Command, mine: Vectors, key: str, said: object, message: str
) -> None:
    written("other.npz", *mine, about=np.array(json.dumps({"task": "eurosat-rgb-v1"} | {key: said})))
    assert message in refused(command, *RUN, "--embeddings", "other.npz")


def test_an_entry_of_another_file_is_refused(command: Command, mine: Vectors) -> None:
    del mine
    entry = "checkpoints:\n  clay.mine:\n    arch: embeddings\n    weights: {embeddings: [{path: %s, sha256: %s}]}\n"
    for path, message in (("mine.npz", "and its entry says 0000"), ("nothing.npz", "nothing.npz is not there")):
        Path("mine.yaml").write_text(entry % (path, "'" + 64 * "0" + "'"))
        named = ("--checkpoints", "mine.yaml", "--checkpoint", "clay.mine")
        assert message in refused(command, *RUN, *named)


def test_embeddings_are_written_again_in_the_order_of_a_split(command: Command, mine: Vectors) -> None:
    ids, features = mine
    options = ("features", "--task", "eurosat-rgb", "--sample", "--embeddings", "mine.npz", "--out", "again.parquet")
    code, out, err = command(*options)
    assert code == 0, err
    assert "240 × 21 features of split test, from the files of the checkpoint" in out
    again = pd.read_parquet("again.parquet")
    expected = dict(zip(ids.tolist(), features, strict=True))
    np.testing.assert_array_equal(
        np.stack(again["features"].tolist()), np.stack([expected[id_] for id_ in again["id"]])
    )
