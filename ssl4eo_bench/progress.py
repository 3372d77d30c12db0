"""Progress of long work: any code may tell of it, and the command line shows it. Elsewhere nothing is shown."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar

Advance = Callable[[int], None]
"""Called with the number of units just done."""


class Display(Protocol):
    """Shows stages of long work."""

    def stage(self, what: str, *, total: int, unit: str) -> AbstractContextManager[Advance]:
        """Show one stage, as the function `stage` of this module describes it."""

    def note(self, message: str) -> None:
        """Show a line that stays."""


class Silent:
    """A display that shows nothing."""

    @contextmanager
    def stage(self, what: str, *, total: int, unit: str) -> Iterator[Advance]:
        """Show nothing of a stage."""
        del what, total, unit
        yield lambda _: None

    def note(self, message: str) -> None:
        """Show nothing of a note."""


Shown = TypeVar("Shown", bound=Display)

_display: Display = Silent()


@contextmanager
def shown_on(display: Shown) -> Iterator[Shown]:
    """Show all progress of this process, of all its threads, on a display; on leaving, on the one before."""
    global _display
    before, _display = _display, display
    try:
        yield display
    finally:
        _display = before


def stage(what: str, *, total: int, unit: str) -> AbstractContextManager[Advance]:
    """Show one stage of long work.

    Args:
        what: is done.
        total: number of units; 0 where nobody knows it.
        unit: in the plural. `bytes` are shown in kB, MB or GB.

    Returns:
        A context whose value is called with the number of units just done.
    """
    return _display.stage(what, total=total, unit=unit)


def note(message: str) -> None:
    """Show a line that stays."""
    _display.note(message)
