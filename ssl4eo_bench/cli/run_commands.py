"""Commands that compute: runs, and features for other tools.

They import what they need when they are called, so that their help is instant.
"""

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Literal

from ssl4eo_bench.cli import options
from ssl4eo_bench.cli.options import RESULTS, Group
from ssl4eo_bench.cli.run_options import AdhocCheckpoint, CheckpointChanges, DataChoice
from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.files.places import cache_root

WHAT, HOW = Group("what to run"), Group("how")
TO_WRITE = Group("what to write")
WEIGHT_FILE = Group("a weight file, or embeddings, of your own", "See `checkpoint inspect`, and docs/checkpoints.md.")
DATA = Group("on which data", "Only runs on whole official splits enter the official tables.")


def run(
    *,
    task: Annotated[options.Tasks, WHAT],
    protocol: Annotated[options.Protocols, "see `list protocols`", WHAT],
    checkpoint: Annotated[options.Checkpoints, options.CHECKPOINT, WHAT] = (),
    suite: Annotated[
        options.Suites,
        "see `list suites`, or `all` (default without --checkpoint: ssl4eo-s12, with --sample: offline)",
        WHAT,
    ] = (),
    seed: Annotated[options.Seeds, "one run for each (default: 0)", WHAT] = (0,),
    fraction: Annotated[options.Fractions, "one run for each, of the training samples (default: 1)", WHAT] = (1.0,),
    drift: Annotated[
        bool, "with linear-ssl4eo: BatchNorm statistics of the frozen network follow the batches, as published", WHAT
    ] = False,
    changes: Annotated[CheckpointChanges, WHAT],
    checkpoints: Annotated[options.CheckpointFiles, WHAT] = (),
    adhoc: Annotated[AdhocCheckpoint, WEIGHT_FILE],
    data: Annotated[DataChoice, DATA],
    device: Annotated[options.Device, HOW] = "auto",
    executor: Annotated[
        Literal["local", "ray"], "where jobs run (default: local, which is this process)", HOW
    ] = "local",
    address: Annotated[str, "of a Ray cluster, like auto (default: a cluster of this machine is started)", HOW] = "",
    shard: Annotated[options.Shard | None, "run one of N parts of the jobs, like 0/2 and 1/2", HOW] = None,
    strict: Annotated[bool, "run nothing where a part of what is asked for cannot be run", HOW] = False,
    full_path: Annotated[bool, "also solve the penalties after the early stop; changes no number", HOW] = False,
    force: Annotated[bool, "run again what is in the results already", HOW] = False,
    dry_run: Annotated[bool, "show what would run, how bands become inputs, and about what it takes", HOW] = False,
    results: Annotated[options.Results, HOW] = RESULTS,
    cache_dir: Annotated[options.CacheDir, HOW] = None,
    json: Annotated[options.Json, "print results as JSON", HOW] = False,
) -> int:
    """Evaluate checkpoints on tasks; writes results, tables and a leaderboard.

    `run SWEEP.yaml` takes the options from a file, such as `seed: [0, 1]`; those given beside it take their place.

    Examples:
      ssl4eo-bench run --task eurosat-rgb --protocol linear --sample
      ssl4eo-bench run --task eurosat bigearthnet --protocol linear knn --suite rivals --data-dir DIR
      ssl4eo-bench run --task eurosat --protocol knn --checkpoint timm:resnet18.random --seed 0 1 2 --dry-run
    """
    from ssl4eo_bench.cli.run_display import exit_code, show_left_out, show_outcomes, show_plan
    from ssl4eo_bench.executors import execute
    from ssl4eo_bench.executors.outcomes import Execution
    from ssl4eo_bench.plan import Request, plan

    if address and executor != "ray":
        raise SpecError("--address is of a Ray cluster; add --executor ray.")
    request = Request(
        tasks=task,
        protocols=protocol,
        checkpoints=checkpoint,
        suites=suite,
        seeds=seed,
        fractions=fraction,
        drift=drift,
        strict=strict,
        adhoc_checkpoints=adhoc.checkpoints(changes),
        checkpoint_files=checkpoints,
        cache_dir=cache_root(cache_dir),
        **vars(changes),
        **data.fields(),
    )
    sweep = plan(request)
    if shard:
        sweep = sweep.shard(*shard)
    how = Execution(
        results=results,
        data_dir=request.data_dir,
        cache_dir=request.cache_dir,
        device=device,
        full_path=full_path,
        force=force,
        executor=executor,
        address=address or None,
    )
    if dry_run:
        show_plan(sweep.jobs, how, json=json)
        return show_left_out(sweep.left_out)
    # What a network prints must not get between the results that scripts read.
    with redirect_stdout(sys.stderr):
        outcomes = execute(sweep.jobs, how)
    show_outcomes(outcomes, results, request.cache_dir, json=json)
    # After the outcomes have been shown: a file of another run may be damaged, and then no table is written.
    if any(outcome.result for outcome in outcomes):
        _write_generated(results, quiet=json)
    return max(exit_code(outcomes), show_left_out(sweep.left_out))


def features(
    *,
    task: Annotated[options.Task, TO_WRITE],
    checkpoint: Annotated[options.Checkpoint, options.CHECKPOINT, TO_WRITE] = "",
    split: Annotated[Literal["train", "val", "test"], "of the task (default: test)", TO_WRITE] = "test",
    seed: Annotated[options.Seed, "draws random weights (default: 0)", TO_WRITE] = 0,
    changes: Annotated[CheckpointChanges, TO_WRITE],
    checkpoints: Annotated[options.CheckpointFiles, TO_WRITE] = (),
    adhoc: Annotated[AdhocCheckpoint, WEIGHT_FILE],
    data: Annotated[DataChoice, Group("of which data")],
    out: Annotated[options.File, "a new file, .npz or .parquet", HOW],
    force: Annotated[bool, "replace the file if it exists", HOW] = False,
    device: Annotated[options.Device, HOW] = "auto",
    cache_dir: Annotated[options.CacheDir, HOW] = None,
) -> int:
    """Write the features of a split to a file, with ids and targets.

    Examples:
      ssl4eo-bench features --task eurosat --checkpoint resnet18.random --sample --out features.npz
      ssl4eo-bench features --task eurosat --checkpoint resnet50.ssl4eo_s12-dino-s2l1c --split train --out train.parquet
    """
    from ssl4eo_bench.api import features_of
    from ssl4eo_bench.config.checkpoint import EMBEDDINGS
    from ssl4eo_bench.data.embeddings import require_place, write_embeddings
    from ssl4eo_bench.plan import Request

    require_place(out, force=force)
    own = adhoc.checkpoints(changes)
    if bool(own) == bool(checkpoint):
        raise SpecError("features are of one network; name it with either --checkpoint NAME or --weights FILE.")
    request = Request(
        tasks=(task,),
        protocols=("linear",),  # any would do: features are the same for all
        checkpoints=(checkpoint,) if checkpoint else (),
        seeds=(seed,),
        adhoc_checkpoints=own,
        checkpoint_files=checkpoints,
        cache_dir=cache_root(cache_dir),
        **vars(changes),
        **data.fields(),
    )
    found, computed = features_of(request, split, device)
    if found.targets is None:
        print(f"the labels of {task} are of pixels: {out} gets no targets", file=sys.stderr)
    write_embeddings(out, found)
    print(out)
    count, width = found.features.shape
    stored = "from the files of the checkpoint" if found.about["checkpoint"]["arch"] == EMBEDDINGS else "from the cache"
    some = f"{computed:,} of them computed, the others from the cache"
    origin = {0: stored, count: "computed"}.get(computed, some)
    print(f"{count:,} × {width:,} features of split {split}, {origin}")
    return 0


def _write_generated(results: Path, *, quiet: bool) -> None:
    from ssl4eo_bench.results.views import write_generated_files

    files = write_generated_files(results)
    if not quiet and files["table"]:
        boards = ", ".join(file.name for file in files["leaderboard"])
        print(f"tables       {len(files['table'])} in {results / 'tables'}{f'; {boards}' if boards else ''}")
