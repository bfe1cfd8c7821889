"""A result for every job, whatever the work does; and the results of many."""

import contextlib
import os
import time
import traceback
from collections.abc import Generator, Iterable
from typing import Protocol

from sweeptrail.engines import Crew, Engine, Work
from sweeptrail.errors import Cancelled
from sweeptrail.records import Job, RunResult


def carry_out(work: Work, job: Job) -> RunResult:
    """Return what the work returns, or a FAILED result with the traceback of what it raised instead.

    The working directory is the same afterwards. KeyboardInterrupt and Cancelled pass through.
    """
    try:
        with contextlib.chdir(os.getcwd()):
            return work(job)
    except (KeyboardInterrupt, Cancelled):
        raise
    except BaseException:  # SystemExit too: work that gives up has not finished
        return failed(job, traceback.format_exc())


def failed(job: Job, error: str) -> RunResult:
    """Return the result of a job that ended with this error."""
    return RunResult(job.index, job.name, job.params, "FAILED", error=error, time=time.time())


def longest_first(jobs: Iterable[Job]) -> list[Job]:
    """Return the jobs in an order in which no long one is left alone at the end."""
    return sorted(jobs, key=lambda job: (-job.cost, job.index))


class Source(Protocol):
    """Where jobs come from."""

    def ask(self) -> Job | None:
        """Return the next job; None while there is none, and for good when nothing is being carried out."""

    def tell(self, result: RunResult) -> None:
        """Hear how one of the jobs has ended, before the next is asked for."""


class Listed:
    """Jobs that are known beforehand."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._jobs = iter(jobs)

    def ask(self) -> Job | None:
        return next(self._jobs, None)

    def tell(self, result: RunResult) -> None:
        pass


def results(engine: Engine, work: Work, jobs: Iterable[Job]) -> Generator[RunResult, None, None]:
    """Have these jobs carried out, and yield their results as they come."""
    return answers(engine, work, Listed(jobs))


def answers(engine: Engine, work: Work, source: Source) -> Generator[RunResult, None, None]:
    """Have the jobs of a source carried out, and yield their results as they come.

    A job is asked for when there is room for it, and handed out before the result is yielded that made the room: no
    worker waits for the caller. Closing the generator cancels what is left.
    """
    first = source.ask()
    if first is None:
        return
    with engine.open(work) as crew:
        crew.submit(first)
        while crew:
            _fill(crew, source)
            result = crew.next_result()
            source.tell(result)
            _fill(crew, source)
            yield result


def _fill(crew: Crew, source: Source) -> None:
    while crew.has_room and (job := source.ask()):
        crew.submit(job)
