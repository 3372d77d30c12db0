"""Commands that show what there is: tasks, checkpoints, suites, protocols, runs, and the content of a weight file."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rich.filesize import decimal

from ssl4eo_bench.cli import options
from ssl4eo_bench.cli.display import print_json, show_checks, show_rows
from ssl4eo_bench.cli.options import Group, Text, Value
from ssl4eo_bench.cli.run_options import AdhocCheckpoint, CheckpointChanges
from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.bands import SENTINEL_1, SENTINEL_2
from ssl4eo_bench.config.catalogue import Catalogue
from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.protocols import PROTOCOLS, RECIPES, Finetune, Knn, Linear
from ssl4eo_bench.config.recipe import Recipe
from ssl4eo_bench.config.task import metric_label
from ssl4eo_bench.config.weights import (
    EmbeddingWeights,
    FileWeights,
    HubWeights,
    OwnWeights,
    PackagedWeights,
    RandomWeights,
    Weights,
)
from ssl4eo_bench.errors import SpecError, WeightsError, guess, shortlist
from ssl4eo_bench.files.hashing import file_hash
from ssl4eo_bench.files.places import cache_root

if TYPE_CHECKING:
    from ssl4eo_bench.models.inspection import Inspection
    from ssl4eo_bench.results.files import RunResult

WHICH_CHECKPOINTS = Group("which checkpoints", "TEXT is found anywhere in the name, in any case.")
WHICH_RUNS = Group("which runs")
OWN_NETWORK = Group("a network of your own", "See docs/backbones.md.")

USUAL_BANDS = {
    13: SENTINEL_2,
    12: tuple(band for band in SENTINEL_2 if band != "B10"),
    3: ("B04", "B03", "B02"),
    2: SENTINEL_1,
}
"""The bands that networks with so many input channels usually see."""

USUAL_SCALING = "{divide: 10000}"
RADAR_SCALING = "{clip_std: 2, mean: {VV: -12.55, VH: -20.19}, std: {VV: 5.26, VH: 5.91}}"
"""The scaling of SSL4EO-S12's radar networks."""


def list_tasks(*, json: options.Json = False) -> int:
    """List the tasks, with their kind of labels, bands, splits and main metric.

    Examples:
      ssl4eo-bench list tasks
      ssl4eo-bench list tasks --json --tasks-dir mine
    """
    for error in catalogue.broken_modules().values():
        print(f"left out: {error}", file=sys.stderr)
    rows: list[dict[str, Any]] = [
        {
            "task": task.name,
            "version": task.version,
            "kind": task.kind,
            "classes": len(task.classes),
            "bands": {band.name: band.unit for band in task.bands},
            "train/val/test": {name: split.count for name, split in task.splits.items()},
            "main metric": task.main_metric if json else metric_label(task.main_metric),
            "title": task.title,
        }
        for task in catalogue.tasks().values()
    ]
    if not json:
        for row in rows:
            row["bands"] = f"{len(row['bands'])} in {' and '.join(dict.fromkeys(row['bands'].values()))}"
            row["train/val/test"] = "/".join(str(count or "?") for count in row["train/val/test"].values())
    show_rows(rows, json=json, spare=("version", "kind", "main metric", "classes", "bands"))
    return 0


def list_checkpoints(
    *,
    method: Annotated[Text, "of the pretraining, like dino", WHICH_CHECKPOINTS] = "",
    arch: Annotated[Text, "architecture, like vit_small", WHICH_CHECKPOINTS] = "",
    data: Annotated[Text, "what they were pretrained on, like ssl4eo", WHICH_CHECKPOINTS] = "",
    sensor: Annotated[
        Literal["S1", "S2", "S1+S2"] | None,
        "a sensor of their bands, or both",
        Value(str.upper),
        WHICH_CHECKPOINTS,
    ] = None,
    suite: Annotated[options.Suites, "those of suites", WHICH_CHECKPOINTS] = (),
    here: Annotated[bool, "those with weights on this machine", WHICH_CHECKPOINTS] = False,
    cost: Annotated[bool, "show parameters, GFLOPs of one image and width of the feature; takes a while"] = False,
    checkpoints: options.CheckpointFiles = (),
    cache_dir: options.CacheDir = None,
    json: options.Json = False,
) -> int:
    """List checkpoints, and whether their weights are on this machine.

    Examples:
      ssl4eo-bench list checkpoints --method dino --sensor S2
      ssl4eo-bench list checkpoints --suite offline --cost
      ssl4eo-bench list checkpoints --here --json
    """
    from ssl4eo_bench.models.weight_files import is_here  # imports what downloads: not for the other lists

    known, cache = catalogue.load_catalogue(*checkpoints), cache_root(cache_dir)
    members = {member for name in suite or ("all",) for member in known.suite(name)}
    wanted = {"method": method.casefold(), "arch": arch.casefold(), "data": data.casefold()}
    rows: dict[str, dict[str, Any]] = {}
    for entry in known.checkpoints.values():
        suites = [name for name, names in known.suites.items() if entry.name in names]
        row = _shown(entry, suites, there := is_here(entry.weights, cache))
        fits = all(text in row[name].casefold() for name, text in wanted.items()) and entry.name in members
        if fits and (not sensor or set(sensor.split("+")) <= _sensors(entry)) and (there or not here):
            rows[entry.name] = _all_of(entry, suites, there) if json else row
    if cost:
        _add_costs(rows, known, json=json)
    shown = list(rows.values())
    if not shown:
        print("no checkpoint fits these options; `ssl4eo-bench list checkpoints` shows all of them", file=sys.stderr)
    show_rows(shown, json=json, spare=("arch", "licence", "size", "feature", "suites", "data", "bands"))
    return 0


def _add_costs(rows: Mapping[str, dict[str, Any]], known: Catalogue, *, json: bool) -> None:
    """Add the cost of each checkpoint to its row."""
    from ssl4eo_bench.models.cost import entry_costs  # imports torch
    from ssl4eo_bench.results.markdown import COSTS, cost_cells

    costs = entry_costs(known.checkpoints[name] for name in rows)
    for name, row in rows.items():
        found = costs.get(name)
        if json:
            row["cost"] = found and found.model_dump()
        else:
            row |= dict(zip(COSTS[:-1], cost_cells(found, None), strict=False))


def _sensors(entry: Checkpoint) -> set[str]:
    """The sensors of its bands: `S1`, `S2` or both."""
    return {sensor.replace("entinel-", "") for sensor in entry.sensors}


def _shown(entry: Checkpoint, suites: Sequence[str], here: bool) -> dict[str, Any]:
    """The row of a checkpoint in the table."""
    bands = " ".join(entry.bands)
    if entry.bands == "task":
        bands = "of the task"
    elif len(entry.bands) > 3:
        bands = f"{len(entry.bands)} of {'+'.join(sorted(_sensors(entry)))}"
    return {
        "checkpoint": entry.name,
        "method": entry.pretraining.method if entry.pretraining else "",
        "arch": entry.arch.rpartition(":")[2],  # of a plug-in its class
        "bands": bands,
        "data": entry.pretraining.data if entry.pretraining else "",
        "size": "" if entry.is_embeddings else entry.image_size,
        "feature": entry.feature,
        "licence": entry.licence,
        "suites": " ".join(suites),
        "here": "yes" if here else "no",
    }


def _all_of(entry: Checkpoint, suites: Sequence[str], here: bool) -> dict[str, Any]:
    """Everything about a checkpoint, for JSON."""
    fields = entry.model_dump(mode="json", exclude={"name"})
    return {"checkpoint": entry.name} | fields | {"source": _source(entry.weights), "suites": suites, "here": here}


def _source(weights: Weights | None) -> str:
    """Where weights come from: a package, a path, an address."""
    match weights:
        case None:
            return ""
        case RandomWeights():
            return "random"
        case OwnWeights():
            return "its class"
        case PackagedWeights():
            return f"{weights.package}/{weights.file}"
        case FileWeights():
            return weights.path
        case EmbeddingWeights():
            return ", ".join(file.path for file in weights.embeddings)
        case HubWeights():
            return f"timm:{weights.timm}"
        case _:
            return weights.source


def list_suites(*, checkpoints: options.CheckpointFiles = (), json: options.Json = False) -> int:
    """List the suites: named sets of checkpoints.

    Examples:
      ssl4eo-bench list suites
      ssl4eo-bench list suites --checkpoints mine.yaml --json
    """
    known = catalogue.load_catalogue(*checkpoints)
    rows = [{"suite": name, "count": len(members), "members": members} for name, members in known.suites.items()]
    show_rows(rows, json=json, spare=("count",))
    return 0


def list_protocols(*, json: options.Json = False) -> int:
    """List the protocols and their settings.

    Examples:
      ssl4eo-bench list protocols
      ssl4eo-bench list protocols --json
    """
    published = "those of the published code for a task and a pretraining method; see docs/protocols.md"
    rows: list[dict[str, Any]] = []
    for name in (*PROTOCOLS, *RECIPES):
        protocol = PROTOCOLS.get(name)
        kind, found = type(protocol) if protocol else Recipe, _settings(protocol) if protocol else None
        rows.append(
            {
                "protocol": name,
                "version": kind.model_fields["version"].default,
                "what": str(kind.__doc__).splitlines()[0],
                "settings": found if json else _listed(found) if found else published,
            }
        )
    show_rows(rows, json=json, spare=("version",))
    return 0


def _settings(protocol: Linear | Knn | Finetune) -> dict[str, Any]:
    """The settings of a protocol by name."""
    if isinstance(protocol, Linear):
        protocol = protocol.for_kind("segmentation")  # has all of them
    return protocol.model_dump(exclude={"name", "version"})


def _listed(settings: Mapping[str, Any]) -> str:
    """Settings in words, such as `c_min=1e-06, c_max=100000`."""
    texts = []
    for name, value in settings.items():
        values = value if isinstance(value, tuple) else (value,)
        texts.append(f"{name}={' '.join(f'{one:g}' for one in values)}")
    return ", ".join(texts)


def list_runs(
    *,
    task: Annotated[options.TaskFilter, WHICH_RUNS] = (),
    protocol: Annotated[options.ProtocolFilter, WHICH_RUNS] = (),
    checkpoint: Annotated[options.Checkpoints, "whole names", WHICH_RUNS] = (),
    seed: Annotated[options.Seeds, "of the run", WHICH_RUNS] = (),
    fraction: Annotated[options.FractionFilter, WHICH_RUNS] = (),
    results: options.Results = options.RESULTS,
    json: options.Json = False,
) -> int:
    """List the runs that a results directory holds.

    Examples:
      ssl4eo-bench list runs
      ssl4eo-bench list runs --task eurosat --protocol linear --json
    """
    from ssl4eo_bench.results.files import RunFilter, read_results  # takes a while: not for the other lists

    wanted = RunFilter(tasks=task, protocols=protocol, checkpoints=checkpoint, seeds=seed, fractions=fraction)
    found = read_results(results, in_short=True)
    rows = [_run(result) for result in filter(wanted.matches, found)]
    rows.sort(key=lambda row: tuple(row.values())[:6])
    if not found:
        print(f"there are no runs in {results}; `ssl4eo-bench run --help` shows how to make some", file=sys.stderr)
    elif not rows:
        print(f"no run fits these options{_guesses((*task, *protocol, *checkpoint), found)}", file=sys.stderr)
    if not json:
        rows = [row | {"metric": metric_label(row["metric"]), "test %": f"{row['test %']:.2f}"} for row in rows]
    show_rows(rows, json=json, spare=("digest", "started", "metric", "marks"), prose=["checkpoint"])
    return 0


def _guesses(names: Iterable[str], found: Iterable["RunResult"]) -> str:
    """What a name may have meant that no run has, or where all of them are shown."""
    specs = [result.spec for result in found]
    known = {name for one in specs for name in (one.task.name, one.task_slug, one.protocol.name, one.protocol_slug)}
    known |= {one.checkpoint.name for one in specs}
    return next(
        filter(None, (guess(name, known) for name in names if name not in known)),
        "; `ssl4eo-bench list runs` shows all of them",
    )


def _run(result: "RunResult") -> dict[str, Any]:
    spec = result.spec
    return {
        "task": spec.task_slug,
        "protocol": spec.protocol_slug,
        "checkpoint": spec.checkpoint.name,
        "fraction": result.fraction,
        "seed": spec.seed,
        "marks": " ".join((*spec.marks, *(("uncommitted",) if result.provenance.dirty else ()))),
        "metric": result.main_metric,
        "test %": round(100 * result.main_value.value, 2),
        "started": result.provenance.started,
        "digest": result.digest[:12],
    }


def checkpoint_inspect(
    file: Annotated[options.File, "PyTorch's format or safetensors"],
    *,
    arch: Annotated[str | None, "timm architecture (default: guessed from names and shapes)"] = None,
    layout: Annotated[str | None, "of the file (default: detected)"] = None,
    json: options.Json = False,
) -> int:
    """Show what is in a weight file, and what of it would be loaded.

    That is its layout, its architecture and its input channels. Exits with 1 if the file would be refused.

    Examples:
      ssl4eo-bench checkpoint inspect weights.pth
      ssl4eo-bench checkpoint inspect weights.safetensors --arch vit_small_patch16_224 --json
    """
    from ssl4eo_bench.models.inspection import inspect  # imports torch

    if not file.is_file():
        raise WeightsError(f"{file} is not a file; name a weight file.")
    found = inspect(file, arch, layout)
    sha256, size, dicts = file_hash(file), file.stat().st_size, found[0].dicts
    if json:
        about = {"file": str(file), "bytes": size, "sha256": sha256, "dicts": dicts}
        print_json(about | {"readings": [_as_json(one) for one in found]})
    else:
        print(f"file          {file}, {decimal(size)}\nsha256        {sha256}")
        for key, count in dicts.items():
            print(f"holds         {count} tensors{f' under {key!r}' if key else ''}")
        for one in found:
            _show_inspection(one, file, sha256)
    return 0 if found[0].loads else 1


def checkpoint_test(
    checkpoint: Annotated[options.Checkpoints, options.CHECKPOINT] = (),
    *,
    seed: Annotated[options.Seed, "draws random weights (default: 0)"] = 0,
    adhoc: Annotated[AdhocCheckpoint, OWN_NETWORK],
    changes: CheckpointChanges,
    checkpoints: options.CheckpointFiles = (),
    cache_dir: options.CacheDir = None,
    json: options.Json = False,
) -> int:
    """Test what the network of each checkpoint gives: finite, deterministic, of every channel, of each image alone.

    Weights that are absent are fetched. Exits with 1 if a check fails. Plug-ins are tested before their first run, too.

    Examples:
      ssl4eo-bench checkpoint test resnet18.random
      ssl4eo-bench checkpoint test --arch python:mynet:Net --backbones-dir . --bands B04 B03 B02 --scaling divide=10000
    """
    from ssl4eo_bench.models.self_test import tested  # imports torch
    from ssl4eo_bench.plan import named_checkpoint

    known = catalogue.load_catalogue(*checkpoints)
    chosen = [*(named_checkpoint(name, known) for name in checkpoint), *adhoc.checkpoints(changes)]
    if not chosen:
        raise SpecError("nothing is named to be tested; name a checkpoint, or a class with --arch python:module:Class.")
    cache = cache_root(cache_dir)
    found = ((one.name, *checked) for one in chosen for checked in tested(one, seed=seed, cache_dir=cache))
    return show_checks("checkpoint", found, json=json)


def _as_json(found: "Inspection") -> dict[str, Any]:
    reading = found.reading
    return {
        "loads": found.loads,
        "layout": reading.name,
        "key": reading.key,
        "arch": found.arch,
        "channels": found.channels,
        "image_size": found.image_size,
        "heads": found.heads,
        "fitting": reading.fitting,
        "not_needed": reading.ignored,
        "missing": reading.missing,
        "no_place": reading.unexpected,
        "other_shape": reading.mismatched,
    }


def _show_inspection(found: "Inspection", file: Path, sha256: str) -> None:
    from ssl4eo_bench.models.inspection import beginnings

    reading = found.reading
    groups = beginnings(reading.ignored, reading.layout.prefix).items()
    lines = {
        "layout": f"{reading.name}{f' under {reading.key!r}' if reading.key else ''}: {reading.layout.about}",
        "architecture": found.arch or "not known from names and shapes; name it with --arch",
        "input": f"{found.channels or '?'} channels, {found.image_size} pixels",
        "names": "" if found.arch else shortlist(reading.state, at_most=10),
        "attention": found.heads
        and f"{found.heads} heads in {found.arch}; a file does not tell how many it was trained with",
        "would load": found.arch and f"{reading.fitting} tensors",
        "not needed": ", ".join(f"{name} ({count})" for name, count in groups),
        "missing": found.arch and shortlist(reading.missing, at_most=10),
        "no place for": found.arch and shortlist(reading.unexpected, at_most=10),
        "other shape": found.arch and shortlist(reading.mismatched, at_most=10),
    }
    print()
    for name, text in lines.items():
        if text:
            print(f"{name:13} {text}")
    if found.loads:
        print(f"an entry for it, to be completed (docs/checkpoints.md):\n{_entry(found, file, sha256)}")
    elif found.hint:
        print("\n\n".join(filter(None, (f"It would be refused: {found.hint.sentence}", found.hint.lines))))
    elif found.arch:
        print("It would be refused: name another --arch, or write its layout out in an entry (docs/checkpoints.md).")


def _entry(found: "Inspection", file: Path, sha256: str) -> str:
    bands = USUAL_BANDS.get(found.channels or 0, ())
    layout = found.choice if isinstance(found.choice, str) else dumps(found.choice.written())
    return f"""checkpoints:
  {found.arch}.mine:
    arch: {found.arch}
    weights: {{path: {dumps(str(file.resolve()))}, sha256: {sha256}, layout: {layout}}}
    bands: [{", ".join(bands) or f"the {found.channels} band names"}]  # in the order it was trained with
    image_size: {found.image_size}
    scaling: {RADAR_SCALING if bands == SENTINEL_1 else USUAL_SCALING}  # as it was trained with
    feature: pooled"""
