"""The versions of the format of result files, and the updates from each version to the next.

A change of the format raises `SCHEMA_VERSION` and adds one function to `UPDATES`. It adds a few result files of the
previous format to `tests/results/frozen/` as well: those stay readable.
"""

import json
from collections.abc import Callable
from typing import Any, Final

from ssl4eo_bench.config.run_spec import RunSpec

SCHEMA_VERSION: Final = 2

Content = dict[str, Any]
"""The JSON of a result file without the checksum."""


def update_to_2(content: Content) -> Content:
    """Content of version 2, which has replicates of the main metric and a precision in every checkpoint.

    Replicates cannot be made from what version 1 kept, so such a result has none and takes part in no paired test. The
    interval of `ece` is dropped, since it was not that of `ece`.

    Raises:
        ValueError: if the backbone ran in bfloat16 and the specification does not say so; it then has the name and the
            digest of a run in float32, which it is not.
    """
    spec, digest = content["spec"], content["digest"]
    checkpoint = spec["checkpoint"]
    if "precision" not in checkpoint:
        if any(str(runner).endswith("-bf16") for runner in content["provenance"]["runners"]):
            raise ValueError("it was run in bfloat16, as version 1 did on GPUs, under the name of a run in float32")
        spec = spec | {"checkpoint": checkpoint | {"precision": "float32"}}
    elif checkpoint["precision"] == "float32":  # the default now, which is not part of the name
        spec = spec | {"checkpoint": checkpoint | {"name": checkpoint["name"].replace("@float32", "")}}
        digest = RunSpec.model_validate_json(json.dumps(spec)).digest
    metrics = {
        split: {name: {"value": found["value"]} if name == "ece" else found for name, found in of_split.items()}
        for split, of_split in content["metrics"].items()
    }
    return content | {"spec": spec, "digest": digest, "metrics": metrics}


UPDATES: dict[int, Callable[[Content], Content]] = {2: update_to_2}
"""By version, the function that makes content of this version from content of the previous one.

The digest of the specification stays what it is: equal digests are the same experiment, in a file of any version.
"""


def updated(content: Content) -> Content:
    """Content of the current version, from content of that version or one before; a ValueError for any other."""
    version = content.get("schema_version")
    if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
        raise ValueError(f"schema_version {version!r} is none from 1 to {SCHEMA_VERSION}")
    for following in range(version + 1, SCHEMA_VERSION + 1):
        content = UPDATES[following](content) | {"schema_version": following}
    return content
