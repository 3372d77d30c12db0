"""Everything a user can do something about, as one tree.

    BenchError
    ├── SpecError             what was asked for cannot be: a name, a band, a unit, a catalogue entry
    │   └── UnknownNameError  a name that is not in the catalogue; carries the closest match
    ├── DataError             the dataset on disk is not what the task is defined on
    │   ├── MissingDataError  files or lists are absent
    │   ├── SplitError        a split list is not the official one
    │   ├── DamagedFileError  a file cannot be read, or holds something else than it should
    │   └── DownloadError     a published file cannot be fetched
    │       └── RefusedError  its server answers, but not with the file
    ├── WeightsError          a weight file is absent, altered or does not fit its architecture
    ├── TrainingError         training a network cannot go on
    ├── CacheError            the cache cannot be used
    ├── WriteError            a file cannot be written
    ├── JobError              a run, or opening its task, was stopped by an exception that is none of these
    └── ResultError           results cannot be used
        └── ResultFileError   one file of them cannot; carries what is wrong with it

Each message is one sentence that says what was found, what was expected and what to do. The command line prints it
and exits with status 2, without a traceback unless it is a JobError; every other exception is a fault of this package
and keeps its traceback.
"""

import traceback
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import PurePath


class BenchError(Exception):
    """An error the user can cure; `str(error)` is one sentence that tells how.

    Attributes:
        traceback: lines to print before the sentence; none but for exceptions that nobody foresaw.
    """

    traceback = ""

    def __reduce__(self) -> tuple[object, ...]:
        """What restores it in another process, whatever its class takes as arguments."""
        return _restored, (type(self), self.args, vars(self))


def _restored(kind: type[BenchError], args: tuple[object, ...], attributes: Mapping[str, object]) -> BenchError:
    error = kind.__new__(kind, *args)
    vars(error).update(attributes)
    return error


class SpecError(BenchError):
    """A task, checkpoint, protocol or combination of them that cannot be run as asked."""


class UnknownNameError(SpecError):
    """A name that is not in the catalogue."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, hint: str = "") -> None:
        names = sorted(known)
        closest = get_close_matches(name, names, n=1, cutoff=0.5)
        guess = f"; did you mean {closest[0]!r}?" if closest else "."
        super().__init__(f"{kind} {name!r} not found{guess} Known: {shortlist(names, at_most=20) or 'none'}{hint}.")


class DataError(BenchError):
    """A dataset on disk that is not what its task is defined on."""


class MissingDataError(DataError):
    """Files or split lists that a task needs and that are not there."""


class SplitError(DataError):
    """A split list that differs from the official one."""


class DamagedFileError(DataError):
    """A file that cannot be read, or whose content is not what the task expects."""


class DownloadError(DataError):
    """A published file that cannot be fetched: the network, the server, or the disk is in the way."""


class RefusedError(DownloadError):
    """A published file whose server answers, but not with the file."""


class WeightsError(BenchError):
    """Weights that are absent, altered, or do not fit their architecture."""


class TrainingError(BenchError):
    """Training that cannot go on."""


class CacheError(BenchError):
    """A cache directory that cannot be used."""


class WriteError(BenchError):
    """A file that cannot be written; what was at its place before is still there."""


class JobError(BenchError):
    """A run, or the opening of its task, that an unforeseen exception has stopped.

    Attributes:
        traceback: of the exception, as Python prints it.
    """

    def __init__(self, error: Exception) -> None:
        what = ": ".join(filter(None, (type(error).__name__, " ".join(str(error).split()))))
        super().__init__(
            f"{what}; unless that tells you what to cure, this is a fault of ssl4eo-bench or of a plug-in: please "
            "report it with the traceback."
        )
        self.traceback = "".join(traceback.format_exception(error))


class ResultError(BenchError):
    """Results that cannot be used."""


class ResultFileError(ResultError):
    """A result file that cannot be used.

    Attributes:
        file: where it is.
        what: is wrong with it, as the rest of a sentence that begins with its name.
        cure: what to do.
    """

    def __init__(self, file: PurePath, what: str, cure: str) -> None:
        super().__init__(f"result file {file} {what}; {cure}.")
        self.file = file
        self.what = what
        self.cure = cure


def told(error: Exception) -> BenchError:
    """What is kept of an error until all else is done: not the frames it went through, which hold large arrays."""
    kept = error if isinstance(error, BenchError) else JobError(error)
    kept.__traceback__ = kept.__context__ = kept.__cause__ = None
    return kept


def shortlist(names: Iterable[str], *, at_most: int = 5) -> str:
    """The first names, comma-separated, with a count of those left out."""
    listed = list(names)
    rest = len(listed) - at_most
    return ", ".join(listed[:at_most]) + (f" and {rest:,} more" if rest > 0 else "")
