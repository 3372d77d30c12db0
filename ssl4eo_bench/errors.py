"""The tree of errors that a user can do something about.

    BenchError
    ├── SpecError             a request that is not possible: a name, a band, a unit, a catalogue entry
    │   └── UnknownNameError  a name that is not in the catalogue
    ├── DataError             the dataset on disk is not the one of the task
    │   ├── MissingDataError  files or lists are absent
    │   ├── SplitError        a split list is not the official one
    │   ├── DamagedFileError  a file cannot be read or holds something else than it should
    │   └── DownloadError     a published file cannot be downloaded
    │       └── RefusedError  the server answers, but not with the file
    ├── WeightsError          a file of weights or embeddings is absent, altered or does not fit
    ├── TrainingError         the training of a network cannot go on
    ├── CacheError            the cache cannot be used
    ├── WriteError            a file cannot be written
    │   └── LockedError       another process holds a lock
    ├── WorkerError           a worker of a cluster was lost
    ├── IncompleteError       some runs of several have failed, and the others have results
    ├── JobError              an exception of another kind has stopped a run or the opening of its task
    └── ResultError           results cannot be used
        └── ResultFileError   a result file cannot be used

Each message is one sentence that says what was found, what was expected and what to do. The command line prints it
and exits with status 2, without a traceback except for a JobError. Every other exception is a fault of this package
and keeps its traceback. All of them can be sent to other processes by pickle.
"""

import traceback
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import PurePath
from typing import Any


class BenchError(Exception):
    """An error that the user can cure; `str(error)` is one sentence that says how.

    Attributes:
        traceback: lines to print before the sentence, unless a log file has them; empty except for a `JobError`.
        log: the path of that file.
    """

    traceback = ""
    log = ""

    def told(self, of: str = "") -> str:
        """What the command line prints: the traceback or its file, what the error is of, the sentence, and notes."""
        notes = "".join(f"\n\n{note}\n" for note in getattr(self, "__notes__", ()))
        where = f"\ntraceback: {self.log}" if self.log else ""
        return f"{'' if self.log else self.traceback}error: {of}{': ' if of else ''}{self}{where}{notes}"

    def __reduce__(self) -> tuple[object, ...]:
        """The way to restore the error in another process without the arguments of its class."""
        return _restored, (type(self), self.args, vars(self))


def _restored(kind: type[BenchError], args: tuple[object, ...], attributes: Mapping[str, object]) -> BenchError:
    error = kind.__new__(kind, *args)
    vars(error).update(attributes)
    return error


class SpecError(BenchError):
    """A task, checkpoint, protocol or combination of them that cannot be run as requested."""


class UnknownNameError(SpecError):
    """A name that is not in the catalogue.

    Attributes:
        name: as it was given.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], *, hint: str = "") -> None:
        names = sorted(known)
        cure = guess(name, names) or f"; known: {shortlist(names, at_most=20) or 'none'}{hint}."
        super().__init__(f"{kind} {name!r} not found{cure}")
        self.name = name


class DataError(BenchError):
    """A dataset on disk that is not the one of its task."""


class MissingDataError(DataError):
    """Absent files or split lists that a task needs."""


class SplitError(DataError):
    """A split list that differs from the official one."""


class DamagedFileError(DataError):
    """A file that cannot be read, or with other content than expected."""


class DownloadError(DataError):
    """A published file that cannot be downloaded, because of the network, the server or the disk."""


class RefusedError(DownloadError):
    """A published file that the server does not give, although it answers."""


class WeightsError(BenchError):
    """Weights or embeddings that are absent, altered or do not fit."""

    def __init__(self, sentence: str, lines: str = "") -> None:
        """Take the sentence, and lines of Python that do what it says, which become a note."""
        super().__init__(sentence)
        if lines:
            self.add_note(lines)


class TrainingError(BenchError):
    """The training of a network that cannot go on."""


class CacheError(BenchError):
    """A cache directory that cannot be used."""


class WriteError(BenchError):
    """A file that cannot be written; the file that was there before is unchanged."""


class LockedError(WriteError):
    """A lock that another process holds."""


class WorkerError(BenchError):
    """A worker of a cluster that was lost with its job, and so were those it was given to again."""


class JobError(BenchError):
    """A run, or the opening of its task, that an exception of another kind has stopped.

    Attributes:
        traceback: the traceback of the exception, as Python prints it.
    """

    def __init__(self, error: BaseException) -> None:
        what = ": ".join(filter(None, (type(error).__name__, " ".join(str(error).split()))))
        super().__init__(
            f"{what}; unless that tells you what to cure, this is a fault of ssl4eo-bench or of a plug-in: please "
            "report it with the traceback."
        )
        self.traceback = "".join(traceback.format_exception(error))


class IncompleteError(BenchError):
    """Runs that have failed while others were done.

    Attributes:
        errors: the sentence of each, by what failed.
        results: of the others.
    """

    def __init__(self, errors: Mapping[str, BenchError], results: Sequence[Any]) -> None:
        first = next(iter(errors))
        super().__init__(f"{len(errors)} failed and {len(results)} are done; {first}: {errors[first]}")
        self.errors = {what: str(error) for what, error in errors.items()}
        self.results = list(results)


class ResultError(BenchError):
    """Results that cannot be used."""


class ResultFileError(ResultError):
    """A result file that cannot be used.

    Attributes:
        file: the path of the file.
        what: the fault, as the rest of a sentence that begins with the file.
        cure: the last part of the sentence, which says what to do.
    """

    def __init__(self, file: PurePath, what: str, cure: str) -> None:
        super().__init__(f"result file {file} {what}; {cure}.")
        self.file = file
        self.what = what
        self.cure = cure


def without_frames(error: BaseException) -> BenchError:
    """The error as a BenchError without the stack frames it went through, which would keep large arrays in memory."""
    kept = error if isinstance(error, BenchError) else JobError(error)
    kept.__traceback__ = kept.__context__ = kept.__cause__ = None
    return kept


def guess(name: str, known: Iterable[str]) -> str:
    """The known name that a misspelt one is closest to, as the end of a question; empty where none is close."""
    by_letters = {one.casefold().lstrip("-"): one for one in known}
    closest = get_close_matches(name.casefold().lstrip("-"), by_letters, n=1, cutoff=0.5)
    return f"; did you mean {by_letters[closest[0]]!r}?" if closest else ""


def shortlist(names: Iterable[str], *, at_most: int = 5) -> str:
    """The first names, separated by commas, and the number of the others."""
    listed = list(names)
    rest = len(listed) - at_most
    return ", ".join(listed[:at_most]) + (f" and {rest:,} more" if rest > 0 else "")
