"""What several tests need: the real data if they are here, the embedded sample, and a way to call the command line."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from ssl4eo_bench import cli
from ssl4eo_bench.config import catalogue
from ssl4eo_bench.data.sample_dataset import ensure_sample
from ssl4eo_bench.progress import Advance, shown_on
from tests.remote import Remote, serving

ROOT = Path(__file__).resolve().parents[1]

Git = Callable[..., str]

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell lets its background jobs ignore

# The same examples every time, and no deadline: a busy machine is no fault of the code.
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True)
hypothesis.settings.load_profile("suite")


class Recorder:
    """A display that remembers: notes, and the units told in each stage."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.stages: list[list[Any]] = []

    @contextmanager
    def stage(self, what: str, *, total: int, unit: str) -> Iterator[Advance]:
        del unit
        self.stages.append([what, total, 0])

        def advance(count: int) -> None:
            self.stages[-1][2] += count

        yield advance

    def note(self, message: str) -> None:
        self.notes.append(message)


def real_data_dir() -> Path:
    return Path(os.environ.get("SSL4EO_BENCH_TEST_DATA", ROOT.parent / "shared" / "data"))


def without(modules: Iterable[str], folder: Path) -> str:
    """A PYTHONPATH with which these cannot be imported; it goes through `folder`."""
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {sorted(modules)}:\n"
        "            raise ImportError(f'{name} is absent')\n"
        "sys.meta_path.insert(0, Absent())\n"
    )
    return os.pathsep.join((str(folder), str(ROOT)))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """A data directory with real images."""
    folder = real_data_dir()
    if not (folder / "eurosat").is_dir():
        pytest.skip(f"no real data in {folder}; set SSL4EO_BENCH_TEST_DATA to a directory that holds eurosat/")
    return folder


@pytest.fixture(scope="session")
def shared_samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all tests, in whatever process, find the embedded samples. Each is made once: the largest take 20 seconds."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared" / "samples"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def sample_of(shared_samples: Path) -> Callable[[str], Path]:
    """The data directory of a task's sample, which no test may change."""
    return lambda name: ensure_sample(catalogue.task(name), shared_samples.parent)


@pytest.fixture
def progress() -> Iterator[Recorder]:
    """What was told of progress while a test ran."""
    with shown_on(Recorder()) as recorder:
        yield recorder


@pytest.fixture
def remote() -> Iterator[Remote]:
    """A server that publishes what a test tells it to."""
    with serving() as server:
        yield server


@pytest.fixture
def without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves networks to PyTorch: for the smallest ones, converting them takes longer than all they compute."""
    monkeypatch.setattr("ssl4eo_bench.models.runtime._faster", lambda *_, **__: iter(()))


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shared_samples: Path
) -> Callable[..., tuple[int, str, str]]:
    """Calls the command line in an empty working directory; gives exit code, stdout and stderr."""
    monkeypatch.setenv("SSL4EO_BENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "samples").symlink_to(shared_samples)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def call(*arguments: object) -> tuple[int, str, str]:
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A copy of the results of this repository, in no repository."""
    if not (ROOT / "results").is_dir():
        pytest.skip("the repository's results are not here")
    place = tmp_path / "repository" / "results"
    return Path(shutil.copytree(ROOT / "results", place, ignore=shutil.ignore_patterns(".index", ".lock", ".locks")))


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    """Calls git in `repository`, as nobody in particular."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    (tmp_path / "repository").mkdir(exist_ok=True)

    def call(*arguments: str) -> str:
        who = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")
        done = subprocess.run(
            ["git", *who, *arguments], cwd=tmp_path / "repository", capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return call


@pytest.fixture
def committed(results: Path, git: Git) -> Path:
    """The same results, committed."""
    git("init", "--quiet", "--initial-branch", "main")
    git("add", ".")
    git("commit", "--quiet", "--message", "results")
    return results
