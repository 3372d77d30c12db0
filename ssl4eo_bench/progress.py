"""What long work tells about itself; the command line draws it, everything else stays silent."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """Shows stages of long work."""

    def stage(self, what: str, *, total: int, unit: str) -> AbstractContextManager[Advance]:
        """Show one stage; the value of the `with` block is called with the number of units just done.

        `total` is 0 where nobody knows it. The unit `bytes` is shown in the size that suits it.
        """
        ...

    def note(self, message: str) -> None:
        """Show a line that stays."""
        ...


class Silent:
    """Shows nothing."""

    @contextmanager
    def stage(self, what: str, *, total: int, unit: str) -> Iterator[Advance]:
        """A stage that is not shown."""
        del what, total, unit
        yield lambda _: None

    def note(self, message: str) -> None:
        """A line that is not shown."""
