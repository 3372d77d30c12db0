"""Result files that say what nobody measured, with digests and checksums that fit: only a rule can tell."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ssl4eo_bench.config.canonical import digest
from ssl4eo_bench.config.run_spec import RunSpec
from ssl4eo_bench.results.views import write_generated_files

Change = Callable[[dict[str, Any]], object]


def sealed(content: dict[str, Any]) -> bytes:
    """The bytes of a result file of this content."""
    body = {key: value for key, value in content.items() if key != "checksum"}
    with suppress(ValidationError, KeyError):  # of content that is meant to be refused
        body["digest"] = RunSpec.model_validate_json(json.dumps(body["spec"])).digest
    return (json.dumps(body | {"checksum": digest(body)}, indent=1, ensure_ascii=False) + "\n").encode()


def forge(file: Path, change: Change, *, to: Path | None = None) -> Path:
    """Change what a result file says, in its place or for another one."""
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    target = to or file
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(sealed(content))
    return target


def regenerate(results: Path) -> None:
    """Write everything that is generated from results."""
    write_generated_files(results)
