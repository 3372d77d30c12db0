"""The commands and programs that the documents show."""

import re
import shlex
from pathlib import Path

from tests.conftest import ROOT

PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("*/README.md"), *ROOT.glob(".github/**/*.md")]
)

BLOCK = re.compile(r"^[ ]*```(\w*)\n(.*?)^[ ]*```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`(ssl4eo-bench [a-z-][^`\n]+)`")


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page in these languages."""
    return [text for language, text in BLOCK.findall(page.read_text(encoding="utf-8")) if language in languages]


def commands(page: Path) -> list[str]:
    """Each call of `ssl4eo-bench` in a block that is for a shell, with what continues it on further lines."""
    lines = "".join(blocks(page, "bash", "console", "")).replace("\\\n", " ").splitlines()
    calls = (re.match(r"\s*(?:\$ |srun )?(ssl4eo-bench .*)", line) for line in lines)
    return [call[1] for call in calls if call]


def synopses(page: Path) -> list[str]:
    """Each call of `ssl4eo-bench` in running text, such as `ssl4eo-bench check`."""
    return INLINE.findall(BLOCK.sub("", page.read_text(encoding="utf-8")))


def words(call: str) -> list[str]:
    """The arguments of a call; brackets around what is optional and all but the first of several choices go."""
    plain = re.sub(r"[\[\]…]", "", re.sub(r"\$\w+", "0", call))
    return [word.partition("|")[0] for word in shlex.split(plain, comments=True)[1:]]
