import json
import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl4eo_bench.config.canonical import canonical_json, digest, ids_digest

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def reordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(list(value))}
    if isinstance(value, list):
        return tuple(reordered(item) for item in value)
    return value


@given(values)
def test_order_of_keys_and_kind_of_sequence_do_not_matter(value: Any) -> None:
    assert canonical_json(value) == canonical_json(reordered(value))


@given(values)
def test_nothing_is_lost(value: Any) -> None:
    assert json.loads(canonical_json(value)) == value


def test_floats_are_written_by_value_not_by_notation() -> None:
    assert canonical_json([0.000001, 1e-6, 100000.0, 1e5, -0.0]) == "[1e-06,1e-06,100000.0,100000.0,0.0]"


def test_digests_stay_what_they_are_for_good() -> None:
    # A changed canonical form would make every stored result look like another run.
    spec = {"b": [1, 2.5, None, True], "a": {"text": "ä", "tiny": 1e-300}}
    assert canonical_json(spec) == '{"a":{"text":"\\u00e4","tiny":1e-300},"b":[1,2.5,null,true]}'
    assert digest(spec) == "f9fd31480bc29b90e2cc4db994337623b596d43540d938a07007f72324b56bb1"


def test_digests_do_not_depend_on_the_hash_seed_of_the_process() -> None:
    code = "from ssl4eo_bench.config.canonical import digest; print(digest({c: ord(c) for c in 'zyxwabc'}))"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(seen) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, {"x": -math.inf}])
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        canonical_json(value)


@pytest.mark.parametrize("value", [{1: 2}, {1, 2}, b"x", object()])
def test_other_types_are_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        canonical_json(value)


def test_a_split_is_a_set_of_ids() -> None:
    assert ids_digest(["b", "a"]) == ids_digest(["a", "b"]) != ids_digest(["a"])
