"""No byte of a result file or a generated file can change unseen."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ssl4eo_bench.errors import ResultFileError
from ssl4eo_bench.results.check.gate import generated_faults
from ssl4eo_bench.results.files import parse_result, read_results, result_files
from ssl4eo_bench.results.published import published_numbers
from ssl4eo_bench.results.tables import table_files
from ssl4eo_bench.results.views import leaderboard_files
from tests.results.test_schema import FROZEN

SMALL = FROZEN / "runs/eurosat-rgb-v1/knn-v1/bandstats/seed0-fraction0.5-sample.json"

MUTATIONS: dict[str, Callable[[bytes], bytes]] = {
    "flipped": lambda byte: bytes([byte[0] ^ 1]),  # another digit, another letter, no white space any more
    "in the other case": lambda byte: bytes([byte[0] ^ 32]),
    "a space": lambda byte: b" ",
    "taken out": lambda byte: b"",
    "doubled": lambda byte: byte * 2,
}


def mutated(content: bytes, how: str, positions: range) -> Iterator[bytes]:
    """The content with one byte changed, for each of the positions where that makes a difference."""
    for position in positions:
        byte = content[position : position + 1]
        if (other := MUTATIONS[how](byte)) != byte:
            yield content[:position] + other + content[position + 1 :]


def is_refused(stored: bytes, file: Path) -> bool:
    try:
        parse_result(stored, file)
    except ResultFileError:
        return True
    return False


@pytest.mark.parametrize("how", MUTATIONS)
def test_every_single_byte_of_a_result_file_counts(how: str) -> None:
    content = SMALL.read_bytes()
    assert not is_refused(content, SMALL)
    unseen = [other for other in mutated(content, how, range(len(content))) if not is_refused(other, SMALL)]
    assert not unseen


def test_bytes_of_every_result_file_of_this_repository_count(results: Path) -> None:
    """Every 499th byte of each, another way and from another position in each."""
    ways = list(MUTATIONS)
    for number, file in enumerate(result_files(results)):
        content = file.read_bytes()
        positions = range(13 * number % 499, len(content), 499)
        for other in mutated(content, ways[number % len(ways)], positions):
            assert is_refused(other, file), file
        assert is_refused(content + b"\n", file)
        assert is_refused(content[:-1], file)


@pytest.mark.parametrize("how", MUTATIONS)
def test_every_single_byte_of_a_generated_file_counts(results: Path, how: str) -> None:
    found = read_results(results)
    texts = table_files(found) | leaderboard_files(found, published_numbers(results))
    for place, step in (("leaderboard.md", 1), *((place, 97) for place in texts)):
        content = (results / place).read_bytes()
        for other in mutated(content, how, range(0, len(content), step)):
            (results / place).write_bytes(other)
            assert [finding.file for finding in generated_faults(results, texts)] == [place]
        (results / place).write_bytes(content)
    assert not list(generated_faults(results, texts))
