"""Runs in this process, one after another: for notebooks, debuggers and profilers."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from sweeptrail.engines import Work
from sweeptrail.engines.carry_out import carry_out
from sweeptrail.records import Job, RunResult


class Serial:
    """Carries out jobs in this process, in the order given."""

    @contextmanager
    def open(self, work: Work) -> Iterator["_Queue"]:
        """Carry out each job when its result is asked for."""
        yield _Queue(work)


class _Queue:
    def __init__(self, work: Work) -> None:
        self._work = work
        self._waiting: deque[Job] = deque()

    @property
    def has_room(self) -> bool:
        return not self._waiting

    def __len__(self) -> int:
        return len(self._waiting)

    def submit(self, job: Job) -> None:
        self._waiting.append(job)

    def next_result(self) -> RunResult:
        return carry_out(self._work, self._waiting.popleft())
