"""Reading YAML that a person wrote."""

from collections import Counter
from typing import Any

import yaml

MISFITS = (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What the reader raises over a text: its own errors, and what a date that is none, a number of ten thousand digits or
a thousand brackets make it stumble over."""


LARGEST = 1_000_000
"""Characters and entries of a text, with its aliases written out; a catalogue of a thousand checkpoints has fewer."""

LONGEST_NUMBER = 100
"""Characters."""


class _Loader(yaml.SafeLoader):
    """Refuses what a person does not write: a key twice, and a small text that stands for a large value."""

    def get_single_node(self) -> yaml.Node | None:
        """Compose the tree of the text, as large as its aliases make it."""
        node: yaml.Node | None = super().get_single_node()
        if node and _size(node, {}) > LARGEST:
            raise ValueError(f"it has more than {LARGEST:,} characters when its aliases are written out")
        return node

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        """Compose a mapping; YAML would let a second entry of one name replace the first in silence.

        Keys are compared as they are written, before `<<` brings in those of other mappings, which an entry's own keys
        may override.
        """
        node = super().compose_mapping_node(anchor)
        assert isinstance(node, yaml.MappingNode)
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, count in keys.items():
            if count > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", node.start_mark)
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Return a number that Python can write out again."""
        if len(node.value) > LONGEST_NUMBER:
            raise ValueError(f"a number has {len(node.value):,} digits")
        return super().construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Characters and entries of a node with aliases written out; too many for one that holds itself."""
    if id(node) not in known:
        known[id(node)] = LARGEST + 1
        parts = [node.value] if isinstance(node, yaml.ScalarNode) else node.value
        inside = (one for part in parts for one in (part if isinstance(part, tuple) else (part,)))
        known[id(node)] = 1 + sum(len(one) if isinstance(one, str) else _size(one, known) for one in inside)
    return known[id(node)]


def parse_yaml(text: str) -> Any:
    """What a text in YAML says.

    Raises:
        ValueError: if it is none, gives a key twice, or says more than `LARGEST`; on one line.
    """
    if len(text) > LARGEST:
        raise ValueError(f"it has more than {LARGEST:,} characters")
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except MISFITS as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
