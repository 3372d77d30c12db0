"""Calling git in a repository that nobody vouches for: it reads what is there, and runs and fetches nothing."""

import os
import subprocess
from pathlib import Path

SAFE = (
    "--no-pager",
    *("-c", "core.fsmonitor=false"),  # a program that `status` runs
    *("-c", f"core.hooksPath={os.devnull}"),
    *("-c", "log.showSignature=false"),  # runs `gpg.program`
    *("-c", "log.showRoot=true"),  # the first commit has added files, too
    *("-c", "log.follow=false"),
    *("-c", "safe.bareRepository=explicit"),  # a folder of results could be the repository of its own past
)
"""Options before each command: a configuration in the repository must not name programs, nor another repository."""

ENVIRONMENT = {
    "GIT_NO_LAZY_FETCH": "1",  # of objects that a remote promises, by `core.sshCommand`
    "GIT_ALLOW_PROTOCOL": "none",  # the same for versions of git that do not know the former
    "GIT_NO_REPLACE_OBJECTS": "1",  # another content under the name of a commit
    "GIT_GRAFT_FILE": os.devnull,  # another history
    "GIT_OPTIONAL_LOCKS": "0",  # `status` writes nothing
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",  # messages are matched in English
}


def run_git(
    folder: Path, *arguments: str, given: bytes = b"", timeout: float | None = None
) -> "subprocess.CompletedProcess[bytes]":
    """What git answers in a folder of a repository, with some bytes on stdin, and its exit status.

    None of `log`, `ls-tree`, `cat-file`, `rev-parse` and `merge-base` runs a filter, a text conversion or an external
    diff; `status` runs the filters of the repository.

    Raises:
        OSError: if git is not installed.
        subprocess.TimeoutExpired: after the timeout.
    """
    return subprocess.run(
        ["git", *SAFE, *arguments],
        cwd=folder,
        input=given,
        capture_output=True,
        check=False,
        env=os.environ | ENVIRONMENT,
        timeout=timeout,
    )
