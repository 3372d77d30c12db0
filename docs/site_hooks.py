"""Hooks of the documentation site: pages from outside docs/, tables made of the catalogue, and formulas."""

import re
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.inputs import map_inputs
from ssl4eo_bench.config.task import Split, Task, UnlistedSplit
from ssl4eo_bench.errors import SpecError

ROOT = Path(__file__).parents[1]

FROM_ELSEWHERE = {
    "benchmarks/README.md": "performance.md",
    "benchmarks/scaling.png": "scaling.png",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
}
"""Files of the repository outside docs/, and what they are called on the site."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Take the address of the repository from pyproject.toml, the one place where it stands."""
    # Not as `repo_url`, for which the theme's script would ask the host for the number of stars.
    config.extra["repository"] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    config.extra["social"] = [{"icon": "material/source-repository", "link": config.extra["repository"]}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that stand elsewhere in the repository."""
    for source, page in FROM_ELSEWHERE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in tables and formulas, and lead links out of docs/ to the site or to the repository."""
    del files
    for marker, made in (("input-table", input_table), ("task-cards", task_cards)):
        if f"<!-- {marker} -->" in markdown:
            markdown = markdown.replace(f"<!-- {marker} -->", made())
    markdown = re.sub(r"\$\$(.+?)\$\$", _formula, markdown, flags=re.S)
    folder = Path(page.file.abs_src_path).parent
    return re.sub(r"\]\(([^)#:]+)(#[^)]*)?\)", lambda found: _link(found, folder, config.extra["repository"]), markdown)


def _formula(found: re.Match[str]) -> str:
    """The formula in MathML, which browsers draw without a script."""
    return f'<div class="formula">{convert(found[1].strip(), display="block")}</div>'


def _link(found: re.Match[str], folder: Path, repository: str) -> str:
    """The link on the site: pages stay pages, and other files are those of the repository."""
    target = (folder / found[1]).resolve()
    if not target.is_relative_to(ROOT):
        return found[0]
    inside = target.relative_to(ROOT).as_posix()
    site = FROM_ELSEWHERE.get(inside, inside.removeprefix("docs/") if inside.startswith("docs/") else None)
    return f"]({site or f'{repository}/blob/main/{inside}'}{found[2] or ''})"


def input_table() -> str:
    """How many bands each checkpoint finds on each task, in Markdown; tasks with the same bands share a column."""
    columns: dict[object, list[Task]] = {}
    for task in catalogue.tasks().values():
        columns.setdefault(tuple((band.name, band.unit) for band in task.bands), []).append(task)
    head = ["checkpoint", "bands", "pixels", *(_title(tasks) for tasks in columns.values())]
    rows = (
        [f"`{name}`", _wanted(checkpoint), str(checkpoint.image_size)]
        + [_found(tasks[0], checkpoint) for tasks in columns.values()]
        for name, checkpoint in catalogue.load_catalogue().checkpoints.items()
    )
    return table(head, rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _title(tasks: Sequence[Task]) -> str:
    return "<br>".join(f"`{task.name}`" for task in tasks)


def _wanted(checkpoint: Checkpoint) -> str:
    return "those of the task" if checkpoint.bands == "task" else str(len(checkpoint.bands))


def _found(task: Task, checkpoint: Checkpoint) -> str:
    try:
        mapping = map_inputs(task.bands, checkpoint, task.display, tells=task.tells)
    except SpecError:
        return "–"
    filled = f", zero: {' '.join(mapping.filled)}" if mapping.filled else ""
    return f"{len(mapping.sources)}{filled}"


def task_cards() -> str:
    """What each task says of itself, in Markdown."""
    return "\n\n".join(_card(task) for task in catalogue.tasks().values())


def _card(task: Task) -> str:
    units = dict.fromkeys(band.unit for band in task.bands)
    rows = [
        ("labels", f"{task.kind}, {len(task.classes)} classes"),
        ("classes", ", ".join(task.classes)),
        ("bands", f"{' '.join(band.name for band in task.bands)} ({', '.join(units)}; {task.level})"),
        ("image", f"{task.image_size} × {task.image_size} pixels of 10 m"),
        *((name, _split(split)) for name, split in task.splits.items()),
        ("main metric", f"`{task.main_metric}`"),
        ("folder", f"`DIR/{task.folder}/`"),
        ("how to get it", task.how_to_get),
        ("licence", task.licence),
        ("cite", task.citation),
    ]
    said = [(name, value.replace("<", "&lt;")) for name, value in rows if value]
    return f"## {task.name}\n\n{task.title}. Version {task.version}.\n\n{table(said[0], said[1:])}"


def _split(split: Split | UnlistedSplit) -> str:
    count = f"{split.count:,}" if split.count else "unpublished number of"
    return f"{count} samples" + (f", digest `{split.digest[:12]}`" if isinstance(split, Split) else "")
