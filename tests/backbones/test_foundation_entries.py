"""Entries of foundation models, also where their libraries are not installed."""

import re
import sys
import tomllib
from types import SimpleNamespace

import pytest

from ssl4eo_bench.config.catalogue import load_catalogue
from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.models import plugin_source
from ssl4eo_bench.models.plugin import resolved
from tests.conftest import ROOT

KNOWN = load_catalogue()
LIBRARIES = {"torchgeo": "torchgeo", "terratorch": "terratorch", "olmoearth": "olmoearth_pretrain_minimal"}


def extra_of(entry: Checkpoint) -> str:
    """The extra that the module of an entry's class names."""
    module, _, name = entry.arch.removeprefix("python:").partition(":")
    source = ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
    assert f"\nclass {name}(" in source
    found = re.search(r"Extra: `(\w+)`", source)
    assert found
    assert f"from {LIBRARIES[found[1]]}" in source
    return found[1]


FOUNDATION = [entry for entry in map(KNOWN.checkpoint, KNOWN.suite("foundation")) if entry.is_plugin]
EXTRAS = {extra_of(entry): entry for entry in FOUNDATION}


def test_every_library_has_an_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(EXTRAS) == set(LIBRARIES)
    for extra, package in LIBRARIES.items():
        (needed,) = project["optional-dependencies"][extra]
        assert needed.replace("-", "_").startswith(f"{package}>=")


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_missing_library_is_named_with_its_extra(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin_source, "metadata", lambda name: SimpleNamespace(get_all=lambda key: list(LIBRARIES)))
    entry = EXTRAS[extra]
    monkeypatch.delitem(sys.modules, entry.arch.split(":")[1], raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == LIBRARIES[extra]]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, LIBRARIES[extra], None)
    with pytest.raises(SpecError) as refusal:
        resolved(entry)
    needs = rf"^'{entry.arch}' needs the Python package '{LIBRARIES[extra]}[\w.]*', which is not installed"
    assert re.search(needs + rf"; run `pip install 'ssl4eo-bench\[{extra}\]'`\.$", str(refusal.value))
