"""The run that this process is in the middle of, for MLflow code that does not know of it."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from sweeptrail.outbox.run_journal import ARTIFACTS
from sweeptrail.tracking.facts import Dataset

SCHEME = "sweeptrail-run"
URI = f"{SCHEME}:open"
"""The same for each run: what was made in one run, a logger's default or a client, serves in the next."""
EXPERIMENT_ID = "sweeptrail"
"""Of the sweep's experiment, whose id only the server knows; not a number, so that nobody takes it for one there."""


class OpenRun(Protocol):
    """A run that has begun and not ended; its methods may be called from any thread, one at a time."""

    @property
    def run_id(self) -> str:
        """An id of ours: the server's exists only when the courier has been there."""

    @property
    def name(self) -> str: ...

    @property
    def folder(self) -> Path:
        """The run's own; what is delivered must stay in it."""

    @property
    def params(self) -> Mapping[str, str]: ...

    @property
    def tags(self) -> Mapping[str, str]: ...

    def log_metrics(self, values: Mapping[str, float], step: int, time: float) -> None:
        """Keep measurements of one step; the time is in seconds since 1970."""

    def log_params(self, values: Mapping[str, str]) -> None: ...

    def set_tags(self, values: Mapping[str, str]) -> None: ...

    def log_artifact(self, path: Path, to: str) -> None:
        """Have a file delivered that lies in the run's folder, into the folder `to` of the artifacts."""

    def add_dataset(self, dataset: Dataset) -> None: ...


def artifacts_of(run: OpenRun) -> Path:
    """Return where a run keeps the artifacts that MLflow is given."""
    return run.folder / ARTIFACTS


def artifact_uri(path: Path) -> str:
    """Return how MLflow knows a folder in which it lays down artifacts of the open run."""
    return f"{SCHEME}:{quote(str(path.absolute()))}"


class NoOpenRunError(LookupError):
    """MLflow was called where no run can take what it says."""


_open: list[tuple[OpenRun, int]] = []
"""The open runs, each with its process; the last one counts: a task may carry out a sweep of its own."""


def run_id_of(identity: str) -> str:
    """Return the id that a run has inside of it, in the form of MLflow's: 32 hexadecimal digits."""
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


def current() -> OpenRun:
    """Return the run that is open; raises NoOpenRunError if there is none, or only one of the parent process."""
    if not _open:
        raise NoOpenRunError("no run of a sweep is open in this process: log to it while its task is running")
    run, pid = _open[-1]
    if pid != os.getpid():  # the journal has one writer
        raise NoOpenRunError(f"the run {run.name} is open in process {pid}, not in this one: log to it from there")
    return run


@contextmanager
def opened(run: OpenRun) -> Iterator[None]:
    """Let `run` be the one that is open, for the `with` block."""
    _open.append((run, os.getpid()))
    try:
        yield
    finally:
        _open.pop()
