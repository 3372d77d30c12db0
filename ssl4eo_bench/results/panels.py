"""Standings as tables of text, for people."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ssl4eo_bench.results.ranks import Ranks
from ssl4eo_bench.results.standings import Entry, Floor, Row, Standings


class Link(NamedTuple):
    """Text that leads to an address."""

    text: str
    url: str


Cell = str | Link

FILLED = "zero bands"
"""The column of input bands that a task lacks."""


@dataclass(frozen=True)
class Panel:
    """One table. `words` are its columns of words; the others are numbers. The note goes below."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    words: tuple[str, ...] = ("checkpoint", FILLED)
    note: str = ""


class Note(NamedTuple):
    """A published number that compares with none of the tables, and how it differs from what is nearest there.

    A sentence, since a column would set numbers side by side that do not belong there.
    """

    about: str
    number: Link
    differences: str


def explanation(standings: Standings) -> str:
    """What a reader must know about the numbers, in a few sentences."""
    entries = [entry for row in standings.rows for entry in row.entries.values()]
    sentences = ["Test metrics in percent, means over seeds, with 95 % intervals over the test samples."]
    if any(entry.ranks for entry in entries):
        sentences.append(
            "Ranks are ranges: a checkpoint is above another only where a paired test of their main metrics says so at "
            "the 5 % level, corrected over all pairs of the table."
        )
    if standings.untested:
        runs = "1 run keeps" if standings.untested == 1 else f"{standings.untested} runs keep"
        sentences.append(
            f"{runs} nothing to test by and is above or below none: written before version 0.2, run again."
        )
    if len(standings.tasks) > 1:
        over = dict.fromkeys(", ".join(tasks) for tasks in standings.counted.values() if tasks)
        of = {tasks: [name for name, one in standings.counted.items() if ", ".join(one) == tasks] for tasks in over}
        named = "; ".join(tasks if len(over) == 1 else f"{tasks} ({', '.join(of[tasks])})" for tasks in over)
        sentences.append(f"Rank and mean are over {named}, for checkpoints that have all of them.")
    if any(row.is_floor for row in standings.rows):
        sentences.append("Over floor: points above the best network with random weights or statistics of raw pixels.")
    if any(entry.filled for entry in entries):
        sentences.append("Zero bands: input bands of the backbone that the task lacks.")
    return " ".join(sentences)


def ranks(found: Ranks | None) -> str:
    """A range of ranks, such as `1–3`."""
    return "" if found is None else "–".join(map(str, dict.fromkeys(found)))


def panels(standings: Standings) -> list[Panel]:
    """The tables of a board: for each protocol one over all tasks, if there are several, and one for each task."""
    found = []
    for protocol, rows in standings.protocols.items():
        if len(standings.tasks) > 1:
            found.append(_overview(protocol, rows, standings))
        tasks = [task for task in standings.tasks if any(task in row.entries for row in rows)]
        found += [_detail(protocol, task, rows, standings) for task in tasks]
    return found


def notes(standings: Standings) -> list[Note]:
    """Why published numbers of these checkpoints are not in the tables."""
    return [
        Note(
            about=f"{apart.checkpoint} on {apart.task}",
            number=Link(f"{apart.number.percent} ({apart.number.source})", apart.number.url),
            differences="; ".join(apart.differences),
        )
        for apart in standings.apart
    ]


def _overview(protocol: str, rows: Sequence[Row], standings: Standings) -> Panel:
    complete = any(row.mean is not None for row in rows)
    ranked = any(row.ranks for row in rows)
    cells = []
    for row in rows:
        rank = (ranks(row.ranks),) if ranked else ()
        mean = (_percent(row.mean),) if complete else ()
        leads = tuple(_lead(row.entries.get(task)) for task in standings.tasks)
        cells.append((*rank, row.checkpoint, *mean, *leads, _seeds(row)))
    tasks = tuple(f"{task} {metrics[0]}" for task, metrics in standings.metrics.items())
    columns = (*(("rank",) if ranked else ()), "checkpoint", *(("mean",) if complete else ()), *tasks, "seeds")
    return Panel(protocol, columns, tuple(cells))


def _detail(protocol: str, task: str, rows: Sequence[Row], standings: Standings) -> Panel:
    members = [(row, row.entries[task]) for row in rows if task in row.entries]
    lead, *others = standings.metrics[task]
    floors = ("over floor",) if any(row.is_floor for row, _ in members) else ()
    published = ("published", "over published") if any(entry.published for _, entry in members) else ()
    filled = (FILLED,) if any(entry.filled for _, entry in members) else ()
    ranked = any(entry.ranks for _, entry in members)
    cells: list[tuple[Cell, ...]] = []
    for row, entry in sorted(members, key=lambda member: (-member[1].lead, member[0].checkpoint)):
        rank = (ranks(entry.ranks),) if ranked else ()
        over = ("floor" if row.is_floor else _points(entry.over_floor),) if floors else ()
        shared = tuple(_percent(entry.metrics[name].value) for name in others)
        beside = (_published(entry), _points(entry.over_published)) if published else ()
        zero = (" ".join(entry.filled),) if filled else ()
        cells.append((*rank, row.checkpoint, _lead(entry), *over, *beside, *shared, *zero, str(entry.seeds)))
    columns = (*(("rank",) if ranked else ()), "checkpoint", lead, *floors, *published, *others, *filled, "seeds")
    best = next((entry.floor for _, entry in members if entry.floor), None)
    return Panel(f"{task} · {protocol}", columns, tuple(cells), note=_of_floor(best) if best else "")


def _of_floor(floor: Floor) -> str:
    """Which floor the gaps are to, and how far it moves with its seed."""
    if floor.deviation is None:
        return f"The floor is {floor.checkpoint}{', one seed' if floor.seeds else ''}."
    return (
        f"The floor is {floor.checkpoint}, the mean of {floor.seeds} seeds that differ by {100 * floor.deviation:.2f} "
        "points (standard deviation)."
    )


def _lead(entry: Entry | None) -> str:
    return entry.metrics[entry.metric].percent if entry else ""


def _published(entry: Entry) -> Cell:
    return Link(entry.published.percent, entry.published.url) if entry.published else ""


def _seeds(row: Row) -> str:
    fewest, most = row.seeds
    return f"{fewest}" if fewest == most else f"{fewest}–{most}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def _points(value: float | None) -> str:
    return "" if value is None else f"{100 * value:+.2f}"
