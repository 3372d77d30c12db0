"""Names and addresses in results that would mean something to a shell, a spreadsheet, a browser or a terminal."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssl4eo_bench.config.canonical import digest
from ssl4eo_bench.errors import CacheError, ResultError, ResultFileError
from ssl4eo_bench.files.places import cache_root
from ssl4eo_bench.results.files import RunResult, parse_result
from ssl4eo_bench.results.published import COLUMNS, read_published
from ssl4eo_bench.results.views import leaderboard_files
from tests.conftest import ROOT

Command = Callable[..., tuple[int, str, str]]

NAMES = ["=1+1", "+1", "-1", "@a", "../../up", "a\n# heading", "<b>", "a|b", "[x](javascript:y)", "a" * 300]


def with_content(result: RunResult, change: Callable[[dict[str, Any]], object]) -> bytes:
    """The bytes of a result file that somebody has written anew, with a right checksum."""
    content = json.loads(result.model_dump_json(exclude_none=True))
    change(content)
    return (json.dumps(content | {"checksum": digest(content)}, indent=1, ensure_ascii=False) + "\n").encode()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", ["task", "checkpoint", "metric", "band"])
def test_names_are_words(make_result: Callable[..., RunResult], name: str, what: str) -> None:
    def change(content: dict[str, Any]) -> None:
        spec = content["spec"]
        if what == "metric":
            content["metrics"]["test"][name] = {"value": 0.5}
        elif what == "band":
            spec["inputs"]["channels"][0]["band"] = name
        else:
            spec[what]["name"] = name

    with pytest.raises(ResultFileError, match="is not valid: |control characters"):
        parse_result(with_content(make_result("eurosat", "resnet18.random"), change), Path("a.json"))


def test_a_terminal_gets_no_commands(make_result: Callable[..., RunResult]) -> None:
    def change(content: dict[str, Any]) -> None:
        content["warnings"] = ["\x1b]0;owned\x07"]

    with pytest.raises(ResultFileError, match="control characters"):
        parse_result(with_content(make_result("eurosat", "resnet18.random"), change), Path("a.json"))


def test_a_result_without_what_is_shown_of_it_is_refused(make_result: Callable[..., RunResult]) -> None:
    changes: dict[str, Callable[[dict[str, Any]], object]] = {
        "metrics are of test, not of val, test": lambda content: content["metrics"].pop("val"),
        "nothing was chosen from the path": lambda content: content["selection"].pop("C"),
        "nothing was chosen from the history": lambda content: content["selection"].update(
            history=[{"rate": 0.1, "epoch": 1, "loss": 1.0, "val": 0.5}]
        ),
    }
    for message, change in changes.items():
        with pytest.raises(ResultFileError, match=message):
            parse_result(with_content(make_result("eurosat", "resnet18.random"), change), Path("a.json"))


def test_published_texts_are_texts(make_result: Callable[..., RunResult], tmp_path: Path) -> None:
    row = dict.fromkeys(COLUMNS, "") | {"task": "eurosat", "checkpoint": "resnet18.random", "value": "0.9"}
    row |= {"model": "m", "split": "<script>alert(1)</script>", "metric": "`a|b`", "protocol": "p\n# heading"}
    row |= {"source": "x](javascript:alert(1)) <img>", "url": "https://host/a(b)"}
    lines = io.StringIO()
    writer = csv.DictWriter(lines, COLUMNS)
    writer.writeheader()
    writer.writerow(row)
    (tmp_path / "published.csv").write_text(lines.getvalue(), encoding="utf-8")
    published = read_published(tmp_path / "published.csv")
    page = leaderboard_files([make_result("eurosat", "resnet18.random")], published)["leaderboard.md"]
    (line,) = (line for line in page.splitlines() if "host" in line)
    assert "<" not in page
    assert "\n# heading" not in page
    assert r"x\](javascript:alert(1)) &lt;img>)](https://host/a%28b%29)" in line
    for url in ("javascript:alert(1)", "https://a>b", "https://a b"):
        (tmp_path / "published.csv").write_text(lines.getvalue().replace("https://host/a(b)", url), encoding="utf-8")
        with pytest.raises(ResultError, match="line 3: url"):
            read_published(tmp_path / "published.csv")


def test_a_long_field_of_the_published_numbers_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "published.csv").write_text(f"{','.join(COLUMNS)}\n{'a' * 200_000}\n", encoding="utf-8")
    with pytest.raises(ResultError, match="field larger than field limit"):
        read_published(tmp_path / "published.csv")


def test_a_model_card_links_to_pages_only(command: Command, tmp_path: Path) -> None:
    run = next((ROOT / "results" / "runs").rglob("seed0.json"))
    code, _, err = command("export", run, "--url", "javascript:alert(1)", "--out", tmp_path / "card.yaml")
    assert (code, err.count("\n")) == (2, 1)
    assert "--url 'javascript:alert(1)' is no address" in err


def test_a_name_that_is_no_file_name_is_refused_before_the_run(command: Command, tmp_path: Path) -> None:
    name = "a" * 300
    (tmp_path / "mine.yaml").write_text(
        f"checkpoints:\n  {name}: {{arch: bandstats, bands: task, image_size: native, scaling: {{raw: true}}}}\n",
        encoding="utf-8",
    )
    run = ("run", "--task", "eurosat-rgb", "--protocol", "linear", "--sample", "--checkpoint", name)
    code, _, err = command(*run, "--checkpoints", tmp_path / "mine.yaml", "--dry-run")
    assert code == 2
    assert "which is too long; choose a shorter name" in err


def test_without_a_home_a_cache_has_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL4EO_BENCH_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)

    def nobody(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr("pwd.getpwuid", nobody)
    with pytest.raises(CacheError, match="name another with --cache-dir or SSL4EO_BENCH_CACHE"):
        cache_root()
