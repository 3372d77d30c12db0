"""Metadata of the package that hatchling makes when it builds."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class ReadmeHook(MetadataHookInterface):
    """The README for package indexes, where a relative link would lead nowhere."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the README, with links to files of the repository made absolute."""
        repository = metadata["urls"]["Repository"]
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        text = re.sub(r"(!\[[^]]*\]\()(?!https?:|#)", rf"\1{repository}/raw/main/", text)
        text = re.sub(r"(?<=\]\()(?!https?:|#)", f"{repository}/blob/main/", text)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
