"""Standings as tables of text, for people."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ssl4eo_bench.results.standings import Entry, Row, Standings


class Link(NamedTuple):
    """Text that leads to an address."""

    text: str
    url: str


Cell = str | Link


@dataclass(frozen=True)
class Panel:
    """One table. `words` are its columns of words; the others are numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    words: tuple[str, ...] = ("checkpoint",)


class Note(NamedTuple):
    """A published number that compares with none of the tables, and how it differs from what is nearest there.

    A sentence, since a column would set numbers side by side that do not belong there.
    """

    about: str
    number: Link
    differences: str


def explanation(standings: Standings) -> str:
    """What a reader must know about the numbers, in a few sentences."""
    sentences = ["Test metrics in percent, means over seeds, with 95 % intervals over the test samples."]
    if len(standings.tasks) > 1:
        counted = ", ".join(standings.counted)
        sentences.append(f"Rank, mean and mean rank are over {counted}, for checkpoints that have all of them.")
    if any(row.is_floor for row in standings.rows):
        sentences.append("Over floor: points above the best network with random weights or statistics of raw pixels.")
    return " ".join(sentences)


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
    ranks, means = (("rank",), ("mean", "mean rank")) if complete else ((), ())
    cells = []
    for row in rows:
        rank = (_number(row.rank),) if complete else ()
        mean = (_percent(row.mean), _number(row.mean_rank)) if complete else ()
        leads = tuple(_lead(row.entries.get(task)) for task in standings.tasks)
        cells.append((*rank, row.checkpoint, *mean, *leads, _seeds(row)))
    tasks = tuple(f"{task} {metrics[0]}" for task, metrics in standings.metrics.items())
    return Panel(protocol, (*ranks, "checkpoint", *means, *tasks, "seeds"), tuple(cells))


def _detail(protocol: str, task: str, rows: Sequence[Row], standings: Standings) -> Panel:
    members = [(row, row.entries[task]) for row in rows if task in row.entries]
    lead, *others = standings.metrics[task]
    floors = ("over floor",) if any(row.is_floor for row, _ in members) else ()
    published = ("published", "over published") if any(entry.published for _, entry in members) else ()
    cells: list[tuple[Cell, ...]] = []
    for row, entry in sorted(members, key=lambda member: -member[1].lead):
        rank = 1 + sum(other.lead > entry.lead for _, other in members)
        over = ("floor" if row.is_floor else _points(entry.over_floor),) if floors else ()
        shared = tuple(_percent(entry.metrics[name].value) for name in others)
        beside = (_published(entry), _points(entry.over_published)) if published else ()
        cells.append((_number(rank), row.checkpoint, _lead(entry), *over, *beside, *shared, _number(entry.seeds)))
    columns = ("rank", "checkpoint", lead, *floors, *published, *others, "seeds")
    return Panel(f"{task} · {protocol}", columns, tuple(cells))


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


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
