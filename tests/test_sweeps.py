"""Many runs of one command: what goes together is run, what does not is named, and no failure costs the others."""

import json
import pickle
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ssl4eo_bench.errors import JobError, ResultFileError, UnknownNameError
from ssl4eo_bench.executors import attempts
from ssl4eo_bench.files.locks import locked
from ssl4eo_bench.job import run_job
from ssl4eo_bench.plan import Job
from ssl4eo_bench.results.files import LOCKS
from ssl4eo_bench.tasks.eurosat import EuroSAT

Command = Callable[..., tuple[int, str, str]]


def planned(command: Command, *options: object) -> tuple[int, list[tuple[str, str, str, int]], str]:
    """Exit code, the runs as task, checkpoint, protocol and seed, and stderr."""
    code, out, err = command("run", "--sample", "--dry-run", "--json", *options)
    specs = json.loads(out) if out else []
    found = [
        (spec["task"]["name"], spec["checkpoint"]["name"], spec["protocol"]["name"], spec["seed"]) for spec in specs
    ]
    return code, found, err


def test_protocols_and_repeated_options_add_up_and_duplicates_are_done_once(command: Command) -> None:
    code, found, err = planned(
        command,
        *("--task", "eurosat-rgb", "--task", "eurosat", "--protocol", "knn", "linear", "--protocol", "knn"),
        *("--checkpoint", "bandstats", "--checkpoint", "resnet18.random", "bandstats"),
    )
    assert code == 0, err
    assert found == [
        (task, checkpoint, protocol, 0)
        for task in ("eurosat-rgb", "eurosat")
        for checkpoint in ("bandstats", "resnet18.random")
        for protocol in ("knn", "linear")
    ]


def test_only_seeds_that_can_differ_are_run(command: Command) -> None:
    seeds = ("--seed", 3, "--seed", 1, 3)
    what = ("--task", "eurosat-rgb", "--protocol", "linear", "finetune", *seeds)
    code, found, _ = planned(command, *what, "--checkpoint", "tf_efficientnet_lite0.in1k", "resnet18.random")
    assert code == 0
    assert [(name.partition(".")[2], *rest) for _, name, *rest in found] == [
        ("in1k", "linear", 3),
        *(("in1k", "finetune", seed) for seed in (3, 1)),
        *(("random", protocol, seed) for protocol in ("linear", "finetune") for seed in (3, 1)),
    ]
    code, found, _ = planned(command, *what, "--checkpoint", "bandstats", "--fraction", 0.5, 1)
    assert code == 1  # nothing is run by finetune
    assert [seed for *_, seed in found] == [3, 3, 1]


def test_the_note_says_which_seed_is_left(command: Command) -> None:
    what = (
        "run",
        "--sample",
        "--dry-run",
        "--task",
        "eurosat-rgb",
        "--protocol",
        "linear",
        "--checkpoint",
        "bandstats",
    )
    assert "run with seed 5 alone, since another seed gives the same values" in command(*what, "--seed", 5, 6)[2]
    assert "alone" not in command(*what, "--seed", 5)[2]


def test_what_does_not_go_together_is_left_out_and_all_else_is_run(command: Command) -> None:
    both = ("--task", "eurosat-rgb", "dfc2020", "--protocol", "linear", "knn")
    code, found, _ = planned(command, *both, "--checkpoint", "bandstats")
    assert code == 0  # each name has a run
    assert [(task, protocol) for task, _, protocol, _ in found] == [
        ("eurosat-rgb", "linear"),
        ("eurosat-rgb", "knn"),
        ("dfc2020", "linear"),
    ]
    _, _, err = command("run", "--sample", "--dry-run", *both, "--checkpoint", "bandstats")
    assert err.count("left out on dfc2020: protocol 'knn' is for labels of whole images") == 1
    code, found, err = planned(command, *both[:3], "--protocol", "knn", "--checkpoint", "bandstats")
    assert (code, [task for task, *_ in found]) == (1, ["eurosat-rgb"])
    assert err.startswith(
        "error: task 'dfc2020' was left out of all runs: protocol 'knn' is for labels of whole images"
    )
    code, found, err = planned(command, "--task", "dfc2020", "--protocol", "knn", "--checkpoint", "bandstats")
    assert (code, found) == (2, [])
    assert err.startswith("error: protocol 'knn' is for labels of whole images")


def test_a_named_checkpoint_that_fits_nothing_is_told_and_the_others_are_run(command: Command) -> None:
    what = ("--task", "so2sat-s1", "--protocol", "linear", "--checkpoint", "resnet18.random")
    code, found, err = planned(command, *what, "bandstats")
    assert (code, [name for _, name, *_ in found]) == (1, ["bandstats"])
    assert err.startswith("error: checkpoint 'resnet18.random' was left out of all runs: ")
    code, found, err = planned(command, *what, "--task", "eurosat-rgb")
    assert (code, [task for task, *_ in found]) == (1, ["eurosat-rgb"])
    assert err.startswith("error: task 'so2sat-s1' was left out of all runs: ")
    code, found, err = planned(command, *what, "bandstats", "--task", "eurosat-rgb")
    assert (code, len(found), err) == (0, 3, "")


def test_a_member_of_a_suite_that_takes_no_other_size_is_left_out_and_named(command: Command) -> None:
    what = ("--task", "eurosat-rgb", "--protocol", "linear", "--image-size", 32)
    code, found, err = planned(command, *what, "--suite", "offline")
    names = ["tf_efficientnet_lite0.in1k@32", "resnet18.random@32"]
    assert (code, [name for _, name, *_ in found], err) == (0, names, "")
    _, _, err = command("run", "--sample", "--dry-run", *what)
    assert err.count("left out on eurosat-rgb: checkpoint 'bandstats' has no input size") == 1
    code, found, err = planned(command, *what, "--checkpoint", "bandstats", "resnet18.random")
    assert (code, len(found)) == (1, 1)
    assert err.startswith("error: checkpoint 'bandstats' was left out of all runs: checkpoint 'bandstats' has no")
    code, found, err = planned(command, *what[:-1], 5000)
    assert (code, found) == (2, [])
    assert err.startswith("error: --image-size 5000 cannot be: ")


def explode(*_: object) -> None:
    raise RuntimeError("boom\nin two lines")


@pytest.mark.parametrize(
    ("read", "sentence", "tracebacks"),
    [
        (explode, "RuntimeError: boom in two lines; unless that tells you what to cure, this is a fault of", 1),
        (lambda *_: None, "the reader of task 'eurosat-rgb' gives NoneType for 1 samples", 0),
    ],
)
def test_a_task_whose_reader_fails_is_left_out_and_the_others_are_run(
    command: Command, monkeypatch: pytest.MonkeyPatch, read: Callable[..., None], sentence: str, tracebacks: int
) -> None:
    monkeypatch.setattr(EuroSAT, "read", read)
    what = ("--protocol", "linear", "--checkpoint", "bandstats", "--task", "eurosat-rgb")
    code, found, err = planned(command, *what, "so2sat")
    assert (code, [task for task, *_ in found]) == (1, ["so2sat"])
    assert err.count("Traceback (most recent call last)") == tracebacks
    assert err.splitlines()[-1].startswith(f"error: task 'eurosat-rgb' was left out of all runs: {sentence}")
    code, found, err = planned(command, *what)
    assert (code, found) == (2, [])
    assert err.count("Traceback (most recent call last)") == tracebacks
    assert err.splitlines()[-1].startswith(f"error: {sentence}")


def test_drift_is_of_one_protocol(command: Command) -> None:
    code, _, err = planned(command, "--task", "eurosat-rgb", "--protocol", "linear", "knn", "--drift")
    assert code == 2
    assert "--drift is for protocol 'linear-ssl4eo', not for 'linear'" in err


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of `bandstats` stop at a fault of the package."""

    def breaks(job: Job, *arguments: Any) -> Any:
        if job.spec.checkpoint.name == "bandstats":
            raise ZeroDivisionError("a fault\nin two lines")
        return run_job(job, *arguments)

    monkeypatch.setattr(attempts, "run_job", breaks)


RUN = ("run", "--task", "eurosat-rgb", "--protocol", "knn", "--sample", "--checkpoint")


@pytest.mark.usefixtures("broken")
def test_any_exception_is_the_failure_of_its_own_job(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = command(*RUN, "bandstats", "timm:test_resnet.random")
    assert code == 1
    assert "leaderboard" in out
    assert "Traceback (most recent call last)" not in err
    sentence = "ZeroDivisionError: a fault in two lines; unless that tells you what to cure, this is a fault of"
    *_, told, where = err.strip().splitlines()
    assert told.startswith(f"error: eurosat-rgb · knn · bandstats · seed 0: {sentence}")
    log = Path(where.removeprefix("traceback: "))
    assert log.read_text().endswith("ZeroDivisionError: a fault\nin two lines\n")
    assert "timm:test_resnet.random" in Path("results/leaderboard.sample.csv").read_text()
    code, out, _ = command(*RUN, "bandstats", "--json")
    assert code == 1  # what was asked for can be done
    (outcome,) = json.loads(out)
    assert outcome["error"].startswith(sentence)
    assert outcome["traceback"].endswith("ZeroDivisionError: a fault\nin two lines\n")
    monkeypatch.setattr(attempts, "run_job", run_job)
    assert command(*RUN, "bandstats")[0] == 0
    assert not log.exists()  # it was of an attempt before


@pytest.mark.usefixtures("broken")
def test_where_no_log_can_be_written_the_traceback_is_told(command: Command, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(exist_ok=True)
    (tmp_path / "cache" / "logs").write_text("a file")
    assert "Traceback (most recent call last)" in command(*RUN, "bandstats", "--cache-dir", tmp_path / "cache")[2]


def test_a_plug_in_that_leaves_the_program_fails_alone(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def leaves(*_: Any) -> Any:
        raise SystemExit(0)

    monkeypatch.setattr(attempts, "run_job", leaves)
    assert command(*RUN, "bandstats")[0] == 1


def test_a_strict_sweep_runs_all_or_nothing(command: Command) -> None:
    what = ("--task", "eurosat-rgb", "dfc2020", "--protocol", "knn", "--checkpoint", "bandstats")
    assert planned(command, *what)[0] == 1
    code, found, err = planned(command, *what, "--strict")
    assert (code, found) == (2, [])
    assert err.startswith("error: protocol 'knn' is for labels of whole images")


def test_the_parts_of_a_sweep_are_the_whole_and_probes_of_one_network_stay_together(command: Command) -> None:
    tasks = ("--task", "eurosat-rgb", "so2sat", "--protocol", "linear", "knn", "--fraction", "0.5", "1")
    what = (*tasks, "--checkpoint", "bandstats", "resnet18.random", "resnet50.random", "--seed", "0", "1")
    whole, parts = planned(command, *what)[1], [planned(command, *what, "--shard", f"{i}/3")[1] for i in range(3)]
    assert sorted(job for part in parts for job in part) == sorted(whole)
    assert all(parts)
    work = [{(task, name, seed if "random" in name else 0) for task, name, _, seed in part} for part in parts]
    assert sum(map(len, work)) == len(set().union(*work))
    for wrong in ("3/3", "1", "-1/2", "a/b", "1/0"):
        code, _, err = command("run", *what, f"--shard={wrong}")
        assert code == 2
        assert f"{wrong!r} is no part" in err


def test_a_job_that_another_process_does_is_left_to_the_end_and_its_result_is_taken(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = command(*RUN, "bandstats", "--json", "--results", "elsewhere")
    (theirs,) = json.loads(out)
    digest = theirs["result"]["digest"]
    lock = Path("results") / LOCKS / f"{digest}.lock"
    seen = []
    with ExitStack() as other:
        other.enter_context(locked(lock, note=""))

        def ours(job: Job, *arguments: Any) -> Any:
            seen.append(job.spec.checkpoint.name)
            shutil.copytree("elsewhere/runs", "results/runs", dirs_exist_ok=True)
            other.close()  # the other process is done
            return run_job(job, *arguments)

        monkeypatch.setattr(attempts, "run_job", ours)
        code, out, _ = command(*RUN, "bandstats", "timm:test_resnet.random", "--json")
    assert code == 0
    assert seen == ["timm:test_resnet.random"]
    assert [outcome["status"] for outcome in json.loads(out)] == ["skipped", "done"]
    assert not lock.exists()
    assert (lock.parent / ".gitignore").read_text() == "*\n"


def test_an_interrupted_sweep_stops(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(attempts, "run_job", interrupted)
    assert command(*RUN, "bandstats", "timm:test_resnet.random")[0] == 130


@pytest.mark.parametrize(
    "error",
    [
        JobError(ValueError("x")),
        UnknownNameError("task", "eurosta", ["eurosat"]),
        ResultFileError(Path("a.json"), "is torn", "run it again"),
    ],
)
def test_errors_go_to_other_processes_as_they_are(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


SWEEP = """
task: [eurosat-rgb, so2sat]
protocol: knn
checkpoint: [bandstats, resnet18.random]
seed: [0, 1]
image_size: 64
sample: true
partial: false
"""


def test_a_sweep_file_says_the_same_as_options(command: Command) -> None:
    Path("sweep.yaml").write_text(SWEEP.replace("image_size: 64\n", ""))
    what = ("--task", "eurosat-rgb", "so2sat", "--protocol", "knn", "--checkpoint", "bandstats", "resnet18.random")
    _, expected, _ = planned(command, *what, "--seed", 0, 1)
    code, out, _ = command("run", "sweep.yaml", "--dry-run", "--json")
    jobs = [
        (one["task"]["name"], one["checkpoint"]["name"], one["protocol"]["name"], one["seed"])
        for one in json.loads(out)
    ]
    assert (code, jobs) == (0, expected)
    code, out, _ = command("run", "sweep.yaml", "--dry-run", "--json", "--seed", 7, "--task=so2sat")
    assert code == 0
    assert {(one["task"]["name"], one["seed"]) for one in json.loads(out)} == {("so2sat", 7)}


WHAT = "task: eurosat\nprotocol: knn\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- a\n", "is no mapping of options to values"),
        ("task: {a: b}\n", "task has to be a value or a list of values"),
        ("task:\n", "the following arguments are required: --task, --protocol"),
        ("task: [\n", "cannot be read ("),
        (WHAT + "tasks: [eurosat]\n", "option 'tasks' not found; did you mean 'task'?"),
        (WHAT + "sample: yes please\n", "sample has to be true or false"),
        (WHAT + "seed: true\n", "seed has to be a value or a list of values"),
        (WHAT + "seed: [-1]\n", "sweep.yaml: seed is wrong: -1 is not between 0 and 2^32 - 1"),
        (WHAT + "seed: [0, x]\n", "sweep.yaml: seed is wrong: 'x' is no whole number"),
        (WHAT + "precision: float16\n", "sweep.yaml: precision is wrong: 'float16' is none of float32, bfloat16; did"),
        (WHAT + "limit: [1, 2]\n", "sweep.yaml: limit takes one value, and has 2"),
        (
            WHAT + "suite: offlin\nsample: true\n",
            "sweep.yaml: suite: suite 'offlin' not found; did you mean 'offline'?",
        ),
        (WHAT + "checkpoint: [--results, elsewhere]\n", "checkpoint has the value '--results'"),
    ],
)
def test_a_wrong_sweep_file_is_refused_with_a_sentence(command: Command, text: str, sentence: str) -> None:
    Path("sweep.yaml").write_text(text)
    code, _, err = command("run", "sweep.yaml")
    assert code == 2
    assert sentence in err


def test_an_absent_sweep_file_is_told(command: Command) -> None:
    code, _, err = command("run", "sweep.yaml")
    assert code == 2
    assert "sweep file sweep.yaml cannot be read (No such file or directory)" in err
