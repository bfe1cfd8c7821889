"""Everything that can go wrong, as a tree.

SweeptrailError                 the work failed                              exit code 1
├── UsageError (ValueError)     something was asked for wrongly              exit code 2
│   ├── SpaceError              the grid of hyperparameters is malformed
│   ├── SettingsError           a setting has a value it cannot have
│   ├── DataError               the data set is missing or damaged
│   ├── TrackingError           the tracking URI cannot be used
│   └── MissingPackageError     what is needed comes with an extra (ImportError)
├── StateError (RuntimeError)   RunManager's methods were called out of order
├── DivergedError               a loss is no number any more
├── JournalError                a journal on disk cannot be read or written
├── ServerError                 the team's server cannot do what it was asked for
├── RefusedError                the tracking server will never accept what it was told
└── DeliveryError               the tracking server could not be told        exit code 3
    ├── BusyError               another process is telling it right now
    └── WaitsError              one run waits for something of its own

Cancelled (BaseException)       somebody asked for the end; no failure of anything
Paused (BaseException)          a run has got as far as it was sent; no failure either
"""

from collections.abc import Iterable


class SweeptrailError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_code = 1


class UsageError(SweeptrailError, ValueError):
    """Something was asked for wrongly; `problems` holds every mistake, one line each."""

    exit_code = 2

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type["UsageError"], tuple[tuple[str, ...]]]:
        return type(self), (self.problems,)


class SpaceError(UsageError):
    """The grid of hyperparameters is malformed."""


class SettingsError(UsageError):
    """A setting has a value that it cannot have."""


class DataError(UsageError):
    """The data set is missing or damaged."""


class TrackingError(UsageError):
    """The tracking URI cannot be used."""


class MissingPackageError(UsageError, ImportError):
    """A package is not installed that comes with an extra; it says with which command."""


class StateError(SweeptrailError, RuntimeError):
    """The methods of a RunManager were called out of order."""


class DivergedError(SweeptrailError):
    """A loss is no number any more: training longer cannot help."""


class JournalError(SweeptrailError):
    """A journal on disk cannot be read or written."""


class ServerError(SweeptrailError):
    """The team's server cannot do what it was asked for."""


class RefusedError(SweeptrailError):
    """The tracking server answered, and will never accept what it was told."""


class DeliveryError(SweeptrailError):
    """The tracking server could not be told everything; what is missing waits on disk."""

    exit_code = 3


class BusyError(DeliveryError):
    """Another process is delivering the same folder at this moment."""


class WaitsError(DeliveryError):
    """One run waits, for its parent or for what refuses it to change; the server takes what others tell."""


class Cancelled(BaseException):
    """The run must end now; raised in the main thread wherever it is, so that `finally` blocks run."""


class Paused(BaseException):
    """The run has got as far as it was sent; raised where an epoch ends, so that nothing behind the loop runs."""


def one_line(error: BaseException, longest: int = 300) -> str:
    """Return an error's kind and text in one line, cut where it is long."""
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")[:longest]
