"""Commands for authors of tasks and backbones: check a task, and write a module to begin with."""

import re
from contextlib import nullcontext
from keyword import kwlist
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory
from typing import Annotated

from ssl4eo_bench.cli import options
from ssl4eo_bench.cli.display import show_checks
from ssl4eo_bench.cli.options import Value
from ssl4eo_bench.cli.run_options import OwnImages
from ssl4eo_bench.config import catalogue
from ssl4eo_bench.data.contract import run_checks
from ssl4eo_bench.data.own_tasks import find_task
from ssl4eo_bench.data.sample_dataset import write_sample
from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.files.atomic import write_text
from ssl4eo_bench.files.places import data_root

TEMPLATES = Path(__file__).parent / "templates"

NewName = Annotated[str, Value(metavar="NAME"), "of the module: small letters and digits"]
Out = Annotated[options.Folder, "where its folders are made or filled (default: .)"]


def task_check(
    task: options.Tasks,
    *,
    own: OwnImages,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> int:
    """Check what a task promises: its card, splits, labels, pixels, order, errors; exits with 1 on a fault.

    This is done on its embedded sample, which is made anew; with --data-dir, or without a sample, on the data.

    Examples:
      ssl4eo-bench task check eurosat-rgb
      ssl4eo-bench task check bigearthnet --data-dir DIR --json
    """
    found: list[tuple[str, str, str | None]] = []
    for each in [find_task(name, own.format()) for name in task]:
        sample = bool(each.sample) and data_dir is None
        with TemporaryDirectory() if sample else nullcontext(data_root(data_dir)) as place:
            folder = Path(place)
            if sample:
                folder = folder / "sample"
                write_sample(each, folder)
            found += [(each.name, *checked) for checked in run_checks(each, folder, sample=sample)]
    return show_checks("task", found, json=json)


def new_task(name: NewName, *, out: Out = Path()) -> int:
    """Write a module with a task that works, and its test; then put your own data into it.

    Examples:
      ssl4eo-bench new task mine
      ssl4eo-bench new task mine --out project
    """
    _require_name(name, "[a-z][a-z0-9]*", "a module of tasks is called by small letters and digits")
    if name in catalogue.task_modules():
        raise SpecError(f"there is a module of tasks {name!r} already; choose another name.")
    files = {out / "tasks" / f"{name}.py": "task.txt", out / "tests" / f"test_task_{name}.py": "task_test.txt"}
    _write(files, name)
    print(f"check it with: ssl4eo-bench task check {name} --tasks-dir {out / 'tasks'}")
    return 0


def new_backbone(name: NewName, *, out: Out = Path()) -> int:
    """Write a module with a backbone that works, and its test; then put your own network into it.

    Examples:
      ssl4eo-bench new backbone mynet
      ssl4eo-bench new backbone mynet --out project
    """
    _require_name(name, "[a-z][a-z0-9_]*", "a module is called by small letters, digits and _")
    files = {
        out / "backbones" / f"{name}.py": "backbone.txt",
        out / "tests" / f"test_backbone_{name}.py": "backbone_test.txt",
    }
    _write(files, name)
    print(
        f"ssl4eo-bench checkpoint test --backbones-dir {out / 'backbones'} --arch python:{name}:{_class(name)} "
        "--weights random --bands B04 B03 B02 --scaling divide=10000 --image-size 64"
    )
    return 0


def _require_name(name: str, pattern: str, rule: str) -> None:
    if not re.fullmatch(pattern, name) or name in kwlist:
        raise SpecError(f"{rule}, and no keyword of Python, not {name!r}; choose another name.")


def _class(name: str) -> str:
    return name.title().replace("_", "")


def _write(files: dict[Path, str], name: str) -> None:
    """Write files from their templates, and print their names."""
    if there := [file for file in files if file.exists()]:
        raise SpecError(f"{there[0]} exists; choose another name, or another folder with --out.")
    for file, template in files.items():
        text = Template((TEMPLATES / template).read_text(encoding="utf-8"))
        write_text(file, text.substitute(name=name, class_name=_class(name)))
        print(file)
