"""Reading YAML that a person wrote."""

from typing import Any

import yaml

MISFITS = (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What the reader raises over a text: its own errors, and what a date that is none, a number of ten thousand digits or
a thousand brackets make it stumble over."""


class _UniqueKeys(yaml.SafeLoader):
    """YAML would let a second entry of one name replace the first in silence.

    Keys are compared as they are written, before `<<` brings in those of other mappings, which an entry's own keys may
    override.
    """

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        assert isinstance(node, yaml.MappingNode)
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", node.start_mark)
        return node


def parse_yaml(text: str) -> Any:
    """What a text in YAML says.

    Raises:
        ValueError: if it is none, or gives a key twice; on one line.
    """
    try:
        return yaml.load(text, Loader=_UniqueKeys)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except MISFITS as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
