"""What results are compared with: a commit, or another directory."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ssl4eo_bench.errors import ResultError
from ssl4eo_bench.files.git import run_git
from ssl4eo_bench.files.reading import read_bytes
from ssl4eo_bench.results.check.tolerances import TOLERANCES
from ssl4eo_bench.results.files import require_directory, result_files

LOG_OF_ADDITIONS = (
    *("log", "--reverse", "--full-history", "--diff-filter=A", "--no-renames", "--relative", "--raw", "--no-abbrev"),
    "-m",  # a merge can add files that neither side has
    *("-z", "--format="),
)


@dataclass(frozen=True)
class Baseline:
    """Results as they were before the changes that are checked: the bytes of result files by place, and of tolerances.

    `history` is the results directory and the commit, if the results are of a commit.
    """

    name: str
    runs: dict[str, bytes]
    tolerances: bytes | None
    history: tuple[Path, str] | None = None

    def first(self, places: Collection[str]) -> dict[str, bytes]:
        """The bytes of result files in the commits that added them, the oldest first; empty without a history.

        The place of a result names the versions of its task and protocol, so a higher version is another file. Files
        that differ from these places in the name of the checkpoint alone are given as well, since they may hold the
        same experiment.
        """
        if self.history is None or not places:
            return {}
        wanted = {_setting(place) for place in places}
        results, commit = self.history
        log = _git(results, *LOG_OF_ADDITIONS, commit, "--", "runs")
        added: dict[str, bytes] = {}
        entries = iter(log.split(b"\0"))
        for about in entries:  # such as `:000000 100644 0000… 9bed… A`, before the place
            if about.strip():
                place = os.fsdecode(next(entries))
                if _setting(place) in wanted:
                    added.setdefault(place, about.split()[3])
        return dict(zip(added, _blobs(results, list(added.values())), strict=True))


def baseline_of(results: Path, against: str | None) -> Baseline | None:
    """The results that `against` names, or those of the last commit; none where there is no commit.

    It names another directory, or a commit of the repository that holds `results`. For a commit on another branch it is
    the merge base: what was merged there since is no change of these results.

    Raises:
        ResultError: if it is neither, or git refuses.
    """
    if against == "":
        raise ResultError("--against is empty; name a commit or a results directory.")
    if against is not None and Path(against).is_dir():
        return _of_folder(Path(against))
    require_directory(results)
    in_repository = _in_repository(results)
    commit = _commit(results, against or "HEAD") if in_repository else None
    if commit is None and against is None:
        return None
    if not in_repository:
        raise ResultError(f"--against {against} is no folder, and {results} is in no git repository; name a folder.")
    if commit is None:
        raise ResultError(f"--against {against} is neither a folder nor a commit; fetch it, or name another.")
    fork = _try_git(results, "merge-base", commit, "HEAD")
    chosen = commit if fork is None else fork.decode().strip()
    where = "" if chosen == commit else ", where this history left it"
    return _of_commit(results, chosen, f"{against or 'HEAD'} ({chosen[:10]}{where})")


def _setting(place: str) -> tuple[str, ...]:
    """The parts of a result's place without the checkpoint's name."""
    parts = PurePosixPath(place).parts
    return (*parts[:-2], *parts[-1:])


def _of_folder(folder: Path) -> Baseline:
    if not (folder / "runs").is_dir():
        raise ResultError(f"--against {folder} holds no results: there is no runs/ in it; name a results directory.")
    tolerances = folder / TOLERANCES
    return Baseline(
        name=str(folder),
        runs={file.relative_to(folder).as_posix(): read_bytes(file) for file in result_files(folder)},
        tolerances=read_bytes(tolerances) if tolerances.is_file() else None,
    )


def _of_commit(results: Path, commit: str, name: str) -> Baseline:
    listing = _git(results, "ls-tree", "-r", "-z", commit, "--", "runs", TOLERANCES)
    blobs = {}
    for entry in listing.split(b"\0")[:-1]:
        about, _, place = entry.partition(b"\t")
        _, kind, blob = about.split()
        if kind == b"blob":
            blobs[os.fsdecode(place)] = blob
    contents = dict(zip(blobs, _blobs(results, list(blobs.values())), strict=True))
    tolerances = contents.pop(TOLERANCES, None)
    return Baseline(
        name=name,
        runs={place: content for place, content in contents.items() if place.endswith(".json")},
        tolerances=tolerances,
        history=(results, commit),
    )


def _blobs(results: Path, names: list[bytes]) -> list[bytes]:
    """The contents of git objects, read by a single git process; the repository may lack one that was not cloned."""
    answer = _git(results, "cat-file", "--batch", given=b"".join(name + b"\n" for name in names))
    contents, start = [], 0
    for name in names:
        head = answer.find(b"\n", start)  # of "<name> blob <size>"
        if head < 0 or (found := answer[start:head].split())[1:2] != [b"blob"]:
            raise ResultError(
                f"the repository of {results} lacks {name.decode()}, which it must compare with; fetch the whole "
                "history (`git fetch --refetch --no-filter`)."
            )
        end = head + 1 + int(found[2])
        contents.append(answer[head + 1 : end])
        start = end + 1
    return contents


def _in_repository(folder: Path) -> bool:
    """Whether a repository holds a folder; a ResultError if one seems to, and git is absent or cannot read it."""
    seems_so = any((parent / ".git").exists() for parent in (folder.resolve(), *folder.resolve().parents))
    try:
        done = run_git(folder, "rev-parse", "--is-inside-work-tree")
    except FileNotFoundError as error:
        if seems_so:
            raise ResultError(f"{folder} is in a git repository, and git is not installed; install it.") from error
        return False
    if done.returncode and (seems_so or b"not a git repository" not in done.stderr):
        raise ResultError(f"git cannot read the repository of {folder} ({_last_line(done.stderr)}); see to that first.")
    return done.returncode == 0


def _commit(folder: Path, name: str) -> str | None:
    if name.startswith("-"):
        return None
    found = _try_git(folder, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    return found.decode().strip() if found else None


def _git(folder: Path, *arguments: str, given: bytes = b"") -> bytes:
    done = run_git(folder, *arguments, given=given)
    if done.returncode:
        raise ResultError(f"git {arguments[0]} failed in {folder} ({_last_line(done.stderr)}); see to that first.")
    return done.stdout


def _try_git(folder: Path, *arguments: str) -> bytes | None:
    done = run_git(folder, *arguments)
    return None if done.returncode else done.stdout


def _last_line(output: bytes) -> str:
    return (output.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
