"""The index of a results directory saves work, and changes nothing: whatever it says, the output is the same."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath

import pytest

from ssl4eo_bench.errors import ResultFileError
from ssl4eo_bench.results import files, index, views
from ssl4eo_bench.results.check.gate import check
from ssl4eo_bench.results.files import RunResult, read_results, result_files, write_result
from ssl4eo_bench.results.index import CHECKED, FOLDER, GENERATED, fingerprint
from ssl4eo_bench.results.published import PublishedNumber
from ssl4eo_bench.results.views import write_generated_files

Make = Callable[..., RunResult]


@pytest.fixture
def results(tmp_path: Path, make_result: Make) -> Path:
    """Results with tables, leaderboard and index."""
    folder = tmp_path / "results"
    for seed in range(3):
        write_result(folder, make_result(seed=seed, accuracy=0.5 + seed / 100))
    write_generated_files(folder)
    return folder


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that are checked in full."""
    names: list[str] = []
    plain = files.parse_result

    def noted(stored: bytes, file: PurePath) -> RunResult:
        names.append(file.name)
        return plain(stored, file)

    monkeypatch.setattr(files, "parse_result", noted)
    return names


@pytest.fixture
def boards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of results in each leaderboard that is made."""
    sizes: list[int] = []
    plain = views.leaderboard_files

    def noted(found: Sequence[RunResult], published: Sequence[PublishedNumber]) -> dict[str, str]:
        sizes.append(len(found))
        return plain(found, published)

    monkeypatch.setattr(views, "leaderboard_files", noted)
    return sizes


def generated(results: Path) -> dict[str, bytes]:
    write_generated_files(results)
    found = [*results.glob("tables/*"), *results.glob("leaderboard*")]
    return {file.relative_to(results).as_posix(): file.read_bytes() for file in found}


def without_index(results: Path, tmp_path: Path) -> dict[str, bytes]:
    """What the result files give in a directory that is new."""
    shutil.copytree(results / "runs", tmp_path / "new" / "runs")
    return generated(tmp_path / "new")


def test_only_what_is_new_is_checked(results: Path, make_result: Make, checks: list[str], boards: list[int]) -> None:
    before = generated(results)
    assert (checks, boards) == ([], [])
    write_result(results, make_result(seed=7, accuracy=0.9))
    assert generated(results) != before
    assert (checks, boards) == (["seed7.json"], [4])
    assert [result.spec.seed for result in read_results(results)] == [0, 1, 2, 7]
    assert checks == ["seed7.json"]


def test_what_was_known_is_read_as_before(results: Path) -> None:
    known = read_results(results)
    shutil.rmtree(results / FOLDER)
    assert known == read_results(results)


def test_a_generated_file_that_was_edited_removed_or_added_is_put_right(results: Path, boards: list[int]) -> None:
    right = generated(results)
    (results / "leaderboard.md").write_text("# Leaderboard\n\nmine is best\n")
    assert generated(results) == right
    (results / "leaderboard.csv").unlink()
    assert generated(results) == right
    shutil.copy(next(results.glob("tables/*summary.csv")), results / "tables" / "gone-v1.linear-v2.csv")
    assert generated(results) == right
    assert boards == [3, 3, 3]


def test_another_task_on_the_headline_is_a_change(
    results: Path, boards: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "headline_tasks", dict)
    generated(results)
    assert boards == [3]


def edit(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b'"seed": 1', b'"seed": 5'))


@pytest.mark.parametrize("keep_time", [False, True])
def test_an_edited_result_is_refused_whatever_its_size_and_time(results: Path, *, keep_time: bool) -> None:
    file = result_files(results)[1]
    before = file.stat()
    edit(file)
    if keep_time:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    with pytest.raises(ResultFileError, match="was edited"):
        write_generated_files(results)


def test_a_result_in_the_place_of_another_is_refused(results: Path) -> None:
    first, second, _ = result_files(results)
    shutil.copy(first, second)
    with pytest.raises(ResultFileError, match="belongs at"):
        write_generated_files(results)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut": lambda content: content[: len(content) // 2],
    "noise": lambda content: bytes(255 - byte for byte in content),
    "other values": lambda content: content.replace(b"0", b"1"),
    "deep json": lambda _: b"[" * 100_000,
    "json of another kind": lambda _: b'{"inputs": 3, "files": ["leaderboard.md"]}',
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("name", [CHECKED, GENERATED])
def test_a_damaged_index_changes_nothing(
    results: Path, tmp_path: Path, make_result: Make, name: str, damage: Callable[[bytes], bytes]
) -> None:
    write_result(results, make_result(seed=7, accuracy=0.9))
    file = results / FOLDER / name
    file.write_bytes(damage(file.read_bytes()))
    assert generated(results) == without_index(results, tmp_path)


def test_an_index_of_other_results_changes_nothing(results: Path, tmp_path: Path, make_result: Make) -> None:
    other = tmp_path / "other"
    write_result(other, make_result(seed=0, accuracy=0.8))
    write_generated_files(other)
    shutil.rmtree(results / FOLDER)
    shutil.copytree(other / FOLDER, results / FOLDER)
    assert generated(results) == without_index(results, tmp_path)


def test_an_index_of_other_code_is_not_believed(
    results: Path, checks: list[str], boards: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "_code", lambda: "0" * 64)
    generated(results)
    assert (len(checks), boards) == (3, [3])


def test_the_index_is_no_part_of_a_repository(results: Path) -> None:
    assert (results / FOLDER / ".gitignore").read_text() == "*\n"


def test_who_may_not_write_an_index_generates_all_the_same(results: Path, tmp_path: Path) -> None:
    shutil.rmtree(results / FOLDER)
    (results / FOLDER).write_text("in its place")
    assert generated(results) == without_index(results, tmp_path)


def test_check_does_not_believe_an_index(results: Path) -> None:
    file = result_files(results)[1]
    edit(file)
    place = file.relative_to(results).as_posix()
    vouched = results / FOLDER / CHECKED
    vouched.write_text(f"{vouched.read_text()}\n{fingerprint(place, file.read_bytes())}")
    assert len(read_results(results)) == 3  # who writes an index can vouch for a file
    assert any(one.file == place and "was edited" in one.what for one in check(results, None).findings)
