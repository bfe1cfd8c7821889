"""How long runs take on a cluster: only their workers know when they began, and only the driver can end them."""

import faulthandler
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from sweeptrail.engines import Work
from sweeptrail.outbox.run_journal import STACK
from sweeptrail.records import Job, RunResult

STACK_TIME = 1.0
"""Seconds that a worker has to write where its threads are, before it is killed."""

INTERVAL = 0.5
"""Seconds between two questions whether a run takes too long."""


class Clock:
    """Is told by workers when a run begins; an actor of the cluster, so that one clock counts for all machines."""

    def __init__(self) -> None:
        self._began: dict[int, float] = {}

    def begin(self, run: int) -> None:
        """Count a run from now."""
        self._began[run] = time.monotonic()

    def longer_than(self, seconds: float) -> set[int]:
        """Return the runs that began more than so many seconds ago."""
        now = time.monotonic()
        return {run for run, began in self._began.items() if now - began > seconds}


@dataclass(frozen=True)
class Timer:
    """What a worker needs so that its runs are timed."""

    clock: Any
    """The handle of the actor."""
    seconds: float

    def timed(self, work: Work) -> Work:
        """Return the work with its time counted, and with the stack kept of a run that takes too long."""

        def timed_work(job: Job) -> RunResult:
            # Answered before the work begins: a worker that is stopped at once would never have sent it.
            self.clock.begin.remote(job.index).future().result()
            if not job.sinks:
                return work(job)
            with _stack_after(self.seconds, Path(job.folder)):
                return work(job)

        return timed_work


@contextmanager
def timing(ray: ModuleType, seconds: float | None) -> Iterator[Timer | None]:
    """Have a clock on the cluster while the `with` block lasts; None where a run may take as long as it likes."""
    if seconds is None:
        yield None
        return
    clock = ray.remote(num_cpus=0)(Clock).remote()
    try:
        yield Timer(clock, seconds)
    finally:
        ray.kill(clock)


@contextmanager
def _stack_after(seconds: float, folder: Path) -> Iterator[None]:
    """Write where all threads are, if the `with` block lasts longer, by a thread in C that needs no lock of Python."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / STACK
    with path.open("wb") as file:
        faulthandler.dump_traceback_later(seconds, file=file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
    path.unlink(missing_ok=True)
