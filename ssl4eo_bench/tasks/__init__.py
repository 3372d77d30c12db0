"""The tasks, one module each.

The modules live in `tasks/` at the top level of the repository. A wheel carries them inside this package; in a
checkout (installed in editable mode or not at all) this package looks for them there, so that edits are live and
spawned workers find them too.

`SSL4EO_BENCH_TASKS` names more directories of task modules, for tasks outside the repository, separated as in `PATH`.
It is an environment variable because spawned worker processes inherit it, which a path appended at run time is not.
"""

import os
from pathlib import Path

_checkout = Path(__file__).resolve().parents[2]
if (_checkout / "checkpoints.yaml").is_file():  # false once installed
    __path__.append(str(_checkout / "tasks"))


def look_outside() -> None:
    """Look for tasks in the directories that the environment names now, too."""
    named = filter(None, os.environ.get("SSL4EO_BENCH_TASKS", "").split(os.pathsep))
    __path__.extend(folder for folder in named if folder not in __path__)


look_outside()
