"""One run of a task in this process, with the sinks that a worker would build."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sweeptrail.outbox import journal
from sweeptrail.records import Job, RunResult
from sweeptrail.tasks.work import Training

Record = TypeVar("Record")

KEPT = ("checkpoint", "outbox")
"""The sinks that what a run keeps is in."""


@dataclass(frozen=True)
class Here:
    """A function of this process."""

    function: Callable[..., Any]

    def load(self) -> Callable[..., Any]:
        return self.function


def job_in(folder: Path, sinks: Sequence[str] = KEPT, **params: Any) -> Job:
    """Return the one job of a sweep in this folder."""
    return Job(1, "1_run", params, {}, str(folder / "1_run"), key="key", parent="sweep", sinks=tuple(sinks))


def carry_out(function: Callable[..., Any], folder: Path, sinks: Sequence[str] = KEPT, **params: Any) -> RunResult:
    """Carry out a run of a function in a folder, or go on with it."""
    return Training(Here(function), {})(job_in(folder, sinks, **params))


def told(folder: Path, kind: type[Record]) -> list[Record]:
    """Return the records of a kind in the run's journal."""
    return [entry for entry, _ in journal.read(folder / "1_run" / journal.FILE_NAME) if type(entry) is kind]
