"""The leaderboard in Markdown, and the sentences and numbers that all of its views share."""

from collections.abc import Mapping, Sequence
from typing import Final

from ssl4eo_bench.config.records import Cost
from ssl4eo_bench.config.task import metric_label
from ssl4eo_bench.results.leaderboard import Entry, Leaderboard, Row
from ssl4eo_bench.results.paired_ranks import Ranks
from ssl4eo_bench.results.published import PublishedNumber

HEADING: Final = "# Leaderboard\n"
UNMATCHED: Final = "Published numbers that do not compare"
ZERO_BANDS: Final = "zero bands"
"""The column of input bands that a task lacks."""

COSTS: Final = ("parameters", "GFLOPs", "width", "images/s")
"""Columns of what a backbone costs."""

SPECIAL: Final = str.maketrans({"|": "\\|", "<": "&lt;", "`": "'"})
"""Characters that mean something in Markdown, and what to put for them."""

OPTIONAL: Final = frozenset({"rank", "mean", "over floor", "published", "over published", ZERO_BANDS, *COSTS})
"""Columns that are left out where all cells are empty."""


def terms(board: Leaderboard) -> dict[str, str]:
    """What a reader must know about the numbers, by what it is about."""
    found = {
        "Intervals": "Test metrics in percent, means over seeds, with 95 % intervals over the test samples: of the "
        "metric in 1,000 resamples, each of which draws as many samples anew, with replacement."
    }
    if any(entry.ranks for entry in board.entries):
        found["Ranks"] = (
            "Ranks are ranges: a checkpoint is above another only where a paired test of their main metrics says so at "
            "the 5 % level, corrected over all pairs of the table."
        )
    if board.untested:
        runs = "1 run keeps" if board.untested == 1 else f"{board.untested} runs keep"
        found["Old runs"] = (
            f"{runs} nothing to test by and is above or below none: written before version 0.2, run again."
        )
    if len(board.tasks) > 1:
        found["Means"] = f"Rank and mean are over {_counted(board)}, for checkpoints that have all of them."
    if any(row.checkpoint.is_floor for row in board.rows):
        found["Floors"] = (
            "Floors have learnt nothing: networks with random weights, or statistics of raw pixels. Over floor: points "
            "above the best of them."
        )
    if board.has_costs:
        found["Costs"] = (
            "GFLOPs are of one image, two operations for each multiply-add. Width is of a feature. Images/s are of "
            "runs that computed features, reading included."
        )
    if embeddings := sorted({row.name for row in board.rows if row.checkpoint.is_embeddings}):
        found["Embeddings"] = f"Vectors from files, made elsewhere: {', '.join(embeddings)}."
    if any(entry.spec.inputs.filled for entry in board.entries):
        found["Zero bands"] = "Zero bands: input bands of the backbone that the task lacks."
    return found


def _counted(board: Leaderboard) -> str:
    """The tasks that means are over, by protocol where protocols differ in them."""
    protocols: dict[str, list[str]] = {}
    for protocol, tasks in board.counted.items():
        protocols.setdefault(", ".join(tasks), []).append(protocol)
    named = {tasks: names for tasks, names in protocols.items() if tasks}
    return "; ".join(tasks if len(named) == 1 else f"{tasks} ({', '.join(names)})" for tasks, names in named.items())


def rank_range(found: Ranks | None) -> str:
    """A range of ranks, such as `1–3`."""
    return "" if found is None else "–".join(map(str, dict.fromkeys(found)))


def percent(value: float | None) -> str:
    """A fraction in percent, such as `93.75`."""
    return "" if value is None else f"{100 * value:.2f}"


def points(value: float | None) -> str:
    """A difference of fractions in percentage points, such as `+1.20`."""
    return "" if value is None else f"{100 * value:+.2f}"


def cost_text(cost: Cost | None, images_per_second: float | None) -> str:
    """What a backbone costs, such as `23.5 M parameters · 8.17 GFLOPs · 2,048 features · 120 images/s`."""
    cells = cost_cells(cost, images_per_second)
    parts = zip(cells, ("parameters", "GFLOPs", "features", "images/s"), strict=True)
    return " · ".join(f"{cell} {unit}" for cell, unit in parts if cell)


def cost_cells(cost: Cost | None, images_per_second: float | None) -> tuple[str, ...]:
    """The cells of the columns `COSTS`; empty where something is not known."""
    return (
        f"{_three_digits(cost.parameters / 1e6)} M" if cost else "",
        _three_digits(cost.flops / 1e9) if cost and cost.flops is not None else "",
        f"{cost.width:,}" if cost else "",
        f"{images_per_second:,.0f}" if images_per_second else "",
    )


def _three_digits(value: float) -> str:
    """A number such as `0.0417`, `8.17` or `1,234`."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _cost_columns(found: Sequence[Row | Entry]) -> dict[str, list[str]]:
    cells = [cost_cells(one.cost, one.images_per_second) for one in found]
    return {name: [row[column] for row in cells] for column, name in enumerate(COSTS)}


def floor_note(entries: Sequence[Entry]) -> str:
    """Which floor the gaps of entries on one task are to, and how far it moves with its seed; empty without a floor."""
    floor = next((entry.floor for entry in entries if entry.floor), None)
    if floor is None:
        return ""
    name = floor.spec.checkpoint.name
    if floor.deviation is None:
        return f"The floor is {name}{', one seed' if floor.spec.seed_matters else ''}."
    return (
        f"The floor is {name}, the mean of {floor.seeds} seeds that differ by {100 * floor.deviation:.2f} points "
        "(standard deviation)."
    )


def markdown(board: Leaderboard) -> str:
    """The leaderboard in Markdown: for each protocol a table over all tasks, if there are several, and one of each."""
    parts = [HEADING, f"{' '.join(terms(board).values())}\n"]
    for protocol, rows in board.protocols.items():
        if len(board.tasks) > 1:
            parts += [f"## {protocol}\n", _table(_overview(rows, board))]
        for task, metrics in board.metrics.items():
            if entries := [row.entries[task] for row in rows if task in row.entries]:
                parts += [f"## {task} · {protocol}\n", _table(_details(entries, metrics))]
                parts += [f"{note}\n" for note in (floor_note(entries),) if note]
    if board.unmatched:
        lines = [
            f"- {one.about}: {_link(one.number, f' ({one.number.source})')}: {_escaped('; '.join(one.differences))}\n"
            for one in board.unmatched
        ]
        parts += [f"## {UNMATCHED}\n", "".join(lines)]
    return "\n".join(parts)


def _overview(rows: Sequence[Row], board: Leaderboard) -> dict[str, list[str]]:
    """Cells by column, over all tasks."""
    leads = {
        f"{task} {metric_label(metrics[0])}": [
            row.entries[task].lead.percent if task in row.entries else "" for row in rows
        ]
        for task, metrics in board.metrics.items()
    }
    return {
        "rank": [rank_range(row.ranks) for row in rows],
        "checkpoint": [row.name for row in rows],
        "mean": [percent(row.mean) for row in rows],
        **leads,
        **_cost_columns(rows),
        "seeds": ["–".join(map(str, dict.fromkeys(row.seeds))) for row in rows],
    }


def _details(entries: Sequence[Entry], metrics: Sequence[str]) -> dict[str, list[str]]:
    """Cells by column, of one task."""
    lead, *others = metrics
    ordered = sorted(entries, key=lambda entry: (-entry.lead.value, entry.spec.checkpoint.name))
    return {
        "rank": [rank_range(entry.ranks) for entry in ordered],
        "checkpoint": [entry.spec.checkpoint.name for entry in ordered],
        metric_label(lead): [entry.lead.percent for entry in ordered],
        "over floor": ["floor" if entry.spec.checkpoint.is_floor else points(entry.over_floor) for entry in ordered],
        "published": [_link(entry.published) for entry in ordered],
        "over published": [points(entry.over_published) for entry in ordered],
        **{metric_label(name): [percent(entry.metrics[name].value) for entry in ordered] for name in others},
        **_cost_columns(ordered),
        ZERO_BANDS: [" ".join(entry.spec.inputs.filled) for entry in ordered],
        "seeds": [str(entry.seeds) for entry in ordered],
    }


def _table(columns: Mapping[str, Sequence[str]]) -> str:
    """Columns as a table, without those optional ones that are empty."""
    shown = {name: cells for name, cells in columns.items() if name not in OPTIONAL or any(cells)}
    rule = "|" + "".join("---|" if name in ("checkpoint", ZERO_BANDS) else "---:|" for name in shown)
    head, *lines = (f"| {' | '.join(map(_escaped, line))} |" for line in (shown, *zip(*shown.values(), strict=True)))
    return "\n".join([head, rule, *lines]) + "\n"


def _escaped(text: str) -> str:
    """Text on one line that ends no cell, and starts no tag and no code."""
    return " ".join(text.translate(SPECIAL).split())


def _link(number: PublishedNumber | None, about: str = "") -> str:
    """A link to the source of a number."""
    if number is None:
        return ""
    inside = _escaped(about).replace("[", "\\[").replace("]", "\\]")
    return f"[{number.percent}{inside}]({number.url.replace('(', '%28').replace(')', '%29')})"
