"""Choosing among results by what was run."""

from collections.abc import Collection

from ssl4eo_bench.results.files import RunResult


def is_of(
    result: RunResult,
    *,
    tasks: Collection[str] = (),
    protocols: Collection[str] = (),
    checkpoints: Collection[str] = (),
    seeds: Collection[int] = (),
    fractions: Collection[float] = (),
) -> bool:
    """Whether a result is of one of these tasks, and one of these protocols, and so on; nothing given fits all.

    Tasks and protocols are named with or without their version.
    """
    spec = result.spec
    return (
        (not tasks or spec.task.name in tasks or spec.task_slug in tasks)
        and (not protocols or spec.protocol.name in protocols or spec.protocol_slug in protocols)
        and (not checkpoints or spec.checkpoint.name in checkpoints)
        and (not seeds or spec.seed in seeds)
        and (not fractions or (spec.fraction or 1.0) in fractions)
    )
